"""The page about providers says what their profiles say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from batchrunner.core.generic import GENERIC
from batchrunner.providers import NAMES, Profile, profile
from batchrunner.providers.custom import ProviderTable, custom_profile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose heading has these words, by provider."""
    table = PAGE.partition(heading)[2].partition("\n\n")[0]
    cells = [row.split(" | ") for row in table.splitlines() if row.startswith("| `")]
    return {row[0].strip("| `"): row for row in cells}


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_addresses_are_those_of_the_profile(name: str) -> None:
    """Every variable and every address of the table is that of the code, and none is left out."""
    _, keys, sent_as, base = rows("| provider | key variable")[name]
    known = profile(name)
    assert tuple(re.findall(r"`([A-Z_]+)`", keys)) == known.key_envs
    assert (known.default_base_url or "") in base
    assert re.findall(r"`([A-Z_]+)`", base) == ([known.base_url_env] if known.base_url_env else [])
    if "https://" in base:
        assert f"`{known.default_base_url}`" in base
    assert sent_as


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"http", "simulator"}])
def test_days_are_those_of_the_profile(name: str) -> None:
    """A zone or a rolling day is told where the profile has one, and a header's meaning."""
    _, day, headers, _ = rows("| provider | when its day ends")[name]
    known = profile(name)
    assert ("rolling" in day) == (known.day_zone == "rolling")
    assert (known.day_zone in day) or known.day_zone in {"rolling", "UTC"}
    if known.requests_limit is not None:
        assert {"rpm": "minute", "rpd": "day"}[known.requests_limit] in headers


def test_the_described_provider_is_one() -> None:
    """The example of a provider without code is taken as it is."""
    block, _ = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (table,) = tomllib.loads(block)["providers"].values()
    acme = custom_profile("acme", msgspec.convert(table, ProviderTable))
    assert acme.key_envs == ("ACME_API_KEY",)


def test_the_example_in_code_is_a_profile() -> None:
    """What a package would bring can be made as the page shows."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)  # our own page
    assert isinstance(names["ACME"], Profile)
    assert names["ACME"].is_own("https://llm.acme.example/v1")


def test_every_key_of_a_table_is_named() -> None:
    """Nothing that the configuration takes for a provider is left out of the page."""
    section = PAGE.partition("## Another provider")[2]
    missing = [name for name in ProviderTable.__struct_fields__ if name not in section]
    assert missing == []


def test_messages_told_are_those_of_the_rules() -> None:
    """Every message that troubleshooting quotes is the beginning of one that a rule gives."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    table = text.partition("| the message says |")[2].partition("\n\n")[0]
    quoted = [
        re.sub(r"^… | \(.*\)$", "", part)
        for row in table.splitlines()[2:]
        for part in row.split(" | ")[0].strip("| ").split("; ")
    ]
    said = "\n".join(
        rule.says for name in NAMES for rule in (*profile(name).rules, *GENERIC) if rule.says
    )
    assert len(quoted) > 10
    assert [words for words in quoted if words not in said] == []
