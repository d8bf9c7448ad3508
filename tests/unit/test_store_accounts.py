"""Whose limits a run is sent under."""

from __future__ import annotations

from pathlib import Path

from batchrunner.models import RunId
from batchrunner.store import accounts, holder, scopes
from batchrunner.store.driver import DriverConnection
from batchrunner.store.runs import driver
from tests.unit.stored import database, lines, load


def test_who_comes_second_takes_the_account_that_the_first_put_in_place(tmp_path: Path) -> None:
    """Two workers take a run up at once, of which both have read that it has a stand-in for its account."""
    db = database(tmp_path)
    run_id = load(db, lines(1))

    def taken(conn: DriverConnection, run: RunId) -> int:
        return accounts.account_to_send_with(
            conn, run, uid="uid-run", provider="anthropic", key="fingerprint"
        )

    with db.write() as connection:
        conn = driver(connection)
        stand_in = scopes.scope_id(
            conn, kind="account", provider="anthropic", key=accounts.stand_in_key("uid-run"),
            parent_id=None,
        )  # fmt: skip
        holder.set_account(conn, run_id, stand_in)
    with db.write() as connection:
        first = taken(driver(connection), run_id)
    with db.write() as connection:
        assert taken(driver(connection), run_id) == first
    assert first != stand_in
    with db.read() as connection:
        left = driver(connection).execute("SELECT id FROM scope WHERE kind = 'account'")
        assert left.fetchall() == [(first,)]
