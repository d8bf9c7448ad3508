"""A run in numbers over its time, gathered from its log of sends in memory that does not grow with it.

Read in pages, each a short read of its own, so that a report of a run of any size, made while it is
sent, holds nothing up.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

from batchrunner.store.choose import run_range
from batchrunner.store.database import Database
from batchrunner.store.runs import StoredRun, driver
from batchrunner.views import Latencies, ModelLine, Span, Timeline

__all__ = ["models", "sends"]

_PAGE: Final = 2_000
#: Bars of a chart over time at most; their widths, in seconds.
_MOST_SPANS: Final = 96
_WIDTHS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
)  # fmt: skip
#: So finely the time is looked through for stretches in which nothing was under way.
_SLICES: Final = 4_000
#: Latencies are counted in steps of a twentieth, so that a percentile is right to 5 %.
_STEP: Final = 1.05
_MOST_BARS: Final = 30
_SLOWEST: Final = 10
_MOST_MODELS: Final = 20

_ENDS: Final = """
    SELECT min(sent_at), max(coalesce(ended_at, sent_at)) FROM send
    WHERE job_id > ? AND job_id < ? AND sent_at IS NOT NULL"""
_ROWS: Final = """
    SELECT job_id, claim, sent_at, coalesce(ended_at, sent_at), outcome, kind FROM send
    WHERE (job_id, claim) > (?, ?) AND job_id < ? ORDER BY job_id, claim LIMIT ?"""
_MODELS: Final = """
    SELECT coalesce(m.name, ''), count(*), count(*) FILTER (WHERE j.state = 'completed'),
           count(*) FILTER (WHERE j.state = 'failed'),
           sum(r.input_tokens), sum(r.output_tokens), sum(r.cost_usd)
    FROM job j JOIN model m ON m.id = j.model_id LEFT JOIN response r ON r.job_id = j.id
    WHERE j.id > ? AND j.id < ? GROUP BY j.model_id, m.name ORDER BY 2 DESC, 1 LIMIT ?"""


def models(db: Database, run: StoredRun) -> list[ModelLine]:
    """Return what became of the jobs of each model, the most frequent first, at most twenty."""
    with db.read() as connection:
        rows = driver(connection).execute(_MODELS, (*run_range(run.id), _MOST_MODELS)).fetchall()
    return [
        ModelLine(
            model=name, jobs=jobs, completed=completed, failed=failed,
            input_tokens=tokens_in, output_tokens=tokens_out, cost_usd=cost,
        )
        for name, jobs, completed, failed, tokens_in, tokens_out, cost in rows
    ]  # fmt: skip


def sends(db: Database, run: StoredRun) -> Timeline | None:
    """Return what went out and came back over the run's time; ``None`` where nothing went out."""
    with db.read() as connection:
        first, last = driver(connection).execute(_ENDS, run_range(run.id)).fetchone()
    if first is None:
        return None
    gathered = _Gathered(int(first), max(int(last), int(first) + 1))
    for row in _rows(db, run):
        gathered.add(*row)
    with db.read() as connection:
        conn = driver(connection)
        slowest = [
            (str(conn.execute("SELECT key FROM job WHERE id = ?", (id_,)).fetchone()[0]), ms)
            for ms, id_ in sorted(gathered.slowest, reverse=True)
        ]
    return gathered.timeline(slowest)


def _rows(db: Database, run: StoredRun) -> Iterator[Any]:
    low, high = run_range(run.id)
    after = (low, 0)
    while True:
        with db.read() as connection:
            page = driver(connection).execute(_ROWS, (*after, high, _PAGE)).fetchall()
        yield from (row for row in page if row[2] is not None)
        if len(page) < _PAGE:
            return
        after = page[-1][:2]


class _Gathered:
    """Counts of one pass over the sends."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        seconds = (last - first) / 1000.0
        self.width = next(
            (width for width in _WIDTHS if seconds / width <= _MOST_SPANS),
            86_400 * math.ceil(seconds / _MOST_SPANS / 86_400),
        )
        n = int(seconds // self.width) + 1
        self.completed, self.failed, self.again, self.busy_ms = ([0] * n for _ in range(4))
        self.slices = [0] * (_SLICES + 1)
        self.latencies: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.slowest: list[tuple[int, int]] = []

    def add(
        self, job: int, _claim: int, sent: int, ended: int, outcome: str, kind: str | None
    ) -> None:
        """Count one send; what began after the pass did is counted at its end."""
        width_ms = self.width * 1000
        begin = min(max(sent, self.first), self.last)
        end = min(max(ended, begin), self.last)
        place = (end - self.first) // width_ms
        match outcome:
            case "completed":
                self.completed[place] += 1
                ms = max(ended - sent, 0)
                self.latencies[_step_of(ms)] += 1
                if len(self.slowest) < _SLOWEST:
                    heapq.heappush(self.slowest, (ms, job))
                else:
                    heapq.heappushpop(self.slowest, (ms, job))
            case "failed":
                self.failed[place] += 1
            case _:
                self.again[place] += 1
        self.outcomes[kind or outcome] += 1
        for span in range((begin - self.first) // width_ms, place + 1):
            left = self.first + span * width_ms
            self.busy_ms[span] += max(0, min(end, left + width_ms) - max(begin, left))
        scale = _SLICES / (self.last - self.first)
        self.slices[int((begin - self.first) * scale)] += 1
        self.slices[min(int((end - self.first) * scale) + 1, _SLICES)] -= 1

    def timeline(self, slowest: list[tuple[str, int]]) -> Timeline:
        """Return the counts as they are shown."""
        under_way = list(accumulate(self.slices))[:_SLICES]
        slice_s = (self.last - self.first) / 1000.0 / _SLICES
        idle = [0.0] * len(self.completed)
        for number, n in enumerate(under_way):
            if n == 0:
                idle[min(int(number * slice_s / self.width), len(idle) - 1)] += slice_s
        return Timeline(
            began_at=self.first,
            ended_at=self.last,
            width_s=self.width,
            spans=[
                Span(
                    at=self.first + number * self.width * 1000,
                    completed=self.completed[number],
                    failed=self.failed[number],
                    again=self.again[number],
                    in_flight=self.busy_ms[number] / (self.width * 1000),
                    idle_s=idle[number],
                )
                for number in range(len(self.completed))
            ],
            idle_s=sum(idle),
            outcomes=dict(self.outcomes.most_common()),
            latencies=_latencies(self.latencies, self.slowest) if self.latencies else None,
            slowest=slowest,
        )


def _step_of(ms: int) -> int:
    return math.ceil(math.log(max(ms, 1)) / math.log(_STEP))


def _latencies(counts: Counter[int], slowest: list[tuple[int, int]]) -> Latencies:
    steps = sorted(counts)
    total = counts.total()

    def percentile(share: float) -> float:
        left = share * total
        for step in steps:
            left -= counts[step]
            if left <= 0:
                return float(_STEP**step)
        return float(_STEP ** steps[-1])

    low, high = steps[0], steps[-1] + 1
    group = max(1, math.ceil((high - low) / _MOST_BARS))
    bars = [
        (
            float(_STEP ** (start - 1)),
            float(_STEP ** (start + group - 1)),
            sum(counts[step] for step in range(start, start + group)),
        )
        for start in range(low, high, group)
    ]
    longest = float(max(ms for ms, _ in slowest))
    return Latencies(
        p50=min(percentile(0.5), longest),
        p90=min(percentile(0.9), longest),
        p99=min(percentile(0.99), longest),
        longest=longest,
        bars=bars,
    )
