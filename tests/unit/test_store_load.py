"""Reading in: whole or not at all, invisible until whole, duplicates found by the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.models import StoredRunState
from batchrunner.store import load as subject
from batchrunner.store.commands import register_process, unregister
from batchrunner.store.load import Loader, sweep_loading
from batchrunner.store.maintenance import check
from batchrunner.store.runs import driver, find_by_digest, find_by_name, find_run, free_name
from tests.unit.stored import NOW, database, line, lines, load, loader, run, states


def count(db: object, table: str) -> int:
    """Return how many rows a table has."""
    with db.read() as connection:  # type: ignore[attr-defined]
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar())


def test_finish_makes_the_run_visible_with_its_counters(tmp_path: Path) -> None:
    """A run appears at once and whole, found by its name, its id and its content."""
    db = database(tmp_path)
    with loader(db, "mail") as begun:
        assert begun.add(lines(3)) == []
        assert begun.add(lines(2, "more")) == []
        assert begun.n_jobs == 5
        with pytest.raises(UsageError, match="no runs"):
            find_run(db, None)
        assert find_by_name(db, "mail") is None
        run_id = begun.finish(b"digest", n_rejected=2)
    found = find_run(db, "mail")
    assert (found.id, found.state, found.n_rejected) == (run_id, StoredRunState.READY, 2)
    assert (found.counts.pending, found.counts.total, found.next_seq) == (5, 5, 6)
    assert not found.generated_keys
    assert find_run(db, "uid-mail") == found == find_by_digest(db, b"digest") == find_run(db, None)
    assert check(db) == []


def test_add_keeps_everything_of_a_line(tmp_path: Path) -> None:
    """The request is stored byte for byte, with the model it names, in input order."""
    db = database(tmp_path)
    jobs = [line("b", "ü \x00 {", model="m-2", metadata={"n": 1}), line("a", model=None)]
    run_id = load(db, jobs)
    with db.read() as connection:
        rows = driver(connection).execute(
            "SELECT j.id, j.key, m.name, p.body, p.metadata, p.shape FROM job j"
            " JOIN payload p ON p.job_id = j.id JOIN model m ON m.id = j.model_id ORDER BY j.id"
        ).fetchall()  # fmt: skip
    assert rows == [
        (run_id << 32 | 1, "b", "m-2", jobs[0].body, b'{"n": 1}', "body"),
        (run_id << 32 | 2, "a", "", jobs[1].body, None, "body"),
    ]


def test_duplicate_in_the_same_chunk_names_both_places(tmp_path: Path) -> None:
    """The fault stands at the second line and names the first."""
    with loader(database(tmp_path)) as begun:
        faults = begun.add([line("a", n=1), line("b", n=2), line("a", n=4), line("c", n=5)])
        assert [(f.file, f.line) for f in faults] == [("jobs.jsonl", 4)]
        assert "'a' is already used by jobs.jsonl:1" in faults[0].reason
        assert begun.n_jobs == 3


def test_duplicate_of_an_earlier_chunk_names_the_job(tmp_path: Path) -> None:
    """Across chunks the earlier job is named by its place, which costs no memory."""
    with loader(database(tmp_path)) as begun:
        begun.add(lines(10))
        (fault,) = begun.add([line("k7", n=99)])
        assert "already used by job 7" in fault.reason
        run_id = begun.finish(b"d")
    db = database(tmp_path)
    assert run(db, run_id).counts.total == 10
    assert check(db) == []


def test_leaving_without_finish_stores_nothing(tmp_path: Path) -> None:
    """An input that is refused leaves no row behind."""
    db = database(tmp_path)
    with loader(db) as begun:
        begun.add(lines(5_000))
        begun.add([line("x")])
    assert [count(db, table) for table in ("run", "job", "payload")] == [0, 0, 0]


def test_sweep_deletes_what_a_dead_loader_left(tmp_path: Path) -> None:
    """Left-over runs go; one whose loader lives stays."""
    db = database(tmp_path)
    kept = load(db, lines(3), "kept")
    process = register_process(db, "loader", now_ms=NOW)
    with Loader(
        db, name="n", uid="u", provider="p", options_json="{}", priority=0, now_ms=NOW,
        loader_process_id=process.id,
    ) as begun:  # fmt: skip
        begun.add(lines(3_000))
        assert sweep_loading(db) == 0
        process.lock.release()
        assert sweep_loading(db) == 1
        assert count(db, "job") == 3
    unregister(db, process)
    assert run(db, kept).counts.total == 3


def test_name_taken_meanwhile_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    """Two submits under one name: the second to finish is refused whole."""
    db = database(tmp_path)
    with loader(db, "n", "u1") as late:
        late.add(lines(2))
        with loader(db, "n", "u2") as early:
            early.add(lines(1))
            early.finish(b"1")
        with pytest.raises(UsageError, match="took the name"):
            late.finish(b"2")
    assert [count(db, table) for table in ("run", "job", "payload")] == [1, 1, 1]


def test_gentle_loading_keeps_transactions_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process sends, a big chunk is many small transactions with room between them."""
    db = database(tmp_path)
    naps: list[float] = []
    monkeypatch.setattr(subject.time, "sleep", naps.append)
    with loader(db) as begun:
        begun._gentle = lambda: True
        begun.add(lines(4_000))
        begun.finish(b"d")
    assert len(naps) >= 2
    assert all(0 < nap <= 0.05 for nap in naps)
    assert check(db) == []


@pytest.mark.parametrize(
    ("key", "generated"), [("line-3", True), ("line-3b", False), ("online-3", False)]
)
def test_generated_keys_are_remembered(tmp_path: Path, key: str, generated: bool) -> None:
    """A run knows whether its keys only count lines."""
    db = database(tmp_path)
    assert run(db, load(db, [line("a"), line(key)])).generated_keys is generated


def test_free_name_counts_up(tmp_path: Path) -> None:
    """A second run of a name is called NAME-2, then NAME-3."""
    db = database(tmp_path)
    assert free_name(db, "n") == "n"
    load(db, lines(1), "n")
    assert free_name(db, "n") == "n-2"
    load(db, lines(1), "n-2")
    assert free_name(db, "n") == "n-3"


def test_find_run_lists_the_names_there_are(tmp_path: Path) -> None:
    """A wrong name is answered with the right ones."""
    db = database(tmp_path)
    load(db, lines(1), "apples")
    with pytest.raises(UsageError) as caught:
        find_run(db, "aples")
    assert "apples" in caught.value.fix


def test_checkpoints_while_nobody_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long load does not let the log grow with it."""
    monkeypatch.setattr(subject, "_CHECKPOINT_BYTES", 10_000)
    db = database(tmp_path)
    with loader(db) as begun:
        for part in range(12):
            begun.add([line(f"{part}-{i}", "x" * 500, n=i) for i in range(300)])
        log = (tmp_path / "jobs.db-wal").stat().st_size
        begun.finish(b"d")
    assert log < 1_000_000 < 12 * 300 * 500


def test_add_finds_its_way_after_a_duplicate(tmp_path: Path) -> None:
    """Places stay gapless, so that every job has its request."""
    db = database(tmp_path)
    with loader(db) as begun:
        begun.add([line("a"), line("a"), line("b")])
        begun.add([line("b"), line("c")])
        run_id = begun.finish(b"d")
    assert states(db, run_id) == ["pending"] * 3
    assert check(db) == []
