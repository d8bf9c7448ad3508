"""Runs whose bodies lie compressed in the database: everything else sees them plain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.models import JobId, JobLine, ModelId, RunId, ScopeId
from batchrunner.options import JobFilter
from batchrunner.store import scopes, views
from batchrunner.store.codecs import (
    Answers,
    DamagedBodyError,
    codec_of_answers,
    codecs_of,
    made_codec,
)
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import Database
from batchrunner.store.load import Loader, delete_run
from batchrunner.store.maintenance import check
from batchrunner.store.merge import Diff, apply_sets, compare, merge_update
from batchrunner.store.records import Ask, ClaimedJob, Cycle, Settle
from batchrunner.store.runs import driver
from tests.unit.stored import NOW, database, line, loader, run

LONG = "a review that goes on and on about what was bought, and why, and what became of it"
JOBS = [line(f"k{n}", f"{LONG} {n}") for n in range(20)]


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A fresh database."""
    return database(tmp_path)


def load(db: Database, jobs: list[JobLine], *, small: bool = True, name: str = "run") -> RunId:
    """Store a run, compressed or not."""
    with Loader(
        db, name=name, uid=f"uid-{name}", provider="anthropic", options_json="{}", priority=0,
        now_ms=NOW, loader_process_id=1, is_compressed=small,
    ) as begun:  # fmt: skip
        assert begun.add(jobs) == []
        return begun.finish(name.encode())


def stored(db: Database, run_id: RunId, table: str = "payload") -> dict[str, tuple[int, bytes]]:
    """Return key → codec and body as they lie there."""
    with db.read() as connection:
        return {
            key: (codec, body)
            for key, codec, body in driver(connection).execute(
                f"SELECT key, codec, body FROM job JOIN {table} ON job_id = id WHERE run_id = ?",
                (run_id,),
            )
        }


def requests(db: Database, run_id: RunId) -> dict[str, bytes]:
    """Return key → request as an export reads it."""
    return {row.key: row.request for row in views.job_rows(db, run_id, JobFilter())}


def damage(db: Database, table: str, job: int) -> None:
    """Change one byte in the middle of a stored body."""
    with db.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE {table} SET body = CAST(substr(body, 1, 15) || x'FF' || substr(body, 17)"
            " AS BLOB) WHERE job_id = ?",
            (job,),
        )


def claim(db: Database, run_id: RunId, n: int) -> list[ClaimedJob]:
    """Claim jobs as a holder that has taken the run up."""
    with db.write() as connection:
        conn = driver(connection)
        ask = Ask(run_id, ModelId(1), n, codecs=codecs_of(conn, run_id))
        result = run_cycle(conn, Cycle(wall=NOW, now=NOW, asks=[ask], planned=[NOW] * n))
    return result.lanes[0].jobs


def test_requests_are_small_and_read_as_they_were(db: Database) -> None:
    """Stored compressed, with one dictionary; exported, shown and claimed plain."""
    run_id = load(db, JOBS)
    rows = stored(db, run_id)
    assert {codec for codec, _ in rows.values()} == {1}
    assert sum(len(body) for _, body in rows.values()) < sum(len(job.body) for job in JOBS) / 2
    assert requests(db, run_id) == {job.key: job.body for job in JOBS}
    assert [(job.key, job.body) for job in claim(db, run_id, 3)] == [
        (job.key, job.body) for job in JOBS[:3]
    ]
    assert check(db) == []


def test_plain_and_compressed_lie_in_one_run(db: Database) -> None:
    """What gets no smaller stays plain, and both are claimed together."""
    tiny = [JobLine(key="tiny", model="m-1", body=b"{}", metadata=None, shape=JOBS[0].shape,
                    file="f", line=1)]  # fmt: skip
    run_id = load(db, [*JOBS[:2], *tiny, *JOBS[2:]])
    assert stored(db, run_id)["tiny"] == (None, b"{}")
    assert [job.body for job in claim(db, run_id, 4)] == [
        JOBS[0].body, JOBS[1].body, b"{}", JOBS[2].body,
    ]  # fmt: skip


def test_plain_run_has_no_dictionary(db: Database) -> None:
    """Nothing is compressed unasked, and the claim is the quick one."""
    run_id = load(db, JOBS, small=False)
    assert {codec for codec, _ in stored(db, run_id).values()} == {None}
    with db.read() as connection:
        assert codecs_of(driver(connection), run_id) == {}


@pytest.mark.parametrize(("old", "new"), [(True, True), (True, False), (False, True)])
def test_update_compares_and_takes_plain_with_compressed(
    db: Database, old: bool, new: bool
) -> None:
    """New content is compared by what it says, however either lies there, and keeps its dictionary."""
    run_id = load(db, JOBS, small=old)
    changed = [*JOBS[:-2], line("k18", "changed " + LONG), line("extra", LONG)]
    with Loader(
        db, name="new", uid="new", provider="anthropic", options_json="{}", priority=0,
        now_ms=NOW, loader_process_id=1, is_compressed=new,
    ) as begun:  # fmt: skip
        begun.add(changed)
        expected = Diff(same=18, changed=1, new=1, gone=1, changed_completed=0)
        assert compare(db, run_id, begun.run_id) == expected
        merge_update(db, run_id, begun.run_id, digest=b"new", pool_of=lambda _p, model: model)
    want = {job.key: job.body for job in (*JOBS, *changed)}
    assert requests(db, run_id) == want
    assert check(db) == []


