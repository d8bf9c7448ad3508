"""A server with TLS and passwords: who is let in, and what is said to whoever is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.network import Authority
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres
from tests.integration.house import House

SECRET = "s3cret-of-amina"
RULES = """
hostssl all certed 127.0.0.1/32 cert
hostssl all amina 127.0.0.1/32 scram-sha-256
hostnossl all plain 127.0.0.1/32 scram-sha-256
host all amina,certed,plain 127.0.0.1/32 reject
"""


class Guarded(NamedTuple):
    """A server that lets nobody in without TLS, and the files of its authority."""

    server: PostgresServer
    authority: Authority
    folder: Path

    def url(
        self, query: str, *, user: str = "amina", host: str = "localhost", schema: str = "guarded"
    ) -> str:
        """Return an address of it; ``{ca}``, ``{other}`` and the like are files."""
        names = {name: self.folder / f"{name}.pem" for name in ("ca", "other", "user", "user_key")}
        rest = query.format(**names, nowhere=self.folder / "nowhere.pem")
        return f"postgresql+asyncpg://{host}:{self.server.port}/postgres?user={user}&schema={schema}&{rest}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, server: PostgresServer) -> Iterator[Guarded]:
    """A server with TLS, SCRAM and client certificates; another whose certificate has expired stands in its place."""
    del server  # where there is none the others have said so
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "made")
    binaries = programs()
    assert binaries is not None
    certificate, key = authority.files("DNS:localhost")
    user, user_key = authority.files(subject="certed")
    for name, source in (("user", user), ("user_key", user_key), ("ca", authority.file),
                         ("other", Authority(folder / "other", "Other CA").file)):  # fmt: skip
        (folder / f"{name}.pem").write_bytes(source.read_bytes())
        (folder / f"{name}.pem").chmod(0o600)
    with running_postgres(
        binaries,
        settings="ssl = on\nssl_ca_file = 'root.crt'",
        hba=RULES,
        files={"server.crt": certificate, "server.key": key, "root.crt": authority.file},
    ) as running:
        running.execute(f"CREATE ROLE amina LOGIN PASSWORD '{SECRET}'")
        running.execute("CREATE ROLE certed LOGIN")
        running.execute(f"CREATE ROLE plain LOGIN PASSWORD '{SECRET}'")
        running.execute("GRANT CREATE ON DATABASE postgres TO amina")
        yield Guarded(running, authority, folder)


FULL = "sslmode=verify-full&sslrootcert={ca}"
PASSWORD = {"PGPASSWORD": SECRET}


def asked(house: House, url: str, code: int, **environ: str) -> str:
    """Return what ``runs`` says on stderr; no output has the password."""
    done = house.run("runs", "--db", url, code=code, environ=environ)
    assert SECRET not in done.out + done.err
    return done.err


@pytest.mark.parametrize(
    ("query", "environ"),
    [
        pytest.param(FULL, PASSWORD, id="PGPASSWORD", marks=pytest.mark.slow),
        pytest.param(FULL, {"PGPASSFILE": "passes"}, id="pgpass", marks=pytest.mark.slow),
        pytest.param("sslmode=verify-full", {**PASSWORD, "PGSSLROOTCERT": "ca"}, id="PGSSLROOTCERT",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_who_is_let_in(house: House, guarded: Guarded, query: str, environ: dict[str, str]) -> None:
    """With the authority's file and the password, wherever they are said, there is nothing to say."""
    passes = house.folder / "passes"
    passes.write_text(f"localhost:{guarded.server.port}:*:amina:{SECRET}\n")
    passes.chmod(0o600)
    files = {"ca": str(guarded.folder / "ca.pem"), "passes": str(passes)}
    said = {name: files.get(value, value) for name, value in environ.items()}
    assert "nothing of batchrunner" in asked(house, guarded.url(query, schema="none"), 2, **said)


