"""Limits of a configuration in the database: exactly those it has, below what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.models import ScopeId
from batchrunner.options import LimitOptions
from batchrunner.store import scopes
from batchrunner.store.caps import scope_for, store_limits, sync_config_limits, typed_limits
from batchrunner.store.database import Database
from batchrunner.store.limits import limits
from batchrunner.store.runs import driver
from batchrunner.store.sqlite.database import FileDatabase

NOW = 1_795_406_706_789


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """Give an empty database."""
    return FileDatabase.open(tmp_path / "b.db", create=True)


def sync(db: Database, scope: ScopeId, **said: object) -> list[tuple[str, object, object]]:
    """Have the configuration say that; return what changed."""
    changes = sync_config_limits(db, scope, LimitOptions(**said), now_ms=NOW)  # type: ignore[arg-type]
    return [(change.limit, change.old, change.new) for change in changes]


def in_force(db: Database) -> dict[tuple[str, str], tuple[float | None, str]]:
    """Return every limit in force by account and name."""
    return {(v.scope, v.limit): (v.value, v.source) for v in limits(db, now_ms=NOW)}


def test_limits_follow_what_is_said(db: Database) -> None:
    """They come, change and go with the configuration, and only a change is told."""
    scope = scope_for(db, "anthropic", "k")
    assert sync(db, scope, rpm=3, rpd="none") == [("rpm", "auto", 3), ("rpd", "auto", "none")]
    assert in_force(db) == {("k", "rpm"): (3, "config"), ("k", "rpd"): (None, "config")}
    assert sync(db, scope, rpm=3, rpd="none") == []
    assert sync(db, scope, rpm=5, rpd="auto") == [("rpm", 3, 5), ("rpd", "none", "auto")]
    assert sync(db, scope) == [("rpm", 5, "auto")]
    assert in_force(db) == {}


def test_a_day_and_a_space_are_limits_too(db: Database) -> None:
    """The zone of the day and the time between two sends come the same way."""
    scope = scope_for(db, "anthropic", "k")
    sync(db, scope, rpd=9, day_resets="Asia/Tokyo", min_interval_s=0.5)
    (view,) = [v for v in limits(db, now_ms=NOW) if v.limit == "rpd"]
    assert (view.value, view.zone) == (9, "Asia/Tokyo")
    assert in_force(db)["k", "min_interval"] == (500, "config")
    sync(db, scope, rpd=9)
    (view,) = [v for v in limits(db, now_ms=NOW) if v.limit == "rpd"]
    assert view.zone == "UTC"


def test_what_was_typed_stays_above(db: Database) -> None:
    """A flag's limit holds, whatever comes and goes below it."""
    scope = scope_for(db, "anthropic", "k")
    store_limits(db, scope, LimitOptions(rpm=50), now_ms=NOW)
    sync(db, scope, rpm=3)
    assert in_force(db) == {("k", "rpm"): (50, "flag")}
    assert typed_limits(db, scope) == {"rpm"}
    store_limits(db, scope, LimitOptions(rpm="auto"), now_ms=NOW)
    assert in_force(db) == {("k", "rpm"): (3, "config")}


def test_keys_of_an_organization_go_together(db: Database) -> None:
    """Every account of the organization has them, so that none stays with a key of before."""
    first, second, other = (scope_for(db, "anthropic", key) for key in ("a", "b", "c"))
    foreign = scope_for(db, "openai", "d")
    with db.write() as connection:
        for scope in (first, second, foreign):
            scopes.set_organization(driver(connection), scope, "org")
    assert sync(db, second, rpm=3) == [("rpm", "auto", 3)]
    assert set(in_force(db)) == {("a", "rpm"), ("b", "rpm")}
    sync(db, other, rpm=4)
    sync(db, first)
    assert in_force(db) == {("c", "rpm"): (4, "config")}


def test_they_are_carried_to_an_organization(db: Database) -> None:
    """A run that moves to its organization's account takes them along."""
    key, organization = (scope_for(db, "anthropic", name) for name in ("k", "o"))
    sync(db, key, rpm=3)
    with db.write() as connection:
        scopes.carry_typed_caps(driver(connection), key, organization)
    assert in_force(db)["o", "rpm"] == (3, "config")
