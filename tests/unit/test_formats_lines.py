"""Lines into jobs: the four shapes, what is filled in, and every reason for refusing one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.formats.detect import detect_provider, peek
from batchrunner.formats.faults import excerpt
from batchrunner.formats.lines import Fill, Notes, read_lines
from batchrunner.formats.sources import MAX_LINE, RawLine
from batchrunner.models import JobLine, LineFault, Shape
from batchrunner.providers import detect


@dataclass(frozen=True)
class Rules:
    """A provider, as far as lines are concerned."""

    name: str
    needs_model: bool = True
    demands_max_tokens: bool = False
    allow_any_url: bool = False

    def default_path_for(self, body: Mapping[str, Any]) -> str | None:
        """Return the path of a bare body, as the providers' own profiles do."""
        if self.allow_any_url:
            return None
        if self.demands_max_tokens:
            return "/v1/messages"
        if "input" in body:
            return "/v1/embeddings" if "embed" in str(body.get("model")) else "/v1/responses"
        return "/v1/chat/completions"

    def read_path(self, path: str) -> tuple[str, str | None]:
        """Return a path as it is."""
        return path, None


ANTHROPIC = Rules("anthropic", demands_max_tokens=True)
OPENAI = Rules("openai")
HTTP = Rules("http", needs_model=False, allow_any_url=True)
MESSAGES = [{"role": "user", "content": "hi"}]


def read(
    line: object,
    rules: Rules = ANTHROPIC,
    fill: Fill = Fill(model="m"),  # noqa: B008
    notes: Notes | None = None,
    base_url: str | None = None,
) -> JobLine | LineFault:
    """Read one line, given as bytes or as what JSON makes of it."""
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    raw = RawLine("f.jsonl", 3, 7, data)
    (value,) = read_lines([raw], rules, fill, base_url=base_url, notes=notes)
    return value


def job(line: object, *args: Any, **kwargs: Any) -> JobLine:
    """Read one line that must be good."""
    value = read(line, *args, **kwargs)
    assert isinstance(value, JobLine), value
    return value


def fault(line: object, *args: Any, **kwargs: Any) -> str:
    """Read one line that must be refused, and return the reason."""
    value = read(line, *args, **kwargs)
    assert isinstance(value, LineFault), value
    assert (value.file, value.line) == ("f.jsonl", 3)
    assert len(value.excerpt) <= 80
    assert value.excerpt.isprintable()
    return value.reason


def body(line: JobLine) -> Any:
    """Return what would be sent."""
    return json.loads(line.body)


def test_anthropic_batch_line_is_sent_as_it_is() -> None:
    """The params are the body, in their order, with the provider's own metadata in it."""
    params = {
        "model": "claude-x",
        "max_tokens": 5,
        "messages": MESSAGES,
        "metadata": {"user_id": "u"},
    }
    made = job({"custom_id": "k", "params": params, "metadata": {"a": [1]}})
    assert made == JobLine(
        key="k",
        model="claude-x",
        body=json.dumps(params, separators=(",", ":")).encode(),
        metadata=b'{"a":[1]}',
        shape=Shape.ANTHROPIC_BATCH,
        file="f.jsonl",
        line=3,
    )


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}, (None, None)),
        ("/v1/responses", {"input": "x"}, ("POST", "/v1/responses")),
        ("/v1/embeddings", {"input": ["x"]}, ("POST", "/v1/embeddings")),
    ],
)
def test_openai_batch_line(path: str, sent: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """An OpenAI line keeps its path; the default one is told by being absent."""
    line = {
        "custom_id": "k",
        "method": "POST",
        "url": path,
        "body": {"model": "gpt", "metadata": {}, **sent},
    }
    made = job(line, OPENAI)
    assert (made.method, made.url) == expected
    assert body(made) == line["body"]
    assert made.shape is Shape.OPENAI_BATCH


def test_the_same_request_is_equal_in_every_form() -> None:
    """A url line for /v1/messages and a params line make the same job but for its shape."""
    params = {"model": "m", "max_tokens": 1, "messages": MESSAGES}
    one = job({"custom_id": "k", "params": params})
    two = job({"custom_id": "k", "url": "/v1/messages", "body": params})
    three = job({"custom_id": "k", **params})
    assert (one.body, one.method, one.url) == (two.body, two.method, two.url)
    assert (one.body, one.method, one.url) == (three.body, three.method, three.url)


def test_prompt_line_becomes_one_user_message() -> None:
    """A prompt takes its fill-ins and the default max_tokens where the provider wants one."""
    made = job({"prompt": "hi", "id": 7, "metadata": {"a": 1}}, fill=Fill(model="m", system="s"))
    assert made.key == "7"
    assert body(made) == {"model": "m", "messages": MESSAGES, "max_tokens": 4096, "system": "s"}
    assert made.metadata == b'{"a":1}'
    told = {"prompt": "hi", "model": "n", "system": "t", "max_tokens": 9}
    made = job(told, fill=Fill(model="m", system="s", max_tokens=5))
    assert body(made) == {"model": "n", "messages": MESSAGES, "max_tokens": 9, "system": "t"}


def test_prompt_line_for_openai() -> None:
    """The system prompt is the first message, and no max_tokens is made up."""
    made = job({"prompt": "hi", "system": "s"}, OPENAI)
    assert body(made) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, *MESSAGES],
    }


