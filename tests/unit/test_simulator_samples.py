"""The sample files are what the README says, and the simulator can answer them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from batchrunner.providers.simulator.dialects import DIALECTS

SAMPLES = Path(__file__).parents[2] / "samples"
SCRIPT = runpy.run_path(str(SAMPLES / "make_samples.py"))
FILES = sorted(SCRIPT["FILES"])


def request(line: dict[str, Any]) -> tuple[str, Any]:
    """Return the path and the body that a line asks for."""
    if "url" in line:
        parts = urlsplit(line["url"])
        return parts.path, line.get("body") or dict(parse_qsl(parts.query))
    prompt = {"model": "m", "messages": [{"role": "user", "content": line.get("prompt")}], **line}
    return "/v1/messages", line.get("params", prompt)


@pytest.mark.parametrize("name", FILES)
def test_sample_is_committed_as_it_is_made(name: str) -> None:
    """A committed sample is what the script writes, byte for byte."""
    assert (SAMPLES / name).read_bytes() == SCRIPT["encoded"](SCRIPT["FILES"][name]())


@pytest.mark.parametrize("name", FILES)
def test_sample_has_at_least_a_hundred_jobs_that_can_be_answered(name: str) -> None:
    """Keys differ, requests differ, and each request is one the simulator understands."""
    lines = [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]
    keys = [line.get("custom_id", line.get("id")) for line in lines]
    requests = [request(line) for line in lines]
    assert len(lines) >= 100
    assert len(set(keys)) == len(lines)
    assert len({json.dumps(body.get("messages") or body) for _, body in requests}) == len(lines)
    for path, body in requests:
        dialect = DIALECTS[path]
        assert dialect.answer(dialect.asked(body), "req_1")


def test_readme_names_every_sample() -> None:
    """No sample is missing from the table, and no row is without its file."""
    rows = {
        line.split("`")[1]
        for line in (SAMPLES / "README.md").read_text().splitlines()
        if line.startswith("| `")
    }
    there = {path.name for ending in ("jsonl", "csv") for path in SAMPLES.glob(f"*.{ending}")}
    assert rows == {*FILES, *SCRIPT["TABLES"]} == there
