"""A run as one self-contained HTML page: no script, nothing from elsewhere, dark and light.

Names, keys and messages come from outside. All of them pass :func:`.page_words.foreign`: escaped, without what
would reorder a line, and set apart from the direction of the words around them. The page's own
policy forbids scripts and everything from other addresses besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from batchrunner.core.time_use import cause_words
from batchrunner.formats.charts import Bar, Series, bars, legend
from batchrunner.formats.page_words import (
    count,
    dollars,
    foreign,
    harmless,
    instant,
    millis,
    share_of,
    stretch,
)
from batchrunner.views import (
    ErrorGroup,
    Latencies,
    ModelLine,
    ReportView,
    RunView,
    Timeline,
    TimeView,
)

__all__ = ["page"]

_FOOT: Final = "Times are UTC. Tokens and cost sum all attempts."
_ENDS: Final = (
    Series("good", "answered"),
    Series("again", "to be tried again"),
    Series("bad", "failed for good"),
)
_UNDER_WAY: Final = (Series("flow", "under way, on average"),)
_ANSWERS: Final = (Series("good", "answers"),)

_STYLE: Final = """
:root{color-scheme:light dark;--back:#fff;--card:#f6f8fa;--line:#d0d7de;--text:#1f2328;--soft:#59636e;
--good:#0969da;--again:#bf8700;--bad:#cf222e;--flow:#1b7c83;--idle:#afb8c1}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--card:#161b22;--line:#30363d;--text:#e6edf3;--soft:#9198a1;
--good:#4493f8;--again:#d29922;--bad:#f85149;--flow:#39c5cf;--idle:#6e7681}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:18px;margin:36px 0 8px}
p{margin:4px 0}.soft,small,th{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;margin:20px 0 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px}
.card b{display:block;font-size:19px;line-height:1.3;font-variant-numeric:tabular-nums;white-space:nowrap}
.card span{font-size:13px}.wide td:first-child{min-width:9em}
.chart{display:grid;grid-template-columns:52px 1fr;gap:2px 8px;margin:10px 0 4px}
.chart svg{width:100%;height:170px;display:block}
.axis,.ticks{display:flex;justify-content:space-between;color:var(--soft);font-size:12px;line-height:1.2}
.axis{flex-direction:column;text-align:right;white-space:nowrap}.ticks{grid-column:2;gap:8px}
.grid{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
.good{fill:var(--good)}.again{fill:var(--again)}.bad{fill:var(--bad)}.flow{fill:var(--flow)}
.idle{fill:var(--idle);opacity:.35}.hit{fill:transparent}g:hover .hit{fill:var(--text);opacity:.08}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 6px;padding:0;font-size:13px}
.legend svg{width:11px;height:11px;margin-right:6px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td bdi,td code{overflow-wrap:anywhere}
.error{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--bad);border-radius:8px;padding:10px 14px;margin:10px 0}
.error p{overflow-wrap:anywhere}
code{font:13px ui-monospace,monospace}
@media(max-width:480px){.ticks span:nth-child(even){display:none}h1{font-size:22px}.chart svg{height:140px}}
@media print{.card,.error{break-inside:avoid}}
"""


def page(report: ReportView) -> str:
    """Return the whole page."""
    run, time = report.run, report.timeline
    parts = [
        _head(run),
        _cards(report),
        _time(report.time) if report.time is not None else "",
        _over_time(time) if time is not None else "<p>Nothing was sent.</p>",
        _latencies(time.latencies, time.slowest) if time and time.latencies else "",
        _errors(report.errors),
        _outcomes(time.outcomes) if time is not None else "",
        _models(report.models),
        f'<p class="soft"><small>Made {instant(report.made_at)} by batchrunner. {_FOOT}</small></p>',
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{harmless(run.name)}</title><style>{_STYLE}</style></head>\n<body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )


# --- its parts


def _head(run: RunView) -> str:
    words = [
        f"{run.state}",
        f"provider {foreign(run.provider)}",
        f"stored {instant(run.created_at)}",
    ]
    if run.started_at is not None:
        words.append(f"begun {instant(run.started_at)}")
    if run.finished_at is not None:
        words.append(f"ended {instant(run.finished_at)}")
    why = ""
    if run.waiting is not None:
        until = f", until {instant(run.waiting.until)}" if run.waiting.until else ""
        why = f"<p>{foreign(run.waiting.detail or run.waiting.reason)}{until}</p>"
    return f'<h1>{foreign(run.name)}</h1><p class="soft">{" · ".join(words)}</p>{why}'


def _cards(report: ReportView) -> str:
    run, time = report.run, report.timeline
    jobs = run.jobs
    left = jobs.pending + jobs.running
    cards = [("jobs", count(jobs.total))]
    cards.append((f"completed{share_of(jobs.completed, jobs.total)}", count(jobs.completed)))
    if jobs.failed:
        cards.append((f"failed{share_of(jobs.failed, jobs.total)}", count(jobs.failed)))
    cards += [("cancelled", count(jobs.cancelled))] if jobs.cancelled else []
    cards += [("left", count(left))] if left else []
    cards.append(("requests sent", count(run.requests.sent)))
    if run.requests.rate_limited:
        cards.append(("answered 429", count(run.requests.rate_limited)))
    if time is not None:
        took_s = (time.ended_at - time.began_at) / 1000.0
        cards.append(("from first to last", stretch(took_s)))
        cards.append(("nothing under way", stretch(time.idle_s)))
        answers = sum(span.completed for span in time.spans)
        cards.append(("answers a minute", count(answers / took_s * 60.0)))
    for name, tokens in (("tokens in", run.input_tokens), ("tokens out", run.output_tokens)):
        if tokens is not None:
            cards.append((name, count(tokens)))
    cards.append(("cost", "unknown" if run.cost_usd is None else dollars(run.cost_usd)))
    inner = "".join(
        f'<div class="card"><b>{value}</b><span class="soft">{name}</span></div>'
        for name, value in cards
    )
    return f'<div class="cards">{inner}</div>'


def _time(time: TimeView) -> str:
    """Return what the run's time went into, and its longest waits."""
    total = sum(part.seconds for part in time.parts)
    if total <= 0:
        return ""
    rows = (
        [
            foreign(cause_words(part.cause)),
            stretch(part.seconds),
            f"{100 * part.seconds / total:.1f} %",
        ]
        for part in time.parts
    )
    waits = (
        [
            instant(wait.began_at),
            stretch(wait.seconds),
            count(wait.times),
            foreign(": ".join(word for word in (cause_words(wait.cause), wait.detail) if word)),
        ]
        for wait in time.waits
    )
    listed = _table(("began", "took", "times", "waited for"), waits, numbers=(1, 2))
    return (
        "<h2>Where the time went</h2>"
        + _table(("went into", "time", "share"), rows, numbers=(1, 2))
        + (f"<h2>The longest waits</h2>{listed}" if time.waits else "")
    )


def _over_time(time: Timeline) -> str:
    axis = _ticks(time)
    width = stretch(time.width_s)
    speed = [
        Bar(
            (span.completed, span.again, span.failed),
            f"{instant(span.at)}: {count(span.completed)} answered, {count(span.again)} to be tried again,"
            f" {count(span.failed)} failed; {stretch(span.idle_s)} with nothing under way",
            span.idle_s / time.width_s,
        )
        for span in time.spans
    ]
    flow = [
        Bar((span.in_flight,), f"{instant(span.at)}: {span.in_flight:.1f} under way on average")
        for span in time.spans
    ]
    return (
        "<h2>Speed and waiting</h2>"
        f'<p class="soft">Requests that ended, for each {width} of its time.</p>'
        + legend(_ENDS, idle="nothing under way")
        + bars("Requests that ended, over time", _ENDS, speed, axis)
        + "<h2>Requests under way</h2>"
        + legend(_UNDER_WAY)
        + bars("Requests under way, over time", _UNDER_WAY, flow, axis)
    )


def _latencies(told: Latencies, slowest: Sequence[tuple[str, int]]) -> str:
    chart = [
        Bar((n,), f"{millis(low)} to {millis(high)}: {count(n)}") for low, high, n in told.bars
    ]
    middle = told.bars[len(told.bars) // 2][0]
    axis = [millis(told.bars[0][0]), millis(middle), millis(told.bars[-1][1])]
    facts = (
        ("half within", told.p50), ("9 of 10 within", told.p90),
        ("99 of 100 within", told.p99), ("longest", told.longest),
    )  # fmt: skip
    cards = "".join(
        f'<div class="card"><b>{millis(value)}</b><span class="soft">{name}</span></div>'
        for name, value in facts
    )
    rows = ([foreign(key), millis(ms)] for key, ms in slowest)
    return (
        "<h2>How long answers took</h2>"
        + bars("Answers by latency", _ANSWERS, chart, axis)
        + f'<div class="cards">{cards}</div>'
        + "<h2>The slowest</h2>"
        + _table(("job", "took"), rows, numbers=(1,))
    )


def _errors(groups: Sequence[ErrorGroup]) -> str:
    if not groups:
        return ""
    shown = []
    for group in groups:
        status = f" · {group.http_status}" if group.http_status is not None else ""
        what = "jobs wait" if group.held_model is not None else "jobs failed"
        lines = [f"<p><b>{foreign(group.kind)}</b>{status} · {count(group.count)} {what}</p>"]
        for cause in group.causes:
            key = foreign(cause.example_key)
            lines.append(
                f"<p>{count(cause.count)} &times; {foreign(cause.message)} <small>({key})</small></p>"
            )
        if not group.causes:
            lines.append(f"<p>{foreign(group.example_message)}</p>")
        if group.fix:
            lines.append(f'<p class="soft">{foreign(group.fix)}</p>')
        shown.append(f'<div class="error">{"".join(lines)}</div>')
    return f"<h2>Errors</h2>{''.join(shown)}"


def _outcomes(outcomes: Mapping[str, int]) -> str:
    rows = ([foreign(name), count(n)] for name, n in outcomes.items())
    return "<h2>What requests came to</h2>" + _table(("outcome", "requests"), rows, numbers=(1,))


def _models(lines: Sequence[ModelLine]) -> str:
    rows = (
        [
            foreign(line.model) if line.model else "none named",
            count(line.jobs),
            count(line.completed),
            count(line.failed),
            count(line.input_tokens),
            count(line.output_tokens),
            "unknown" if line.cost_usd is None else dollars(line.cost_usd),
        ]
        for line in lines
    )
    heads = ("model", "jobs", "completed", "failed", "tokens in", "tokens out", "cost")
    return "<h2>Models</h2>" + _table(heads, rows, numbers=range(1, 7))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int]) -> str:
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="n">{cell}</{tag}>' if place in right else f"<{tag}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells("th", heads)}</tr>{body}</table></div>'


def _ticks(time: Timeline) -> list[str]:
    """Return five instants from the left end of the axis to its right."""
    first = time.spans[0].at
    whole = time.width_s * 1000 * len(time.spans)
    days = whole > 2 * 86_400_000
    form = "%d %b %H:%M" if days else "%H:%M:%S" if whole < 3_600_000 else "%H:%M"
    instants = (first + whole * place / 4 for place in range(5))
    return [f"{datetime.fromtimestamp(at / 1000.0, UTC):{form}}" for at in instants]
