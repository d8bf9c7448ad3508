"""When two inputs are the same, and that an exported input is the same again."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.formats.export import ExportRow, write_rows
from batchrunner.formats.identity import Digest
from batchrunner.formats.lines import Fill, read_lines
from batchrunner.formats.sets import apply_sets
from batchrunner.formats.sources import RawLine, open_lines
from batchrunner.models import JobLine, Shape
from batchrunner.providers import profile
from batchrunner.views import JobView

JOB = JobLine(key="k", model="m", body=b"{}", shape=Shape.BODY, file="f", line=1)
FILL = Fill(model="m", system="be brief")


def digest(*jobs: JobLine, provider: str = "p") -> bytes:
    """Return the identity of an input of these jobs."""
    running = Digest(provider)
    for job in jobs:
        running.add(job)
    return running.digest()


def jobs_of(lines: list[Any], provider: str) -> list[JobLine]:
    """Read lines that must all be good."""
    raws = [RawLine("f", n, n, json.dumps(line).encode()) for n, line in enumerate(lines, 1)]
    jobs = []
    for job in read_lines(raws, profile(provider), FILL, base_url="http://api.example"):
        assert isinstance(job, JobLine), job
        jobs.append(job)
    return jobs


def row_of(job: JobLine) -> ExportRow:
    """Return the row an export of a job that was never sent has."""
    return ExportRow(
        job=JobView(key=job.key, status="pending", attempts=0, metadata=job.metadata),
        request=job.body,
        response=None,
        method=job.method,
        url=job.url,
        headers=job.headers,
        shape=job.shape,
    )


def exported(jobs: list[JobLine], provider: str) -> bytes:
    """Return the input export of jobs."""
    out = io.BytesIO()
    n_rows = write_rows(map(row_of, jobs), "input", out, profile=profile(provider))
    assert n_rows == len(jobs)
    return out.getvalue()


def again(data: bytes, provider: str) -> list[JobLine]:
    """Read an exported input without any fill-in."""
    lines = open_lines(["-"], stdin=io.BytesIO(data))
    jobs = []
    for job in read_lines(lines, profile(provider), Fill(), base_url="http://api.example"):
        assert isinstance(job, JobLine), job
        jobs.append(job)
    return jobs


@pytest.mark.parametrize(
    "change",
    [
        {"key": "k2"},
        {"body": b"[]"},
        {"method": "GET"},
        {"url": "/x"},
        {"headers": b"{}"},
        {"metadata": b"{}"},
    ],
)
def test_what_is_sent_or_kept_tells_inputs_apart(change: dict[str, Any]) -> None:
    """A change of key, request or metadata makes another input."""
    assert digest(dataclasses.replace(JOB, **change)) != digest(JOB)


@pytest.mark.parametrize("change", [{"file": "g"}, {"line": 9}, {"shape": Shape.ANTHROPIC_BATCH}])
def test_where_a_line_stood_does_not(change: dict[str, Any]) -> None:
    """File, line and shape are not part of the identity."""
    assert digest(dataclasses.replace(JOB, **change)) == digest(JOB)


def test_provider_order_and_number_count() -> None:
    """The same jobs elsewhere, in another order or another number are another input."""
    other = dataclasses.replace(JOB, key="k2")
    assert digest(JOB, provider="q") != digest(JOB)
    assert digest(JOB, other) != digest(other, JOB)
    assert digest(JOB, JOB) != digest(JOB)


@given(
    left=st.tuples(
        st.text("ab", max_size=3), st.binary(max_size=3), st.none() | st.binary(max_size=3)
    ),
    right=st.tuples(
        st.text("ab", max_size=3), st.binary(max_size=3), st.none() | st.binary(max_size=3)
    ),
)
def test_fields_never_run_into_each_other(left: Any, right: Any) -> None:
    """Two jobs have the same identity only if every field is the same."""
    first, second = (
        dataclasses.replace(JOB, key=key, body=body, metadata=metadata)
        for key, body, metadata in (left, right)
    )
    assert (digest(first) == digest(second)) == (left == right)


MESSAGES = [{"role": "user", "content": "h\u2028i\n\U0001f600\x7f"}]
LINES: dict[str, list[Any]] = {
    "anthropic": [
        {
            "custom_id": "a",
            "params": {"model": "c", "messages": MESSAGES, "metadata": {"user_id": "u"}},
        },
        {
            "custom_id": "b",
            "url": "/v1/messages",
            "body": {"messages": MESSAGES},
            "metadata": {"x": 1},
        },
        {"prompt": "hi", "id": 3, "metadata": {"a": {"b": [None, 1.5]}}},
        {"prompt": "", "system": "s", "max_tokens": 3, "model": "n"},
        {"messages": MESSAGES, "temperature": 0.1, "custom_id": "c"},
        {"messages": [], "model": "x"},
    ],
    "openai": [
        {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": MESSAGES}},
        {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"input": ["x"]}},
        {"custom_id": "c", "url": "/v1/moderations", "body": {"input": "x"}},
        {"prompt": "hi"},
        {"prompt": "hi", "system": "s", "model": "o3-mini", "max_tokens": 7},
        {"messages": MESSAGES},
        {"input": "x", "model": "text-embedding-3-small"},
        {"input": "x", "metadata": {"é": "\n"}},
    ],
    "http": [
        {"url": "/x"},
        {"id": "a", "url": "http://api.example/x", "body": None},
        {"id": "b", "method": "DELETE", "url": "x?y=1", "headers": {"Authorization": "${T}"}},
        {"id": "c", "method": "PATCH", "url": "x", "body": {"model": "m", "prompt": "p"}},
    ],
}


@pytest.mark.parametrize("provider", LINES)
def test_an_exported_input_is_the_same_input(provider: str) -> None:
    """Submitting an input export again finds the run that it came from, whatever the forms."""
    jobs = jobs_of(LINES[provider], provider)
    second = again(exported(jobs, provider), provider)
    assert digest(*second) == digest(*jobs)
    assert [job.shape for job in second] == [job.shape for job in jobs]


@pytest.mark.parametrize(
    "sets",
    [
        [("temperature", "0.5")],
        [("metadata.user_id", '"u"')],
        [("id", '"x"'), ("prompt", '"y"'), ("url", '"z"')],
        [("model", '"text-embedding-x"')],
        [("messages", '[{"content":"x","role":"user"}]')],
    ],
)
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_an_exported_input_survives_set(provider: str, sets: list[tuple[str, str]]) -> None:
    """After --set, what a line's own form can't say goes out in the batch form, the same again."""
    jobs = [
        dataclasses.replace(job, body=apply_sets(job.body, sets))
        for job in jobs_of(LINES[provider], provider)
    ]
    assert digest(*again(exported(jobs, provider), provider)) == digest(*jobs)


WORDS = st.text('aé"\\\n\x00 ', max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | WORDS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
METADATA = st.dictionaries(WORDS, VALUES, max_size=3)
CONTENT = st.fixed_dictionaries(
    {"messages": st.lists(VALUES, max_size=3)}, optional={"extra": VALUES}
)
ANY_LINE = st.one_of(
    st.fixed_dictionaries({"params": CONTENT, "metadata": METADATA}),
    st.fixed_dictionaries({"url": st.just("/v1/messages"), "body": CONTENT}),
    st.fixed_dictionaries(
        {"prompt": WORDS}, optional={"system": WORDS, "max_tokens": st.integers(1, 9)}
    ),
    CONTENT,
)


@given(lines=st.lists(ANY_LINE, max_size=4))
def test_any_input_survives_its_export(lines: list[Any]) -> None:
    """Whatever a good line holds, its export makes the same job."""
    jobs = jobs_of(lines, "simulator")
    assert digest(*again(exported(jobs, "simulator"), "simulator")) == digest(*jobs)
