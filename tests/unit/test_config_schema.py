"""The schemas agree with what is taken: the configuration's with its decoder, the jobs' with the reader."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from batchrunner.cli import main
from batchrunner.config.decode import decode
from batchrunner.config.keys import KEYS
from batchrunner.config.load import load_config
from batchrunner.config.schema import config_schema
from batchrunner.formats.lines import Fill, read_lines
from batchrunner.formats.schema import jobs_schema
from batchrunner.formats.sources import RawLine
from batchrunner.models import JobLine
from batchrunner.providers import profile

SAMPLES = Path(__file__).parents[2] / "samples"
CONFIG = Draft202012Validator(config_schema())
JOBS = Draft202012Validator(jobs_schema())

GOOD = [
    "",
    "rpm = 3\nrpd = 'none'\nconcurrency = 'auto'\nmin_interval = 0.5\nmax_wait = 0\n",
    "timeout = '2h30m'\nconnect_timeout = 3\nmax_response = '1.5 MiB'\nmax_failures = '5%'\n",
    "base_url = ['https://a.example', 'https://b.example']\nproxy = 'none'\nallow_insecure_http = true\n",
    "headers = { X = '${Y}' }\nsystem = '@prompt.txt'\npriority = -3\n",
    "max_cost = 2.5\nexpect_json = true\n[budget]\nday = 5\nmonth = 60.5\n",
    "max_cost = 'none'\nexpect_json = '{\"type\": \"object\"}'\n[profiles.a]\nexpect_json = 'label.json'\n",
    "[profiles.a]\nmodel = 'm'\n[prices.m]\ninput = 1\ncache_read = 0.5\n",
    "[providers.acme]\nkey_env = ['K']\n[[providers.acme.rules]]\nstatus = [429, '5xx']\nverdict = 'pause'\n",
]
BAD = [
    "rmp = 3",
    "rpm = 0",
    "rpm = 1.5",
    "rpm = true",
    "timeout = 0",
    "timeout = ''",
    "timeout = 'soon'",
    "max_tokens = '5'",
    "model = ''",
    "base_url = []",
    "headers = { X = 1 }",
    "max_failures = 'few'",
    "max_response = 'big'",
    "allow_insecure_http = 1",
    "[profiles.a]\nprices = 3",
    "[prices.m]\ninputs = 1",
    "[prices.m]",
    "max_cost = 0",
    "max_cost = 'much'",
    "expect_json = 3",
    "budget = 5",
    "[budget]\nday = 0",
    "[budget]\nday = '5'",
    "[budget]\nweek = 5",
    "[profiles.a.budget]\nday = 5",
    "[providers.acme]\nlike = 'x'",
    "[providers.openai]\nlike = 'http'",
    "[[providers.acme.rules]]\nstatus = [1]",
]


@pytest.mark.parametrize("text", GOOD)
def test_both_take_what_is_right(text: str) -> None:
    """What the decoder takes, the schema takes."""
    assert decode(Path("/x/b.toml"), text, shown="b.toml")[1] == []
    assert list(CONFIG.iter_errors(tomllib.loads(text))) == []


@pytest.mark.parametrize("text", BAD)
def test_both_refuse_what_is_wrong(text: str) -> None:
    """What the schema refuses, the decoder refuses, and these they both do."""
    assert decode(Path("/x/b.toml"), text, shown="b.toml")[1]
    assert not CONFIG.is_valid(tomllib.loads(text))


def test_schema_has_every_key() -> None:
    """Each key of the table is in the schema with a word on it, at the top and in profiles."""
    schema = config_schema()
    for keys in (schema["properties"], schema["$defs"]["Profile"]["properties"]):
        assert {name for name in keys if keys[name].get("description")} >= set(KEYS)
    Draft202012Validator.check_schema(schema)


def test_sample_is_in_force_as_it_is_written() -> None:
    """The sample passes its loader and its schema, and says a free plan."""
    path = SAMPLES / "batchrunner.toml"
    config = load_config(file=path, user=Path("/nowhere/b.toml"), environ={})
    limits = config.limits("anthropic")
    assert (limits.rpm, limits.rpd, limits.min_interval_s) == (3, 500, 0.5)
    assert config.run_defaults("anthropic")["proxy"] == [
        "http://amina:${PROXY_PASSWORD}@127.0.0.1:7890"
    ]
    assert config.prices["claude-haiku-4-5"].output == 5.0
    paid = load_config(file=path, user=Path("/nowhere/b.toml"), environ={}, profile="paid")
    assert (paid.limits("anthropic").rpm, paid.limits("anthropic").rpd) == (50, "none")
    assert list(CONFIG.iter_errors(tomllib.loads(path.read_text()))) == []


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_sample_jobs_fit_their_schema(path: Path) -> None:
    """Every line of every sample is one of the four shapes."""
    JOBS.check_schema(jobs_schema())
    for line in path.read_bytes().splitlines():
        assert list(JOBS.iter_errors(json.loads(line))) == []


LINES: list[tuple[str, dict[str, Any], bool]] = [
    ("anthropic", {"custom_id": "a", "params": {"messages": [], "max_tokens": 1}}, True),
    ("anthropic", {"params": []}, False),
    ("anthropic", {"params": {}, "prompt": "x"}, False),
    ("openai", {"url": "/v1/chat/completions", "method": "POST", "body": {"messages": []}}, True),
    ("openai", {"url": 5, "body": {}}, False),
    ("http", {"url": "/x", "headers": {"A": "b"}}, True),
    ("http", {"url": "/x", "headers": {"A": 1}}, False),
    ("anthropic", {"prompt": "x", "id": 7, "max_tokens": 5, "metadata": {"a": 1}}, True),
    ("anthropic", {"prompt": "x", "temperature": 1}, False),
    ("anthropic", {"prompt": 5}, False),
    ("anthropic", {"prompt": "x", "max_tokens": 0}, False),
    ("anthropic", {"prompt": "x", "metadata": "y"}, False),
    ("anthropic", {"messages": [], "temperature": 1, "metadata": {"a": 1}}, True),
    ("anthropic", {"messages": [], "model": ""}, False),
    ("openai", {"input": "x", "custom_id": ""}, False),
    ("anthropic", {"id": "a"}, False),
]


@pytest.mark.parametrize(("provider", "line", "is_good"), LINES)
def test_reader_and_schema_agree_on_lines(
    provider: str, line: dict[str, Any], is_good: bool
) -> None:
    """A line of one of the four shapes passes both, and one that is none passes neither."""
    raw = RawLine(file="f", line=1, overall=1, data=json.dumps(line).encode())
    (read,) = read_lines([raw], profile(provider), Fill(model="m"))
    assert isinstance(read, JobLine) is is_good
    assert JOBS.is_valid(line) is is_good


@pytest.mark.parametrize("what", ["config", "jobs"])
def test_schema_is_printed(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``schema`` prints the schema as JSON."""
    assert main(["schema", what]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")
