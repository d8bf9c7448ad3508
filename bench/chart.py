"""Line charts over a common axis, and bars beside names, as one SVG: for pages that show what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _PANEL, _LEFT, _TOP, _BOTTOM, _RIGHT = 760, 150, 64, 34, 26, 16
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;fill:#24292f}"
    ".g{stroke:#d0d7de;stroke-width:1}.l{fill:none;stroke:#0969da;stroke-width:1.5}"
    ".p{fill:#0969da;opacity:.07}.b{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#f0f6fc}.g{stroke:#3d444d}"
    ".l{stroke:#4493f8}.p,.b{fill:#4493f8}}"
)


class Panel(NamedTuple):
    """One quantity over time."""

    title: str
    #: (seconds, value), in order.
    points: Sequence[tuple[float, float]]


class Phase(NamedTuple):
    """A stretch of the axis with a name; every other one is shaded."""

    name: str
    begins: float
    ends: float


def chart(panels: Sequence[Panel], phases: Sequence[Phase]) -> str:
    """Return an SVG with a panel for each quantity, from 0 up, over the seconds of the phases."""
    ends = phases[-1].ends
    height = _TOP + len(panels) * (_PANEL + _BOTTOM) + 20
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>']

    def x_of(second: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * second / ends

    for number, phase in enumerate(phases):
        left, right = x_of(phase.begins), x_of(phase.ends)
        if number % 2 == 0:
            parts.append(
                f'<rect class="p" x="{left:.1f}" y="{_TOP - 14}" width="{right - left:.1f}"'
                f' height="{height - _TOP - 10}"/>'
            )
        parts.append(
            f'<text x="{(left + right) / 2:.1f}" y="14" text-anchor="middle">'
            f"{escape(phase.name)}</text>"
        )
    for number, panel in enumerate(panels):
        bottom = _TOP + number * (_PANEL + _BOTTOM) + _PANEL
        step, most = _scale(max(value for _, value in panel.points))
        parts.append(
            f'<text class="t" x="{_LEFT}" y="{bottom - _PANEL}">{escape(panel.title)}</text>'
        )
        n_steps = round(most / step)
        for tick in range(n_steps + 1):
            y = bottom - (_PANEL - 16) * tick / n_steps
            parts.append(
                f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,.10g}</text>'
            )
        line = " ".join(
            f"{x_of(second):.1f},{bottom - (_PANEL - 16) * value / most:.1f}"
            for second, value in panel.points
        )
        parts.append(f'<polyline class="l" points="{line}"/>')
    step, _ = _scale(ends, 8)
    for tick in range(int(ends // step) + 1):
        x = x_of(tick * step)
        parts.append(
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick * step:,.10g} s</text>'
        )
    return "".join(parts) + "</svg>\n"


class Bars(NamedTuple):
    """One quantity of each name."""

    title: str
    values: Sequence[float]
    #: How a value is written beside its bar.
    form: str


_NAMES, _BAR_PANEL, _LINE = 170, 145, 22


def bars(names: Sequence[str], panels: Sequence[Bars]) -> str:
    """Return an SVG with a row for each name and a column of bars, from 0 on, for each quantity."""
    width, height = _NAMES + len(panels) * _BAR_PANEL + _RIGHT, _TOP + len(names) * _LINE + 8
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>']
    for number, name in enumerate(names):
        y = _TOP + number * _LINE + 14
        parts.append(f'<text x="{_NAMES - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
    for column, panel in enumerate(panels):
        left = _NAMES + column * _BAR_PANEL
        # The title's words in two lines: what it is of, and what it is.
        first, _, rest = panel.title.partition(": ")
        for line, words in enumerate((first, rest) if rest else ("", first)):
            parts.append(f'<text class="t" x="{left}" y="{12 + 14 * line}">{escape(words)}</text>')
        most = max(panel.values) or 1.0
        for number, value in enumerate(panel.values):
            y, long = _TOP + number * _LINE + 3, (_BAR_PANEL - 62) * value / most
            parts.append(
                f'<rect class="b" x="{left}" y="{y}" width="{long:.1f}" height="14"/>'
                f'<text x="{left + long + 4:.1f}" y="{y + 11}">{panel.form.format(value)}</text>'
            )
    return "".join(parts) + "</svg>\n"


def _scale(most: float, about: int = 3) -> tuple[float, float]:
    """Return a round step of an axis from 0 to ``most``, and its end."""
    rough = max(most, 1e-9) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
    return step, step * math.ceil(most / step)
