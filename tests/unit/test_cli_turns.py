"""What + and - make of how many requests may be in flight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchrunner.cli.turns import Turns, at_once_words, can_turn
from batchrunner.errors import UsageError
from batchrunner.models import RunState
from batchrunner.views import Progress, Runner
from tests.fakes.application import AT, RUN

PICTURE = Progress(
    run=replace(RUN, state=RunState.RUNNING), in_flight=8, concurrency=40, allowed_per_minute=None,
    elapsed_s=1.0, is_auto=True,
)  # fmt: skip


class Told:
    """Takes what is stored; time stands still unless a test moves it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.stored: list[tuple[str, int | str]] = []
        self.notices: list[str] = []
        self.now = 100.0
        self.turns = Turns(self.tell, self.notices.append, now=lambda: self.now)

    def tell(self, run: str, value: int | str) -> str:
        """Store it."""
        self.stored.append((run, value))
        return ""


@pytest.mark.parametrize(
    ("keys", "at", "stored"),
    [
        ("+", 40, 44),
        ("-", 40, 36),
        ("=", 40, 44),
        ("_", 40, 36),
        ("++", 40, 48),
        ("+-", 5, 5),
        ("-", 1, 1),
        ("+", 1, 2),
        ("----", 3, 1),
        ("a", 40, "auto"),
        ("a+", 40, 44),
        ("+A", 40, "auto"),
        ("x+\x1b", 10, 11),
    ],
)
def test_keys_change_by_a_tenth(keys: str, at: int, stored: int | str) -> None:
    """+ and - change by a tenth and at least by one, never below 1; a gives it back; what was typed together is stored once."""
    told = Told()
    told.turns.press(keys, replace(PICTURE, concurrency=at))
    assert told.stored == [("r1", stored)]


def test_other_keys_change_nothing() -> None:
    """Keys that mean nothing store nothing."""
    told = Told()
    told.turns.press("q\n 1", PICTURE)
    assert told.stored == []


def test_keys_one_after_the_other_add_up() -> None:
    """A key goes on from the last one, though the picture does not show that yet; later from what is shown."""
    told = Told()
    told.turns.press("+", PICTURE)
    told.turns.press("+", PICTURE)
    told.now += 10
    told.turns.press("+", PICTURE)
    assert [value for _, value in told.stored] == [44, 48, 44]


def test_what_can_not_be_stored_is_told() -> None:
    """A database that can't take it is told in a sentence, and the run goes on."""
    told = Told()

    def refuse(run: str, value: int | str) -> str:
        raise UsageError("The run was deleted meanwhile.", fix="Submit the file again.")

    Turns(refuse, told.notices.append).press("+", PICTURE)
    assert told.notices == ["The run was deleted meanwhile. Submit the file again."]


def test_keys_mean_something_only_where_this_process_sends() -> None:
    """Of a run that another process sends, or that stops, nothing is changed by keys."""
    assert can_turn(PICTURE)
    follows = Runner(pid=1, host="box", user="ann", since=AT)
    assert not can_turn(replace(PICTURE, following=follows))
    assert not can_turn(replace(PICTURE, draining=True))
    assert not can_turn(replace(PICTURE, run=replace(RUN, state=RunState.FINISHED)))


def test_words_say_who_found_the_bound() -> None:
    """What the panel says of the bound tells one found by trying from a typed one."""
    assert at_once_words(PICTURE) == "at most 40 now, found by trying"
    assert at_once_words(replace(PICTURE, is_auto=False)) == "at most 40; a: by trying"