def test_work_is_done_over_tls(house: House, guarded: Guarded) -> None:
    """A run is stored, sent and exported over TLS with SCRAM, and neither the address nor ps has the password."""
    house.environ |= {"BATCHRUNNER_DB": guarded.url(FULL), **PASSWORD}
    house.jobs(5)
    house.submit(code=0)
    (n,) = guarded.server.execute(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'amina' AND NOT ssl"
    )[0]
    assert n == 0
    assert SECRET not in house.run("status", "-v").err


#: What is asked, as whom, with what in the environment → exit code, what is said.
REFUSED = {
    "wrong password": (FULL, {"PGPASSWORD": "wrong"}, 5, "refuses the password of PGPASSWORD"),
    "no password": (FULL, {}, 5, "none was given"),
    "other authority": ("sslmode=verify-full&sslrootcert={other}", PASSWORD, 5, "authority that is not trusted here"),
    "other host": (FULL, {"host": "127.0.0.1", **PASSWORD}, 5, "another name than the address has"),
    "no file": ("sslmode=verify-full&sslrootcert={nowhere}", PASSWORD, 2, "nowhere.pem is not there (sslrootcert in --db)"),
    "no authority": ("sslmode=verify-full", PASSWORD, 2, "can't be checked"),
    "no certificate in it": ("sslmode=verify-full&sslrootcert={user_key}", PASSWORD, 2, "files of certificates in PEM"),
    "without TLS": ("sslmode=disable", PASSWORD, 5, "by TLS alone, or not at all"),
    "certificate of the user's": (FULL, {"user": "certed"}, 5, "wants a certificate of the user's"),
    "mode": ("sslmode=full", PASSWORD, 2, "verify-full"),
    "option": ("sslmode=require&jobs=5", PASSWORD, 2, 'unrecognized configuration parameter "jobs"'),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=() if name in {"wrong password", "option"} else pytest.mark.slow)
        for name in REFUSED
    ],
)
def test_who_is_refused_is_told_why(house: House, guarded: Guarded, case: str) -> None:
    """What is wrong here is exit 2, what the server refuses 5; each says what happened and what helps."""
    query, environ, code, words = REFUSED[case]
    where = {name: environ[name] for name in ("user", "host") if name in environ}
    said = {name: value for name, value in environ.items() if name not in where}
    err = asked(house, guarded.url(query, **where), code, **said)
    assert words in err
    assert "fix: " in err


@pytest.mark.slow
def test_a_password_file_that_others_read_is_named(house: House, guarded: Guarded) -> None:
    """It is not taken, and what makes it be is said in one line, not as a warning of Python's."""
    passes = house.folder / "passes"
    passes.write_text(f"localhost:{guarded.server.port}:*:amina:{SECRET}\n")
    passes.chmod(0o644)
    err = asked(house, guarded.url(FULL), 5, PGPASSFILE=str(passes))
    assert f"chmod 600 {passes}" in err
    assert "Warning" not in err


@pytest.mark.slow
def test_a_client_certificate_lets_in(house: House, guarded: Guarded) -> None:
    """With its two files in the address the user of that name is in."""
    url = guarded.url(FULL + "&sslcert={user}&sslkey={user_key}", user="certed", schema="none")
    assert "nothing of batchrunner" in asked(house, url, 2)


@pytest.mark.slow
def test_an_expired_certificate_and_none_at_all(house: House, guarded: Guarded) -> None:
    """The first is told from an unknown authority; where TLS is demanded nothing goes without it."""
    server = guarded.server
    certificate, key = guarded.authority.files("DNS:localhost", days=-1)
    server.stop()
    server.configure(files={"server.crt": certificate, "server.key": key})
    server.start()
    assert "it has expired" in asked(house, guarded.url(FULL), 5, **PASSWORD)
    server.stop()
    server.configure(settings="ssl = off", hba="host all all 127.0.0.1/32 trust")
    server.start()
    assert "has no TLS" in asked(house, guarded.url(FULL), 5, **PASSWORD)
    assert "has no TLS" in asked(house, guarded.url("sslmode=require"), 5, **PASSWORD)
