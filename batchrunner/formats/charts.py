"""Bars over an axis as inline SVG between labels in HTML: no script, the same letters at any width.

The drawing is stretched to the page's width; what is written stands outside it, so that nothing is
squeezed on a telephone. Colours are the page's variables, so that dark and light need no second one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

__all__ = ["Bar", "Series", "bars", "legend", "scale"]

#: Units of the drawing: a bar's place, and the height of the whole.
_WIDE: Final = 10.0
_HIGH: Final = 100.0
_GAP: Final = 1.2
#: Tops of an axis, in powers of ten.
_STEPS: Final = (1, 2, 3, 4, 6, 8, 10)


class Series(NamedTuple):
    """One colour of the bars: the class that gives it, and its name."""

    css: str
    name: str


class Bar(NamedTuple):
    """One bar: what is stacked in it from below, and what is said where one points at it."""

    values: Sequence[float]
    title: str
    #: How much of its time nothing was under way, from 0 to 1: shaded behind it.
    shade: float = 0.0


def scale(most: float) -> float:
    """Return the top of an axis that holds ``most``: a round number with a round half."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in _STEPS if step * power >= most * (1 - 1e-9))


def bars(name: str, series: Sequence[Series], chart: Sequence[Bar], axis: Sequence[str]) -> str:
    """Return a chart; ``axis`` are labels from its left end to its right."""
    top = scale(max((sum(bar.values) for bar in chart), default=0.0))
    wide = _WIDE * max(len(chart), 1)
    drawn = []
    for number, bar in enumerate(chart):
        left = number * _WIDE
        parts = [f"<title>{escape(bar.title)}</title>"]
        if bar.shade > 0.005:
            high = _HIGH * min(bar.shade, 1.0)
            parts.append(_rect("idle", left, _HIGH - high, _WIDE, high))
        bottom = _HIGH
        for kind, value in zip(series, bar.values, strict=True):
            high = _HIGH * value / top
            if high > 0:
                bottom -= high
                parts.append(_rect(kind.css, left + _GAP / 2, bottom, _WIDE - _GAP, high))
        parts.append(_rect("hit", left, 0.0, _WIDE, _HIGH))
        drawn.append(f"<g>{''.join(parts)}</g>")
    lines = "".join(
        f'<line class="grid" x1="0" x2="{wide:g}" y1="{y:g}" y2="{y:g}"/>' for y in (0, 50, 100)
    )
    ticks = "".join(f"<span>{escape(label)}</span>" for label in axis)
    return (
        f'<div class="chart"><div class="axis"><span>{_figure(top)}</span>'
        f"<span>{_figure(top / 2)}</span><span>0</span></div>"
        f'<svg role="img" aria-label="{escape(name)}" viewBox="0 0 {wide:g} {_HIGH:g}"'
        f' preserveAspectRatio="none">{lines}{"".join(drawn)}</svg>'
        f'<div class="ticks">{ticks}</div></div>'
    )


def legend(series: Sequence[Series], *, idle: str = "") -> str:
    """Return what the colours mean; ``idle``: what the shade does."""
    shown = [*series, *([Series("idle", idle)] if idle else [])]
    items = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true">{_rect(kind.css, 0, 0, 10, 10)}</svg>'
        f"{escape(kind.name)}</li>"
        for kind in shown
    )
    return f'<ul class="legend">{items}</ul>'


def _rect(css: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{css}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
