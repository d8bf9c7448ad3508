"""What exports look like: columns, cells, JSON rows, providers' batch results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.formats.export import (
    FORMATS,
    ExportRow,
    format_of,
    rfc3339,
    write_rows,
)
from batchrunner.models import Shape
from batchrunner.providers import profile
from batchrunner.views import JobView

HEADING = (
    "key,status,attempts,http_status,error_kind,error_message,model,output_text,finish_reason,"
    "input_tokens,output_tokens,cost_usd,latency_ms,request_id,started_at,finished_at"
)
MESSAGE = b'{"type":"message",\n "content": [{"type": "text", "text": "h\xc3\xa9"}]}'


def row(response: bytes | None = None, **job: Any) -> ExportRow:
    """Return a row, completed unless told otherwise."""
    view = JobView(**{"key": "k", "status": "completed", "attempts": 1, **job})
    return ExportRow(job=view, request=b"{}", response=response, shape=Shape.BODY)


def written(kind: str, *rows: ExportRow, names: tuple[str, ...] = ()) -> bytes:
    """Return an export of rows."""
    out = io.BytesIO()
    n_rows = write_rows(iter(rows), kind, out, profile=profile("anthropic"), metadata_names=names)
    assert n_rows == len(rows)
    assert not out.closed
    return out.getvalue()


def line(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Return the one JSON line of an export."""
    data = written(kind, row(*args, **kwargs))
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    return json.loads(data)


DONE = row(
    MESSAGE,
    http_status=200,
    model="m",
    output_text="hé",
    finish_reason="end_turn",
    input_tokens=3,
    output_tokens=0,
    cost_usd=0.0000025,
    latency_ms=12,
    request_id="req_1",
    started_at=1_795_409_645_006,
    finished_at=1_795_409_646_000,
    metadata=b'{"a":"x,y","b":{"c":[1,null]},"d":null,"e":true}',
)


def test_csv_columns_and_cells() -> None:
    """Columns in the contract's order, metadata after them, nested values as compact JSON."""
    data = written("csv", DONE, names=("a", "b", "d", "e", "f"))
    assert data.decode() == (
        f"{HEADING},metadata.a,metadata.b,metadata.d,metadata.e,metadata.f\n"
        "k,completed,1,200,,,m,hé,end_turn,3,0,0.0000025,12,req_1,"
        "2026-11-23T04:54:05.006Z,2026-11-23T04:54:06.000Z,"
        '"x,y","{""c"":[1,null]}",,true,\n'
    )


def test_csv_of_a_job_never_sent() -> None:
    """What is not known is empty, never 0 or None."""
    data = written("csv", row(status="pending", attempts=0))
    assert data.decode() == f"{HEADING}\nk,pending,0,,,,,,,,,,,,,\n"


def test_csv_of_nothing_is_its_heading() -> None:
    """An export without jobs still has its columns."""
    assert written("csv").decode() == f"{HEADING}\n"


@given(texts=st.lists(st.text('a,"\r\n\x00 é=;\t\u2028', min_size=1, max_size=8), max_size=4))
def test_csv_cells_survive_a_reader(texts: list[str]) -> None:
    """Whatever a cell holds, a CSV reader gets it back, and lines end in LF."""
    rows = [
        row(key=text, output_text=text, metadata=json.dumps({"m": text}).encode()) for text in texts
    ]
    data = written("csv", *rows, names=("m",))
    _, *cells = csv.reader(io.StringIO(data.decode(), newline=""))
    assert [(cell[0], cell[7], cell[16]) for cell in cells] == [(text,) * 3 for text in texts]
    assert data.endswith(b"\n")
    assert not data.endswith(b"\r\n")


def test_jsonl_row() -> None:
    """The CSV's names, metadata as an object, and the whole stored response on one line."""
    made = json.loads(written("jsonl", DONE))
    assert [*made] == [*HEADING.split(","), "metadata", "response"]
    assert made["started_at"] == "2026-11-23T04:54:05.006Z"
    assert made["metadata"] == {"a": "x,y", "b": {"c": [1, None]}, "d": None, "e": True}
    assert made["response"] == json.loads(MESSAGE)
    empty = line("jsonl", status="pending", attempts=0)
    assert (empty["response"], empty["metadata"], empty["input_tokens"]) == (None, {}, None)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"<html>\n\xff</html>", "<html>\n\N{REPLACEMENT CHARACTER}</html>"),
        (b'{"a": NaN}', '{"a": NaN}'),
        (b'{"a": "\xff"}', '{"a": "\N{REPLACEMENT CHARACTER}"}'),
        (b"", ""),
        (b"[" * 50_000, "[" * 50_000),
        (b' {"a":\r\n1.10} ', {"a": 1.1}),
    ],
)
def test_jsonl_response_is_json_or_text(response: bytes, expected: object) -> None:
    """A response that is no JSON comes out as a string, so that every line is one JSON object."""
    assert line("jsonl", response)["response"] == expected


