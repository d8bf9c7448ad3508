"""Gemini's own form of request: fill-ins, refusals, paths, and the way back to a line."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from batchrunner.formats.export import ExportRow, write_rows
from batchrunner.formats.lines import Fill, read_lines
from batchrunner.formats.sources import RawLine
from batchrunner.models import JobLine, LineFault
from batchrunner.providers import profile
from batchrunner.views import JobView

GEMINI = profile("gemini")
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
FILL = Fill(model="gemini-x", max_tokens=9, system="be brief")


def read(line: Mapping[str, Any], fill: Fill = FILL) -> JobLine | LineFault:
    """Read one line for Gemini."""
    raw = RawLine("f.jsonl", 1, 1, json.dumps(line).encode())
    (value,) = read_lines([raw], GEMINI, fill)
    return value


def body_of(line: Mapping[str, Any], fill: Fill = FILL) -> dict[str, Any]:
    """Return the body that a line makes."""
    job = read(line, fill)
    assert isinstance(job, JobLine), job
    body: dict[str, Any] = json.loads(job.body)
    return body


def test_gaps_are_filled_where_gemini_has_them() -> None:
    """The system prompt and the most output tokens go into their own objects."""
    assert body_of({"contents": CONTENTS}) == {
        "contents": CONTENTS,
        "model": "gemini-x",
        "generationConfig": {"maxOutputTokens": 9},
        "systemInstruction": {"parts": [{"text": "be brief"}]},
    }


@pytest.mark.parametrize("settings", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("field", ["maxOutputTokens", "max_output_tokens"])
def test_what_a_line_says_is_kept(settings: str, field: str) -> None:
    """Both of Google's spellings count as said."""
    line = {
        "contents": CONTENTS,
        "model": "gemini-y",
        settings: {field: 5, "temperature": 0.5},
        "system_instruction": {"parts": [{"text": "mine"}]},
    }
    assert body_of(line) == line


def test_a_missing_limit_joins_the_settings_that_are_there() -> None:
    """The object is not replaced, whichever its spelling."""
    body = body_of({"contents": CONTENTS, "generation_config": {"temperature": 0}})
    assert body["generation_config"] == {"temperature": 0, "maxOutputTokens": 9}
    assert "generationConfig" not in body


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"contents": "hi"}, "`contents` is not a list"),
        ({"contents": CONTENTS, "generationConfig": 3}, "`generationConfig` is not an object"),
        ({"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
        ({"custom_id": "a", "params": {"messages": []}}, "--provider anthropic"),
        ({"custom_id": "a", "url": "/v1/messages", "body": {"messages": []}}, "Anthropic"),
    ],
)
def test_what_cant_be_sent_is_refused(line: Mapping[str, Any], reason: str) -> None:
    """Each with the field and what is wrong with it."""
    fault = read(line)
    assert isinstance(fault, LineFault)
    assert reason in fault.reason


def test_a_path_with_the_model_is_the_bare_body() -> None:
    """A batch line that names the model in its path makes the same job as a bare one with that model."""
    bare = read({"custom_id": "a", "contents": CONTENTS, "model": "gemini-y"}, Fill())
    for path in ("/v1beta/models/gemini-y:generateContent", "/models/gemini-y:generateContent"):
        line = {"custom_id": "a", "method": "POST", "url": path, "body": {"contents": CONTENTS}}
        job = read(line, Fill())
        assert isinstance(job, JobLine)
        assert isinstance(bare, JobLine)
        assert (job.model, job.url, job.method, job.body) == ("gemini-y", None, None, bare.body)


def test_other_verbs_keep_their_path() -> None:
    """Embeddings and counts go where the line says, with the model in its place."""
    line = {
        "custom_id": "a",
        "url": "/v1beta/models/gemini-embedding:embedContent",
        "body": {"content": {"parts": [{"text": "x"}]}},
    }
    job = read(line)
    assert isinstance(job, JobLine)
    assert (job.model, job.url) == ("gemini-embedding", "/models/{model}:embedContent")


@pytest.mark.parametrize(
    "line",
    [
        {"id": "a", "prompt": "hi", "model": "gemini-x"},
        {"id": "a", "prompt": "hi", "model": "gemini-x", "system": "s", "max_tokens": 3},
        {"custom_id": "a", "contents": CONTENTS, "model": "gemini-x"},
        {"custom_id": "a", "model": "gemini-x", "messages": [{"role": "user", "content": "hi"}]},
        {"custom_id": "a", "method": "POST", "url": "/models/gemini-x:embedContent", "body": {"content": {}, "model": "gemini-x"}},
        {"custom_id": "a", "method": "POST", "url": "/models/gemini-x:generateContent", "body": {"contents": CONTENTS, "model": "gemini-x"}},
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gemini-x", "messages": []}},
    ],
)  # fmt: skip
def test_exported_input_is_the_line_again(line: dict[str, Any]) -> None:
    """`export -f input` gives a line back in its own form, which makes the same job."""
    job = read(line, Fill())
    assert isinstance(job, JobLine), job
    view = JobView(key=job.key, status="pending", attempts=0, model=job.model)
    row = ExportRow(
        job=view, request=job.body, response=None, method=job.method, url=job.url, shape=job.shape
    )
    out = io.BytesIO()
    write_rows([row], "input", out, profile=GEMINI)
    assert json.loads(out.getvalue()) == line
