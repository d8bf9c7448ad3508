"""What one row may make a template do: so many turns of its loops, so much text, and no more.

Bounds are counts, not times, so that the same row always makes the same text or is always refused. Jinja
bounds ``range`` alone; here each turn of a loop or macro is counted, what operators, methods and filters
make longer is told beforehand, as is what ``wordwrap`` would copy again and again, and what stands in the output
is added up, captured or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from batchrunner.formats.sources import MAX_LINE

__all__ = ["BoundedEnvironment", "TooMuchError"]

#: Turns of all loops and macros together.
_MOST_TURNS: Final = 500_000
#: Characters that are written, those of blocks that are captured and written again included.
_MOST_WRITTEN: Final = 4 * MAX_LINE
#: Bits of a power.
_MOST_BITS: Final = 100_000
#: Characters that ``wordwrap`` copies: of what is longer than a line it cuts a line, and copies the rest, each time.
_MOST_COPIED: Final = 16 * MAX_LINE
_RUN: Final = re.compile(r"\S+|[^\S\n]+")
#: Jinja's own width.
_WIDTH: Final = 79
#: A width of eight digits or more, in a format.
_WIDE: Final = re.compile(r"\d{8}")
#: A width in a format that is an argument.
_NESTED: Final = re.compile(r":[^{}:]*\{|%[^%a-zA-Z]*\*")


class TooMuchError(Exception):
    """A template does more for one row than anybody's prompt needs."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates end."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, **options: Any) -> None:
        """Take what Jinja's own takes."""
        finalize = options.pop("finalize")
        super().__init__(finalize=lambda value: self._written(finalize(value)), **options)
        self._turns = self._n_written = 0
        self.globals["range"] = self._range
        for name in _GROWTH.keys() & self.filters.keys():
            self.filters[name] = _checked(self.filters[name], name)
        self.filters["wordwrap"] = self._wrapping(self.filters["wordwrap"])

    def begin(self) -> None:
        """Begin a row: nothing of it is counted yet."""
        self._turns = self._n_written = 0

    # --- called by templates

    def turn(self, n_written: int, n: int = 1) -> bool:
        """Count a turn of a loop or macro that writes so many characters of its own."""
        self._turns += n
        self._n_written += n_written
        if self._turns > _MOST_TURNS:
            raise TooMuchError(f"its loops go round more than {_MOST_TURNS:,} times for one row")
        if self._n_written > _MOST_WRITTEN:
            raise TooMuchError(_too_long())
        return True

    def joined(self, *parts: Any) -> str:
        """Return what ``~`` makes."""
        texts = [str(part) for part in parts]
        _hold(sum(map(len, texts)))
        return "".join(texts)

    def _written(self, value: Any) -> Any:
        if isinstance(value, str):
            self.turn(len(value), 0)
        return value

    def _range(self, *args: Any) -> range:
        found = safe_range(*args)
        self.turn(0, len(found))
        return found

    def _wrapping(self, filter_: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``wordwrap`` whose lines are turns, and which is held to so much copying."""

        @wraps(filter_)
        def wrapped(environment: Any, text: str, *args: Any, **kwargs: Any) -> Any:
            self.turn(0, len(text.splitlines()))
            width = min(filter(_is_width, (*args, *kwargs.values())), default=_WIDTH)
            longest = max((len(run[0]) for run in _RUN.finditer(text)), default=0)
            if longest * len(text) > 2 * width * _MOST_COPIED:
                raise TooMuchError(f"it wraps {longest:,} characters without a break at {width:,}")
            return filter_(environment, text, *args, **kwargs)

        return wrapped

    # --- Jinja's own

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        turning: list[nodes.For | nodes.Macro] = [
            *template.find_all(nodes.For), *template.find_all(nodes.Macro),
        ]  # fmt: skip
        for node in turning:
            own = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
            node.body.insert(0, nodes.ExprStmt(self._asked("turn", nodes.Const(own))))
            if isinstance(node, nodes.For) and node.test is not None:
                # What it leaves out makes no turn of the body.
                node.test = nodes.And(self._asked("turn", nodes.Const(0)), node.test)
            _place(node, self)
        for concat in list(template.find_all(nodes.Concat)):
            # `a ~ b` has no name that a sandbox could put something in the place of.
            concat.nodes = [self._asked("joined", *concat.nodes)]
            _place(concat, self)
        return template

    @staticmethod
    def _asked(name: str, *args: nodes.Expr) -> nodes.Call:
        return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do what an operator says, unless it would make too much."""
        _hold(_GROWTH_BY[operator](left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 (as Jinja has it)
        """Call what a template calls, unless it would make too much."""
        # Jinja wraps `format`.
        name, method = getattr(__obj, "__name__", ""), getattr(__obj, "__wrapped__", __obj)
        text = getattr(method, "__self__", None)
        if isinstance(text, str) and name in _GROWTH:
            args = _held(name, text, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)


def _place(node: nodes.Node, environment: BoundedEnvironment) -> None:
    """Give new nodes the line of that which they are in."""
    node.set_lineno(node.lineno)
    node.set_environment(environment)


def _too_long() -> str:
    return f"it makes a text longer than {MAX_LINE // 2**20} MB"


def _hold(n: float) -> None:
    if n > MAX_LINE:
        raise TooMuchError(_too_long())


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _sized(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _product(left: Any, right: Any) -> float:
    if isinstance(left, int) and isinstance(right, int):
        return 0 if left.bit_length() + right.bit_length() < _MOST_BITS else MAX_LINE + 1
    n, value = (left, right) if isinstance(left, int) else (right, left)
    return _sized(value) * n if isinstance(n, int) else 0


def _power(left: Any, right: Any) -> float:
    if not (isinstance(left, int) and isinstance(right, int)):
        return 0
    return 0 if left.bit_length() * abs(right) < _MOST_BITS else MAX_LINE + 1


def _formatted(text: Any, *values: Any) -> float:
    if not isinstance(text, str):
        return 0
    is_wide = _WIDE.search(text) is not None
    return MAX_LINE + 1 if is_wide else _widest(*values) if _NESTED.search(text) else 0


def _widest(*values: Any) -> float:
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return max((abs(value) for value in flat if isinstance(value, int)), default=0)


def _indented(text: Any, width: Any = 4, *_rest: Any) -> float:
    n = len(width) if isinstance(width, str) else width
    return (str(text).count("\n") + 1) * n if isinstance(n, int) else 0


def _replaced(text: Any, old: Any = "", new: Any = "", *_rest: Any) -> float:
    return str(text).count(str(old)) * len(str(new))


def _translated(text: Any, table: Any = None, *_rest: Any) -> float:
    values = table.values() if isinstance(table, dict) else ()
    return len(text) * max(map(_sized, values), default=0)


def _joined(separator: str, parts: list[Any]) -> float:
    return sum(len(str(part)) for part in parts) + len(separator) * len(parts)


#: Operator → how long what it makes is at least.
_GROWTH_BY: Final[Mapping[str, Callable[[Any, Any], float]]] = MappingProxyType(
    {
        "+": lambda left, right: _sized(left) + _sized(right),
        "*": _product,
        "**": _power,
        "%": _formatted,
    }
)
#: Methods of text, and filters, that make it longer by a number or another text → how long.
_GROWTH: Final[Mapping[str, Callable[..., float]]] = MappingProxyType(
    {
        "batch": lambda _value, *more: _widest(*more),
        "center": lambda _text, *more: _widest(*more),
        "expandtabs": lambda text, *more: max(1, text.count("\t")) * _widest(*more),
        "format": _formatted,
        "indent": _indented,
        "join": lambda _value, *_more: 0,  # asked for its parts, see below
        "ljust": lambda _text, *more: _widest(*more),
        "replace": _replaced,
        "rjust": lambda _text, *more: _widest(*more),
        "slice": lambda _value, *more: _widest(*more),
        "translate": _translated,
        "zfill": lambda _text, *more: _widest(*more),
    }
)


def _held(
    name: str, text: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Refuse a call that makes too much; return its arguments, which may have been read."""
    if name == "join" and args:
        parts = list(args[0])
        _hold(_joined(text, parts))
        return (parts, *args[1:])
    _hold(_GROWTH[name](text, *args, *kwargs.values()))
    return args


def _checked(filter_: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a filter of the same kind that is held to what it makes."""
    n_first = 1 if hasattr(filter_, "jinja_pass_arg") else 0

    @wraps(filter_)
    def checked(*args: Any, **kwargs: Any) -> Any:
        first, value, more = args[:n_first], args[n_first], args[n_first + 1 :]
        if name == "join":
            value = list(value)
            _hold(_joined(str(next(iter((*more, *kwargs.values())), "")), value))
        else:
            _hold(_GROWTH[name](value, *more, *kwargs.values()))
        return filter_(*first, value, *more, **kwargs)

    return checked
