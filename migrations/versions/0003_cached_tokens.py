"""What was read from providers' caches and written to them, day by day, and what that saved.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: One statement each, in order. Both counts are part of ``input_tokens``; what was saved is dollars,
#: below 0 where more was paid for writing than reading has saved. NULL: not known.
STATEMENTS = (
    "ALTER TABLE usage_day ADD COLUMN cache_read_tokens INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE usage_day ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE usage_day ADD COLUMN cache_saved_usd REAL",
)


def upgrade() -> None:
    """Add the three columns."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; what was used is still there."""
    for column in ("cache_saved_usd", "cache_write_tokens", "cache_read_tokens"):
        op.execute(f"ALTER TABLE usage_day DROP COLUMN {column}")
