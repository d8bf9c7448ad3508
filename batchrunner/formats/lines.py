"""Lines of a job file into jobs: the four shapes of CONTRACT §2, checked, with gaps filled.

Pure but for the iterator it reads: one value a line, in order, a :class:`JobLine` as it will be
sent or a :class:`LineFault` with the reason and a printable, redacted excerpt. Two lines that send
the same request are equal, whatever their shape: POST to the provider's default path is told by
``method`` and ``url`` being ``None``, any other request names both. Duplicate keys are the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from batchrunner.errors import UsageError
from batchrunner.formats.bodies import (
    Body,
    Fill,
    check_and_fill,
    check_max_tokens,
    default_max_tokens,
    endpoint_of,
    prompt_to_body,
)
from batchrunner.formats.faults import (
    Notes,
    RefusedLineError,
    SecretLineError,
    fault_of,
    printable,
)
from batchrunner.formats.prompts import Rows, keyed, line_of_row
from batchrunner.formats.requests import check_headers, check_method, check_url
from batchrunner.formats.sources import MAX_LINE, RawLine
from batchrunner.models import JobLine, LineFault, Shape

__all__ = ["Fill", "LineRules", "Notes", "Rows", "object_of", "read_lines"]

_MESSAGES_PATH: Final = "/v1/messages"
_NO_BODY_METHODS: Final = frozenset(("GET", "HEAD"))
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class LineRules(Protocol):
    """What this module must know of a provider; its profile satisfies it."""

    @property
    def name(self) -> str:
        """The name, as ``--provider`` takes it."""
        ...

    @property
    def needs_model(self) -> bool:
        """Whether every request names a model."""
        ...

    @property
    def demands_max_tokens(self) -> bool:
        """Whether a request without ``max_tokens`` is refused."""
        ...

    @property
    def allow_any_url(self) -> bool:
        """Whether any HTTP request will do, and only lines with a ``url`` make one."""
        ...

    def default_path_for(self, body: Mapping[str, Any], /) -> str | None:
        """Return the path a bare body goes to; for ``{}``, that of a plain message."""
        ...

    def read_path(self, path: str, /) -> tuple[str, str | None]:
        """Return a line's path without the model that it names, and the model."""
        ...


def read_lines(
    lines: Iterable[RawLine],
    provider: LineRules,
    fill: Fill,
    *,
    base_url: str | None = None,
    notes: Notes | None = None,
    rows: Rows | None = None,
) -> Iterator[JobLine | LineFault]:
    """Yield one job or one fault a line, in order.

    ``base_url`` is what absolute URLs are held to. ``notes`` collects warnings and counts. ``rows``
    says how data becomes prompts, and which field is the key.

    Raises :class:`~batchrunner.errors.UsageError` at the first line that names no model where the
    provider needs one and ``fill`` has none: that is one mistake, not one a line.
    """
    reader = _Reader(provider, fill, base_url, notes or Notes(), rows or Rows())
    for raw in lines:
        yield reader.read(raw)


