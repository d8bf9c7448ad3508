"""The outcomes as one SVG: a row a tool, a panel a measure, bars on a scale of their own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.peers.bench import Outcome
from bench.peers.report import COLUMNS, OURS, Column

#: Headings of the columns that are drawn, and how the panel says which end is good.
_DRAWN = {
    "jobs/s (range)": "jobs/s, more is better",
    "CPU ms a request": "CPU ms a request, less is better",
    "peak MB": "peak MB, less is better",
    "requests repeated": "repeated after kill -9, less is better",
    "share of limit": "share of a limit used, more is better",
    "429s": "429s caused, less is better",
}
_ROW, _TOP, _LEFT, _PANEL, _BAR, _GAP = 26, 44, 210, 200, 120, 16
_OURS_FILL, _PEER_FILL, _TEXT, _FAINT = "#1f6f54", "#9aa7b0", "#24292f", "#d8dee4"


def draw(outcomes: Sequence[Outcome]) -> str:
    """Return the chart as text."""
    columns = [column for column in COLUMNS if column.heading in _DRAWN]
    width = _LEFT + len(columns) * (_PANEL + _GAP)
    height = _TOP + len(outcomes) * _ROW + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<g font-family="system-ui, sans-serif" font-size="12" fill="{_TEXT}">',
        "<title>batchrunner beside its peers</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for row, one in enumerate(outcomes):
        weight = ' font-weight="bold"' if one.peer.name == OURS else ""
        title = escape(one.peer.title.replace("`", ""))
        parts.append(_text(_LEFT - 12, row, title, f' text-anchor="end"{weight}'))
    for number, column in enumerate(columns):
        parts += _panel(column, outcomes, _LEFT + number * (_PANEL + _GAP))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(column: Column, outcomes: Sequence[Outcome], left: int) -> list[str]:
    middles = [column.middle(one) for one in outcomes]
    most = max((value for value in middles if value is not None), default=0) or 1
    bottom = _TOP + len(outcomes) * _ROW
    parts = [
        f'<text x="{left}" y="{_TOP - 16}" font-size="11">{escape(_DRAWN[column.heading])}</text>',
        f'<line x1="{left}" x2="{left}" y1="{_TOP - 6}" y2="{bottom}" stroke="{_FAINT}"/>',
    ]
    for row, (one, value) in enumerate(zip(outcomes, middles, strict=True)):
        length = 0.0 if value is None else value / most * _BAR
        fill = _OURS_FILL if one.peer.name == OURS else _PEER_FILL
        parts.append(
            f'<rect x="{left}" y="{_TOP + row * _ROW + 5}" width="{length:.1f}" height="{_ROW - 10}"'
            f' fill="{fill}"/>'
        )
        words = "—" if value is None else column.form.format(value)
        parts.append(_text(left + length + 5, row, words, ""))
    return parts


def _text(x: float, row: int, words: str, attributes: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{_TOP + row * _ROW + _ROW / 2 + 4:.0f}"{attributes}>{words}</text>'
    )
