"""A stand-in for :mod:`batchrunner.app`: it records what the command line asks of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import pytest

from batchrunner.models import JobCounts, RunState, Waiting, WaitingReason
from batchrunner.options import ExportOptions, JobFilter, LimitOptions
from batchrunner.views import (
    BudgetView,
    ErrorGroup,
    Event,
    JobDetail,
    JobView,
    LimitView,
    Progress,
    RequestCounts,
    Runner,
    RunResult,
    RunView,
    SaidView,
    SendView,
)

#: 2026-11-23 04:05:06.789 UTC.
AT = 1_795_406_706_789
AT_TEXT = "2026-11-23T04:05:06.789Z"

LIMIT = LimitView(
    scope="key-1", limit="rpm", value=50.0, source="flag", used=23, remaining=27, resets_at=AT
)
RUN = RunView(
    id="r1",
    name="tickets",
    state=RunState.WAITING,
    provider="anthropic",
    created_at=AT,
    started_at=AT,
    runner=Runner(pid=42, host="box", user="ann", since=AT),
    jobs=JobCounts(pending=71, running=8, completed=120, failed=1),
    requests=RequestCounts(sent=140, retried=12, rate_limited=3),
    waiting=Waiting(reason=WaitingReason.DAILY_LIMIT, until=AT, detail="200 of 200 used"),
    limits=(LIMIT,),
    input_tokens=10,
    output_tokens=20,
    requests_per_minute=48.5,
    eta=AT,
)
DONE = RunView(
    id="r1",
    name="tickets",
    state=RunState.FINISHED,
    provider="anthropic",
    created_at=AT,
    jobs=JobCounts(completed=2),
)
JOB = JobView(
    key="ticket-17",
    status="failed",
    attempts=1,
    http_status=400,
    error_kind="invalid_request",
    error_message="messages: field required",
    started_at=AT,
    metadata=b'{"team": "a"}',
)
SEND = SendView(
    claim=1,
    planned_at=AT,
    sent_at=AT,
    ended_at=AT + 250,
    outcome="failed",
    kind="invalid_request",
    http_status=400,
    request_id="req_1",
    message="messages: field required",
    maybe_executed=False,
)
DETAIL = JobDetail(
    job=JOB,
    method="POST",
    url="/v1/messages",
    request=b'{"model":"m","n":12345678901234567890}',
    response=b"not json \x1b[31m",
    sends=(SEND,),
)
GROUP = ErrorGroup(
    kind="invalid_request",
    http_status=400,
    count=3,
    example_key="ticket-17",
    example_message="messages: field required",
    fix="mend the lines and submit with --update",
)


class FakeApplication:
    """Answers each verb with the value set for it; ``raises`` is raised by the next verb."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.raises: BaseException | None = None
        self.result = RunResult(run=DONE, exit_code=0)
        self.events: tuple[Event, ...] = ()
        self.pictures: tuple[Progress, ...] = ()
        self.jobs_of_run: Sequence[JobView] = (JOB,)
        self.view = RUN
        self.exported = b"key,status\n"

    def __call__(self, db: Path, **options: Any) -> FakeApplication:
        self.path = db
        self.options = options
        return self

    @property
    def last(self) -> tuple[str, dict[str, Any]]:
        return self.calls[-1]

    def _record(self, verb: str, **asked: Any) -> None:
        self.calls.append((verb, asked))
        if self.raises is not None:
            raise self.raises

    async def _run(self, verb: str, listener: Any, **asked: Any) -> RunResult:
        self._record(verb, **asked)
        for event in self.events:
            listener.event(event)
        for picture in self.pictures:
            listener.progress(picture)
        return self.result

    async def submit(self, files: Sequence[str], *, listener: Any, **asked: Any) -> RunResult:
        return await self._run("submit", listener, files=tuple(files), **asked)

    async def resume(self, name: str | None, *, listener: Any, **asked: Any) -> RunResult:
        return await self._run("resume", listener, name=name, **asked)

    async def retry(self, name: str | None, *, listener: Any, **asked: Any) -> RunResult:
        return await self._run("retry", listener, name=name, **asked)

    async def demo(self, *, listener: Any, **asked: Any) -> RunResult:
        return await self._run("demo", listener, **asked)

    def status(self, name: str | None) -> RunView:
        self._record("status", name=name)
        return self.view

    def runs(self) -> list[RunView]:
        self._record("runs")
        return [self.view]

    def jobs(self, name: str | None, jobs: JobFilter) -> Iterator[JobView]:
        self._record("jobs", name=name, jobs=jobs)
        return iter(self.jobs_of_run)

    def show(self, name: str, key: str) -> JobDetail:
        self._record("show", name=name, key=key)
        return DETAIL

    def errors(self, name: str | None) -> list[ErrorGroup]:
        self._record("errors", name=name)
        return [GROUP]

    def pause(self, name: str) -> RunView:
        self._record("pause", name=name)
        return self.view

    def cancel(self, name: str) -> RunView:
        self._record("cancel", name=name)
        return self.view

    def limits(self) -> list[LimitView]:
        self._record("limits")
        return [LIMIT]

    def said_limits(self) -> list[SaidView]:
        """Nothing has been answered yet."""
        return []

    def budget(self) -> list[BudgetView]:
        """Nothing bounds what all runs cost."""
        return []

    def set_limits(
        self,
        account: str | None,
        limits: LimitOptions,
        *,
        run: str | None = None,
        concurrency: int | str | None = None,
    ) -> list[str]:
        self._record("set_limits", account=account, limits=limits, run=run, concurrency=concurrency)
        return ["rpm of key-1: 60 → 50"]

    def set_concurrency(self, name: str | None, value: int | str) -> str:
        self._record("set_concurrency", name=name, value=value)
        return f"concurrency of tickets: auto → {value}"

    def export(self, name: str | None, options: ExportOptions, out: BinaryIO) -> int:
        self._record("export", name=name, options=options)
        if options.output is None:
            out.write(self.exported)
        return 1

    def db_upgrade(self) -> str:
        self._record("db_upgrade")
        return "the schema is current"

    def db_check(self) -> list[str]:
        self._record("db_check")
        return []

    def db_backup(self, target: Path) -> None:
        self._record("db_backup", target=target)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeApplication:
    """Put a fake in the application's place for one test, away from the user's environment."""
    fake = FakeApplication()
    module = ModuleType("batchrunner.app")
    module.__dict__["Batchrunner"] = fake
    monkeypatch.setitem(sys.modules, "batchrunner.app", module)
    monkeypatch.delenv("BATCHRUNNER_DB", raising=False)
    monkeypatch.delenv("BATCHRUNNER_PROFILE", raising=False)
    nowhere = Path("/nowhere/batchrunner.toml")
    monkeypatch.setattr("batchrunner.config.load.user_file", lambda: nowhere)
    return fake