class _Reader:
    """Turns raw lines into jobs for one provider."""

    def __init__(
        self, rules: LineRules, fill: Fill, base_url: str | None, notes: Notes, rows: Rows
    ) -> None:
        self._rows = rows
        self._rules = rules
        self._fill = fill
        self._base_url = base_url
        self._notes = notes
        self._plain_path = rules.default_path_for({})

    def read(self, raw: RawLine) -> JobLine | LineFault:
        """Return the job a line makes, or why it makes none."""
        try:
            if len(raw.data) > MAX_LINE:
                raise RefusedLineError(f"longer than {MAX_LINE // 2**20} MB")
            if raw.reason is not None:
                raise RefusedLineError(raw.reason)
            line = object_of(raw.data)
            if raw.is_row:
                return self.prompt(raw, line_of_row(line, self._rows, file=raw.file), Shape.PROMPT)
            return self._job(raw, line if self._rows.key is None else keyed(line, self._rows.key))
        except RefusedLineError as refused:
            is_secret = isinstance(refused, SecretLineError)
            return fault_of(raw, str(refused), is_secret=is_secret)
        except RecursionError:
            return fault_of(raw, "nested too deeply")

    def _job(self, raw: RawLine, line: Body) -> JobLine:
        for name, shape, read in _SHAPES:
            if name in line:
                return read(self, raw, line, shape)
        if "request" in line:
            raise RefusedLineError(_GEMINI_BATCH)
        raise RefusedLineError(
            "unknown shape: it has none of `params`, `url`, `prompt`, `messages`, `input` or"
            " `contents`"
        )

    # -- the shapes -----------------------------------------------------------------------------

    def params(self, raw: RawLine, line: Body, shape: Shape) -> JobLine:
        """Read an Anthropic batch line."""
        if self._plain_path != _MESSAGES_PATH:
            raise RefusedLineError(
                f"a line with `params` is Anthropic's; this run's provider is {self._rules.name}"
                " (--provider anthropic)"
            )
        body = line["params"]
        if not isinstance(body, dict):
            raise RefusedLineError("`params` is not an object")
        self._warn_unsent(raw, line, _PARAMS_FIELDS)
        return self._finish(raw, line, body, _MESSAGES_PATH, shape)

    def bare(self, raw: RawLine, line: Body, shape: Shape) -> JobLine:
        """Read a bare request body."""
        if self._rules.allow_any_url:
            raise RefusedLineError(
                f"with --provider {self._rules.name} every line needs a `url` (and a `body`)"
            )
        own: Body = {name: line.pop(name) for name in _OWN_FIELDS if name in line}
        metadata = own.get("metadata")
        if isinstance(metadata, dict) and "user_id" in metadata:
            self._notes.warn(
                raw,
                "`metadata.user_id` is not sent: a bare line's `metadata` is its own;"
                " to send one, use the form with `params` or with `url` and `body`",
            )
        # The path may hang on the model, so that it is filled in first.
        self._fill_model(raw, line)
        path = self._rules.default_path_for(line) or ""
        return self._finish(raw, own, line, path, shape)

    def prompt(self, raw: RawLine, line: Body, shape: Shape) -> JobLine:
        """Read a prompt line."""
        if self._rules.allow_any_url:
            raise RefusedLineError(
                f"a `prompt` means nothing to --provider {self._rules.name}; give `url` and `body`"
            )
        if not _PROMPT_FIELDS.issuperset(line):
            unknown = next(name for name in line if name not in _PROMPT_FIELDS)
            raise RefusedLineError(
                f"unknown field `{printable(unknown)}`; a line with `prompt` takes {_PROMPT_LIST};"
                " put anything else in `metadata`"
            )
        for name in ("prompt", "system"):
            if name in line and not isinstance(line[name], str):
                if name == "system" and line[name] is None:
                    continue
                raise RefusedLineError(f"`{name}` is not a string")
        path = self._plain_path or ""
        endpoint = endpoint_of(path)
        max_tokens = line.get("max_tokens")
        if max_tokens is None:
            max_tokens = default_max_tokens(
                endpoint, self._fill, demanded=self._rules.demands_max_tokens
            )
        else:
            check_max_tokens("max_tokens", max_tokens)
        system = line.get("system")
        self._fill_model(raw, line)
        body = prompt_to_body(
            endpoint,
            prompt=line["prompt"],
            model=line.get("model"),
            system=self._fill.system if system is None else system,
            max_tokens=max_tokens,
        )
        return self._finish(raw, line, body, path, shape)

    def url(self, raw: RawLine, line: Body, shape: Shape) -> JobLine:
        """Read an OpenAI batch line, or any HTTP request."""
        self._warn_unsent(raw, line, _URL_FIELDS)
        if self._rules.allow_any_url:
            return self._any_request(raw, line, shape)
        given = line["url"]
        if not isinstance(given, str) or not given.startswith("/") or given.startswith("//"):
            raise RefusedLineError(
                "`url` is not a path such as /v1/chat/completions; others are for --provider http"
            )
        path = check_url(given, base_url=None)
        ours, theirs = self._plain_path == _MESSAGES_PATH, path == _MESSAGES_PATH
        if ours != theirs:
            raise RefusedLineError(
                f"`url` {printable(path)} is {'Anthropic' if theirs else 'OpenAI'}'s; this run's"
                f" provider is {self._rules.name} (--provider {'anthropic' if theirs else 'openai'})"
            )
        if check_method(line.get("method") or "POST") != "POST":
            raise RefusedLineError("`method` is not POST")
        if line.get("headers"):
            raise RefusedLineError("`headers` of a line are for --provider http; use -H")
        body = line.get("body")
        if not isinstance(body, dict):
            raise RefusedLineError("`body` is not an object")
        path, model = self._rules.read_path(path)
        if model is not None:
            # The body's own would be another one's; the path is where the request goes.
            body["model"] = model
        return self._finish(raw, line, body, path, shape)

    def _any_request(self, raw: RawLine, line: Body, shape: Shape) -> JobLine:
        url = check_url(line["url"], base_url=self._base_url)
        has_body = "body" in line
        method = check_method(line.get("method") or ("POST" if has_body else "GET"))
        body = line.get("body")
        if method in _NO_BODY_METHODS and has_body and body is not None:
            raise RefusedLineError(f"a {method} request has no `body`")
        headers = check_headers(line["headers"]) if line.get("headers") is not None else {}
        if isinstance(body, dict):
            check_and_fill(body, endpoint_of(""), _NO_FILL, demands_max_tokens=False)
        model = body.get("model") if isinstance(body, dict) else None
        metadata = _metadata(line)
        return JobLine(
            key=self._key(raw, line),
            model=model if isinstance(model, str) and model else None,
            body=_encode(body) if has_body and method not in _NO_BODY_METHODS else b"",
            method=method,
            url=url,
            headers=_encode(headers) if headers else None,
            metadata=metadata,
            shape=shape,
            file=raw.file,
            line=raw.line,
        )

    # -- the parts ------------------------------------------------------------------------------

    def _finish(self, raw: RawLine, line: Body, body: Body, path: str, shape: Shape) -> JobLine:
        model = self._fill_model(raw, body)
        check_and_fill(
            body, endpoint_of(path), self._fill, demands_max_tokens=self._rules.demands_max_tokens
        )
        metadata = _metadata(line)
        plain = path == self._plain_path
        return JobLine(
            key=self._key(raw, line),
            model=model,
            body=_encode(body),
            method=None if plain else "POST",
            url=None if plain else path,
            metadata=metadata,
            shape=shape,
            file=raw.file,
            line=raw.line,
        )

    def _fill_model(self, raw: RawLine, body: Body) -> str | None:
        model = body.get("model")
        if model is None:
            model = self._fill.model
            if model is not None:
                body["model"] = model
            elif self._rules.needs_model:
                raise UsageError(
                    f"{raw.file}, line {raw.line} names no model, and none was given",
                    fix="add --model NAME: it is filled in wherever a line names none",
                )
        elif not isinstance(model, str) or not model:
            raise RefusedLineError("`model` is not a string, or empty")
        return model

    def _key(self, raw: RawLine, line: Body) -> str:
        for name in ("custom_id", "id"):
            if name in line:
                key = line[name]
                if isinstance(key, str) and key:
                    return key
                if type(key) in (int, float):
                    return str(key)
                raise RefusedLineError(f"`{name}` is not a string or a number, or empty")
        self._notes.n_generated += 1
        return f"line-{raw.overall}"

    def _warn_unsent(self, raw: RawLine, line: Body, fields: frozenset[str]) -> None:
        if fields.issuperset(line):
            return
        unknown = [name for name in line if name not in fields]
        if shape := next((name for name in unknown if name in _TELLING_FIELDS), None):
            raise RefusedLineError(f"`{shape}` beside another form: a line has one form")
        names = ", ".join(unknown[:5])
        self._notes.warn(raw, "not sent: {}; put what should come back in `metadata`", names)


