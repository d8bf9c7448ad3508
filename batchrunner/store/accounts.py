"""Accounts as people name them: found, bound to runs, and their limits told in words."""

from __future__ import annotations

from collections import Counter
from typing import Final

from batchrunner.core.caps import WORDS
from batchrunner.errors import UsageError
from batchrunner.models import RunId, ScopeId
from batchrunner.store import holder, scopes
from batchrunner.store.caps import LimitChange
from batchrunner.store.database import Database
from batchrunner.store.runs import DriverConnection, driver

__all__ = [
    "account_of_key",
    "account_to_send_with",
    "bind_account",
    "find_account",
    "is_stand_in",
    "replace_account",
    "sentence",
    "stand_in_key",
]

_WORDS: Final = {
    **WORDS,
    "min_interval": "milliseconds between two requests",
    "day_resets": "the day resets",
}


def find_account(db: Database, name: str | None) -> ScopeId:
    """Return an account by name, or the only one. Raises :class:`UsageError`.

    One name may be several providers': ``PROVIDER/NAME`` tells them apart.
    """
    with db.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT id, provider, key, organization FROM scope WHERE kind = 'account' ORDER BY id"
        ).all()
    found = [
        row.id
        for row in rows
        if name in (None, row.key, row.organization, f"{row.provider}/{row.key}")
    ]
    if len(found) == 1:
        return ScopeId(found[0])
    if not rows:
        raise UsageError(
            "No account is known yet: one becomes known when a run is submitted.",
            fix="Give the limit there: batchrunner submit FILE --rpm N.",
        )
    n_named = Counter(row.key for row in rows)
    names = ", ".join(
        row.key if n_named[row.key] == 1 else f"{row.provider}/{row.key}" for row in rows
    )
    what = f"There is no account {name!r}" if not found else "There are several accounts"
    raise UsageError(f"{what}.", fix=f"Say which with --account: {names}.")


def account_of_key(db: Database, provider: str, key: str) -> ScopeId:
    """Return the account of a credential: that of its organization, where responses named it before."""
    with db.write() as connection:
        return _of_key(driver(connection), provider, key)


def stand_in_key(uid: str) -> str:
    """Return the key of the account that keeps a run's limits until there is a credential."""
    return f"run {uid}"


def is_stand_in(db: Database, account: ScopeId, uid: str) -> bool:
    """Return whether an account only keeps a run's limits, and nothing was ever sent with it."""
    with db.read() as connection:
        return _stands_in(driver(connection), account, uid)


def replace_account(db: Database, old: ScopeId, new: ScopeId) -> None:
    """Forget an account that no run has and nothing was sent with; what was said of it holds for
    the other, unless that has a later word.
    """
    with db.write() as connection:
        _replace(driver(connection), old, new)


def account_to_send_with(
    conn: DriverConnection,
    run_id: RunId,
    *,
    uid: str,
    provider: str,
    key: str,
) -> ScopeId:
    """Return the account that a run has; else, and in a stand-in's place, that of a credential."""
    # As it is now: another worker may just have taken the run up.
    account: ScopeId | None
    (account,) = conn.execute("SELECT account_id FROM run WHERE id = ?", (run_id,)).fetchone()
    if account is not None and not _stands_in(conn, account, uid):
        return account
    found = _of_key(conn, provider, key)
    holder.set_account(conn, run_id, found)
    if account is not None:
        _replace(conn, account, found)
    return found


def _of_key(conn: DriverConnection, provider: str, key: str) -> ScopeId:
    scope = scopes.scope_id(conn, kind="account", provider=provider, key=key, parent_id=None)
    organization = scopes.load_scope(conn, scope).organization
    if organization is None:
        return scope
    return scopes.account_of_organization(conn, provider, organization) or scope


def _stands_in(conn: DriverConnection, account: ScopeId, uid: str) -> bool:
    if scopes.load_scope(conn, account).key != stand_in_key(uid):
        return False
    row = conn.execute(
        "SELECT 1 FROM usage_slot WHERE scope_id = ? UNION ALL"
        " SELECT 1 FROM usage_day WHERE account_id = ? LIMIT 1",
        (account, account),
    ).fetchone()
    return row is None


def _replace(conn: DriverConnection, old: ScopeId, new: ScopeId) -> None:
    scopes.carry_typed_caps(conn, old, new)
    conn.execute("DELETE FROM cap WHERE scope_id = ?", (old,))
    conn.execute("DELETE FROM scope WHERE id = ?", (old,))


def bind_account(db: Database, run_id: RunId, account: ScopeId) -> None:
    """Have a run use this account's limits from now on."""
    with db.write() as connection:
        holder.set_account(driver(connection), run_id, account)


def sentence(change: LimitChange) -> str:
    """Return one change as a person reads it: old → new."""
    if change.limit == "day_resets":
        return f"the day resets: {change.old_zone or 'not said'} → {change.new_zone}"
    old = "not said" if change.old is None else change.old
    new = "auto" if change.new is None else change.new
    return f"{change.limit} ({_WORDS.get(change.limit, change.limit)}): {old} → {new}"
