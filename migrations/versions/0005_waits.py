"""Where a run's time went: sums by day and cause, and its waits one by one.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: One statement each, in order.
STATEMENTS = (
    # What a run's time went into (core/time_use.py has the causes), kept when runs are pruned. day: UTC
    # days since the epoch. Its sums over a run, from started_at on, are the time that is accounted for.
    """CREATE TABLE time_day (
        run_id INTEGER NOT NULL,
        day INTEGER NOT NULL,
        account_id INTEGER NOT NULL REFERENCES scope (id),
        cause TEXT NOT NULL,
        ms REAL NOT NULL,
        PRIMARY KEY (run_id, day, account_id, cause)
    ) WITHOUT ROWID""",
    # The waits of a run that are told, and the times in which nobody ran it. Waits of one cause soon after
    # each other are one row: n of them, ms in all. open_at: since when it waits now; NULL: it is over.
    """CREATE TABLE wait (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        cause TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        began_at INTEGER NOT NULL,
        open_at INTEGER,
        ended_at INTEGER,
        until_at INTEGER,
        n INTEGER NOT NULL DEFAULT 1,
        ms INTEGER NOT NULL DEFAULT 0,
        CHECK (open_at IS NOT NULL OR ended_at IS NOT NULL)
    )""",
    "CREATE INDEX wait_run ON wait (run_id)",
    # What came before is not known.
    """INSERT INTO wait (run_id, cause, began_at, open_at)
        SELECT id, 'unrecorded', started_at, started_at FROM run WHERE started_at IS NOT NULL""",
)


def upgrade() -> None:
    """Add the two tables; what was before is marked as not recorded."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the two tables."""
    op.execute("DROP TABLE wait")
    op.execute("DROP TABLE time_day")