def test_prompt_line_nulls_are_gaps() -> None:
    """An exported table's nulls count as left out."""
    line = {"prompt": "hi", "system": None, "model": None, "max_tokens": None, "metadata": None}
    assert body(job(line)) == {"model": "m", "messages": MESSAGES, "max_tokens": 4096}


def test_bare_body_loses_its_own_fields_only() -> None:
    """custom_id and metadata are the line's; everything else is sent."""
    line = {"custom_id": "k", "model": "x", "messages": MESSAGES, "temperature": 0.5}
    made = job({**line, "metadata": {"a": 1}}, OPENAI)
    assert body(made) == {"model": "x", "messages": MESSAGES, "temperature": 0.5}
    assert (made.key, made.metadata, made.shape) == ("k", b'{"a":1}', Shape.BODY)


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ({"model": "gpt", "input": "x"}, "/v1/responses"),
        ({"model": "text-embedding-3-small", "input": "x"}, "/v1/embeddings"),
        ({"input": "x"}, "/v1/responses"),
        ({"model": "gpt", "messages": MESSAGES}, None),
    ],
)
def test_bare_body_goes_to_the_endpoint_its_fields_tell(line: Any, url: str | None) -> None:
    """messages, input and the model's name choose the endpoint."""
    assert job(line, OPENAI).url == url


def test_a_filled_in_model_chooses_the_endpoint_too() -> None:
    """The endpoint is chosen after the model was filled in."""
    assert job({"input": "x"}, OPENAI, Fill(model="text-embedding-x")).url == "/v1/embeddings"


@pytest.mark.parametrize(
    ("line", "rules", "expected"),
    [
        ({"params": {"messages": MESSAGES}}, ANTHROPIC, {"max_tokens": 5, "system": "s"}),
        (
            {"params": {"messages": MESSAGES, "system": [], "max_tokens": 1}},
            ANTHROPIC,
            {"max_tokens": 1, "system": []},
        ),
        (
            {"messages": MESSAGES},
            OPENAI,
            {"messages": [{"role": "system", "content": "s"}, *MESSAGES], "max_tokens": 5},
        ),
        (
            {"messages": [{"role": "developer", "content": "d"}], "max_completion_tokens": 3},
            OPENAI,
            {"messages": [{"role": "developer", "content": "d"}], "max_completion_tokens": 3},
        ),
        ({"messages": MESSAGES, "model": "o3-mini"}, OPENAI, {"max_completion_tokens": 5}),
        ({"input": "x"}, OPENAI, {"instructions": "s", "max_output_tokens": 5}),
        ({"input": "x", "instructions": "i"}, OPENAI, {"instructions": "i"}),
    ],
)
def test_gaps_are_filled_where_each_endpoint_has_them(
    line: Any, rules: Rules, expected: dict[str, Any]
) -> None:
    """Model, system and max_tokens go where the endpoint wants them, over nothing that is there."""
    made = job(line, rules, Fill(model="m", system="s", max_tokens=5))
    assert body(made).items() >= expected.items()
    assert made.model == body(made)["model"]


