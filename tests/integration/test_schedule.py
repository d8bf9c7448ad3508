"""The units and the crontab line of samples/schedule do what they say, on runs that were stopped."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchrunner.models import RunState
from tests.integration.house import House

SCHEDULE = Path(__file__).parents[2] / "samples" / "schedule"
SERVICE = (SCHEDULE / "batchrunner.service").read_text()


def at_home(house: House) -> dict[str, str]:
    """Put the program and a key where the samples look for them; return what cron would set."""
    home = house.folder.parent
    program = home / ".local" / "bin" / "batchrunner"
    program.parent.mkdir(parents=True)
    root = Path(__file__).parents[2]
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(root))} exec {sys.executable} -m batchrunner "$@"\n'
    )
    program.chmod(0o755)
    key = home / ".config" / "batchrunner" / "anthropic-key"
    key.parent.mkdir(parents=True)
    key.write_text("a-key-of-a-gateway\n")
    (home / "jobs").symlink_to(house.folder)
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "TZ": "UTC"}


def two_stopped(house: House) -> None:
    """Leave two runs unfinished, and a third one paused."""
    for name in ("a", "b", "c"):
        house.jobs(2, f"{name}.jsonl", prefix=name)
        house.submit("--no-run", file=f"{name}.jsonl")
    house.run("pause", "c")


def finished(house: House) -> dict[str, RunState]:
    """Return the state of each run."""
    return {run.name: run.state for run in house.app.runs()}


def test_crontab_line_finishes_what_was_left(house: House) -> None:
    """The line as cron would run it sends every unfinished run, with the key of the file, and no paused one."""
    environ = at_home(house)
    two_stopped(house)
    (line,) = [
        line for line in (SCHEDULE / "crontab").read_text().splitlines() if not line.startswith("#")
    ]
    times, command = line.split()[:5], line.split(maxsplit=5)[5]
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in times)
    assert "%" not in command, "cron takes it for the end of a line"
    done = subprocess.run(["/bin/sh", "-c", command], env=environ, cwd="/", check=False, timeout=60)
    log = (house.folder / "resume.log").read_text()
    assert done.returncode == 0, log
    assert finished(house) == {
        "a": RunState.FINISHED, "b": RunState.FINISHED, "c": RunState.PAUSED,
    }  # fmt: skip


def test_each_run_has_its_last_words(house: House) -> None:
    """resume --all tells how each of its runs ended, with its own results, the one that ended worst last."""
    for name in ("a", "b", "c"):
        house.jobs(2, f"{name}.jsonl", prefix=name)
        output = () if name == "c" else ("-o", f"{name}.csv")
        house.submit("--no-run", *output, file=f"{name}.jsonl")
    # Six jobs, and five of them may go today.
    done = house.run("resume", "--all", "--rpd", "5", "--no-wait", "-c", "1", code=3)
    ends = [line for line in done.err.splitlines() if " of 2 jobs completed" in line]
    left = [line for line in ends if "stopped" in line]
    assert sorted(line.split()[0] for line in ends) == ["a", "b", "c"]
    assert ends[-1:] == left
    for name in ("a", "b"):
        assert f"results: {house.folder / name}.csv" in done.err


@pytest.mark.slow
def test_service_runs_a_command_that_does_it(house: House) -> None:
    """The command of the unit, in its folder and with its variable, finishes what was left."""
    environ = at_home(house)
    two_stopped(house)
    said = dict(
        re.findall(
            r"^(ExecStart|WorkingDirectory|Environment|LoadCredential)=(.*)$", SERVICE, re.MULTILINE
        )
    )
    name, _, source = said["LoadCredential"].partition(":")
    variable, _, path = said["Environment"].partition("=")
    assert path == f"%d/{name}"
    home = environ["HOME"]
    words = [word.replace("%h", home) for word in shlex.split(said["ExecStart"])]
    done = subprocess.run(
        words, env={**environ, variable: source.replace("%h", home)},
        cwd=said["WorkingDirectory"].replace("%h", home), check=False, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert finished(house)["b"] is RunState.FINISHED


def test_units_are_what_systemd_takes(house: House) -> None:
    """systemd finds nothing to say about the units."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    folder = house.folder
    (folder / "batchrunner.service").write_text(
        SERVICE.replace("%h/.local/bin/batchrunner", sys.executable)
    )
    shutil.copy(SCHEDULE / "batchrunner.timer", folder)
    done = subprocess.run(
        [program, "--user", "verify", "batchrunner.timer", "batchrunner.service"],
        env={**house.environ, "XDG_RUNTIME_DIR": str(folder)},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
