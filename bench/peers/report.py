"""The outcomes as Markdown: one table, footnotes, and where a peer is better than batchrunner."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.common import print_table
from bench.peers.bench import Measure, Outcome, Sizes
from bench.peers.measures import CONCURRENCY, KILL_CONCURRENCY, LATENCY_S

OURS = "batchrunner"
_SHARE = "share of the limit used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One value of every tool."""

    heading: str
    measure: Measure
    #: The values of all rounds; empty: not measured.
    values: Callable[[Outcome], Sequence[float]]
    form: str
    is_more_better: bool
    #: How the sentence about better peers names it.
    named: str
    has_range: bool = False

    def middle(self, outcome: Outcome) -> float | None:
        """Return the median, if there is one."""
        values = self.values(outcome)
        return statistics.median(values) if values else None

    def cell(self, outcome: Outcome) -> str:
        """Return what the table shows."""
        values = self.values(outcome)
        if not values:
            return "—"
        middle = self.form.format(statistics.median(values))
        if not self.has_range or len(values) < 2:
            return middle
        return f"{middle} ({self.form.format(min(values))} to {self.form.format(max(values))})"


def _limited(name: str) -> Callable[[Outcome], Sequence[float]]:
    return lambda one: [] if one.limited is None else [getattr(one.limited, name)]


COLUMNS = (
    Column(
        heading="jobs/s (range)",
        measure=Measure.SPEED,
        values=lambda one: [run.per_second for run in one.speeds],
        form="{:,.0f}",
        is_more_better=True,
        named="jobs a second",
        has_range=True,
    ),
    Column(
        heading="CPU ms a request",
        measure=Measure.SPEED,
        values=lambda one: [run.cpu_ms for run in one.speeds],
        form="{:.2f}",
        is_more_better=False,
        named="processor time",
    ),
    Column(
        heading="peak MB",
        measure=Measure.SPEED,
        values=lambda one: [run.peak_mb for run in one.speeds],
        form="{:.0f}",
        is_more_better=False,
        named="memory",
    ),
    Column(
        heading="s, start to end",
        measure=Measure.SPEED,
        values=lambda one: [run.wall_s for run in one.speeds],
        form="{:.1f}",
        is_more_better=False,
        named="time from start to end",
    ),
    Column(
        heading="results lost",
        measure=Measure.KILL,
        values=lambda one: [run.lost for run in one.kills],
        form="{:.0f}",
        is_more_better=False,
        named="results lost",
        has_range=True,
    ),
    Column(
        heading="requests repeated",
        measure=Measure.KILL,
        values=lambda one: [run.repeated for run in one.kills],
        form="{:.0f}",
        is_more_better=False,
        named="requests repeated",
        has_range=True,
    ),
    Column(
        heading="share of limit",
        measure=Measure.LIMIT,
        values=_limited("used"),
        form="{:.3f}",
        is_more_better=True,
        named=_SHARE,
    ),
    Column(
        heading="429s",
        measure=Measure.LIMIT,
        values=_limited("n_refused"),
        form="{:,.0f}",
        is_more_better=False,
        named="429s caused",
    ),
    Column(
        heading="jobs given up",
        measure=Measure.LIMIT,
        values=_limited("given_up"),
        form="{:,.0f}",
        is_more_better=False,
        named="jobs given up",
    ),
)


def print_report(outcomes: Sequence[Outcome], sizes: Sizes) -> None:
    """Print everything."""
    notes: dict[str, int] = {}
    rows = []
    for one in outcomes:
        marks = "".join(f"[{notes.setdefault(text, len(notes) + 1)}]" for text in _notes(one))
        cells = [column.cell(one) for column in COLUMNS]
        rows.append([f"{one.peer.title} {marks}".strip(), one.peer.version, *cells])
    print_table(["tool", "version", *(column.heading for column in COLUMNS)], rows)
    for text, number in notes.items():
        print(f"{number}. {text}")
    print(f"\n{_explanation(sizes)}")
    for sentence in better(outcomes):
        print(f"\n{sentence}")


def _notes(one: Outcome) -> list[str]:
    reasons = [f"{measure.capitalize()}: {text}" for measure, text in one.reasons.items()]
    missing = max((run.missing for run in one.kills), default=0)
    holes = [f"Up to {missing} jobs had no result after the second run."] if missing else []
    return [*one.peer.notes, *reasons, *holes]


def _explanation(sizes: Sizes) -> str:
    return (
        f"Medians of {sizes.rounds} rounds, in turns. Speed: {sizes.n:,} jobs of 1 kB, {CONCURRENCY} in"
        " flight, a canned nginx; jobs/s from the first answer to the last, processor time without"
        " that of a start with two jobs just before, memory the most that the process ever had. Lost and"
        f" repeated: {sizes.n_killed:,} jobs, {KILL_CONCURRENCY} in flight, answers after"
        f" {LATENCY_S * 500:.0f} to {LATENCY_S * 1500:.0f} ms; kill -9 early, in the middle and late, then the same command again."
        " Lost is what the server had answered and the disk did not have, answers on their way"
        " included; repeated is what it received beyond one request a job. Limit:"
        f" {sizes.rpm:,} requests in any 60 s for {sizes.minutes:g} minutes while work waits, all tools"
        " side by side, each with a server of its own that sends `retry-after`; tools that can be told"
        " the limit are."
    )


def _price(column: Column, one: Outcome) -> str:
    """Return what a share of the limit was had for."""
    if column.named != _SHARE or one.limited is None:
        return ""
    return f" for {one.limited.n_refused:,} 429s and {one.limited.given_up:,} jobs given up"


def better(outcomes: Sequence[Outcome]) -> list[str]:
    """Say where a peer's median is better than batchrunner's."""
    ours = next((one for one in outcomes if one.peer.name == OURS), None)
    if ours is None:
        return []
    sentences = []
    for column in COLUMNS:
        bar = column.middle(ours)
        found = [
            f"{one.peer.title} ({column.form.format(value)}{_price(column, one)})"
            for one in outcomes
            if bar is not None
            and (value := column.middle(one)) is not None
            and (value > bar if column.is_more_better else value < bar)
        ]
        if found and bar is not None:
            mine = column.form.format(bar)
            sentences.append(f"- {column.named} (batchrunner: {mine}): {', '.join(found)}")
    if not sentences:
        return ["No peer is better than batchrunner in any column."]
    return ["Better than batchrunner:\n\n" + "\n".join(sentences)]
