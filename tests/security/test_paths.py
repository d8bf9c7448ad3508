"""Names from outside never lead out of the folder, and files are their owner's alone."""

from __future__ import annotations

import gzip
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

BAD_LINE = '{"prompt": 1}\n{"prompt": "good", "id": "g"}\n'


def everything(folder: Path) -> set[str]:
    """Return every file under a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", ["-", "-x", "x" * 101, "x" * 5_000])
def test_a_name_that_no_command_could_take_is_refused(house: House, name: str) -> None:
    """A name like an option, or longer than a screen, is refused, and nothing of it is written."""
    (house.folder / "jobs.jsonl").write_text(BAD_LINE)
    before = everything(house.folder.parent)
    house.run("submit", "jobs.jsonl", *house.to_api, f"--name={name}", code=2)
    assert everything(house.folder.parent) == before


@pytest.mark.parametrize(
    "name",
    ["../out", "../../out", "/tmp/batchrunner-out", "a/b", "..", ".", "a\nb", "con", "x" * 100, "\u202e", "~/x"],
    ids=lambda name: repr(name[:20]),
)  # fmt: skip
def test_a_runs_name_is_no_path(house: House, name: str) -> None:
    """Whatever a run is called, its rejects file is in the working folder and nothing is elsewhere."""
    outside = house.folder.parent
    (house.folder / "jobs.jsonl").write_text(BAD_LINE)
    before = everything(outside)
    house.run(
        "submit",
        "jobs.jsonl",
        "--skip-invalid",
        "--no-run",
        *house.to_api,
        f"--name={name}",
        code=None,
    )
    new = everything(outside) - before
    assert {Path(path).parent.name for path in new} == {house.folder.name}
    assert len([path for path in new if path.endswith(".rejects.jsonl")]) == 1
    assert not Path("/tmp/batchrunner-out.rejects.jsonl").exists()
    house.run("status", f"--db={house.db}", "--", name)


def test_the_rejects_file_takes_no_others_place(house: House) -> None:
    """A link, or a file of other content, is refused; its own earlier file is replaced, unread by others."""
    (house.folder / "jobs.jsonl").write_text(BAD_LINE)
    precious = house.folder / "precious"
    precious.write_text("mine")
    place = house.folder / "jobs.rejects.jsonl"
    place.symlink_to(precious)
    refused = house.run("submit", "jobs.jsonl", "--skip-invalid", "--no-run", *house.to_api, code=2)
    assert "jobs.rejects.jsonl" in refused.err
    assert precious.read_text() == "mine"
    place.unlink()
    place.write_text("mine too")
    refused = house.run("submit", "jobs.jsonl", "--skip-invalid", "--no-run", *house.to_api, code=2)
    assert "rejected lines are not what it holds" in refused.err
    assert place.read_text() == "mine too"
    place.write_text('{"file":"jobs.jsonl","line":9,"reason":"older","text":null}\n')
    place.chmod(0o666)
    house.run("submit", "jobs.jsonl", "--skip-invalid", "--no-run", *house.to_api, code=None)
    assert "not a string" in place.read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "umask", [pytest.param(0o022, marks=pytest.mark.slow), 0o000], ids=["022", "000"]
)
def test_every_file_is_its_owners_alone(house: House, umask: int) -> None:
    """Database, journal, locks, logs, exports, backups, rejects: 0600, whatever the umask, while it runs too."""
    house.jobs(3)
    (house.folder / "bad.jsonl").write_text(BAD_LINE)
    sealed = house.run("submit", "jobs.jsonl", *house.to_api, "--no-run")
    assert sealed.code == 0
    before = os.umask(umask)
    try:
        running = house.start_submit("-o", "out.csv", "--log-file", "log", "--rpm", "1")
        running.sees("job.completed")
        during = modes(house.folder)
        running.send(signal.SIGINT)
        running.ended(130)
        for command in (
            ("export", "-o", "again.jsonl"), ("export", "-f", "input", "-o", "in.jsonl"), ("db", "backup", "backup.db"),
            ("submit", "bad.jsonl", "--skip-invalid", "--no-run", *house.to_api),
            ("demo", "-o", "demo.csv"),
        ):  # fmt: skip
            house.run(*command, code=None)
        after = modes(house.folder)
    finally:
        os.umask(before)
    names = {"batchrunner.db-wal", "batchrunner.db-shm", "batchrunner.db.lock"}
    assert names <= set(during)
    assert {
        "out.csv",
        "log",
        "again.jsonl",
        "in.jsonl",
        "backup.db",
        "bad.rejects.jsonl",
        "demo.csv",
    } <= set(after)
    for found in (during, after):
        open_ones = {
            n: oct(mode)
            for n, mode in found.items()
            if mode != 0o600 and not n.endswith(("jobs.jsonl", "bad.jsonl"))
        }
        assert not open_ones


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of every file in a folder."""
    found = {}
    for path in folder.iterdir():
        try:
            found[path.name] = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize(
    ("place", "code"),
    [("../x.csv", 0), ("/dev/null", 0), ("no/such/x.csv", 2), (".", 2), ("x\u202e.csv", 0)],
)
def test_an_output_goes_where_it_was_typed(house: House, place: str, code: int) -> None:
    """``-o`` is a person's own word: it is followed as typed, or refused by name; a device is written."""
    house.jobs(1)
    house.run("submit", "jobs.jsonl", "--no-run", *house.to_api)
    done = house.run("export", "-f", "csv", "-o", place, code=code)
    assert done.code == 0 or place in done.err or "directory" in done.err