_Read = Callable[[_Reader, RawLine, Body, Shape], JobLine]

#: Which field tells which shape, in this order.
_SHAPES: Final[tuple[tuple[str, Shape, _Read], ...]] = (
    ("params", Shape.ANTHROPIC_BATCH, _Reader.params),
    ("url", Shape.OPENAI_BATCH, _Reader.url),
    ("prompt", Shape.PROMPT, _Reader.prompt),
    ("messages", Shape.BODY, _Reader.bare),
    ("input", Shape.BODY, _Reader.bare),
    ("contents", Shape.BODY, _Reader.bare),
)
_GEMINI_BATCH: Final = (
    "a line with `request` is one of Gemini's own batch files; put what it holds at the top of the"
    " line and call its `key` `custom_id`: jq -c '{custom_id: .key} + .request' FILE"
)
_TELLING_FIELDS: Final = frozenset(name for name, _, _ in _SHAPES)
_OWN_FIELDS: Final = ("custom_id", "id", "metadata")
_PARAMS_FIELDS: Final = frozenset((*_OWN_FIELDS, "params"))
_URL_FIELDS: Final = frozenset((*_OWN_FIELDS, "method", "url", "headers", "body"))
_PROMPT_ORDER: Final = ("prompt", "id", "system", "model", "max_tokens", "metadata")
_PROMPT_FIELDS: Final = frozenset(_PROMPT_ORDER)
_PROMPT_LIST: Final = ", ".join(f"`{name}`" for name in _PROMPT_ORDER)
_NO_FILL: Final = Fill()


def object_of(data: bytes) -> Body:
    """Return the JSON object a line is; ``RefusedLineError`` with the reason where it is none."""
    try:
        line = _decode(data)
    except UnicodeDecodeError:
        raise RefusedLineError("not UTF-8") from None
    except msgspec.DecodeError as error:
        raise RefusedLineError(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise RefusedLineError("not a JSON object")
    return line


def _metadata(line: Mapping[str, Any]) -> bytes | None:
    metadata = line.get("metadata")
    if not metadata and (metadata is None or metadata == {}):
        return None
    if not isinstance(metadata, dict):
        raise RefusedLineError("`metadata` is not an object")
    return _encode(metadata)
