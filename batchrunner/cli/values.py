"""The words of :mod:`batchrunner.values` as click wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from batchrunner.models import ErrorKind, JobState
from batchrunner.values import (
    read_concurrency,
    read_duration,
    read_field,
    read_header,
    read_limit,
    read_max_failures,
    read_positive_duration,
    read_size,
    read_text,
)

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic in newer releases of click only
    _ParamType = click.ParamType


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


DURATION: Final = Words("DURATION", read_positive_duration)
DURATION_OR_ZERO: Final = Words("DURATION", read_duration)
SIZE: Final = Words("SIZE", read_size)
LIMIT: Final = Words("LIMIT", read_limit)
CONCURRENCY: Final = Words("N|auto", read_concurrency)
MAX_FAILURES: Final = Words("N|P%", read_max_failures)
HEADER: Final = Words("HEADER", read_header)
TEXT_OR_FILE: Final = Words("TEXT|@FILE", read_text)
FIELD_VALUE: Final = Words("FIELD=VALUE", read_field)
STATUS: Final = click.Choice([state.value for state in JobState], case_sensitive=False)
ERROR_KIND: Final = click.Choice([kind.value for kind in ErrorKind], case_sensitive=False)
