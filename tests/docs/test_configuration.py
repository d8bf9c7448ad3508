"""docs/configuration.md says what the code takes: every key, the order, and examples that hold."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from batchrunner.config import load_config
from batchrunner.config.decode import decode
from batchrunner.config.keys import KEYS, Goes
from batchrunner.options import LimitOptions, RunOptions
from tests.docs.test_help import ALL
from tests.docs.test_pages import ROOT, blocks

PAGE = (ROOT / "docs" / "configuration.md").read_text()


def test_every_key_is_explained() -> None:
    """The table has each key there is, in order, with what it may be and its default."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert rows == [(key.name, key.help, key.form.words, key.default) for key in KEYS.values()]


def test_bound_keys_are_named() -> None:
    """The page names the keys that stay with their provider."""
    (said,) = re.findall(r"These are such keys: (.*)\.$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`", said) == [key.name for key in KEYS.values() if key.of_provider]


@pytest.mark.parametrize("text", blocks(PAGE, "toml"))
def test_example_is_taken(text: str) -> None:
    """Each example of a file is one that the program takes."""
    assert decode(Path("/x/batchrunner.toml"), text, shown="batchrunner.toml")[1] == []


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines for Python do what they say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    Path("batchrunner.toml").write_text("db = 'here.db'\n[profiles.paid]\nrpm = 50\n")
    names: dict[str, object] = {}
    (code,) = blocks(PAGE, "python")
    exec(compile(code, "configuration.md", "exec"), names)
    assert vars(names["app"])["place"] == tmp_path / "here.db"


def test_every_key_has_its_option() -> None:
    """Each key stands for an option of ``submit`` and fills the same field."""
    options = {
        flag: param.name for param in ALL["batchrunner submit"].params for flag in param.opts
    }
    fields = {
        *RunOptions.__dataclass_fields__,
        *LimitOptions.__dataclass_fields__,
        "max_wait_s",
        "notify",
        "webhook",
    }
    for key in KEYS.values():
        if key.option and key.goes is not Goes.PROGRAM:
            assert options[key.option] == key.field
            assert key.field in fields


def test_user_file_is_where_the_page_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's file is in the system's place for configuration."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "batchrunner").mkdir()
    (tmp_path / "batchrunner" / "batchrunner.toml").write_text("rpm = 7\n")
    assert load_config(folder=tmp_path, environ=os.environ).limits("x").rpm == 7
