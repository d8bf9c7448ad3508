"""Jobs that share the start of their request may be claimed one after the other.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PENDING = "WHERE state = 'pending' AND not_before = 0"
#: One statement each, in order.
STATEMENTS = (
    # Which start of its request a job shares with others, as a number (core.caching). 0: none that a
    # provider's cache keeps, or its run does not go in the order of the cache.
    "ALTER TABLE job ADD COLUMN start INTEGER NOT NULL DEFAULT 0",
    # Where all starts are 0 their order is that of the input, as before.
    "DROP INDEX job_fresh",
    f"CREATE INDEX job_fresh ON job (run_id, model_id, start) {_PENDING}",
)


def upgrade() -> None:
    """Add the column, and build the index of the claim anew with it."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Build the index without it, then drop the column."""
    op.execute("DROP INDEX job_fresh")
    op.execute(f"CREATE INDEX job_fresh ON job (run_id, model_id)\n        {_PENDING}")
    op.execute("ALTER TABLE job DROP COLUMN start")
