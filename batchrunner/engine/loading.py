"""What the database says of a run, into memory: when it is taken up, and whenever somebody changed it.

All of it runs in the transaction of who calls, on the loop's thread, since it touches the ledger.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from batchrunner.core.admission import ScopeLedger
from batchrunner.core.expected import Expected
from batchrunner.core.warmth import Warmth
from batchrunner.engine.descriptors import most_connections
from batchrunner.engine.live import CallLimits, Lane, LiveRun
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.wire import Wire
from batchrunner.errors import UsageError
from batchrunner.models import ScopeId, StoredRunState, Waiting, WaitingReason
from batchrunner.options import DEFAULT_MAX_ATTEMPTS, in_force
from batchrunner.providers import pool_of
from batchrunner.store import holder as statements
from batchrunner.store import scopes
from batchrunner.store.codecs import Answers, codec_of_answers, codecs_of
from batchrunner.store.holder import RunRow
from batchrunner.store.runs import DriverConnection

__all__ = ["Loading", "apply_options", "load_codecs", "with_defaults"]


class Loading:
    """Reads the runs of one holder, with their accounts and pools."""

    def __init__(self, known: Scopes) -> None:
        """Take the scopes that are in memory, and get those that are read."""
        self._scopes = known

    def scope(self, conn: DriverConnection, scope_id: ScopeId, wire: Wire) -> ScopeLedger:
        """Read an account or a pool, with its limits as the provider counts them."""
        return self._scopes.load(conn, scope_id, wire.profile.day_zone, wire.counting)

    def reload(self, conn: DriverConnection, run: LiveRun) -> None:
        """Take over what others may have changed: its state, counts, options, lanes and limits."""
        row = statements.load_run(conn, run.id)
        if row is None or row.state in (StoredRunState.CANCELLED, StoredRunState.PAUSED):
            word = "deleted" if row is None else row.state
            if run.stop is None:
                run.stop = Waiting(
                    reason=WaitingReason.PAUSED,
                    until=None,
                    detail=f"somebody {word} the run",
                    fix=f"batchrunner {'retry' if word == 'cancelled' else 'resume'} {run.typed_name}",
                )
            if row is None:
                return
        elif run.stop is not None and run.stop.reason is WaitingReason.PAUSED:
            # Somebody undid it while the last requests were in flight.
            run.stop = None
        row = with_defaults(row, run.limits)
        run.row = row
        run.counts = row.counts
        run.priority = row.priority
        apply_options(run, row.options)
        load_codecs(conn, run)
        self.lanes(conn, run)

    def lanes(self, conn: DriverConnection, run: LiveRun) -> None:
        """Read a run's account, the models that its jobs ask for, and their pools."""
        run.account = self.scope(conn, run.account.id, run.wire)
        run.is_rate_told = self._scopes.is_rate_told(run.account.id)
        for row in statements.load_lanes(conn, run.id):
            lane = run.lanes.get(row.model_id)
            if lane is None:
                pool = self._pool(conn, run, row.model)
                lane = run.lanes[row.model_id] = Lane(
                    model_id=row.model_id, model=row.model, pool=pool
                )
            else:
                self.scope(conn, lane.pool.id, run.wire)
                # Another process may have changed, added or cancelled jobs.
                lane.forget_ahead()
            lane.warmth = (lane.warmth or Warmth()) if run.is_cache_ordered else None
            lane.fresh = row.fresh and not run.is_sample
            lane.next_due = row.next_due

    def rebind(self, conn: DriverConnection, run: LiveRun, organization: str) -> None:
        """Bind a run to the account of the organization that its responses name."""
        provider = run.row.provider
        account: ScopeId | None = scopes.account_of_organization(conn, provider, organization)
        if account is None:
            if self._scopes.organizations.get(run.account.id) == organization:
                return
            account = scopes.scope_id(
                conn, kind="account", provider=provider, key=organization, parent_id=None
            )
            scopes.set_organization(conn, account, organization)
        if account == run.account.id:
            return
        # What a person typed before the organization was known is meant for it.
        scopes.carry_typed_caps(conn, run.account.id, account)
        run.account = self.scope(conn, account, run.wire)
        statements.set_account(conn, run.id, account)
        # Lanes without a pending job move too: what is in flight may come back to them.
        for lane in run.lanes.values():
            lane.pool = self._pool(conn, run, lane.model)
        self.lanes(conn, run)

    def _pool(self, conn: DriverConnection, run: LiveRun, model: str) -> ScopeLedger:
        provider = run.wire.profile.name
        pool_id = scopes.scope_id(
            conn,
            kind="pool",
            provider=provider,
            key=pool_of(provider, model),
            parent_id=run.account.id,
        )
        return self.scope(conn, pool_id, run.wire)


def with_defaults(row: RunRow, limits: CallLimits) -> RunRow:
    """Return a run with the options in force: its own over those of who asked for it."""
    own = {"priority": row.priority} if row.priority else {}
    options = in_force({**own, **row.options}, limits.defaults)
    return row._replace(options=options, priority=options.get("priority", 0))


def apply_options(run: LiveRun, options: Mapping[str, Any]) -> None:
    """Put the options in force that are asked for job by job, or may change while it runs."""
    run.max_attempts = options.get("max_attempts") or DEFAULT_MAX_ATTEMPTS
    schema = options.get("expect_json") or None
    if schema != (run.expected and run.expected.text):
        run.expected = _expected(schema, run.row.name) if schema else None
    run.tell(options.get("concurrency") or "auto", most_connections())
    run.max_failures = options.get("max_failures")
    run.is_sample = bool(options.get("sample"))
    run.is_cache_ordered = bool(options.get("cache_order"))


def _expected(schema: str, name: str) -> Expected:
    """Return what checks a run's answers; a schema that an older version stored may be none for this one."""
    try:
        return Expected(schema)
    except ValueError as error:
        raise UsageError(
            f"--expect-json of {name}: {error}. Nothing of it is sent.",
            fix=f"Give another: batchrunner resume {shlex.quote(name)} --expect-json SCHEMA",
        ) from error


def load_codecs(conn: DriverConnection, run: LiveRun) -> None:
    """Read what a run's bodies are compressed with, and begin or go on with its answers'."""
    run.codecs = codecs_of(conn, run.id)
    if not run.row.options.get("compress"):
        run.answers = None
    elif run.answers is None:
        run.answers = Answers(codec_of_answers(conn, run.id))
