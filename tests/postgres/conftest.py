"""One server for all tests, a schema for each."""

from __future__ import annotations

import gc
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.places import Server, place_of
from batchrunner.store.postgres.database import PgDatabase
from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres
from tests.integration.house import House, ServedHouse
from tests.unit import stored

#: Tests of the store that are about what only a file has, each with that.
OF_FILES = {
    "test_checkpoints_while_nobody_sends": "the log beside the file",
    "test_no_statement_sorts_or_scans_jobs": "SQLite's words for a query's plan",
    "test_the_last_page_costs_no_more_than_the_first": "SQLite's count of its steps",
    "test_process_row_says_who_it_is_and_goes_with_its_asks": "locks are files",
    "test_sweep_removes_dead_processes_only": "locks are files",
    "test_check_finds_what_is_wrong": "references switched off by PRAGMA",
    "test_check_finds_damage": "bytes of the file",
    "test_backup_is_the_database_as_it_stood": "a copy of the file",
    "test_backup_refuses_to_overwrite": "a copy of the file",
    "test_status_never_looks_at_the_jobs": "statements seen through SQLAlchemy's engine",
    "test_export_pages_without_holding_a_transaction": "the log beside the file",
    "test_causes_of_one_kind_are_told_apart": "SQLite has char()",
    "test_missing_dictionary_is_told": "SQLite without its references",
    "test_damaged_request_is_told_at_the_claim": "words of SQLite that tamper with bytes",
    "test_bad_lines_store_nothing_and_are_all_named": "no file is made",
    "test_what_a_killed_one_left_goes_with_the_next": "a copy of the file",
    "test_o_never_replaces_a_strangers_file": "the file itself",
    "test_one_signal_drains": "a fix without --db",
    "test_a_kill_while_reading_stores_nothing": "when the file appears",
    "test_after_a_clean_end_the_database_is_one_file": "the file",
    "test_bare_429s_for_long_are_told_as_what_they_look_like": "read with sqlite3",
    "test_a_pause_is_waited_for_at_rest": "read with sqlite3",
    "test_the_same_file_again_sends_no_more_than_the_sample": "a fix without --db",
}


#: Modules of the store that run with the long ones: the others have the same kinds of statements.
LONG = (
    "test_next_jobs",
    "test_store_codecs",
    "test_store_commands",
    "test_store_failures",
    "test_store_load",
    "test_store_views",
    "test_store_waits",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about files alone."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.stem in LONG:
            item.add_marker(pytest.mark.slow)
    kept = [
        item
        for item in items
        if here not in item.path.parents or getattr(item, "originalname", item.name) not in OF_FILES
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of the tests' own."""
    binaries = programs()
    if binaries is None:
        sentence = "no PostgreSQL on this machine: install it, or `pip install pgserver`"
        # CI must not skip.
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with running_postgres(binaries) as running:
        # What each test of the store begins with is copied: a third of a second less.
        running.execute("CREATE DATABASE ready")
        PgDatabase.open_at(_place(running.url("jobs", "ready")), create=True).close()
        yield running


def _place(url: str) -> Server:
    place = place_of(url)
    assert isinstance(place, Server)
    return place


def schema_of(folder: Path) -> str:
    """Return a schema's name for a test's folder."""
    return f"t{zlib.crc32(str(folder).encode()):x}"


@pytest.fixture
def house(tmp_path: Path, api: ApiServer, server: PostgresServer) -> Iterator[House]:
    """Give a folder to work in; what a test leaves running is killed."""
    house = ServedHouse(tmp_path, api.url, server.url(schema_of(tmp_path)))
    yield house
    house.clear_up()


@pytest.fixture(autouse=True)
def _on_server(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the databases of the store's tests be schemas on the server."""
    made: dict[Path, str] = {}

    def place(folder: Path) -> Server:
        if folder not in made:
            made[folder] = f"{schema_of(folder)}_{len(made)}"
            server.execute(f"CREATE DATABASE {made[folder]} TEMPLATE ready")
        return _place(server.url("jobs", made[folder]))

    monkeypatch.setattr(stored, "place", place)
    yield
    # A database that a test left closes its connections when it goes.
    gc.collect()
