"""Bodies may be compressed: the dictionaries of a run, and which of them a row was written with.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-23
"""

from __future__ import annotations

import zlib

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: One statement each, in order; none of them touches the rows that are there.
STATEMENTS = (
    # What bodies of a run are compressed with; never changed once stored. bytes may be empty: zlib alone.
    # part: whose bodies it was made of. --update gives a run the dictionaries of what it takes in.
    """CREATE TABLE dictionary (
        id INTEGER PRIMARY KEY,
        run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        part TEXT NOT NULL CHECK (part IN ('request', 'response')),
        bytes BLOB NOT NULL
    )""",
    "CREATE INDEX dictionary_run ON dictionary (run_id)",
    # NULL: body is plain. 0: it was pruned. Else the dictionary's id, and body is its length (4 bytes) and a zlib stream.
    # No REFERENCES: a run that is deleted would be looked for in every row.
    "ALTER TABLE payload ADD COLUMN codec INTEGER",
    "ALTER TABLE response ADD COLUMN codec INTEGER",
)


def upgrade() -> None:
    """Add the table and the two columns."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Write every compressed body plainly again, then drop the table and the columns."""
    connection = op.get_bind()
    dictionaries: dict[int, bytes] = {
        row.id: row.bytes for row in connection.exec_driver_sql("SELECT id, bytes FROM dictionary")
    }

    def plain(codec: int, body: bytes) -> bytes:
        return zlib.decompressobj(zdict=dictionaries[codec]).decompress(body[4:])

    driver = connection.connection.driver_connection
    assert driver is not None
    driver.create_function("plain", 2, plain)
    for table in ("payload", "response"):
        # 0: a body that was pruned.
        op.execute(f"UPDATE {table} SET body = plain(codec, body) WHERE codec > 0")  # noqa: S608 (constants)
        op.execute(f"ALTER TABLE {table} DROP COLUMN codec")
    op.execute("DROP TABLE dictionary")