def test_no_model_anywhere_is_one_error() -> None:
    """The first line without a model ends the reading with a usage error that says --model."""
    with pytest.raises(UsageError, match="line 3 names no model") as caught:
        read({"prompt": "x"}, fill=Fill())
    assert "--model" in caught.value.fix


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ({"custom_id": "a", "id": "b"}, "a"),
        ({"id": "b"}, "b"),
        ({"id": 12}, "12"),
        ({"id": 12345678901234567890123}, "12345678901234567890123"),
        ({"custom_id": 1.5}, "1.5"),
        ({}, "line-7"),
    ],
)
def test_keys(line: dict[str, Any], key: str) -> None:
    """custom_id, else id, numbers as text, else the line's number in the whole input."""
    notes = Notes()
    assert job({**line, "messages": MESSAGES}, notes=notes).key == key
    assert notes.n_generated == (not line)


def test_http_takes_any_request() -> None:
    """Method, URL, headers and body are stored as given; ${VAR} stays unfilled."""
    line = {
        "id": "k",
        "method": "put",
        "url": "things/1?x=1",
        "headers": {"Authorization": "Bearer ${TOKEN}", "X-A": "b"},
        "body": [1, None],
    }
    made = job(line, HTTP)
    assert (made.method, made.url, made.body, made.model) == (
        "PUT",
        "things/1?x=1",
        b"[1,null]",
        None,
    )
    assert made.headers == b'{"Authorization":"Bearer ${TOKEN}","X-A":"b"}'


@pytest.mark.parametrize(
    ("line", "method", "sent"),
    [
        ({"url": "/x"}, "GET", b""),
        ({"url": "/x", "body": None}, "POST", b"null"),
        ({"url": "/x", "body": "s"}, "POST", b'"s"'),
        ({"url": "/x", "method": "DELETE"}, "DELETE", b""),
        ({"url": "/x", "method": "GET", "body": None}, "GET", b""),
        ({"url": "HTTP://API.example:80/y?a=b"}, "GET", b""),
    ],
)
def test_http_bodies_may_be_anything_or_absent(line: Any, method: str, sent: bytes) -> None:
    """A body may be any JSON value; a GET has none."""
    made = job(line, HTTP, base_url="http://api.example/v2")
    assert (made.method, made.body) == (method, sent)


