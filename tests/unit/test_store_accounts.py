"""Whose limits a run is sent under."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.models import RunId
from batchrunner.store import accounts, caps, holder, scopes
from batchrunner.store.driver import DriverConnection
from batchrunner.store.limits import limits
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


def test_a_name_of_several_providers_is_told_apart_by_the_provider(tmp_path: Path) -> None:
    """Each limit that is listed can be changed by the name it is listed under, and so says who names too few."""
    db = database(tmp_path)
    for provider, key in (("anthropic", "team"), ("openai", "team"), ("openai", "other")):
        scope = caps.scope_for(db, provider, key)
        caps.set_limit(db, scope, "rpm", 50 + scope, now_ms=0)
    views = limits(db, now_ms=0)
    assert [view.scope for view in views] == ["anthropic/team", "other", "openai/team"]
    assert [view.value for view in views] == [
        50 + accounts.find_account(db, view.scope) for view in views
    ]
    with pytest.raises(UsageError) as caught:
        accounts.find_account(db, "team")
    assert caught.value.fix == "Say which with --account: anthropic/team, openai/team, other."
