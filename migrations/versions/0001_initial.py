"""The first schema: runs, scopes with their ledger, jobs, and what was sent and answered.

Revision ID: 0001
Revises:
Create Date: 2026-11-23
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: One statement each, in order. Instants are epoch milliseconds; ``*_at`` on the wall clock unless said.
STATEMENTS = (
    # Single facts about this database: seen_at (the last steady time a holder stored).
    """CREATE TABLE meta (
        key TEXT PRIMARY KEY NOT NULL,
        value TEXT NOT NULL
    ) WITHOUT ROWID""",
    # Whose limits hold (kind account) and which models share them (kind pool, parent the account).
    # Pauses here are the provider's word or an outage; a wait for our own cap is derived, never stored.
    """CREATE TABLE scope (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('account', 'pool')),
        parent_id INTEGER REFERENCES scope (id) ON DELETE CASCADE,
        provider TEXT NOT NULL,
        key TEXT NOT NULL,
        organization TEXT,
        next_send_at REAL NOT NULL DEFAULT 0,
        last_send_at REAL NOT NULL DEFAULT 0,
        pause_set_at INTEGER,
        pause_until INTEGER,
        pause_reason TEXT,
        pause_detail TEXT,
        pause_generation INTEGER NOT NULL DEFAULT 0,
        pause_level INTEGER NOT NULL DEFAULT 0,
        headers TEXT,
        headers_at INTEGER,
        CHECK ((kind = 'account') = (parent_id IS NULL)),
        CHECK ((pause_until IS NULL) = (pause_set_at IS NULL))
    )""",
    "CREATE UNIQUE INDEX scope_identity ON scope (provider, kind, key, coalesce(parent_id, 0))",
    # A limit in force on a scope. limit_name: rpm, rpd, min_interval (ms) …; value NULL = told to be none.
    # source: flag, header. zone: for day limits, an IANA zone or 'rolling'.
    """CREATE TABLE cap (
        scope_id INTEGER NOT NULL REFERENCES scope (id) ON DELETE CASCADE,
        limit_name TEXT NOT NULL,
        value REAL,
        zone TEXT,
        source TEXT NOT NULL CHECK (source IN ('flag', 'config', 'header', 'default')),
        set_at INTEGER NOT NULL,
        PRIMARY KEY (scope_id, limit_name, source)
    ) WITHOUT ROWID""",
    # What was used, never what follows from a limit. grain 250: slots of steady time, kept 3 minutes.
    # grain 60000: slots of wall time, kept 50 hours.
    """CREATE TABLE usage_slot (
        scope_id INTEGER NOT NULL REFERENCES scope (id) ON DELETE CASCADE,
        unit TEXT NOT NULL CHECK (unit IN ('requests', 'input_tokens', 'output_tokens')),
        grain INTEGER NOT NULL CHECK (grain IN (250, 60000)),
        slot INTEGER NOT NULL,
        n INTEGER NOT NULL CHECK (n >= 0),
        PRIMARY KEY (scope_id, unit, grain, slot)
    ) WITHOUT ROWID""",
    """CREATE TABLE model (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    )""",
    # state is what a person or the end of the work decided; live states are told from locks.
    # stop_* says why the run last stopped or waits with work left (cleared when it goes on).
    # runner_id names the process that took the run up; alive only while that process's lock is held.
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('loading', 'ready', 'paused', 'finished', 'cancelled')),
        provider TEXT NOT NULL,
        account_id INTEGER REFERENCES scope (id),
        digest BLOB,
        options TEXT NOT NULL DEFAULT '{}',
        priority INTEGER NOT NULL DEFAULT 0,
        generated_keys INTEGER NOT NULL DEFAULT 0 CHECK (generated_keys IN (0, 1)),
        loader_id INTEGER,
        runner_id INTEGER,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        finished_at INTEGER,
        stop_reason TEXT,
        stop_until INTEGER,
        stop_detail TEXT,
        stop_fix TEXT,
        next_seq INTEGER NOT NULL DEFAULT 1,
        n_pending INTEGER NOT NULL DEFAULT 0 CHECK (n_pending >= 0),
        n_running INTEGER NOT NULL DEFAULT 0 CHECK (n_running >= 0),
        n_completed INTEGER NOT NULL DEFAULT 0 CHECK (n_completed >= 0),
        n_failed INTEGER NOT NULL DEFAULT 0 CHECK (n_failed >= 0),
        n_cancelled INTEGER NOT NULL DEFAULT 0 CHECK (n_cancelled >= 0),
        n_rejected INTEGER NOT NULL DEFAULT 0 CHECK (n_rejected >= 0),
        n_sent INTEGER NOT NULL DEFAULT 0,
        n_retried INTEGER NOT NULL DEFAULT 0,
        n_rate_limited INTEGER NOT NULL DEFAULT 0,
        n_interrupted INTEGER NOT NULL DEFAULT 0,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cost_usd REAL
    )""",
    "CREATE INDEX run_digest ON run (digest)",
    # A process attached to this database: the holder, a follower, a loader. Alive while it holds
    # an OS lock on lock_file; a row whose lock is free is swept by the next process.
    """CREATE TABLE process (
        id INTEGER PRIMARY KEY,
        pid INTEGER NOT NULL,
        host TEXT NOT NULL,
        user TEXT NOT NULL,
        since INTEGER NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('holder', 'follower', 'loader')),
        lock_file TEXT NOT NULL UNIQUE
    )""",
    # Process process_id wants run run_id drained; taken_by is the holder that took it up.
    """CREATE TABLE ask (
        run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        process_id INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,
        options TEXT NOT NULL DEFAULT '{}',
        taken_by INTEGER,
        note TEXT,
        PRIMARY KEY (run_id, process_id)
    ) WITHOUT ROWID""",
    # A model that is missing or not permitted, and so holds back the jobs that ask for it.
    """CREATE TABLE hold (
        run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        model_id INTEGER NOT NULL REFERENCES model (id),
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        fix TEXT NOT NULL DEFAULT '',
        set_at INTEGER NOT NULL,
        PRIMARY KEY (run_id, model_id)
    ) WITHOUT ROWID""",
    # id = run_id << 32 | seq: primary-key order is input order, and a run is one key range.
    # not_before is steady time; 0 = never held back. claims is the fence: it only grows.
    # claimed_at is the planned instant (steady) of the send that the last claim is for.
    """CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        model_id INTEGER NOT NULL REFERENCES model (id),
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
        not_before INTEGER NOT NULL DEFAULT 0,
        wait_reason TEXT
            CHECK (wait_reason IN ('retry', 'rate_limited', 'daily_limit', 'interrupted')),
        attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
        claims INTEGER NOT NULL DEFAULT 0 CHECK (claims >= attempts),
        claimed_at INTEGER,
        finished_at INTEGER,
        error_kind TEXT,
        UNIQUE (run_id, key),
        CHECK (state = 'pending' OR (not_before = 0 AND wait_reason IS NULL)),
        CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
        CHECK (state != 'failed' OR error_kind IS NOT NULL),
        CHECK (state != 'running' OR claimed_at IS NOT NULL)
    )""",
    # The claim's two orders, and nothing else, so that it never sorts.
    """CREATE INDEX job_fresh ON job (run_id, model_id)
        WHERE state = 'pending' AND not_before = 0""",
    """CREATE INDEX job_due ON job (run_id, model_id, not_before)
        WHERE state = 'pending' AND not_before > 0""",
    "CREATE INDEX job_running ON job (run_id) WHERE state = 'running'",
    "CREATE INDEX job_failed ON job (run_id, error_kind) WHERE state = 'failed'",
    # What is sent. method, url NULL = POST to the provider's default path. headers, metadata: JSON objects.
    """CREATE TABLE payload (
        job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
        shape TEXT NOT NULL CHECK (shape IN ('params', 'url', 'prompt', 'body')),
        method TEXT,
        url TEXT,
        headers BLOB,
        body BLOB NOT NULL,
        metadata BLOB
    )""",
    # The last attempt's answer; tokens and cost are sums over all attempts.
    """CREATE TABLE response (
        job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
        http_status INTEGER,
        error_message TEXT,
        model TEXT,
        finish_reason TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cost_usd REAL,
        latency_ms INTEGER,
        request_id TEXT,
        body BLOB
    )""",
    # The send log: one row a send, written when its outcome is known; a send that a crash left
    # without one is written by the rescue. planned_at is steady time.
    # outcome: completed, retry, failed, rate_limited, daily_limit, halted, held, outage,
    # interrupted (possibly executed).
    # maybe_executed 1 = the provider may have acted on it though no answer was stored.
    """CREATE TABLE send (
        job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
        claim INTEGER NOT NULL,
        scope_id INTEGER NOT NULL REFERENCES scope (id),
        planned_at INTEGER NOT NULL,
        sent_at INTEGER,
        ended_at INTEGER,
        outcome TEXT NOT NULL,
        kind TEXT,
        http_status INTEGER,
        request_id TEXT,
        message TEXT,
        maybe_executed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (job_id, claim)
    ) WITHOUT ROWID""",
    # What a day cost, kept when runs are pruned. day: UTC days since the epoch.
    """CREATE TABLE usage_day (
        day INTEGER NOT NULL,
        account_id INTEGER NOT NULL REFERENCES scope (id),
        model_id INTEGER NOT NULL REFERENCES model (id),
        run_id INTEGER NOT NULL,
        requests INTEGER NOT NULL DEFAULT 0,
        rate_limited INTEGER NOT NULL DEFAULT 0,
        input_tokens INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        cost_usd REAL,
        PRIMARY KEY (day, account_id, model_id, run_id)
    ) WITHOUT ROWID""",
)

TABLES = (
    "usage_day",
    "send",
    "response",
    "payload",
    "job",
    "hold",
    "ask",
    "process",
    "run",
    "model",
    "usage_slot",
    "cap",
    "scope",
    "meta",
)


def upgrade() -> None:
    """Create every table of the first schema."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop every table of the first schema."""
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