FAILED = {"status": "failed", "error_kind": "invalid_request", "error_message": "bad"}
ERROR = b'{"type":"error","error":{"type":"invalid_request_error","message":"no","x":1},"request_id":"r"}'


@pytest.mark.parametrize(
    ("fields", "response", "answered", "error"),
    [
        ({"http_status": 200}, MESSAGE, (200, json.loads(MESSAGE)), None),
        ({**FAILED, "http_status": 400}, ERROR, (400, json.loads(ERROR)), None),
        ({**FAILED, "http_status": 200}, b"<", (200, "<"), ("invalid_request", "bad")),
        (FAILED, None, None, ("invalid_request", "bad")),
        ({"status": "cancelled"}, None, None, ("batch_cancelled", "This request was cancelled.")),
        ({"status": "pending", "http_status": 429}, b"{}", None, ("batch_expired", None)),
        ({"status": "running"}, None, None, ("batch_expired", None)),
    ],
)
def test_openai_rows(
    fields: dict[str, Any], response: bytes | None, answered: Any, error: Any
) -> None:
    """Success, HTTP error, other error, cancelled and unfinished, as OpenAI's files have them."""
    made = line("openai", response, request_id="req_1", **fields)
    assert [*made] == ["id", "custom_id", "response", "error"]
    assert made["id"].startswith("batch_req_")
    assert made["custom_id"] == "k"
    if answered is None:
        assert made["response"] is None
    else:
        assert made["response"] == {
            "status_code": answered[0],
            "request_id": "req_1",
            "body": answered[1],
        }
    if error is None:
        assert made["error"] is None
    else:
        assert made["error"]["code"] == error[0]
        assert made["error"]["message"] == (error[1] or made["error"]["message"])


@pytest.mark.parametrize(
    ("fields", "response", "result"),
    [
        ({}, MESSAGE, {"type": "succeeded", "message": json.loads(MESSAGE)}),
        (
            {**FAILED, "request_id": "req_1"},
            ERROR,
            {
                "type": "errored",
                "error": {
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "no", "x": 1},
                    "request_id": "req_1",
                },
            },
        ),
        (
            {"status": "failed", "error_kind": "timeout", "error_message": "late"},
            None,
            {
                "type": "errored",
                "error": {
                    "type": "error",
                    "error": {"type": "timeout_error", "message": "late"},
                    "request_id": None,
                },
            },
        ),
        (
            {"status": "failed", "error_kind": "connection_reset"},
            b'{"error":"x"}',
            {
                "type": "errored",
                "error": {
                    "type": "error",
                    "error": {"type": "api_error", "message": ""},
                    "request_id": None,
                },
            },
        ),
        ({"status": "cancelled"}, None, {"type": "canceled"}),
        ({"status": "pending"}, None, {"type": "expired"}),
    ],
)
def test_anthropic_rows(fields: dict[str, Any], response: bytes | None, result: Any) -> None:
    """Every state of a job is one of the four results of a message batch."""
    assert line("anthropic", response, **fields) == {"custom_id": "k", "result": result}


LONG = "x" * 100_000


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("parquet", "xlsx")])
def test_rows_are_streamed(kind: str) -> None:
    """Rows are written while more are read, so that memory does not grow with the run."""
    out = io.BytesIO()
    seen = []

    def rows() -> Iterator[ExportRow]:
        for n in range(20):
            seen.append(out.tell())
            yield ExportRow(
                job=JobView(
                    key=str(n), status="completed", attempts=1, http_status=200, output_text=LONG
                ),
                request=json.dumps({"messages": [LONG]}).encode(),
                response=json.dumps(LONG).encode(),
                shape=Shape.BODY,
            )

    assert write_rows(rows(), kind, out, profile=profile("anthropic")) == 20
    assert seen[-1] > 500_000


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        (None, None, "csv"),
        ("-", None, "csv"),
        ("a.CSV", None, "csv"),
        (Path("a.jsonl"), None, "jsonl"),
        ("a.ndjson", None, "jsonl"),
        ("a.csv", "openai", "openai"),
    ],
)
def test_format_of(path: Any, name: str | None, expected: str) -> None:
    """The name counts, then the ending, and stdout is CSV."""
    assert format_of(path, name) == expected


@pytest.mark.parametrize(("path", "name"), [("a.txt", None), ("a.csv", "yaml"), ("a", None)])
def test_format_of_the_unknown(path: str, name: str | None) -> None:
    """A name or ending that tells no format is a usage error that lists them."""
    with pytest.raises(UsageError) as caught:
        format_of(path, name)
    assert all(kind in caught.value.fix for kind in FORMATS)


@given(ms=st.integers(0, 4_000_000_000_000))
def test_rfc3339_is_exact(ms: int) -> None:
    """An instant keeps its milliseconds."""
    told = datetime.fromisoformat(rfc3339(ms))
    assert round(told.timestamp() * 1000) == ms
