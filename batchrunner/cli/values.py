"""The words of :mod:`batchrunner.values` as click wants them."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import click

from batchrunner.models import ErrorKind, JobState
from batchrunner.values import (
    read_concurrency,
    read_count,
    read_dollars,
    read_duration,
    read_field,
    read_header,
    read_limit,
    read_max_failures,
    read_positive_duration,
    read_priority,
    read_schema,
    read_since,
    read_size,
    read_tags,
    read_text,
)

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
    _Choice = click.Choice[str]
else:  # generic in newer releases of click only
    _ParamType = click.ParamType
    _Choice = click.Choice


class Words(_ParamType):
    """A reader as a click type."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        """Call ``read`` for what was typed; defaults pass as they are."""
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the words mean, or end with a usage error."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Kind(_Choice):
    """One of many words: with what is none of them the nearest is told, before the list."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or end with a usage error."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = [str(choice) for choice in self.choices]
            near = get_close_matches(str(value).lower().replace("-", "_"), words, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            kinds = ", ".join(map(repr, words))
            self.fail(f"no kind is {value!r}.{meant} They are {kinds}", param, ctx)


DURATION: Final = Words("DURATION", read_positive_duration)
DURATION_OR_ZERO: Final = Words("DURATION", read_duration)
SCHEMA: Final = Words("SCHEMA", read_schema)
SINCE: Final = Words("DAY|DURATION", read_since)
SIZE: Final = Words("SIZE", read_size)
COUNT: Final = Words("N", read_count)
PRIORITY: Final = Words("N", read_priority)
LIMIT: Final = Words("LIMIT", read_limit)
CONCURRENCY: Final = Words("N|auto", read_concurrency)
DOLLARS: Final = Words("USD|none", read_dollars)
MAX_FAILURES: Final = Words("N|P%", read_max_failures)
TAGS: Final = Words("TAG,…", read_tags)
HEADER: Final = Words("HEADER", read_header)
TEXT_OR_FILE: Final = Words("TEXT|@FILE", read_text)
FIELD_VALUE: Final = Words("FIELD=VALUE", read_field)
STATUS: Final = click.Choice([state.value for state in JobState], case_sensitive=False)
ERROR_KIND: Final = Kind([kind.value for kind in ErrorKind], case_sensitive=False)
