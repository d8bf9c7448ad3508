"""What tables have on PostgreSQL alone: who claimed a job, which usage is new, who is still there, and
what each worker has had of a run.

Written by triggers, so that the statements of the store are the same on both databases. A number tells
which rows of usage changed since somebody looked: whoever writes a scope's rows has its lock from
before the number is drawn until the commit, so that within a scope it grows in the order of commits.
"""

from __future__ import annotations

from typing import Final

from batchrunner.store.sharing import LEASE_MS, NOW

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
    # Which of all writes wrote the row last.
    "CREATE SEQUENCE IF NOT EXISTS usage_version",
    "ALTER TABLE usage_slot ADD COLUMN IF NOT EXISTS version BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX IF NOT EXISTS usage_slot_version ON usage_slot (scope_id, version)",
    """CREATE OR REPLACE FUNCTION note_version() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.version := nextval('usage_version');
        RETURN NEW;
    END $$""",
    """CREATE OR REPLACE TRIGGER usage_slot_written BEFORE INSERT OR UPDATE ON usage_slot
    FOR EACH ROW EXECUTE FUNCTION note_version()""",
    # What each worker looks for once a second, among many runs that are over.
    "CREATE INDEX IF NOT EXISTS run_ready ON run (priority DESC, id) WHERE state = 'ready'",
    # When a worker was last heard of (the server's clock, epoch ms); its lease runs from then.
    "ALTER TABLE process ADD COLUMN IF NOT EXISTS beat_at BIGINT",
    # What each worker has set apart of a run's money for what it has claimed (dollars). Worker 0: what
    # answers may have cost that were lost, which only grows.
    """CREATE TABLE IF NOT EXISTS worker_run (
        run_id BIGINT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        worker_id BIGINT NOT NULL,
        kept_usd DOUBLE PRECISION NOT NULL DEFAULT 0,
        PRIMARY KEY (run_id, worker_id)
    )""",
    # The number of a worker's last commit, written by it: what became of one that nobody answered.
    "ALTER TABLE process ADD COLUMN IF NOT EXISTS commits BIGINT",
    # A lock of a process that has no session of its own (see .pooled): until when (the server's clock).
    """CREATE TABLE IF NOT EXISTS lease (
        holder BIGINT PRIMARY KEY,
        number BIGINT NOT NULL,
        is_shared BIGINT NOT NULL,
        until_at BIGINT NOT NULL
    ) WITH (fillfactor = 50)""",
    # Nobody may go on whose lease others have taken away; it is written once in a while, not each time.
    f"""CREATE OR REPLACE FUNCTION keep_lease(whose BIGINT) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        at BIGINT := {NOW};
    BEGIN
        UPDATE lease SET until_at = at + {LEASE_MS} WHERE holder = whose AND until_at < at + {LEASE_MS} * 3 / 4;
        IF NOT FOUND AND NOT EXISTS (SELECT 1 FROM lease WHERE holder = whose) THEN
            RAISE EXCEPTION 'the lease of this process is over';
        END IF;
    END $$""",  # noqa: S608 (constants)
    "ALTER TABLE process DROP CONSTRAINT IF EXISTS process_role_check",
    """ALTER TABLE process ADD CONSTRAINT process_role_check
    CHECK (role IN ('holder', 'follower', 'loader', 'worker'))""",
    # The tags that a worker was started with, by commas.
    "ALTER TABLE process ADD COLUMN IF NOT EXISTS tags TEXT NOT NULL DEFAULT ''",
    # What a worker has had of a run: jobs that it brought to an end, counted as the run's counters
    # are; why it leaves the run to others (NULL: it does not). A worker's row is its own: nobody waits for it.
    """CREATE TABLE IF NOT EXISTS part (
        run_id BIGINT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        worker_id BIGINT NOT NULL,
        n_answered BIGINT NOT NULL DEFAULT 0,
        why_left TEXT,
        PRIMARY KEY (run_id, worker_id)
    ) WITH (fillfactor = 50)""",
    """CREATE OR REPLACE FUNCTION note_answered() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO part (run_id, worker_id, n_answered)
        VALUES (NEW.id, current_setting('batchrunner.worker')::bigint,
                NEW.n_completed + NEW.n_failed - OLD.n_completed - OLD.n_failed)
        ON CONFLICT (run_id, worker_id) DO UPDATE SET n_answered = part.n_answered + excluded.n_answered;
        RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER run_answered AFTER UPDATE OF n_completed, n_failed ON run FOR EACH ROW
    WHEN (NEW.n_completed + NEW.n_failed > OLD.n_completed + OLD.n_failed
          AND coalesce(current_setting('batchrunner.worker', true), '') != '')
    EXECUTE FUNCTION note_answered()""",
    # Of a worker that is gone what it has answered stays.
    """CREATE OR REPLACE FUNCTION forget_part() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM part WHERE worker_id = OLD.id AND n_answered = 0;
        UPDATE part SET why_left = NULL WHERE worker_id = OLD.id AND why_left IS NOT NULL;
        RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER worker_gone AFTER DELETE ON process FOR EACH ROW
    WHEN (OLD.role = 'worker') EXECUTE FUNCTION forget_part()""",
)
