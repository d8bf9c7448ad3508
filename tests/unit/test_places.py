"""Where a database is: a file as ever, a server by its scheme, and never a password shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.places import Server, place_of, shown


@pytest.mark.parametrize("text", ["jobs.db", "/a/b.db", "a:b.db", "postgres.db", "~/x"])
def test_what_is_no_address_is_a_file(text: str) -> None:
    """Every path stays a path."""
    assert place_of(text) == Path(text)


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres", "PostgreSQL"])
def test_a_server_is_told_by_its_scheme(scheme: str) -> None:
    """All spellings lead to one server, and to a schema of our own."""
    found = place_of(f"{scheme}://amina:s3cret@db.example:5433/jobs?sslmode=require&schema=team")
    assert isinstance(found, Server)
    assert found.dsn == "postgresql://amina:s3cret@db.example:5433/jobs?sslmode=require"
    assert found.schema == "team"
    assert found.has_password
    assert str(found) == (
        "postgresql+asyncpg://db.example:5433/jobs?user=amina&sslmode=require&schema=team"
    )
    assert "s3cret" not in repr(found) + shown(found)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://amina@db.example/jobs",
        "postgresql:///jobs?host=/run/postgresql",
        "postgresql://one:5432,[::1]:5433/jobs?target_session_attrs=primary",
    ],
    ids=["host", "socket", "hosts"],
)
def test_what_is_shown_leads_to_the_same_server(text: str) -> None:
    """An address that had no password may be pasted as it is shown."""
    first = place_of(text)
    again = place_of(str(first))
    assert isinstance(first, Server)
    assert isinstance(again, Server)
    assert (again.schema, str(again), again.has_password) == ("batchrunner", str(first), False)


@pytest.mark.parametrize("name", ["password", "sslpassword", "PASSWORD"])
def test_no_password_among_the_options_is_shown(name: str) -> None:
    """Whichever it is: the user's, that of the key to a certificate, or one that is misspelt."""
    found = place_of(f"postgresql://db.example/jobs?{name}=s3cret&sslmode=require")
    assert isinstance(found, Server)
    assert f"{name}=s3cret" in found.dsn
    assert str(found) == "postgresql+asyncpg://db.example/jobs?sslmode=require"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://u:s3cret@h/d",
        "postgresql://u:s3cret@h",
        "postgresql://u:s3cret@h:port/d",
        "postgresql://u:s3cret@h:1,i:port/d",
        "postgresql://u:s3cret[1@h/d",
        "postgresql://u:s3cret[1]@h/d",
        "postgresql://u:12/s3cret@h/d",
        "postgresql://u:s3cret@h/d?schema=pg_catalog",
        "postgresql://u:s3cret@h/d?schema=A",
        "sqlite:///jobs.db",
        "mysql://u:s3cret@h/d",
    ],
)
def test_what_can_t_be_used_is_refused_without_its_password(text: str) -> None:
    """The message says what is wrong, and never the secret."""
    with pytest.raises(UsageError) as refused:
        place_of(text)
    assert "s3cret" not in f"{refused.value.message} {refused.value.fix}"
