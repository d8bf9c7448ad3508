"""The server's disk is full: workers keep what came back, wait for room as on a file, and then say what is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House, until
from tests.postgres.conftest import schema_of


class Disk:
    """Whether the server has room for answers; a trigger stands for the disk."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self._server = server
        self._schema = schema
        server.execute(
            f"CREATE FUNCTION {schema}.no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" PERFORM nextval('{schema}.refused');"
            " RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100';"
            " END $$"
        )
        server.execute(f"CREATE SEQUENCE {schema}.refused")

    def fills(self) -> None:
        """Have no room from now on."""
        self._server.execute(
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {self._schema}.response"
            f" EXECUTE FUNCTION {self._schema}.no_room()"
        )

    def is_emptied(self) -> None:
        """Have room again."""
        self._server.execute(f"DROP TRIGGER full_disk ON {self._schema}.response")

    def n_refused(self) -> int:
        """Return how often something was not stored."""
        rows = self._server.execute(
            f"SELECT last_value * is_called::int FROM {self._schema}.refused"
        )
        return int(rows[0][0])


@pytest.fixture
def disk(house: House, tmp_path: Path, server: PostgresServer) -> Disk:
    """A queue of twelve jobs, and its disk."""
    house.environ["ANTHROPIC_API_KEY"] = "test"
    house.jobs(12)
    house.submit("--no-run", "-c", "4", code=0)
    return Disk(server, schema_of(tmp_path))


def test_workers_wait_for_room(house: House, api: ApiServer, disk: Disk) -> None:
    """Nothing is sent twice or lost where there is room again within ten seconds."""
    disk.fills()
    worker = house.start("worker", "--until-done", "--json")
    until(lambda: disk.n_refused() >= 2, "it has tried again")
    disk.is_emptied()
    worker.ended(0)
    assert Counter(request.prompt for request in api.requests()).most_common(1)[0][1] == 1
    status = house.run("status", "--json").json
    assert status["jobs"]["completed"] == 12
    assert status["requests"]["interrupted"] == 0


@pytest.mark.slow
def test_workers_say_what_is_lost_where_there_is_none(
    house: House, api: ApiServer, disk: Disk
) -> None:
    """After ten seconds they end with what they could not store; on a sound disk the rest goes on, and that is marked."""
    disk.fills()
    done = house.start("worker", "--until-done").ended(5, timeout=60)
    assert "could not be stored, they may be executed again: " in done.err
    assert disk.n_refused() == 11
    disk.is_emptied()
    house.start("worker", "--until-done").ended(0, timeout=90)
    status = house.run("status", "--json").json
    assert status["jobs"]["completed"] == 12
    assert status["requests"]["interrupted"] > 0
