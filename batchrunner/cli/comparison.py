"""``plan --compare``: a run's forecast beside what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import click

from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import compare_object, write_json
from batchrunner.cli.tables import Column, write_table
from batchrunner.cli.text import dollars, duration, number, printable
from batchrunner.planned import CompareView, Figure, ModelCompare

_FIGURES: Final = (
    Column(""),
    Column("FORECAST", right=True),
    Column("RANGE", right=True),
    Column("TOOK", right=True),
    Column("OFF", right=True),
)
_MODELS: Final = (
    Column("MODEL", most=40),
    Column("JOBS", right=True),
    Column("TOKENS IN", right=True),
    Column("BY TEXT", right=True),
    Column("CORRECTED", right=True),
    Column("A JOB", right=True),
    Column("TOKENS OUT", right=True),
    Column("FORECAST", right=True),
)
#: Figure → how people call it, and how it is written.
_WRITTEN: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "input_tokens": ("tokens in", number),
    "output_tokens": ("tokens out", number),
    "cost_usd": ("cost", dollars),
    "duration_s": ("time", duration),
    "days": ("days", number),
}


def show_comparison(settings: Settings, run: str) -> int:
    """Compare a run and print it."""
    view = settings.app().compare(run)
    if settings.json:
        write_json(compare_object(view))
        return 0
    write_table(_FIGURES, (_figure(figure) for figure in view.figures))
    click.echo()
    write_table(_MODELS, (_model(model) for model in view.models))
    if not settings.quiet:
        for note in _notes(view):
            click.echo(printable(note), err=True)
    return 0


def _figure(figure: Figure) -> list[str]:
    name, write = _WRITTEN[figure.name]

    def written(value: float | None) -> str:
        return "-" if value is None else write(value)

    is_span = figure.low is not None and figure.high is not None
    span = f"{written(figure.low)} to {written(figure.high)}" if is_span else "-"
    return [name, written(figure.planned), span, written(figure.took), _off(figure.off)]


def _model(model: ModelCompare) -> list[str]:
    each = "-" if model.each_off is None else f"±{model.each_off:.1%}"
    return [
        printable(model.model),
        number(model.jobs),
        number(model.input_tokens),
        _off(model.text_alone_off),
        _off(model.planned_off),
        each,
        number(model.output_tokens),
        _off(model.planned_output_off),
    ]


def _off(share: float | None) -> str:
    return "-" if share is None else f"{share:+.1%}"


def _notes(view: CompareView) -> Iterator[str]:
    yield from view.notes
    limits = ", ".join(f"{limit.limit} {number(limit.value)}" for limit in view.plan.limits)
    if limits:
        yield f"the forecast kept to {limits}; {view.plan.binding_limit or 'none of them'} binds"
