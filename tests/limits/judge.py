"""The judge of a story: from the server's log alone, and when limits were said and processes lived.

It shares no code with the product. Each finding is a sentence; none means that all of this held:

over      At each send, the window or the day that it ends holds no more sends than the limit in force,
          on the server's clock. For :data:`NOTICE_S` after a change (and the story's look around) the
          old limit may hold instead. Two sends are no closer than the interval, less the network's jitter.
used      In a *stretch* nothing but the minute's limit (or the interval) holds sends back: work waits, and
          there is no end or beginning of a process, no change, no 429's pause, no used-up day, nor
          the :data:`RAMP_S` after one. In all stretches of 10 minutes and more together, less an
          interval at either end of each, :data:`BAR` of what the limit allows was sent.
day       A calendar day during which one limit held and that had time enough (1.2 times what its N
          need at the minute's limit, outside of the above) saw exactly N sends, less what deaths
          may have wasted: a kill the permissions of a second, a stop none.
rolling   Where a rolling day was used up, the next send comes as soon as the one N before it is out of
          the day, by slots of a minute.
hint      After a 429 that names a time nobody asks for that model until then, not even another
          process; requests on the way excepted, and where a kill came before the pause was stored.
priority  In a stretch while a run of higher priority has jobs that were never sent, others send next
          to nothing.
tokens    At each send, the minute that it ends holds no more input tokens than the limit in force, by
          the server's count, but for a single request that is larger. In the stretches :data:`TOKEN_BAR` of
          what requests of these sizes can use, one after the other, was used.
jobs      No job failed: waiting is not failing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import accumulate
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tests.limits.world import Played, Told

__all__ = ["BAR", "Verdict", "judge"]

BAR: Final = 0.985
#: Of tokens: a second more than the minute is kept free, and what is reserved for the requests on
#: their way is more than they take.
TOKEN_BAR: Final = 0.95
#: A change counts from the look around after it; a grant or two may be on their way.
NOTICE_S: Final = 1.5
#: After a disturbance the pace finds itself: what was used before leaves the window.
RAMP_S: Final = 125.0
MINUTE: Final = 60.0
DAY: Final = 86_400.0
#: A rolling day is counted by the minute.
_SLOT_S: Final = 60.0
#: Nothing is planned so close to a reset, and the two calendars differ.
_RESET_S: Final = 20.0


class Span(NamedTuple):
    """From one instant to another."""

    start: float
    end: float


@dataclass(slots=True)
class Verdict:
    """What the judge found, and the numbers behind it."""

    problems: list[str] = field(default_factory=list)
    sends: int = 0
    refused: int = 0
    #: Share of the minute's limit used in all stretches; ``None``: there was none to judge.
    used: float | None = None
    #: The same of the tokens' limit.
    tokens_used: float | None = None
    stretch_s: float = 0.0
    #: The most that any window held of its limit, and windows judged.
    fullest: float = 0.0
    #: Days that had to be exact, by (zone, date).
    days: dict[tuple[str, date], int] = field(default_factory=dict)
    rolling: int = 0
    hints: int = 0


def judge(played: Played) -> Verdict:
    """Judge a story."""
    bench = _Bench(played)
    bench.over()
    bench.exact_days()
    bench.rolling_days()
    bench.used()
    bench.tokens()
    bench.hints()
    if played.n_failed:
        bench.verdict.problems.append(f"jobs: {played.n_failed} failed")
    return bench.verdict


class _Bench:
    def __init__(self, played: Played) -> None:
        self._played, self._story = played, played.story
        self._log = played.log
        self._times = [seen.t for seen in played.log]
        self._changes = [at for at, _ in played.told]
        self._notice = NOTICE_S + self._story.look_s
        low, high = self._story.weather.wire_s
        self._jitter = high - low
        self.verdict = Verdict(
            sends=len(self._log), refused=sum(seen.status == 429 for seen in self._log)
        )
        ordered = sorted(self._story.runs, key=lambda run: run.at)
        self._runs = {str(number): run for number, run in enumerate(ordered, 1)}
        self._priority = {name: run.priority for name, run in self._runs.items()}
        #: When the last of a run's jobs was sent for the first time.
        self._fresh_until: dict[str, float] = dict.fromkeys(self._runs, 0.0)
        known: set[str] = set()
        for seen in self._log:
            if seen.key not in known:
                known.add(seen.key)
                self._fresh_until[seen.run] = seen.t

    def _blame(self, what: str, at: float, text: str) -> None:
        if len(self.verdict.problems) < 20:
            self.verdict.problems.append(f"{what}: {_iso(at)}: {text}")

    def _in_force(self, t: float) -> list[Told]:
        """Return the limits that may hold at ``t``: one, or after a change also those before it."""
        last = bisect_right(self._changes, t)
        first = bisect_right(self._changes, t - self._notice)
        return [told for _, told in self._played.told[max(0, first - 1) : last]]

    # --- no limit is passed

    def over(self) -> None:
        """Look at each send and the windows that end with it."""
        days: dict[str, Counter[date]] = defaultdict(Counter)
        zones = {
            told.zone: ZoneInfo(told.zone)
            for _, told in self._played.told
            if told.zone != "rolling"
        }
        for i, t in enumerate(self._times):
            in_minute = i + 1 - bisect_right(self._times, t - MINUTE)
            in_24_hours = i + 1 - bisect_right(self._times, t - DAY)
            for name, zone in zones.items():
                days[name][datetime.fromtimestamp(t, zone).date()] += 1
            allowed = self._in_force(t)
            self._held(t, "minute", in_minute, [told.rpm for told in allowed])
            today = [
                (in_24_hours if told.zone == "rolling"
                 else days[told.zone][datetime.fromtimestamp(t, zones[told.zone]).date()],
                 told)
                for told in allowed
            ]  # fmt: skip
            if not any(told.rpd is None or n <= told.rpd for n, told in today):
                n, told = today[-1]
                self._blame("over", t, f"{n} in a day ({told.zone}) of {told.rpd}")
            elif len(allowed) == 1 and allowed[0].rpd:
                self.verdict.fullest = max(self.verdict.fullest, today[0][0] / allowed[0].rpd)
            if i and all(
                t - self._times[i - 1] < told.interval_s - self._jitter - 1e-6 for told in allowed
            ):
                self._blame("over", t, f"{t - self._times[i - 1]:.3f} s after the last")

    def _held(self, t: float, what: str, n: int, allowed: Sequence[int | None]) -> None:
        if any(limit is None for limit in allowed):
            return
        most = max(limit for limit in allowed if limit is not None)
        if n > most:
            self._blame("over", t, f"{n} in a {what} of {most}")
        elif len(allowed) == 1:
            self.verdict.fullest = max(self.verdict.fullest, n / most)

    # --- no allowance is wasted

    def _calm(self, *, with_days: bool) -> list[Span]:
        """Return when nothing but limits held sends back; ``with_days``: used-up days are no calm."""
        played, story = self._played, self._story
        held = [Span(story.begins, story.begins + RAMP_S)]
        births = sorted(played.began)
        for at, death in played.ended:
            if death.only_holder:
                held.append(Span(at, at + story.follow_s + RAMP_S))
            after = bisect_left(births, at)
            back = births[after] if after < len(births) else played.ends
            held.append(Span(at, back + RAMP_S))
        held += [Span(at, at + self._notice + RAMP_S) for at in (*self._changes, *births)]
        held += list(self._pauses())
        if with_days:
            held += list(self._used_up())
        if self._is_all_done():
            held.append(Span(self._times[-1], played.ends))
        return _without(Span(story.begins, played.ends), held)

    def _is_all_done(self) -> bool:
        return self._played.n_completed == sum(run.n_jobs for run in self._story.runs)

    def _pauses(self) -> Iterator[Span]:
        """Yield from each 429 to the next answer of its model that was none, or to its hint's end."""
        answered: dict[str, float] = {}
        for seen in reversed(self._log):
            if seen.status == 429:
                ends = max(answered.get(seen.model, self._played.ends), seen.until or 0.0)
                yield Span(seen.t, ends + RAMP_S)
            else:
                answered[seen.model] = seen.t

    def _used_up(self) -> Iterator[Span]:
        """Yield from when a day is used up (but for what deaths wasted) to when it is over."""
        for span, told in self._periods():
            if told.rpd is None:
                continue
            if told.zone == "rolling":
                spent = max(1, told.rpd - self._wasted(Span(span.start - DAY, span.end), told))
                for first, last in zip(self._times, self._times[spent - 1 :], strict=False):
                    free = first + DAY + _SLOT_S + 2.0
                    if last < min(free, span.end) and free > span.start:
                        yield Span(max(last, span.start), min(free, span.end))
                continue
            for day in _days(span, told.zone):
                inside = self._sends_of(day)
                spent = told.rpd - self._wasted(day, told)
                if len(inside) >= spent:
                    yield Span(
                        inside[spent - 1] if spent > 0 else day.start, day.end + _RESET_S + RAMP_S
                    )

    def _periods(self) -> Iterator[tuple[Span, Told]]:
        """Yield each time during which limits stood as they were."""
        ends = [*self._changes[1:], self._played.ends]
        for (at, told), end in zip(self._played.told, ends, strict=True):
            yield Span(at, end), told

    def _sends_of(self, span: Span) -> list[float]:
        return self._times[
            bisect_left(self._times, span.start) : bisect_left(self._times, span.end)
        ]

    def _wasted(self, span: Span, told: Told) -> int:
        """Return how much of an allowance kills may have wasted in a span, at most."""
        n = sum(
            span.start - MINUTE <= at <= span.end and death.how == "kill"
            for at, death in self._played.ended
        )
        ahead = 128 if told.rpm is None else int(told.rpm / 60) + 2
        return n * ahead

    def used(self) -> None:
        """Compare what was sent in the stretches with what the limit allows in them."""
        sent = allowed = 0.0
        calms = self._calm(with_days=True)
        for period, told in self._periods():
            if told.itpm:
                continue  # which of both holds a send back is not told here
            rates = [told.rpm / MINUTE] if told.rpm else []
            rates += [1 / told.interval_s] if told.interval_s else []
            if not rates:
                continue
            rate = min(rates)
            for calm in calms:
                stretch = Span(max(calm.start, period.start), min(calm.end, period.end))
                length = stretch.end - stretch.start
                if length < 10 * MINUTE + 2 / rate:
                    continue
                inside = self._sends_of(stretch)
                # The first and the last send have their place in an interval of their own.
                between = inside[-1] - inside[0] if inside else 0.0
                sent += max(0, len(inside) - 1)
                allowed += max(between, length - 2 / rate) * rate
                self.verdict.stretch_s += length
                self._by_priority(stretch)
        if allowed:
            self.verdict.used = sent / allowed
            if sent < BAR * allowed:
                self._blame("used", self._story.begins, f"{sent:.0f} of {allowed:.0f} allowed")

    def _by_priority(self, stretch: Span) -> None:
        """In a stretch, whoever comes first in priority sends as long as it has fresh jobs."""
        behind = [
            seen
            for seen in self._log[
                bisect_left(self._times, stretch.start) : bisect_left(self._times, stretch.end)
            ]
            if any(
                run.priority > self._priority[seen.run]
                and self._story.begins + run.at + RAMP_S < seen.t
                and seen.t < self._fresh_until[name] - MINUTE
                for name, run in self._runs.items()
            )
        ]
        n = len(self._sends_of(stretch))
        if len(behind) > max(2.0, 0.02 * n):
            self._blame("priority", behind[0].t, f"{len(behind)} of {n} went before a higher run's")

    # --- tokens

    def tokens(self) -> None:
        """Look at the tokens of each minute that ends with a send, and at what was used in the stretches."""
        sums = [0, *accumulate(seen.tokens for seen in self._log)]
        for i, t in enumerate(self._times):
            first = bisect_right(self._times, t - MINUTE)
            n, allowed = sums[i + 1] - sums[first], [told.itpm for told in self._in_force(t)]
            if i == first or any(limit is None for limit in allowed):
                continue
            most = max(limit for limit in allowed if limit is not None)
            if n > most:
                self._blame("tokens", t, f"{n} in a minute of {most}")
        used = could = 0.0
        calms = self._calm(with_days=True)
        for period, told in self._periods():
            if told.itpm is None:
                continue
            most = _most_a_second(self._sizes(), told)
            for calm in calms:
                start, end = max(calm.start, period.start), min(calm.end, period.end)
                if end - start < 10 * MINUTE:
                    continue
                first, last = (bisect_left(self._times, t) for t in (start, end))
                used += sums[last] - sums[first]
                could += (end - start) * most
        if could:
            self.verdict.tokens_used = used / could
            if used < TOKEN_BAR * could:
                self._blame("tokens", self._story.begins, f"{used:.0f} of {could:.0f} allowed")

    def _sizes(self) -> list[int]:
        """Return the tokens of all requests in the order of their run: on the way some overtake others."""
        log = self._log
        if len(self._runs) == 1:
            log = sorted(log, key=lambda seen: int(seen.key.partition("-")[2]))
        return [seen.tokens for seen in log]

    # --- days

    def exact_days(self) -> None:
        """Look at each calendar day that one limit held for, and that had the time to be used up."""
        calm = self._calm(with_days=False)
        for period, told in self._periods():
            if told.rpd is None or told.zone == "rolling":
                continue
            need = 0.0 if told.rpm is None else told.rpd / told.rpm * MINUTE * 1.2
            need = max(need, told.rpd * told.interval_s * 1.2) + 60.0
            for day in _days(period, told.zone):
                if day.start < period.start or day.end > period.end:
                    continue
                if sum(_overlap(day, span) for span in calm) < need:
                    continue
                n, wasted = len(self._sends_of(day)), self._wasted(day, told)
                self.verdict.days[told.zone, _date(day, told.zone)] = n
                if not told.rpd - wasted <= n <= told.rpd:
                    self._blame(
                        "day", day.start, f"{n} sends in a day ({told.zone}) of {told.rpd}"
                        + (f", of which deaths wasted {wasted} at most" if wasted else "")
                    )  # fmt: skip

    def rolling_days(self) -> None:
        """Look at how soon a place of a used-up rolling day is taken again."""
        calm = self._calm(with_days=False)
        for period, told in self._periods():
            if told.rpd is None or told.zone != "rolling":
                continue
            pace = MINUTE / told.rpm if told.rpm else 0.05
            pace = max(pace, told.interval_s)
            late = _SLOT_S + 3 * pace + 2.0
            for span in calm:
                first = bisect_left(self._times, max(span.start, period.start) + pace * 3)
                last = bisect_left(self._times, min(span.end, period.end))
                wasted = self._wasted(Span(period.start - DAY, period.end), told)
                back = told.rpd - wasted
                if back <= 0:
                    # Deaths may have wasted all of it: nothing can be said of its places.
                    continue
                for i in range(max(first, back), last):
                    # A minute's places come free at once, and are taken at the pace.
                    free = max(self._times[i - back] + DAY, self._times[i - 1])
                    self.verdict.rolling += 1
                    if not wasted and self._times[i] > max(free, span.start) + late:
                        self._blame(
                            "rolling", self._times[i], f"{self._times[i] - free:.0f} s after a place came free"
                        )  # fmt: skip

    # --- what the provider asked for

    def hints(self) -> None:
        """Look whether the times that 429s named were kept to."""
        longest = self._story.weather.latency_s[1] + self._jitter + 3.5
        kills = [at for at, death in self._played.ended if death.how == "kill"]
        until: dict[str, float] = {}
        since: dict[str, float] = {}
        for seen in self._log:
            if since.get(seen.model, seen.t) < seen.t < until.get(seen.model, 0.0) - 1e-3:
                self._blame("hint", seen.t, f"asked {until[seen.model] - seen.t:.1f} s too early")
            if seen.until is None:
                continue
            self.verdict.hints += 1
            known = seen.t + longest
            if any(seen.t <= at <= known for at in kills):
                continue
            if seen.until > until.get(seen.model, 0.0):
                until[seen.model] = (
                    seen.until - 1.0
                )  # whole seconds are told, from a Date of whole ones
                since[seen.model] = max(known, since.get(seen.model, 0.0))