SECRET = "sk-ant-api03-" + "a" * 40
FAULTS: list[tuple[Any, Rules, str]] = [
    (b"{", ANTHROPIC, "not JSON"),
    (b'{"a": NaN}', ANTHROPIC, "not JSON"),
    (b'{"prompt": "\xff"}', ANTHROPIC, "not UTF-8"),
    (b'{"prompt": "\\ud800"}', ANTHROPIC, "not JSON"),
    (b'{"prompt": "\xed\xa0\x80"}', ANTHROPIC, "not UTF-8"),
    (b'{"prompt": "x", "metadata": {"n": 1e999}}', ANTHROPIC, "not JSON"),
    (b"[" * 100_000, ANTHROPIC, "nested too deeply"),
    (b"[]", ANTHROPIC, "not a JSON object"),
    (b'"x"', ANTHROPIC, "not a JSON object"),
    ({"text": "x"}, ANTHROPIC, "unknown shape"),
    (
        {"key": "k", "request": {"contents": []}},
        ANTHROPIC,
        "jq -c '{custom_id: .key} + .request' FILE",
    ),
    ({"params": []}, ANTHROPIC, "`params` is not an object"),
    ({"params": {}}, ANTHROPIC, "no `messages`"),
    ({"params": {"messages": {}}}, ANTHROPIC, "`messages` is not a list"),
    ({"params": {"messages": MESSAGES, "max_tokens": 0}}, ANTHROPIC, "`max_tokens`"),
    ({"params": {"messages": MESSAGES, "max_tokens": True}}, ANTHROPIC, "`max_tokens`"),
    ({"params": {"messages": MESSAGES, "model": 5}}, ANTHROPIC, "`model`"),
    ({"params": {"messages": MESSAGES, "model": ""}}, ANTHROPIC, "`model`"),
    ({"params": {"messages": MESSAGES, "stream": True}}, ANTHROPIC, "`stream`"),
    ({"params": {"messages": MESSAGES, "api_key": "x"}}, ANTHROPIC, "credential"),
    ({"params": {"messages": MESSAGES}, "prompt": "x"}, ANTHROPIC, "one form"),
    ({"params": {"messages": MESSAGES}}, OPENAI, "--provider anthropic"),
    ({"params": {"messages": MESSAGES}}, HTTP, "--provider anthropic"),
    ({"url": "/v1/responses", "body": {"input": "x"}}, ANTHROPIC, "--provider openai"),
    ({"url": "/v1/messages", "body": {"messages": []}}, OPENAI, "--provider anthropic"),
    ({"url": "/v1/responses", "body": "x"}, OPENAI, "`body` is not an object"),
    ({"url": "/v1/responses"}, OPENAI, "`body` is not an object"),
    ({"url": 5, "body": {}}, OPENAI, "`url`"),
    ({"url": "/v1/embeddings", "body": {"input": 5}}, OPENAI, "`input`"),
    ({"url": "/v1/responses", "method": "GET", "body": {}}, OPENAI, "`method`"),
    ({"url": "/v1/responses", "headers": {"a": "b"}, "body": {}}, OPENAI, "`headers`"),
    ({"url": "https://evil.example/v1/responses", "body": {}}, OPENAI, "not a path"),
    ({"url": "//evil.example/v1/responses", "body": {}}, OPENAI, "not a path"),
    ({"prompt": 5}, ANTHROPIC, "`prompt` is not a string"),
    ({"prompt": None}, ANTHROPIC, "`prompt` is not a string"),
    ({"prompt": "x", "system": 5}, ANTHROPIC, "`system` is not a string"),
    ({"prompt": "x", "max_tokens": "5"}, ANTHROPIC, "`max_tokens`"),
    ({"prompt": "x", "metadata": []}, ANTHROPIC, "`metadata` is not an object"),
    ({"prompt": "x", "metadata": "y"}, ANTHROPIC, "`metadata` is not an object"),
    ({"prompt": "x", "topic": 1}, ANTHROPIC, "unknown field `topic`"),
    ({"prompt": "x", "topic": 1}, ANTHROPIC, "`metadata`"),
    ({"prompt": "x", "id": ""}, ANTHROPIC, "`id`"),
    ({"prompt": "x", "id": None}, ANTHROPIC, "`id`"),
    ({"prompt": "x", "id": True}, ANTHROPIC, "`id`"),
    ({"custom_id": {}, "id": "x", "messages": MESSAGES}, ANTHROPIC, "`custom_id`"),
    ({"input": "x"}, ANTHROPIC, "no `messages`"),
    ({"prompt": "x"}, HTTP, "`url`"),
    ({"messages": MESSAGES}, HTTP, "`url`"),
    ({"url": "/x", "method": "GET", "body": {}}, HTTP, "no `body`"),
    ({"url": "/x", "method": "G E T"}, HTTP, "`method`"),
    ({"url": "/x y"}, HTTP, "`url`"),
    ({"url": "/\\evil"}, HTTP, "`url`"),
    ({"url": ""}, HTTP, "`url`"),
    ({"url": "http://[x"}, HTTP, "`url`"),
    ({"url": "http://other.example/x"}, HTTP, "origin (http://api.example)"),
    ({"url": "https://api.example/x"}, HTTP, "origin"),
    ({"url": "http://api.example:8080/x"}, HTTP, "origin"),
    ({"url": "//evil.example/x"}, HTTP, "origin"),
    ({"url": "http://u:p@api.example/x"}, HTTP, "`url`"),
    ({"url": "/x?a=1&api_key=abc"}, HTTP, "credential"),
    ({"url": "/x?KEY=abc"}, HTTP, "credential"),
    ({"url": f"/x/{SECRET}"}, HTTP, "credential"),
    ({"url": "/x", "headers": []}, HTTP, "`headers`"),
    ({"url": "/x", "headers": {"a": 1}}, HTTP, "`a` is not a string"),
    ({"url": "/x", "headers": {"a b": "1"}}, HTTP, "HTTP does not allow"),
    ({"url": "/x", "headers": {"a": "b\r\nc: d"}}, HTTP, "HTTP does not allow"),
    ({"url": "/x", "headers": {"X-Api-Key": "abc"}}, HTTP, "credential"),
    ({"url": "/x", "headers": {"authorization": "Bearer abc"}}, HTTP, "credential"),
    ({"url": "/x", "headers": {"Cookie": "a=b"}}, HTTP, "credential"),
    ({"url": "/x", "headers": {"X-Mine": SECRET}}, HTTP, "credential"),
    ({"url": "/x", "headers": {"Authorization": "${A}" + SECRET}}, HTTP, "credential"),
    ({"url": "/x", "body": {"api_key": "abc"}}, HTTP, "credential"),
]


