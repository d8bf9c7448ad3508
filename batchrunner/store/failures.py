"""A run's failures as people are shown them: by kind and status, and within these by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from batchrunner.core.causes import cause_of
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection
from batchrunner.store.runs import StoredRun
from batchrunner.views import Cause, ErrorGroup

__all__ = ["errors", "kinds"]

#: What helps: (kind, an example's message) → a sentence.
FixOf = Callable[[str, str], str]
#: So many causes of one kind are told apart; the rest is counted together.
_MOST_CAUSES: Final = 10

#: Alike messages are counted by the database: most failures have but a few.
_FAILED: Final = """
    SELECT error_kind AS kind, http_status, message, count(*) AS n, min(id) AS example,
           min(finished_at) AS first_at, max(finished_at) AS last_at
    FROM (
        SELECT j.id, j.error_kind, j.finished_at, r.http_status,
               coalesce(r.error_message, (SELECT s.message FROM send s WHERE s.job_id = j.id
                                          ORDER BY s.claim DESC LIMIT 1), '') AS message
        FROM job j INDEXED BY job_failed LEFT JOIN response r ON r.job_id = j.id
        WHERE j.run_id = ? AND j.state = 'failed'
    ) failed
    GROUP BY error_kind, http_status, message
"""
#: One index for each of the two states; a run may have a million jobs.
_KINDS: Final = """
    SELECT error_kind AS kind, count(*) AS n FROM job INDEXED BY job_failed
    WHERE run_id = ? AND state = 'failed' GROUP BY error_kind
    UNION ALL
    SELECT 'cancelled', n_cancelled FROM run WHERE id = ? AND n_cancelled > 0
    ORDER BY n DESC, kind
"""
_HELD: Final = """
    SELECT h.kind, h.message, h.fix, h.set_at, m.name AS model,
           (SELECT count(*) FROM job j
            WHERE j.run_id = h.run_id AND j.model_id = h.model_id AND j.state = 'pending') AS n,
           (SELECT j.key FROM job j WHERE j.run_id = h.run_id AND j.model_id = h.model_id
            AND j.state = 'pending' ORDER BY j.id LIMIT 1) AS example
    FROM hold h JOIN model m ON m.id = h.model_id WHERE h.run_id = ? ORDER BY m.name
"""


def errors(db: Database, run: StoredRun, *, fix_of: FixOf) -> list[ErrorGroup]:
    """Return the run's failures by kind and status, the most frequent first, then held models."""
    with db.read() as connection:
        gathered: dict[tuple[str, int | None], _Gathered] = {}
        for row in connection.exec_driver_sql(_FAILED, (run.id,)):
            gathered.setdefault((row.kind, row.http_status), _Gathered()).add(row)
        ordered = sorted(gathered.items(), key=lambda item: (-item[1].n, item[0][0]))
        failed = [_group(connection, *key, found, fix_of) for key, found in ordered]
        return [*failed, *_held(connection, run)]


def kinds(db: Database, run: StoredRun) -> list[tuple[str, int]]:
    """Return of which kinds the failed and cancelled jobs of a run are, and how many, most first."""
    with db.read() as connection:
        rows = connection.exec_driver_sql(_KINDS, (run.id,) * 2)
        return [(row.kind, row.n) for row in rows]


@dataclass(slots=True)
class _Alike:
    """Failures of one cause."""

    n: int
    #: The first job's id, and its message as it is.
    example: int
    message: str


@dataclass(slots=True)
class _Gathered:
    """Failures of one kind and status."""

    n: int = 0
    first_at: int | None = None
    last_at: int | None = None
    causes: dict[str, _Alike] = field(default_factory=dict)

    def add(self, row: Any) -> None:
        """Count the failures of one message."""
        self.n += row.n
        self.first_at = _least(self.first_at, row.first_at)
        self.last_at = max(self.last_at or 0, row.last_at or 0) or None
        cause = cause_of(row.message)
        alike = self.causes.get(cause)
        if alike is None:
            self.causes[cause] = _Alike(row.n, row.example, row.message)
            return
        alike.n += row.n
        if row.example < alike.example:
            alike.example, alike.message = row.example, row.message

    def by_frequency(self) -> list[_Alike]:
        """Return the causes, the most frequent first."""
        return sorted(self.causes.values(), key=lambda alike: (-alike.n, alike.example))


def _least(one: int | None, other: int | None) -> int | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _group(
    connection: Connection,
    kind: str,
    http_status: int | None,
    found: _Gathered,
    fix_of: FixOf,
) -> ErrorGroup:
    causes = [
        Cause(count=alike.n, example_key=_key(connection, alike), message=alike.message)
        for alike in found.by_frequency()[:_MOST_CAUSES]
    ]
    return ErrorGroup(
        kind=kind,
        http_status=http_status,
        count=found.n,
        example_key=causes[0].example_key,
        example_message=causes[0].message,
        fix=fix_of(kind, causes[0].message),
        first_at=found.first_at,
        last_at=found.last_at,
        causes=tuple(causes),
        n_causes=len(found.causes),
    )


def _key(connection: Connection, alike: _Alike) -> str:
    row = connection.exec_driver_sql("SELECT key FROM job WHERE id = ?", (alike.example,))
    return str(row.scalar_one())


def _held(connection: Connection, run: StoredRun) -> Iterator[ErrorGroup]:
    """Yield the models whose jobs a hold keeps back; those jobs are pending, none has failed."""
    for row in connection.exec_driver_sql(_HELD, (run.id,)):
        if row.n:
            yield ErrorGroup(
                kind=row.kind,
                http_status=None,
                count=row.n,
                example_key=row.example,
                example_message=row.message,
                fix=row.fix,
                first_at=row.set_at,
                last_at=row.set_at,
                held_model=row.model,
            )
