"""Charts of text: their lines fit, their lengths are true, and they need neither colour nor blocks."""

from __future__ import annotations

import pytest

from batchrunner.cli.bars import Bar, bar, write_bars
from batchrunner.cli.text import width
from batchrunner.cli.usage_forms import MEASURES, with_gaps
from batchrunner.views import UsageView

LINES = [
    Bar("2026-11-20", 1_234, "1,234", "11-20"),
    Bar("2026-11-21", 0, "0", "11-21"),
    Bar("2026-11-22", 1, "1", "11-22"),
    Bar("2026-11-23", 617, "617", "11-23"),
]


@pytest.mark.parametrize("columns", [20, 26, 40, 80, 200])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_chart_fits(
    columns: int, term: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is wider than the terminal, each has its number, nothing at all has no bar."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    write_bars("requests by day", LINES)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "requests by day"
    assert max(map(width, lines)) <= columns
    drawn = [line.split(maxsplit=2) for line in lines]
    assert [parts[1] for parts in drawn] == ["1,234", "0", "1", "617"]
    assert len(drawn[1]) == 2
    assert drawn[0][0] in ("2026-11-20", "11-20"), "a day is never cut"
    lengths = [len(parts[2]) for parts in drawn if len(parts) == 3]
    assert lengths[0] == max(lengths)
    assert lengths[1] == 1, "the least there is can be seen"
    assert lengths[2] == pytest.approx(lengths[0] / 2, abs=1)
    assert all(text.isascii() for text in lines) is (term == "dumb")


def test_eighths_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar's end is right to an eighth of a column."""
    monkeypatch.setenv("TERM", "xterm")
    assert [bar(n / 8, 1) for n in (0, 1, 4, 7, 8)] == ["", "▏", "▌", "▉", "█"]
    assert bar(0.0001, 10) == "▏"
    assert bar(0.55, 10) == "█████▌"


def test_a_chart_without_any_value_has_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not known is a dash, and divides nothing by 0."""
    write_bars("cost by day", [Bar("a", None, "-"), Bar("b", 0.0, "$0.0000")])
    assert capsys.readouterr().out.splitlines()[1:] == ["a        -", "b  $0.0000"]
    write_bars("nothing", [])
    assert capsys.readouterr().out == ""


def row(day: str, n: int = 1) -> UsageView:
    """Return what one day used."""
    return UsageView(
        day=day, requests=n, rate_limited=0, input_tokens=2, output_tokens=3, cost_usd=None,
        waits={"rpm": 2.0, "outage": 1.0},
    )  # fmt: skip


def test_days_without_a_request_are_shown() -> None:
    """A gap between days is a gap in the chart, but one of months is not drawn."""
    days = [view.day for view in with_gaps([row("2026-02-27"), row("2026-03-02")])]
    assert days == ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]
    far = [row("2026-01-01"), row("2026-12-01")]
    assert list(with_gaps(far)) == far


def test_every_measure_has_a_value_and_words() -> None:
    """Requests, 429s, tokens, money and time can be drawn, known or not."""
    told = {name: m.words(m.value(row("2026-11-23"))) for name, m in MEASURES.items()}
    assert told == {
        "requests": "1", "429s": "0", "tokens": "5", "cached": "0", "cost": "-", "waited": "3s",
    }  # fmt: skip
    assert MEASURES["cost"].words(1.5) == "$1.5000"
