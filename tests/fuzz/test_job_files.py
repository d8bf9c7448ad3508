"""Job files of strangers: each line is a job or a fault with its number, and no line is lost."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner.errors import InputError, UsageError
from batchrunner.formats.export import FORMATS, ExportRow, write_rows
from batchrunner.formats.identity import Digest
from batchrunner.formats.lines import Fill, read_lines
from batchrunner.formats.sources import open_lines
from batchrunner.models import JobLine, LineFault
from batchrunner.providers import NAMES, profile
from batchrunner.views import JobView
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import bytes_like, json_values, mutated, texts

LINES: Final = (
    b'{"custom_id":"a","params":{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]},"metadata":{"x":1}}',
    b'{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}',
    b'{"custom_id":"b2","url":"/v1/embeddings","body":{"model":"m","input":["a"]}}',
    b'{"id":3,"prompt":"say 4","system":"be short","model":"m","max_tokens":7,"metadata":{"k":[1,{}]}}',
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"custom_id":"c","max_tokens":1}',
    b'{"model":"m","contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":2}}',
    b'{"url":"/v1beta/models/gemini-2.5-flash:generateContent","body":{"contents":[]}}',
    b'{"url":"https://api.example/x?y=1","method":"PUT","headers":{"A":"b"},"body":[1,"\\u00e9"]}',
    b'{"id":"a","id":"b","prompt":"twice"}',
    b'{"id":1e400,"prompt":"x"}',
    b'{"id":123456789012345678901234567890,"prompt":"x"}',
)  # fmt: skip
NAMED: Final = (
    "custom_id", "id", "params", "url", "method", "headers", "body", "prompt", "system", "model", "max_tokens", "messages",
    "input", "contents", "metadata", "generationConfig", "maxOutputTokens", "stream", "api_key", "role", "content",
)  # fmt: skip
ONE: Final = st.one_of(
    bytes_like(*LINES), st.sampled_from(LINES), json_values(*NAMED).map(msgspec.json.encode)
)
WHOLE: Final = st.one_of(
    st.lists(ONE, max_size=4).map(b"\n".join),
    st.lists(ONE, max_size=4).map(b"\r\n".join),
    mutated([b"\n".join(LINES), b"\xef\xbb\xbf" + LINES[0], "x".encode("utf-16")]),
)
FILL: Final = Fill(model="filled", max_tokens=9, system="filled")


def packed(data: bytes, how: str) -> bytes:
    """Return data as a file of that ending holds it."""
    if how == "gz":
        return gzip.compress(data, 1)
    return zstandard.compress(data, 1) if how == "zst" else data


def lines_of(data: bytes, name: str = "jobs.jsonl") -> list[tuple[int, bytes]]:
    """Return the numbered lines of a file, by the program's own reading."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        return [(raw.line, raw.data) for raw in open_lines([str(path)])]


@fuzzed(80)
@given(WHOLE, st.sampled_from(["plain", "gz", "zst"]))
def test_no_line_of_a_file_is_lost(data: bytes, how: str) -> None:
    """Packed or not, a file gives its lines that are not blank, with their numbers, in order."""
    if how != "plain" or not data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        text = data.removeprefix(b"\xef\xbb\xbf")
        wanted = [
            (number, line.removesuffix(b"\r"))
            for number, line in enumerate(text.split(b"\n"), start=1)
            if line.strip()
        ]
        name = {"plain": "jobs.jsonl", "gz": "a.gz", "zst": "a.zst"}[how]
        try:
            with within():
                found = lines_of(packed(data, how), name)
        except InputError as refused:
            assert "UTF-16" in refused.message
            return
        assert found == wanted


@fuzzed(80)
@given(
    st.sampled_from(["gz", "zst"]).flatmap(
        lambda how: mutated([packed(b"\n".join(LINES) * 3, how), packed(b"", how)])
    ),
    st.sampled_from(["a.gz", "a.zst", "a.jsonl"]),
)
@example(b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "a.zst")
@example(b"\x1f\x8b" + b"\xff" * 40, "a.gz")
@example(gzip.compress(b"{}\n") + b"trailing", "a.gz")
def test_a_damaged_archive_is_told(data: bytes, name: str) -> None:
    """What can't be unpacked is one sentence with the file's name, never an exception of a library."""
    try:
        with within():
            lines_of(data, name)
    except InputError as refused:
        assert name in refused.message
        assert refused.fix


def read(lines: Sequence[bytes], provider: str, fill: Fill = FILL) -> list[JobLine | LineFault]:
    """Return what a provider makes of lines."""
    stream = io.BytesIO(b"\n".join(lines) + b"\n")
    base = "https://api.example" if provider == "http" else None
    return list(read_lines(open_lines(["-"], stdin=stream), profile(provider), fill, base_url=base))