def _days(span: Span, zone: str) -> Iterator[Span]:
    """Yield the calendar days that a span touches, whole."""
    info = ZoneInfo(zone)
    today = datetime.fromtimestamp(span.start, info).date()
    while True:
        start, end = (
            datetime.combine(today + timedelta(days=n), time(), info).timestamp() for n in (0, 1)
        )
        if start >= span.end:
            return
        yield Span(start, end)
        today += timedelta(days=1)


def _date(day: Span, zone: str) -> date:
    return datetime.fromtimestamp(day.start, ZoneInfo(zone)).date()


def _overlap(one: Span, other: Span) -> float:
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))


def _without(whole: Span, held: Sequence[Span]) -> list[Span]:
    """Return what is left of a span."""
    left, at = [], whole.start
    for span in sorted(held):
        if span.start > at:
            left.append(Span(at, min(span.start, whole.end)))
        at = max(at, span.end)
    if at < whole.end:
        left.append(Span(at, whole.end))
    return [span for span in left if span.end > span.start]


def _iso(t: float) -> str:
    return f"{datetime.fromtimestamp(t, ZoneInfo('UTC')):%Y-%m-%d %H:%M:%S}"


def _most_a_second(sizes: Sequence[int], told: Told) -> float:
    """Return the tokens a second that requests of these sizes use, each at the first instant it fits."""
    assert told.itpm is not None
    inside: deque[tuple[float, int]] = deque()
    t, used = 0.0, 0
    ends = [(0.0, 0)]
    for size in sizes:
        while inside and used + size > told.itpm:
            at, gone = inside.popleft()
            t, used = max(t, at + MINUTE), used - gone
        if told.rpm:
            t = max(t, ends[-1][0] + MINUTE / told.rpm)
        inside.append((t, size))
        used += size
        ends.append((t, ends[-1][1] + size))
    # Without the first minute, which begins with an empty window.
    t, so_far = next(end for end in ends if end[0] >= MINUTE)
    return (ends[-1][1] - so_far) / (ends[-1][0] - t)
