"""Which provider a job file is for, told by its first lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.lines import object_of
from batchrunner.formats.sources import RawLine

__all__ = ["detect_provider", "peek"]


def detect_provider(
    first: Iterable[RawLine],
    of_model: Callable[[str], str | None],
    *,
    model: str | None = None,
) -> str | None:
    """Return the provider that the first lines are for, ``None`` where they do not say.

    ``of_model`` tells it from a model's name (:func:`batchrunner.providers.detect`), ``model`` is
    what would be filled in. Lines that can't be read are passed over: that they are faulty is said
    when they are read.
    """
    for raw in first:
        try:
            line = object_of(raw.data)
        except (RefusedLineError, RecursionError):
            continue
        if not raw.is_row:
            if "params" in line:
                return "anthropic"
            if "url" in line:
                return "openai"
            if line.keys() >= {"key", "request"}:
                # Read as Gemini's, it is told how to become a line of ours.
                return "gemini"
        told = line.get("model") or model
        return of_model(told) if isinstance(told, str) else None
    return of_model(model) if model is not None else None


def peek(lines: Iterable[RawLine], n: int = 20) -> tuple[tuple[RawLine, ...], Iterator[RawLine]]:
    """Return the first ``n`` lines, and all of them, none lost."""
    rest = iter(lines)
    first = tuple(islice(rest, n))
    return first, chain(first, rest)
