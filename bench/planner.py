"""What the engine costs a job without a network, by what its planner has to keep to.

    python -m bench.planner [--jobs N] [--rounds N]

Real: the holder, its planner, ledger, gate, judge and senders, every statement, SQLite with its syncs.
Not there: HTTP. Each send is answered at once. Limits are far above what is sent, so that
nothing waits: what is measured is the keeping of them. Processor time, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from batchrunner.clock import wall_ms
from batchrunner.core.caching import start_of
from batchrunner.core.credentials import Secrets
from batchrunner.engine.session import run_session
from batchrunner.engine.stops import Stops
from batchrunner.engine.wire import Wire
from batchrunner.models import JobLine, Reply, Request, Shape
from batchrunner.options import CallOptions, LimitOptions
from batchrunner.providers import BUILT_IN
from batchrunner.providers.anthropic import CACHING
from batchrunner.store import processes
from batchrunner.store.cache_order import order_jobs
from batchrunner.store.caps import scope_for, store_limits
from batchrunner.store.database import Database
from batchrunner.store.holder import RunRow
from batchrunner.store.load import Loader
from batchrunner.store.sqlite.database import FileDatabase

_MANY: Final = 1_000_000_000
_LONG: Final = "the quick brown fox jumps over the lazy dog; " * 200


class Case(NamedTuple):
    """What is kept to."""

    name: str
    limits: LimitOptions
    options: Mapping[str, Any] = {}


CASES: Final = (
    Case("no limit", LimitOptions(rpm="none")),
    Case("requests a minute", LimitOptions(rpm=_MANY)),
    Case("requests and tokens a minute", LimitOptions(rpm=_MANY, itpm=_MANY, otpm=_MANY)),
    Case("tokens a minute and a day", LimitOptions(rpm="none", tpm=_MANY, tpd=_MANY)),
    Case("cache order, no limit", LimitOptions(rpm="none"), {"cache_order": True}),
)


class _Answers:
    """A way to a provider that answers at once."""

    _reply = Reply(
        status=200,
        headers={},
        body=json.dumps(
            {
                "type": "message",
                "model": "claude-sonnet-4-5",
                "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "yes"}],
                "usage": {"input_tokens": 240, "output_tokens": 12},
            }
        ).encode(),
    )

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        self._ask = ask

    async def send(self, _request: Request, ticket: object | None = None) -> Reply:
        if ticket is not None:
            await self._ask(ticket)
        await asyncio.sleep(0)
        return self._reply


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    took: dict[str, list[tuple[float, float]]] = {case.name: [] for case in CASES}
    for _ in range(given.rounds):
        for case in CASES:
            took[case.name].append(_drain(case, given.jobs))
    print("| kept to | loop's thread, CPU µs a job | other threads | both, range |")
    print("|:--|--:|--:|--:|")
    for name, rounds in took.items():
        loop, other = (statistics.median(column) for column in zip(*rounds, strict=True))
        sums = [a + b for a, b in rounds]
        print(f"| {name} | {loop:.0f} | {other:.0f} | {min(sums):.0f} to {max(sums):.0f} |")


def _drain(case: Case, n_jobs: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        db = FileDatabase.open(Path(folder, "jobs.db"), create=True)
        loader = Loader(
            db, name="run", uid="00001", provider="anthropic",
            options_json=json.dumps({"concurrency": 100, **case.options}), priority=0,
            now_ms=wall_ms(), loader_process_id=1,
        )  # fmt: skip
        with loader as begun:
            for start in range(0, n_jobs, 5_000):
                begun.add([_line(n, case) for n in range(start, min(start + 5_000, n_jobs))])
            run_id = begun.finish(b"1")
        if case.options:
            order_jobs(db, run_id, lambda body, model: start_of(body, model, CACHING))
        store_limits(db, scope_for(db, "anthropic", "a-key"), case.limits, now_ms=wall_ms())
        return asyncio.run(_timed(db, run_id, n_jobs))


async def _timed(db: Database, run_id: Any, n_jobs: int) -> tuple[float, float]:
    def wires(_row: RunRow, on_headers: Callable[[Any], Any]) -> Wire:
        return Wire(
            profile=BUILT_IN.profile("anthropic"),
            base_url="http://127.0.0.1",
            headers={},
            secrets=Secrets(),
            transport=_Answers(on_headers),
            account_key="a-key",
            fill=lambda headers: headers,
        )

    me = processes.register_process(db, "follower", now_ms=wall_ms())
    loop_before, all_before = time.thread_time(), time.process_time()
    await run_session(
        db, {run_id: {}}, ways={run_id: {}}, call=CallOptions(), wires=wires, stops=Stops(),
        listener=None, process=me,
    )  # fmt: skip
    loop = (time.thread_time() - loop_before) / n_jobs * 1e6
    every = (time.process_time() - all_before) / n_jobs * 1e6
    processes.unregister(db, me)
    return loop, every - loop


def _line(number: int, case: Case) -> JobLine:
    model = "claude-sonnet-4-5"
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": f"{number} " + "and so on and on; " * 50}],
    }
    if case.options:
        mark = {"cache_control": {"type": "ephemeral"}}
        body["system"] = [{"type": "text", "text": f"{number % 20} {_LONG}", **mark}]
    return JobLine(
        key=f"k{number}", model=model, body=json.dumps(body).encode(), shape=Shape.BODY,
        file="jobs.jsonl", line=number + 1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
