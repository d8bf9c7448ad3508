"""``--template FILE``: a Jinja template that makes a prompt of each row.

Strict: a field that a row lacks is a fault of that row, never an empty place in a prompt.
Sandboxed: a template can't reach files, modules or the insides of Python. The same row always makes
the same text, so what rolls dice is not there. A field is ``{{ name }}``, or ``{{ row["any name"] }}``
of the whole row; a field of a nested object comes before a method of Python's of that name. Text is
put in as it is, other values as JSON, and ``null`` as nothing.

Imported only where a template is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import (
    FunctionLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    UndefinedError,
)
from jinja2.utils import missing

from batchrunner.errors import UsageError
from batchrunner.formats.faults import RefusedLineError, printable
from batchrunner.formats.sources import MAX_LINE
from batchrunner.formats.template_bounds import BoundedEnvironment

__all__ = ["load_template"]

_FIX: Final = 'fields stand in it as {{ name }}, or as {{ row["any name"] }}'
#: The widest indent of ``tojson``.
_MAX_INDENT: Final = 32


class _Missing(StrictUndefined):
    """A field that a row does not have; using it says so."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        name = printable(str(self._undefined_name))
        if self._undefined_hint:
            return printable(self._undefined_hint)
        if self._undefined_obj is missing or isinstance(self._undefined_obj, _Row):
            return f"the template wants `{name}`, and this row has no such field"
        return f"the template wants `{name}` of a value that has none"


class _Row(dict[str, Any]):
    """The whole row, by the name ``row``."""


class _Environment(BoundedEnvironment):
    """Values of JSON in, text out."""

    def __init__(self) -> None:
        super().__init__(
            undefined=_Missing, finalize=_text, autoescape=False, loader=FunctionLoader(_no_other)
        )
        self.filters["tojson"] = _tojson
        # The same rows have to make the same jobs.
        del self.filters["random"], self.globals["lipsum"]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a field of an object, before what Python's own has by that name."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _no_other(name: str) -> str:
    raise TypeError(f"it asks for {name!r}, and a template here is one file: put that into it")


def _text(value: Any) -> Any:
    """Return a value as it stands in a prompt."""
    if isinstance(value, str | StrictUndefined):
        return value
    return "" if value is None else _json(value)


def _json(value: Any) -> str:
    if callable(value):
        raise TypeError("a function is no value; is it a field that the row does not have?")
    return msgspec.json.encode(value).decode()


def _tojson(value: Any, indent: Any = None) -> str:
    """Jinja's own filter, but that no letter is written otherwise for HTML."""
    text = _json(value)
    if indent is None:
        return text
    if not isinstance(indent, int) or not 0 < indent <= _MAX_INDENT:
        raise ValueError(f"`indent` of tojson is no number from 1 to {_MAX_INDENT}")
    return msgspec.json.format(text, indent=indent)


def load_template(path: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what makes a prompt of a row; it raises :class:`RefusedLineError` for a row.

    Raises :class:`~batchrunner.errors.UsageError` where the file can't be read or is no template.
    """
    try:
        source = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise UsageError(
            f"--template {path} is no text in UTF-8.", fix="Name the template; the rows come first."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--template {path} can't be read: {reason}", fix="check it") from error
    try:
        environment = _Environment()
        template = environment.from_string(source)
    except TemplateSyntaxError as error:
        raise UsageError(
            f"--template {path}, line {error.lineno}: {printable(error.message or '')}", fix=_FIX
        ) from error
    except (TemplateError, RecursionError, ValueError, SyntaxError, MemoryError) as error:
        # Python's own bounds of nesting are what makes a SyntaxError of Jinja's code.
        raise UsageError(f"--template {path}: {printable(str(error))}", fix=_FIX) from error

    def fill(row: Mapping[str, Any]) -> str:
        try:
            environment.begin()
            text = template.render({**row, "row": _Row(row)})
        except UndefinedError as error:
            raise RefusedLineError(error.message or str(error)) from None
        except Exception as error:
            # Only the template runs here: whatever a filter raises for a value is told of its row.
            said = printable(str(error)) or type(error).__name__
            raise RefusedLineError(f"the template fails: {said}") from None
        if len(text) > MAX_LINE:
            raise RefusedLineError(f"the prompt is longer than {MAX_LINE // 2**20} MB")
        return text

    return fill
