"""A provider's list of models as a value, and what it says of one name. Pure.

The lists differ in form from one provider to the next; what is read is what they have in common: a
list of objects (or names) under ``data``, ``models`` or on top, each with an ``id`` or ``name``, and
here and there a word on its life.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

__all__ = ["Listed", "Listing", "read_listing"]

#: Names that are told as near.
NEAR: Final = 3
#: How alike two names must be; below this they are different models.
_ALIKE: Final = 0.5
#: A date, ``-latest`` or ``-001`` at the end of a name: the same model, another edition.
_EDITION: Final = re.compile(r"[-@:](?:latest|preview|\d{8}|\d{4}-\d\d-\d\d|\d{3,4}(?:-\d\d)?)$")
_LIFE_WORDS: Final = ("retired", "deprecated")
#: Where lists say since when, or from when on, a model is no more to be used.
_LIFE_DATES: Final = (
    ("retired", ("retired_at", "shutdown_date", "retirement_date", "retires_at")),
    ("deprecated", ("deprecated_at", "deprecation", "deprecation_date")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One model of a list."""

    name: str
    #: ``active``, ``deprecated``, ``retired``; empty where the list says nothing.
    life: str = ""
    #: The day that the list gives for it.
    date: str = ""

    @property
    def can_be_used(self) -> bool:
        """Whether requests for it are answered."""
        return self.life != "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a provider lists for a key."""

    models: tuple[Listed, ...]
    #: There are more pages than were asked for.
    is_cut: bool = False

    def find(self, name: str) -> Listed | None:
        """Return the model of that name: itself, or the edition that a name without one stands for."""
        by_name = {model.name: model for model in self.models}
        if name in by_name:
            return by_name[name]
        editions = [model for model in self.models if _EDITION.sub("", model.name) == name]
        usable = [model for model in editions if model.can_be_used]
        if not editions and name.endswith("-latest"):
            return self.find(name.removesuffix("-latest"))
        return max(usable or editions, key=lambda model: model.name, default=None)

    def near(self, name: str, n: int = NEAR) -> list[str]:
        """Return the names of usable models that are most like ``name``, best first.

        A model of the same make counts before one whose letters happen to be alike.
        """
        ranked = sorted(
            ((_likeness(name, model.name), model.name) for model in self.usable()), reverse=True
        )
        return [other for likeness, other in ranked[:n] if likeness >= _ALIKE]

    def usable(self) -> Iterator[Listed]:
        """Yield the models that are not retired, those that are going last."""
        yield from (model for model in self.models if not model.life or model.life == "active")
        yield from (model for model in self.models if model.life == "deprecated")


def read_listing(body: bytes) -> Listing | None:
    """Return the list that a body holds, ``None`` where it holds none. Never raises."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    rows, is_cut = value, False
    if isinstance(value, dict):
        found = (value.get(name) for name in ("data", "models"))
        rows = next((row for row in found if isinstance(row, list)), None)
        is_cut = bool(value.get("has_more") or value.get("nextPageToken"))
    if not isinstance(rows, list):
        return None
    return Listing(models=tuple(_models(rows)), is_cut=is_cut)


def _models(rows: Iterable[Any]) -> Iterator[Listed]:
    seen = set()
    for row in rows:
        model = _model(row)
        if model is not None and model.name not in seen:
            seen.add(model.name)
            yield model


def _model(row: Any) -> Listed | None:
    if isinstance(row, str):
        return Listed(name=row) if row else None
    if not isinstance(row, dict):
        return None
    name = next((row[key] for key in ("id", "name", "model") if isinstance(row.get(key), str)), "")
    name = name.removeprefix("models/")
    if not name:
        return None
    life, date = _life(row)
    return Listed(name=name, life=life, date=date)


def _life(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a model's state and the day that goes with it, as far as its row says."""
    word = str(row.get("lifecycle") or row.get("lifecycle_status") or row.get("status") or "")
    life = next((known for known in (*_LIFE_WORDS, "active") if word.lower() == known), "")
    dates = {
        state: day for state, names in _LIFE_DATES for name in names if (day := _day(row.get(name)))
    }
    if not life and dates:
        life = "deprecated"
    if not life and row.get("active") is False:
        life = "retired"
    return life, dates.get("retired") or dates.get("deprecated") or "" if life != "active" else ""


def _day(value: Any) -> str:
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        return value[:10]
    if isinstance(value, int) and not isinstance(value, bool) and 1e9 < value < 1e11:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    return ""


def _likeness(wanted: str, name: str) -> float:
    wanted, name = wanted.lower(), name.lower()
    alike = difflib.SequenceMatcher(None, wanted, name).ratio()
    same_make = wanted.partition("-")[0] == name.partition("-")[0]
    same_edition = _EDITION.sub("", wanted) == _EDITION.sub("", name)
    return alike + 0.1 * same_make + 0.2 * same_edition
