"""One row of an export, and how its values look in every format."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from batchrunner.models import Shape
from batchrunner.views import JobView

__all__ = ["COLUMNS", "ExportRow", "ExportRules", "Exported", "answer", "rfc3339"]

#: The columns of CONTRACT §3, in order; also the keys of a JSON row.
COLUMNS: Final = (
    "key",
    "status",
    "attempts",
    "http_status",
    "error_kind",
    "error_message",
    "model",
    "output_text",
    "finish_reason",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_ms",
    "request_id",
    "started_at",
    "finished_at",
)


class Exported(Protocol):
    """What an export reads of a job: :class:`ExportRow`, or the store's own row as it is."""

    @property
    def job(self) -> JobView: ...
    @property
    def request(self) -> bytes | None: ...
    @property
    def response(self) -> bytes | None: ...
    @property
    def method(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def headers(self) -> bytes | None: ...
    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One job with its request and its last response."""

    #: ``output_text`` is filled in.
    job: JobView
    #: ``None`` where it was pruned.
    request: bytes | None
    response: bytes | None
    #: ``None`` as in :class:`~batchrunner.models.JobLine`.
    method: str | None = None
    url: str | None = None
    headers: bytes | None = None
    shape: Shape


class ExportRules(Protocol):
    """What an export must know of a provider; its profile satisfies it."""

    def default_path_for(self, body: Mapping[str, Any], /) -> str | None:
        """Return the path that a job without ``url`` goes to."""
        ...

    def show_path(self, path: str, body: Mapping[str, Any], /) -> str:
        """Return a stored path as a line has it, with the body's model in its place."""
        ...


@lru_cache(maxsize=4096)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def rfc3339(epoch_ms: int) -> str:
    """Return an instant as RFC 3339 in UTC with milliseconds."""
    seconds, ms = divmod(int(epoch_ms), 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


def answer(body: bytes | None) -> msgspec.Raw | str | None:
    """Return a stored response as a JSON value on one line; as text where it is no JSON."""
    if body is None:
        return None
    try:
        # Also proves that it is JSON: what was stored may be a gateway's HTML page.
        compact = msgspec.json.format(body, indent=-1)
        if not compact.isascii():
            compact.decode()
        return msgspec.Raw(compact)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body.decode("utf-8", "replace")
