"""One server for all tests, a schema for each."""

from __future__ import annotations

import gc
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.places import place_of
from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres
from tests.integration.house import House
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
    "test_no_run_is_made_where_the_file_is_not": "the file",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about files alone."""
    here = Path(__file__).parent
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
        yield running


def schema_of(folder: Path) -> str:
    """Return a schema's name for a test's folder."""
    return f"t{zlib.crc32(str(folder).encode()):x}"


class ServedHouse(House):
    """A house whose database is a schema on the server."""

    def __init__(self, folder: Path, url: str, place: str) -> None:
        super().__init__(folder, url)
        self._place = place
        self.environ["BATCHRUNNER_DB"] = place

    @property
    def db(self) -> str:  # type: ignore[override]
        """Where the database is."""
        return self._place


@pytest.fixture
def house(tmp_path: Path, api: ApiServer, server: PostgresServer) -> Iterator[House]:
    """Give a folder to work in; what a test leaves running is killed."""
    house = ServedHouse(tmp_path, api.url, server.url(schema_of(tmp_path)))
    yield house
    house.clear_up()


@pytest.fixture(autouse=True)
def _on_server(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the databases of the store's tests be schemas on the server."""
    monkeypatch.setattr(stored, "place", lambda folder: place_of(server.url(schema_of(folder))))
    yield
    # A database that a test left closes its connections when it goes.
    gc.collect()
