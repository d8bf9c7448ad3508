"""Words for a person: harmless, in local time, aligned."""

from __future__ import annotations

import time

import pytest

from batchrunner.cli import tables
from batchrunner.cli.tables import Column, write_facts, write_table
from batchrunner.cli.text import (
    clipped,
    duration,
    local_time,
    number,
    plural,
    printable,
    printable_block,
    rfc3339,
    width,
)
from tests.fakes.application import AT, AT_TEXT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a b c"),
        ("bell\x07", "bell\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("naïve 日本 👩\u200d🚀", "naïve 日本 👩\u200d🚀"),
    ],
)
def test_text_is_made_harmless(text: str, shown: str) -> None:
    """Nothing that a terminal would obey gets through; everything else does."""
    assert printable(text) == shown


def test_text_is_cut_with_an_ellipsis() -> None:
    """A cut text says that it was cut."""
    assert printable("abcdef", limit=4) == "abc…"


def test_block_keeps_its_lines() -> None:
    """A body keeps its line ends, and loses its escapes."""
    assert printable_block("a\n\tb\x1b[0m") == "a\n    b\\x1b[0m"


def test_instant_is_rfc3339_in_utc() -> None:
    """Instants have milliseconds and a Z; unknown stays unknown."""
    assert rfc3339(AT) == AT_TEXT
    assert rfc3339(AT - AT % 1000) == AT_TEXT.replace("789", "000")
    assert rfc3339(None) is None


@pytest.mark.parametrize("zone", ["XYZ-99:99", "UTC+25"])
def test_a_zone_that_python_refuses_is_utc(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TZ further off than a day, which the C library takes, shows times in UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        shown = local_time(AT, AT)
    time.tzset()
    assert shown == AT_TEXT[11:19]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.6, "1s"),
        (59.7, "1m"),
        (200, "3m 20s"),
        (18_720, "5h 12m"),
        (183_600, "2d 3h"),
        (-3, "0s"),
    ],
)
def test_duration_has_two_units(seconds: float, words: str) -> None:
    """A duration is said in its two largest units."""
    assert duration(seconds) == words


def test_numbers_and_counts() -> None:
    """Numbers have separators, unknown is a dash, one is singular."""
    assert [number(n) for n in (None, 1234, 0.5, 50.0)] == ["-", "1,234", "0.50", "50"]
    assert [plural(n, "job") for n in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]


def test_width_counts_columns() -> None:
    """Wide characters take two columns and joiners none, so that columns stay straight."""
    assert [width(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert clipped("日本語", 5) == "日本…"


def test_table_is_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe every cell is whole, however long."""
    n_rows = write_table(
        [Column("KEY", most=5), Column("TEXT")], [["k" * 30, "t" * 200], ["k", "t"]]
    )
    lines = capsys.readouterr().out.splitlines()
    assert n_rows == 2
    assert lines == [f"{'KEY':<30}  TEXT", f"{'k' * 30}  {'t' * 200}", f"{'k':<30}  t"]


def test_table_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal no line passes its width."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(tables, "terminal_width", lambda: 40)
    write_table(
        [Column("KEY", most=10), Column("N", right=True), Column("TEXT")],
        [["日" * 20, "7", "t" * 99]],
    )
    lines = capsys.readouterr().out.splitlines()
    assert all(width(line) <= 40 for line in lines)
    assert lines[1].startswith("日日日日…")
    assert lines[1].endswith("t…")


def test_table_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are printed while they are made: a million jobs need no memory."""
    printed: list[int] = []

    def rows() -> object:
        for n in range(150):
            if n == 120:
                printed.append(len(capsys.readouterr().out.splitlines()))
            yield [str(n)]

    assert write_table([Column("N")], rows()) == 150  # type: ignore[arg-type]  # a bare generator
    assert printed == [121]


def test_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A heading over nothing is not printed."""
    assert write_table([Column("N")], []) == 0
    assert capsys.readouterr().out == ""


def test_facts_leave_out_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A fact without a value takes no line; a repeated name is said once."""
    write_facts([("a", "1"), ("limits", "x"), ("limits", "y"), ("none", "")])
    assert capsys.readouterr().out == "a       1\nlimits  x\n        y\n"
