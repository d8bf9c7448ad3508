"""What answers are compressed with: a dictionary that is made of a run's first ones, in the drain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from batchrunner.engine.live import LiveRun
from batchrunner.models import JobState, RunId
from batchrunner.store.codecs import Codec, made_codec
from batchrunner.store.database import Writer
from batchrunner.store.faults import DiskFullError
from batchrunner.store.records import Settle

__all__ = ["answer_codecs", "learn_codecs"]


def answer_codecs(runs: Iterable[LiveRun]) -> dict[RunId, Codec]:
    """Return what the answers of runs that keep them compressed are written with."""
    return {
        run.id: run.answers.codec
        for run in runs
        if run.answers is not None and run.answers.codec is not None
    }


async def learn_codecs(writer: Writer, runs: Iterable[LiveRun], settles: Sequence[Settle]) -> None:
    """Store a dictionary of a run's first answers, once there are enough of them."""
    for run in runs:
        if run.answers is None or run.answers.codec is not None:
            continue
        bodies = run.answers.see(
            settle.body
            for settle in settles
            if settle.run_id == run.id and settle.body and settle.state == JobState.COMPLETED
        )
        if bodies is None:
            continue
        try:
            codec = await writer.transact(
                partial(made_codec, run_id=run.id, part="response", bodies=bodies)
            )
        except DiskFullError:
            # The answers go on plainly; the cycle says what a full disk means.
            codec = None
        run.answers.found(codec)
