"""What an answer tells of key, models, limits and clock, written down as checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from batchrunner.checkup.listing import Listed, Listing
from batchrunner.checkup.sheet import Sheet
from batchrunner.core.said import said
from batchrunner.core.skew import clock_skew_ms, skew_words
from batchrunner.models import ExitCode
from batchrunner.views import CheckStatus, LimitView

__all__ = ["nearest_words", "put_clock", "put_limits", "put_models"]

#: Models of a list that are named.
_NAMED: Final = 4


def put_models(sheet: Sheet, listing: Listing, wanted: Sequence[str], *, mend: str) -> None:
    """Look for the wanted models in a list, or say how many there are.

    ``mend`` is the command that takes another model, with ``{model}`` in it.
    """
    if not wanted:
        names = [model.name for model in listing.usable()]
        some = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        more = " or more" if listing.is_cut else ""
        detail = f"the key can use {len(names):,}{more}: {some}" if names else "the list is empty"
        sheet.put("model", CheckStatus.OK if names else CheckStatus.WARN, detail)
        return
    told = [_told(listing, name, mend) for name in wanted]
    worst = max(told, key=lambda one: _GRAVITY.index(one[0]))
    detail = "; ".join(dict.fromkeys(one[1] for one in told))
    sheet.put("model", worst[0], detail, fix=worst[2], exit_code=ExitCode.REFUSED)


_GRAVITY: Final = (CheckStatus.OK, CheckStatus.SKIP, CheckStatus.WARN, CheckStatus.FAIL)


def _told(listing: Listing, name: str, mend: str) -> tuple[CheckStatus, str, str]:
    found = listing.find(name)
    if found is None:
        if listing.is_cut:
            return (
                CheckStatus.WARN,
                f"{name} is not among the first {len(listing.models):,} of the list, which goes on",
                "Ask for it once: add --live.",
            )
        near = listing.near(name)
        return (
            CheckStatus.FAIL,
            f"there is no {name} in the key's list of {len(listing.models):,}; {nearest_words(near)}",
            mend.format(model=near[0] if near else "NAME"),
        )
    called = name if found.name == name else f"{name} (as {found.name})"
    if found.life == "retired":
        near = listing.near(name)
        return (
            CheckStatus.FAIL,
            f"{called} is retired{_since(found)}; {nearest_words(near)}",
            mend.format(model=near[0] if near else "NAME"),
        )
    if found.life == "deprecated":
        near = [other for other in listing.near(name) if other != found.name]
        return (
            CheckStatus.WARN,
            f"{called} is deprecated{_since(found)}; it still answers",
            f"Sooner or later: {mend.format(model=near[0] if near else 'NAME')}",
        )
    return CheckStatus.OK, f"{called} is in the key's list", ""


def _since(model: Listed) -> str:
    return f" ({model.date})" if model.date else ""


def nearest_words(near: Sequence[str]) -> str:
    """Return the nearest names as a half-sentence."""
    if not near:
        return "none of its names is near"
    return f"nearest: {', '.join(near)}"


def put_limits(
    sheet: Sheet, headers: Mapping[str, str], stored: Sequence[LimitView], *, now_ms: int
) -> None:
    """Tell what the last answer and the database say of limits."""
    told = [one for one in said(headers, at_wall=now_ms) if one.limit or one.remaining]
    in_force = [view for view in stored if view.value is not None]
    answer = [
        _limit(
            f"{one.what.replace('-', ' ')} {_number(one.limit)}".rstrip(),
            f"{_number(one.remaining)} left" if one.remaining else "",
            f"whole again at {_at(one.resets_at)}" if one.resets_at else "",
        )
        for one in told
    ]
    here = [
        _limit(
            f"{view.limit} {view.value:g}",
            f"by {view.source}",
            f"{view.used:,} used" if view.used is not None else "",
            f"{view.remaining:,} left" if view.remaining is not None else "",
        )
        for view in in_force
    ]
    parts = [
        *([f"the answer says {', '.join(answer)}"] if answer else []),
        *([f"in force here {', '.join(here)}"] if here else []),
    ]
    if not parts:
        sheet.put("limits", CheckStatus.OK, "the answer names none, and none is set here")
        return
    is_spent = any(view.remaining == 0 for view in in_force) or any(
        one.remaining == "0" for one in told
    )
    sheet.put(
        "limits",
        CheckStatus.WARN if is_spent else CheckStatus.OK,
        "; ".join(parts),
        fix="A run waits until there is room again: batchrunner limits" if is_spent else "",
    )


def _limit(what: str, *facts: str) -> str:
    known = ", ".join(fact for fact in facts if fact)
    return f"{what} ({known})" if known else what


def _number(text: str | None) -> str:
    """Return a number with its thousands apart, anything else as it is."""
    return f"{int(text):,}" if text and text.isascii() and text.isdigit() else text or ""


def _at(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000.0, UTC):%H:%M:%S} UTC"


def put_clock(sheet: Sheet, headers: Mapping[str, str], *, now_ms: int) -> None:
    """Compare this machine's clock with the server's ``Date``."""
    skew_ms = clock_skew_ms(headers, wall=now_ms)
    if skew_ms is None:
        sheet.put("clock", CheckStatus.SKIP, "the answer has no Date to compare with")
        return
    what, mend, fix = skew_words(skew_ms).partition("Set it: ")
    if not what:
        seconds = max(1.0, abs(skew_ms) / 1000.0)
        sheet.put("clock", CheckStatus.OK, f"agrees with the server's to {seconds:.0f} s")
        return
    sheet.put("clock", CheckStatus.WARN, what.rstrip(" ."), fix=mend + fix)
