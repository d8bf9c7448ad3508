"""One configuration file as checked tables, or every fault in it with file, line and key.

Strict: a key that is not in the table, a value of the wrong kind or one that can't be right is a
fault. Nothing of a value is repeated in a message, since it may be a secret that was misplaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec

from batchrunner.config.forms import Form, wrong_type
from batchrunner.config.keys import BUDGET_KEYS, KEYS, MISPLACED, PRICE_KEYS, TABLES
from batchrunner.config.located import NotTomlError, Path, Toml, read_toml
from batchrunner.core.prices import WINDOW
from batchrunner.errors import UsageError
from batchrunner.models import LineFault
from batchrunner.providers.custom import ProviderTable, RuleTable, TableFaultError, custom_profile
from batchrunner.providers.profile import Profile
from batchrunner.providers.registry import NAMES

__all__ = ["Bound", "ConfigFile", "Described", "Price", "Setting", "decode"]

#: Of ``msgspec``'s message: where it is in the table.
_AT: Final = " - at `"
#: Dollars: nobody has more, and sums of it stay numbers.
_DEAREST: Final = 1_000_000_000


class Setting(NamedTuple):
    """One key that a file says, and where."""

    key: str
    #: As the options take it.
    value: Any
    #: As it is written in the file.
    said: Any
    file: FilePath
    line: int

    @property
    def place(self) -> str:
        """Where it is said: ``FILE:LINE``."""
        return f"{self.file}:{self.line}"


class Price(NamedTuple):
    """What a model costs, in dollars per million tokens, and its size; ``None``: not said."""

    input: float | None
    output: float | None
    cache_read: float | None
    cache_write: float | None
    #: Tokens that it reads and writes at most in one request.
    context_window: float | None
    file: FilePath
    line: int


class Bound(NamedTuple):
    """What all runs together may cost in a day or a month, in dollars."""

    dollars: float
    file: FilePath
    line: int


class Described(NamedTuple):
    """A provider that a file describes, and where."""

    profile: Profile
    file: FilePath
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """What one file says."""

    path: FilePath
    #: The keys at its top.
    top: Mapping[str, Setting] = field(default_factory=dict)
    #: Profile → its keys.
    profiles: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    budget: Mapping[str, Bound] = field(default_factory=dict)
    #: Providers that it describes.
    providers: Mapping[str, Described] = field(default_factory=dict)
    #: Providers whose description has a fault: they are there, and can't be used.
    faulty_providers: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Reader:
    path: FilePath
    shown: str
    toml: Toml
    faults: list[LineFault] = field(default_factory=list)

    def fault(self, path: Path, reason: str) -> None:
        """Note a fault of the key at ``path``."""
        self.faults.append(LineFault(file=self.shown, line=self.toml.line_of(path), reason=reason))

    def settings(
        self, table: Mapping[str, Any], prefix: Path, beside: Iterable[str] = ()
    ) -> Iterator[Setting]:
        """Yield the keys of a table; ``beside`` are tables that others read."""
        for name, value in table.items():
            path = (*prefix, name)
            if name in beside:
                continue
            key = KEYS.get(name)
            if key is None:
                self.fault(path, _unknown(_dotted(path), name, (*KEYS, *beside), prefix))
                continue
            with_value = self.value(key.form, value, path)
            if with_value is not _NOTHING:
                yield Setting(name, with_value, value, self.path, self.toml.line_of(path))

    def value(self, form: Form, value: Any, path: Path) -> Any:
        """Return what a value means; a fault is noted, and then there is nothing."""
        name = _dotted(path)
        try:
            return form.read(value, self.path.parent)
        except TypeError:
            self.fault(path, f"{name} is {wrong_type(value)}; write {form.words}")
        except ValueError as error:
            self.fault(path, f"{name}: {error}")
        except UsageError as error:
            self.fault(path, f"{name}: {error.message} {error.fix}".rstrip())
        return _NOTHING

    def tables(self, name: str) -> Iterator[tuple[str, Mapping[str, Any], Path]]:
        """Yield the tables of ``[NAME.…]`` by their names."""
        value = self.toml.values.get(name, {})
        if not isinstance(value, dict):
            self.fault((name,), f"{name} is {wrong_type(value)}; write a table [{name}.NAME]")
            return
        for inner, table in value.items():
            path = (name, inner)
            if isinstance(table, dict):
                yield inner, table, path
            else:
                self.fault(
                    path, f"{_dotted(path)} is {wrong_type(table)}; write a table [{name}.NAME]"
                )

    def prices(self) -> Iterator[tuple[str, Price]]:
        """Yield the prices by model."""
        for model, table, prefix in self.tables("prices"):
            found: dict[str, float | None] = dict.fromkeys(PRICE_KEYS)
            for name, value in table.items():
                path = (*prefix, name)
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if name not in found:
                    self.fault(path, _unknown(_dotted(path), name, PRICE_KEYS, prefix))
                elif name == WINDOW:
                    if type(value) is int and 0 < value <= _DEAREST:
                        found[name] = value
                    else:
                        self.fault(path, f"{_dotted(path)} must be a number of tokens, 1 or more")
                elif not is_number or not 0 <= value <= _DEAREST:
                    self.fault(
                        path,
                        f"{_dotted(path)} must be a number of dollars per million tokens, from 0 to {_DEAREST:,}",
                    )
                else:
                    found[name] = float(value)
            if not table:
                self.fault(prefix, f"{_dotted(prefix)} says nothing; give {', '.join(PRICE_KEYS)}")
            yield model, Price(**found, file=self.path, line=self.toml.line_of(prefix))

    def budget(self) -> Iterator[tuple[str, Bound]]:
        """Yield the bounds of ``[budget]``."""
        table = self.toml.values.get("budget", {})
        if not isinstance(table, dict):
            self.fault(("budget",), f"budget is {wrong_type(table)}; write a table [budget]")
            return
        for name, value in table.items():
            path = ("budget", name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if name not in BUDGET_KEYS:
                self.fault(path, _unknown(_dotted(path), name, BUDGET_KEYS, ("budget",)))
            elif not is_number or not 0 < value <= _DEAREST:
                self.fault(
                    path,
                    f"{_dotted(path)} must be a number of dollars above 0, {_DEAREST:,} at most",
                )
            else:
                yield name, Bound(float(value), self.path, self.toml.line_of(path))

    def providers(self) -> Iterator[tuple[str, Described]]:
        """Yield the providers that are described."""
        for name, table, prefix in self.tables("providers"):
            if name in NAMES:
                self.fault(prefix, f"{name} is built in; give the provider another name")
                continue
            try:
                known = custom_profile(name, msgspec.convert(table, ProviderTable))
                yield name, Described(known, self.path, self.toml.line_of(prefix))
            except msgspec.ValidationError as error:
                self.fault(*_of_table(str(error), prefix))
            except TableFaultError as error:
                path = (*prefix, *_path_of(error.key))
                self.fault(path, f"{_dotted(path)}: {error.reason}")


_NOTHING: Final = object()


def decode(path: FilePath, text: str, *, shown: str) -> tuple[ConfigFile, list[LineFault]]:
    """Return what a file says, and its faults; ``shown`` is how messages call it."""
    try:
        toml = read_toml(text)
    except NotTomlError as error:
        return ConfigFile(path=path), [LineFault(file=shown, line=error.line, reason=str(error))]
    reader = _Reader(path, shown, toml)
    providers = dict(reader.providers())
    said = toml.values.get("providers")
    found = ConfigFile(
        path=path,
        top=_by_key(reader.settings(toml.values, (), beside=TABLES)),
        profiles={
            name: _by_key(reader.settings(table, prefix))
            for name, table, prefix in reader.tables("profiles")
        },
        prices=dict(reader.prices()),
        budget=dict(reader.budget()),
        providers=providers,
        faulty_providers=frozenset(said if isinstance(said, dict) else ()) - frozenset(providers),
    )
    return found, sorted(reader.faults, key=lambda fault: fault.line)


def _by_key(settings: Iterable[Setting]) -> Mapping[str, Setting]:
    return {setting.key: setting for setting in settings}


def _unknown(dotted: str, name: str, known: Iterable[str], prefix: Path) -> str:
    """Return what is said of a key that there is not."""
    plain = name.lower().replace("-", "_")
    said = f"there is no key {dotted}"
    why = MISPLACED.get(plain) if prefix[:1] in ((), ("profiles",)) else None
    if why is not None:
        return f"{said}: {why}"
    if prefix and plain in TABLES:
        return f"{said}: [{plain}] stands at the top of the file"
    near = get_close_matches(plain, list(known), n=1)
    return f"{said}; did you mean {near[0]}?" if near else said


def _dotted(path: Path) -> str:
    return ".".join(_quoted(part) if isinstance(part, str) else str(part + 1) for part in path)


def _quoted(part: str) -> str:
    is_bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
    return part if is_bare else '"' + part.encode("unicode_escape").decode() + '"'


def _path_of(key: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in key.split(".") if part)


def _of_table(message: str, prefix: Path) -> tuple[Path, str]:
    """Return the place and the words of a fault that the type of a provider's table found."""
    what, _, where = message.partition(_AT)
    place = (
        where.removeprefix("$").rstrip("`").replace("[", ".").replace("]", "").replace("...", "")
    )
    path = (*prefix, *_path_of(place))
    if "unknown field" in what:
        name = what.split("`")[1]
        path = (*path, name)
        near = get_close_matches(name, _struct_of(path).__struct_fields__, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return path, f"there is no key {_dotted(path)}{hint}"
    choices = get_args(get_type_hints(_struct_of(path)).get(str(path[-1])))
    if "enum value" in what and choices:
        return path, f"{_dotted(path)} must be one of {', '.join(map(str, choices))}"
    return path, f"{_dotted(path)}: {what[0].lower()}{what[1:]}"


def _struct_of(path: Path) -> type[msgspec.Struct]:
    return RuleTable if "rules" in path[2:3] else ProviderTable
