"""What tables have on PostgreSQL alone: who claimed a job, which usage is new, who is still there.

Written by triggers, so that the statements of the store are the same on both databases. A number of
a transaction tells which rows changed since somebody looked: writers come one after another (the
write lock is taken before the number is), so that it grows in the order of their commits.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADDITIONS"]

#: One statement each, in order; each may be executed again.
ADDITIONS: Final = (
    # The worker that claimed the job last; NULL: the one sender of the database.
    "ALTER TABLE job ADD COLUMN IF NOT EXISTS worker_id BIGINT",
    """CREATE OR REPLACE FUNCTION note_worker() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.worker_id := nullif(current_setting('batchrunner.worker', true), '')::bigint;
        RETURN NEW;
    END $$""",
    """CREATE OR REPLACE TRIGGER job_claimed BEFORE UPDATE OF state ON job FOR EACH ROW
    WHEN (NEW.state = 'running') EXECUTE FUNCTION note_worker()""",
    # The transaction that wrote the row last.
    "ALTER TABLE usage_slot ADD COLUMN IF NOT EXISTS version BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX IF NOT EXISTS usage_slot_version ON usage_slot (version)",
    """CREATE OR REPLACE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.version := pg_current_xact_id()::text::bigint;
        RETURN NEW;
    END $$""",
    """CREATE OR REPLACE TRIGGER usage_slot_written BEFORE INSERT OR UPDATE ON usage_slot
    FOR EACH ROW EXECUTE FUNCTION note_version()""",
    # When a worker was last heard of (the server's clock, epoch ms); its lease runs from then.
    "ALTER TABLE process ADD COLUMN IF NOT EXISTS beat_at BIGINT",
    "ALTER TABLE process DROP CONSTRAINT IF EXISTS process_role_check",
    """ALTER TABLE process ADD CONSTRAINT process_role_check
    CHECK (role IN ('holder', 'follower', 'loader', 'worker'))""",
)