@pytest.mark.parametrize(("line", "rules", "reason"), FAULTS)
def test_every_bad_line_is_refused_with_its_reason(line: Any, rules: Rules, reason: str) -> None:
    """A line that can't be sent is a fault that names what is wrong with it."""
    said = fault(line, rules, base_url="http://api.example")
    assert reason in said
    assert SECRET not in said


def test_a_line_over_the_bound_is_refused() -> None:
    """What the source cut is never taken for a line."""
    assert "64 MB" in fault(b"x" * (MAX_LINE + 1))


def test_excerpts_are_harmless() -> None:
    """No escape sequence, no secret and no more than 80 characters reach a terminal."""
    text = excerpt(b'\x1b[2J\x07\xc2\x9b {"a": "' + SECRET.encode() + b'"}' + b"z" * 500)
    assert len(text) == 80
    assert text.isprintable()
    assert "sk-ant-api03-aaaa" not in text


def test_warnings_take_the_line_and_are_bounded() -> None:
    """metadata.user_id of a bare line and fields that are not sent are warned of, 20 at most."""
    notes = Notes()
    line = {"custom_id": "k", "messages": MESSAGES, "metadata": {"user_id": "u"}}
    assert "metadata" not in body(job(line, notes=notes))
    assert "user_id" in notes.warnings[0].reason
    extra = {"custom_id": "k", "params": {"messages": MESSAGES}, "{note}": 1}
    for _ in range(30):
        job(extra, notes=notes)
    assert "{note}" in notes.warnings[1].reason
    assert (len(notes.warnings), notes.n_warnings) == (20, 31)


def test_faults_and_jobs_come_in_order() -> None:
    """One value a line, in the order of the lines."""
    raws = [RawLine("f", n, n, b'{"prompt":"x"}' if n % 2 else b"{") for n in range(1, 7)]
    values = list(read_lines(raws, ANTHROPIC, Fill(model="m")))
    assert [value.line for value in values] == [1, 2, 3, 4, 5, 6]
    assert [isinstance(value, JobLine) for value in values] == [True, False] * 3


# A small alphabet: building the table of all characters takes seconds.
TEXT = st.text('aZ 0é\x00"{', max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "custom_id",
    "id",
    "params",
    "url",
    "method",
    "body",
    "headers",
    "prompt",
    "messages",
    "input",
    "model",
    "max_tokens",
]


@given(
    line=st.dictionaries(st.sampled_from([*FIELDS, "metadata", "system", "stream"]), JSON),
    rules=st.sampled_from([ANTHROPIC, OPENAI, HTTP]),
)
def test_no_line_makes_it_fail(line: dict[str, Any], rules: Rules) -> None:
    """Whatever JSON a line holds, a job or a fault comes of it."""
    value = read(json.dumps(line).encode("utf-8", "replace"), rules)
    if isinstance(value, JobLine) and value.body:
        json.loads(value.body)


@given(data=st.binary(max_size=40))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    """Whatever bytes a line holds, a fault comes of it, with a printable excerpt."""
    fault(data + b"x")


@pytest.mark.parametrize(
    ("lines", "model", "provider"),
    [
        ([{"params": {}}], None, "anthropic"),
        ([{"url": "/v1/responses"}], None, "openai"),
        ([{"model": "claude-x", "messages": []}], None, "anthropic"),
        ([{"model": "gpt-x", "messages": []}], None, "openai"),
        ([{"model": "o3-mini", "input": ""}], None, "openai"),
        ([{"prompt": "x"}], "claude-x", "anthropic"),
        ([{"prompt": "x", "model": "gpt-x"}], "claude-x", "openai"),
        ([{"prompt": "x", "model": "llama"}], None, None),
        ([{"prompt": "x"}], None, None),
        ([[], {"params": {}}], None, "anthropic"),
        ([], None, None),
    ],
)
def test_detect_provider(lines: list[Any], model: str | None, provider: str | None) -> None:
    """params is Anthropic's, url OpenAI's, else the model's name says it, else nobody does."""
    raws = [RawLine("f", n, n, json.dumps(line).encode()) for n, line in enumerate(lines, 1)]
    first, whole = peek(iter(raws), 5)
    assert detect_provider(first, detect, model=model) == provider
    assert list(whole) == raws
