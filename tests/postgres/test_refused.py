"""What a worker is told when its queue can't be used: what happened, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House
from tests.postgres.conftest import schema_of


@pytest.fixture
def guest(server: PostgresServer) -> Iterator[None]:
    """A user who may do nothing yet."""
    server.execute("CREATE ROLE guest LOGIN")
    yield
    server.execute("DROP OWNED BY guest")
    server.execute("DROP ROLE guest")


@pytest.mark.usefixtures("guest")
def test_a_user_without_rights_is_told_which(house: House, server: PostgresServer) -> None:
    """Neither making a schema nor working on one without rights is a defect: the fix names them, and does it."""
    as_guest = {"BATCHRUNNER_DB": server.url("guests").replace("tester", "guest")}
    house.jobs(1)
    server.execute("REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
    made = house.submit("--no-run", code=5, environ=as_guest)
    assert "does not allow this user to do that (permission denied for database" in made.out
    assert "GRANT CREATE ON DATABASE" in made.out
    house.submit("--no-run", code=0)
    schema = schema_of(house.folder.parent)
    as_guest = {"BATCHRUNNER_DB": str(house.db).replace("tester", "guest")}
    refused = house.run("worker", "--until-done", code=5, environ=as_guest)
    assert f"permission denied for schema {schema}" in refused.err
    grants = refused.err.partition("As the owner of the schema: ")[2].partition(" where ")[0]
    for grant in grants.replace(" USER;", " guest;").split(";")[:-1]:
        server.execute(grant)
    key = {"ANTHROPIC_API_KEY": "test"}
    house.run("worker", "--until-done", environ=as_guest | key)
    assert house.counts().completed == 1


def test_a_worker_makes_nothing(house: House, server: PostgresServer) -> None:
    """Where there is no schema yet the worker says so, and leaves it at that."""
    done = house.run("worker", code=2)
    assert "There is nothing of batchrunner at" in done.err
    assert "batchrunner submit" in done.err
    schema = schema_of(house.folder.parent)
    assert server.execute(f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []


def test_a_worker_of_a_file_that_is_not_there(house: House) -> None:
    """Nobody is sent off to make a file for workers."""
    house.environ["BATCHRUNNER_DB"] = str(house.folder / "jobs.db")
    done = house.run("worker", code=2)
    assert "Workers share a queue on PostgreSQL" in done.err
    assert not (house.folder / "jobs.db").exists()