def test_an_output_that_is_a_link_is_written_through_only_by_force(house: House) -> None:
    """A link in the place of an export is not followed unless ``--force`` says so."""
    house.jobs(1)
    house.run("submit", "jobs.jsonl", "--no-run", *house.to_api)
    precious = house.folder / "precious"
    precious.write_text("mine")
    (house.folder / "out.csv").symlink_to(precious)
    house.run("export", "-o", "out.csv", code=2)
    assert precious.read_text() == "mine"
    house.run(
        "submit",
        "jobs.jsonl",
        "--name",
        "o",
        "--new",
        "--no-run",
        "-o",
        "out.csv",
        *house.to_api,
        code=2,
    )
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("what", ["a pipe nobody writes to", "blank lines without end"])
def test_reading_ends_with_ctrl_c(house: House, what: str) -> None:
    """Ctrl-C is seen while a file is read, though nothing comes, or nothing but blank lines."""
    blank = house.folder / "blank.gz"
    blank.write_bytes(gzip.compress(b"\n" * 500_000_000, 1) if what.startswith("blank") else b"")
    file = blank.name if what.startswith("blank") else "-"
    command = [sys.executable, "-m", "batchrunner", "submit", file, "--no-run", *house.to_api]
    reading = subprocess.Popen(
        command, cwd=house.folder, env=house.environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while not house.db.exists():
            assert reading.poll() is None
        reading.send_signal(signal.SIGINT)
        assert reading.wait(20) == 2
        assert b"Interrupted while the file was read" in reading.stderr.read()  # type: ignore[union-attr]
    finally:
        reading.kill()
        reading.communicate()


@pytest.mark.parametrize("name", ["batchrunner.db-wal", "hard", "jobs.jsonl", "./out.csv"])
def test_a_log_goes_into_nothing_that_is_in_use(house: House, name: str) -> None:
    """Neither the database, what belongs to it, nor a file that the call reads or writes is appended to."""
    house.jobs(1)
    (house.folder / "batchrunner.toml").write_text("")
    (house.folder / "prompt.txt").write_text("{{ prompt }}")
    house.submit("--no-run", "--name", "first")
    (house.folder / "hard").hardlink_to(house.db)
    before = house.db.read_bytes()
    options = ("--template", "prompt.txt", "-o", "out.csv", "--config", "batchrunner.toml")
    done = house.submit(*options, "--log-file", name, code=2)
    assert f"--log-file {Path(name)}" in done.error["message"]
    assert house.db.read_bytes() == before
    assert (house.folder / "jobs.jsonl").read_text().count("\n") == 1
    assert [run.name for run in house.app.runs()] == ["first"]


def test_a_backup_takes_no_name_of_the_databases_own(house: House) -> None:
    """A file that SQLite would take for the database's journal, or we for a lock, is never made."""
    house.jobs(1)
    house.submit("--no-run")
    for ending in ("-wal", "-journal", ".lock", ".p-1"):
        taken = house.db.with_name(f"batchrunner.db{ending}")
        done = house.run("db", "backup", str(taken), "--json", code=2)
        assert "the database's own" in done.error["message"]
        assert not taken.exists()
    for command in (("export", "-f", "csv", "-o"), ("report", "-o")):
        house.run(*command, "batchrunner.db-wal", "--force", code=2)
    assert house.counts().pending == 1


def test_answers_do_not_go_where_rejected_lines_go(house: House, api: ApiServer) -> None:
    """``-o`` that names the rejects file is refused beforehand, not when everything is paid."""
    house.jobs(1)
    with (house.folder / "jobs.jsonl").open("a") as file:
        file.write("no JSON\n")
    done = house.submit("--skip-invalid", "-o", "./jobs.rejects.jsonl", code=2)
    assert "rejected lines go there" in done.error["message"]
    assert not api.requests()
    assert not house.db.exists()
    house.submit("--skip-invalid", "-o", "jobs.out.jsonl", code=1)


def test_answers_do_not_go_where_the_rejected_lines_of_a_new_run_go(house: House) -> None:
    """With --new the run has another name, and its rejects file with it; that of the first is free."""
    house.jobs(1)
    house.submit("--no-run")
    with (house.folder / "jobs.jsonl").open("a") as file:
        file.write("no JSON\n")
    new = ("--skip-invalid", "--new")
    done = house.submit(*new, "-o", "jobs-2.rejects.jsonl", code=2)
    assert "rejected lines go there" in done.error["message"]
    assert [run.name for run in house.app.runs()] == ["jobs"]
    house.submit(*new, "-o", "jobs.rejects.jsonl", code=1)
    assert '"j0"' in (house.folder / "jobs.rejects.jsonl").read_text()


def test_a_log_leaves_the_results_of_stored_runs_alone(house: House) -> None:
    """What a run was told to write at its submit is not appended to by the call that goes on with it."""
    house.jobs(1)
    house.submit("--no-run", "-o", "out.csv")
    for file in ("out.csv", "./out.csv"):
        done = house.resume("--log-file", file, code=2)
        assert "run jobs writes its results there" in done.error["message"]
    assert not (house.folder / "out.csv").exists()
    house.resume("--log-file", "log")
    assert (house.folder / "out.csv").read_text().startswith("key,")


def test_a_demo_writes_over_nothing(house: House) -> None:
    """A file that is there, or a folder that is not, is told before the first request, with a fix that is one."""
    (house.folder / "mine.csv").write_text("mine")
    for place, why in (("mine.csv", "the file exists."), ("no/a.csv", "there is no folder")):
        done = house.run("demo", "-o", place, "--json", code=2)
        assert f"-o {place}: {why}" in done.error["message"]
        assert "--force" not in done.error["fix"]
        assert not done.events
    house.run("demo", "-o", "batchrunner.db-wal", code=2)
    assert [path.name for path in house.folder.iterdir()] == ["mine.csv"]