@pytest.mark.parametrize("provider", NAMES)
@fuzzed(80)
@given(
    st.lists(ONE.filter(lambda line: b"\n" not in line and line.strip()), min_size=1, max_size=3)
)
@example([b'{"id":' + b"9" * 4_200 + b',"prompt":"x"}'])
@example([b'{"prompt":"x","metadata":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"}"])
@example([b"\xff\xfe{}"])
def test_each_line_is_a_job_or_a_fault(provider: str, lines: list[bytes]) -> None:
    """As many come out as went in; a job is what the database can hold, a fault has its line's number."""
    if lines[0].startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        with pytest.raises(InputError):
            read(lines, provider)
        return
    if not lines[0].removeprefix(b"\xef\xbb\xbf").strip():
        return
    try:
        with within():
            made = read(lines, provider)
    except UsageError as refused:
        # One mistake of the whole file: no model, where the provider needs one.
        assert "model" in refused.message
        return
    assert [value.line for value in made] == list(range(1, len(lines) + 1))
    digest = Digest(provider)
    for value in made:
        if isinstance(value, LineFault):
            assert value.reason
            assert len(value.reason) < 400
            assert value.excerpt.isprintable()
            assert value.reason.isprintable()
            continue
        assert value.key
        value.key.encode()
        assert value.body == b"" or msgspec.json.decode(value.body) is not ...
        assert value.metadata is None or isinstance(msgspec.json.decode(value.metadata), dict)
        digest.add(value)
    assert digest.digest()


KEYS: Final = st.one_of(texts(max_size=4).filter(bool), st.sampled_from(["../x", "=1+1", "a,b", 'a"b', "a\nb"]))  # fmt: skip
STATUSES: Final = st.sampled_from(["pending", "completed", "failed", "cancelled"])


@pytest.mark.parametrize("format_name", FORMATS)
@fuzzed(60)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(LINES),
    KEYS,
    STATUSES,
    bytes_like(b'{"error":{"type":"x","message":"y"}}', b'{"type":"message","content":[]}'),
    st.dictionaries(texts(max_size=3), json_values(), max_size=3),
    texts(),
)
def test_an_export_is_whole_whatever_was_answered(
    format_name: str, provider: str, line: bytes, key: str, status: str, response: bytes,
    metadata: dict[str, object], words: str,
) -> None:  # fmt: skip
    """Rows of any answer, key, message and metadata read back as one row with that key."""
    try:
        (job,) = read([line], provider)
    except UsageError:
        return
    if isinstance(job, LineFault):
        return
    row = ExportRow(
        job=JobView(
            key=key, status=status, attempts=1, http_status=200, error_kind="server_error",
            error_message=words, model=words, output_text=words, finish_reason=words,
            input_tokens=1, output_tokens=2, cost_usd=0.1, latency_ms=3, request_id=words,
            started_at=0, finished_at=1, metadata=msgspec.json.encode(metadata) if metadata else None,
        ),
        request=job.body, response=response, method=job.method, url=job.url, headers=job.headers, shape=job.shape,
    )  # fmt: skip
    out = io.BytesIO()
    with within():
        n = write_rows(
            [row], format_name, out, profile=profile(provider), metadata_names=list(metadata)
        )
    assert n == 1
    if format_name == "parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415

        (back,) = pq.read_table(io.BytesIO(out.getvalue())).to_pylist()
        assert (back["key"], back["error_message"]) == (key, words)
        return
    if format_name == "xlsx":
        import openpyxl  # noqa: PLC0415

        (sheet,) = openpyxl.load_workbook(io.BytesIO(out.getvalue())).worksheets
        assert sheet.max_row == 2
        return
    text = out.getvalue().decode()
    if format_name == "csv":
        import csv  # noqa: PLC0415

        found = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [each["key"] for each in found] == [key]
        assert found[0]["error_message"] == words
        for name, value in metadata.items():
            if isinstance(value, str):
                assert found[0][f"metadata.{name}"] == value
        return
    assert text.count("\n") == 1
    value = json.loads(text)
    assert key in {value.get(name) for name in ("key", "custom_id", "id")}


@fuzzed(60)
@given(st.sampled_from(NAMES), st.lists(st.sampled_from(LINES), min_size=1, max_size=4), KEYS)
def test_an_exported_input_makes_the_same_jobs(provider: str, lines: list[bytes], key: str) -> None:
    """``-f input`` gives lines that make the same request, metadata and key as the first ones."""
    try:
        jobs = [job for job in read(lines, provider) if isinstance(job, JobLine)]
    except UsageError:
        return
    for job in jobs:
        row = ExportRow(
            job=JobView(
                key=job.key, status="pending", attempts=0, http_status=None, error_kind=None,
                error_message=None, model=job.model, output_text=None, finish_reason=None,
                input_tokens=None, output_tokens=None, cost_usd=None, latency_ms=None, request_id=None,
                started_at=None, finished_at=None, metadata=job.metadata,
            ),
            request=job.body, response=None, method=job.method, url=job.url, headers=job.headers, shape=job.shape,
        )  # fmt: skip
        out = io.BytesIO()
        write_rows([row], "input", out, profile=profile(provider))
        (again,) = read([out.getvalue().rstrip(b"\n")], provider, Fill())
        assert isinstance(again, JobLine), again
        same = (again.key, again.body, again.method, again.url, again.headers, again.metadata)
        assert same == (job.key, job.body, job.method, job.url, job.headers, job.metadata)