def test_replaced_field_is_compressed_again(db: Database) -> None:
    """``--set`` rewrites what a body says, and leaves how it is kept."""
    run_id = load(db, JOBS)
    n = apply_sets(
        db, run(db, run_id), JobFilter(keys=("k3",)),
        replace=lambda body: body.replace(b"m-1", b"m-2"), model_of=lambda _: "m-2",
    )  # fmt: skip
    assert n == 1
    assert stored(db, run_id)["k3"][0] == 1
    assert requests(db, run_id)["k3"] == JOBS[3].body.replace(b"m-1", b"m-2")


def settled(db: Database, run_id: RunId, jobs: list[ClaimedJob], bodies: Iterator[bytes]) -> None:
    """Settle jobs with answers, compressed with the run's dictionary for them."""
    with db.write() as connection:
        conn = driver(connection)
        account = scopes.scope_id(
            conn, kind="account", provider="anthropic", key="key-1", parent_id=None
        )
        pool = scopes.scope_id(
            conn, kind="pool", provider="anthropic", key="m-1", parent_id=account
        )
        codec = codec_of_answers(conn, run_id)
        settles = [
            Settle(
                job_id=JobId(job.job_id), key=job.key, attempts=1, started_at=NOW,
                claim=job.claim, run_id=run_id, model_id=ModelId(1), account_id=ScopeId(account),
                pool_id=ScopeId(pool), planned_at=NOW, state="completed", charged=1,
                finished_at=NOW, outcome="completed", sent_at=NOW, ended_at=NOW,
                http_status=200, is_attempt=True, body=next(bodies),
            )
            for job in jobs
        ]  # fmt: skip
        cycle = Cycle(wall=NOW, now=NOW, settles=settles, codecs={run_id: codec} if codec else {})
        run_cycle(conn, cycle)


def test_answers_are_compressed_once_there_is_a_dictionary(db: Database) -> None:
    """The first answers lie plain; a dictionary of theirs makes the later ones small."""
    run_id = load(db, JOBS)
    bodies = [f'{{"id":"msg_{n}","text":"{LONG}","usage":{n}}}'.encode() for n in range(20)]
    answers = Answers(None)
    assert answers.see(bodies[:10]) is None
    settled(db, run_id, claim(db, run_id, 10), iter(bodies))
    sample = answers.see(bodies[10:18])
    assert sample == bodies[:18]
    with db.write() as connection:
        answers.found(made_codec(driver(connection), run_id, "response", sample))
    settled(db, run_id, claim(db, run_id, 10), iter(bodies[10:]))
    rows = stored(db, run_id, "response")
    assert [rows[f"k{n}"][0] for n in (0, 9, 10, 19)] == [None, None, 2, 2]
    assert len(rows["k19"][1]) < len(bodies[19]) / 2
    found = {row.key: row.response for row in views.job_rows(db, run_id, JobFilter())}
    assert list(found.values()) == bodies
    assert answers.see(bodies) is None
    assert check(db) == []


def test_damaged_request_is_told_at_the_claim(db: Database) -> None:
    """A request that can't be read back claims nothing, and the job is named."""
    run_id = load(db, JOBS)
    damage(db, "payload", run_id << 32 | 2)
    with pytest.raises(DamagedBodyError, match="request of job 'k1'") as caught:
        claim(db, run_id, 3)
    assert caught.value.exit_code == 5
    assert "batchrunner db check" in caught.value.fix
    with pytest.raises(DamagedBodyError, match="request of job 'k1'"):
        requests(db, run_id)
    (problem,) = check(db)
    assert problem.startswith("run run: ")
    assert "request of job 'k1' can't be read back" in problem
    with loader(db, "new", "new") as begun:
        begun.add(JOBS)
        with pytest.raises(DamagedBodyError, match="request of job 'k1'"):
            compare(db, run_id, begun.run_id)


def test_missing_dictionary_is_told(db: Database) -> None:
    """A dictionary that is gone is damage too."""
    run_id = load(db, JOBS)
    connection = sqlite3.connect(db.path)
    connection.execute("DELETE FROM dictionary")
    connection.commit()
    connection.close()
    assert len(check(db)) == 20
    assert "dictionary 1 is missing" in check(db)[0]
    with pytest.raises(DamagedBodyError, match="dictionary 1 is missing"):
        apply_sets(
            db, run(db, run_id), JobFilter(), replace=lambda body: body, model_of=lambda _: None
        )


def test_dictionary_goes_with_its_run(db: Database) -> None:
    """A run that is deleted leaves nothing."""
    delete_run(db, load(db, JOBS))
    with db.read() as connection:
        assert driver(connection).execute("SELECT count(*) FROM dictionary").fetchone() == (0,)
