"""``config show`` says for every key what holds, and who says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrunner.cli import main
from batchrunner.config.keys import KEYS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder to stand in, with an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    for name in ("BATCHRUNNER_DB", "BATCHRUNNER_PROFILE", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return what ``config show --json`` prints, the values by key."""
    assert main(["config", "show", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    found["values"] = {row["key"]: row for row in found["values"]}
    return found


def test_nothing_said_is_all_defaults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without files every key is there with its default, and both places are named."""
    found = shown(capsys)
    assert list(found["values"]) == list(KEYS)
    assert {row["source"] for row in found["values"].values()} == {"default"}
    assert found["values"]["timeout"]["default"] == "600"
    assert [file["is_there"] for file in found["files"]] == [False, False]
    assert found["files"][1]["path"] == str(folder / "xdg/batchrunner/batchrunner.toml")


def test_every_source_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Option, variable, file and line, default: each value says which one it is from."""
    (folder / "batchrunner.toml").write_text(
        "provider = 'anthropic'\nbase_url = 'https://a.example'\nrpm = 3\n[profiles.p]\nrpm = 5\n"
    )
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cr3t@proxy:1")
    values = shown(capsys, "--db", "x.db", "--profile", "p")["values"]
    place = str(folder / "batchrunner.toml")
    assert (values["db"]["value"], values["db"]["place"]) == ("x.db", "--db")
    assert (values["rpm"]["value"], values["rpm"]["place"]) == (5, f"{place}:5")
    assert (values["base_url"]["value"], values["base_url"]["place"]) == (
        "https://a.example", f"{place}:2",
    )  # fmt: skip
    assert (values["proxy"]["source"], values["proxy"]["place"]) == ("environment", "HTTPS_PROXY")
    assert "s3cr3t" not in values["proxy"]["value"]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://e.example")
    monkeypatch.setenv("BATCHRUNNER_DB", "e.db")
    values = shown(capsys)["values"]
    assert (values["base_url"]["value"], values["base_url"]["place"]) == (
        "https://e.example", "ANTHROPIC_BASE_URL",
    )  # fmt: skip
    assert (values["db"]["value"], values["db"]["place"]) == ("e.db", "BATCHRUNNER_DB")
    values = shown(capsys, "--provider", "openai")["values"]
    assert (values["rpm"]["value"], values["base_url"]["value"]) == (None, None)
    assert values["base_url"]["default"] == "https://api.openai.com/v1"


@pytest.mark.parametrize("key", ["Ab3" * 10 + "xy", "0123456789abcdef" * 2])
def test_a_key_in_the_place_of_its_file_is_not_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """A key without a telling form that was pasted as key_file is masked, unless a file is called so."""
    (folder / "batchrunner.toml").write_text(f"key_file = '{key}'\n")
    assert shown(capsys)["values"]["key_file"]["value"] == "[redacted]"
    assert main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "[redacted]" in out
    assert key not in out
    (folder / key).touch()
    assert shown(capsys)["values"]["key_file"]["value"] == key


def test_a_key_file_that_is_not_there_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that people give a file is shown, there or not: that is how a slip is found."""
    (folder / "batchrunner.toml").write_text("key_file = 'secrets/anthropic-2026.key'\n")
    assert shown(capsys)["values"]["key_file"]["value"] == "secrets/anthropic-2026.key"


def test_text_has_it_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names keys, values and lines; prices and providers too."""
    (folder / "batchrunner.toml").write_text(
        "headers = { X-Team = '${TEAM}' }\nallow_insecure_http = true\n"
        "base_url = ['https://a.example', 'https://b.example']\n[prices.m]\ninput = 1\noutput = 2.5\n"
        "[providers.acme]\nbase_url = 'https://acme.example'\n"
    )
    assert main(["config", "show"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    lines = {row[0]: " ".join(row[1:]) for row in rows if row}
    place = "batchrunner.toml"
    assert lines["headers"] == f"{place}:1 X-Team: ${{TEAM}}"
    assert lines["allow_insecure_http"] == f"{place}:2 true"
    assert lines["base_url"] == f"{place}:3 https://a.example, https://b.example"
    assert lines["prices.m"] == f"{place}:4 input 1, output 2.5"
    assert lines["providers.acme"] == f"{place}:7 https://acme.example"
    assert lines["timeout"] == "default 600"
    assert lines["files"] == f"{folder / place} (project)"


def test_it_needs_no_database(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that is damaged or not there is nothing to it."""
    (folder / "batchrunner.db").write_bytes(b"no database at all" * 1000)
    assert shown(capsys)["values"]["db"]["default"] == "./batchrunner.db"


def test_broken_file_is_told_with_its_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A faulty file ends any command that reads it, with exit code 2, file, line and key."""
    (folder / "batchrunner.toml").write_text("\nrmp = 3\n")
    assert main(["config", "show"]) == 2
    assert "batchrunner.toml:2: there is no key rmp; did you mean rpm?" in capsys.readouterr().err
    assert main(["runs", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "config"
    assert [(line["file"], line["line"]) for line in error["lines"]] == [("batchrunner.toml", 2)]


def test_broken_file_does_not_stop_help(folder: Path) -> None:
    """What reads no configuration works beside a broken one."""
    (folder / "batchrunner.toml").write_text("rmp = 3\n")
    assert main(["submit", "--help"]) == 0
    assert main(["schema", "config"]) == 0


@pytest.mark.parametrize("url", ["https://me:s3cr3t@host", "me:s3cr3t@host", "//me:s3cr3t@host"])
def test_a_login_in_an_address_of_the_environment_is_not_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Not even one without a scheme, which is no address."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    (folder / "batchrunner.toml").write_text('provider = "anthropic"\n')
    found = shown(capsys)["values"]["base_url"]
    assert found["source"] == "environment"
    assert "s3cr3t" not in found["value"]
