"""The unit and the containers of samples/workers start a worker that works, and stop it in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.house import House, until
from tests.integration.test_schedule import at_home

SAMPLES = Path(__file__).parents[2] / "samples" / "workers"
SERVICE = (SAMPLES / "batchrunner-worker@.service").read_text()
#: File → the words of its worker, and the variables that it sets.
CONTAINERS = {
    "Dockerfile": (r"CMD (\[.*\])", r"ENV (\w+)"),
    "compose.yaml": (r"command: (\[.*\])", r"^      ([A-Z_]+):"),
    "kubernetes.yaml": (r"args: (\[.*\])", r"- name: ([A-Z_]+)$"),
}


def setting(name: str) -> str:
    """Return a line of the unit."""
    (found,) = re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)
    return str(found)


@pytest.mark.slow
def test_the_unit_starts_a_worker_that_ends_as_it_says(house: House) -> None:
    """Its command drains the queue with the key of the file; SIGTERM ends it as a success, in its time."""
    home = Path(at_home(house)["HOME"])
    house.jobs(3)
    house.submit("--no-run", "--tags", "eu", code=0)
    # As systemd fills them in.
    filled = {"%h": str(home), "%d": str(home / ".config" / "batchrunner")}
    (key,) = re.findall(r"^Environment=ANTHROPIC_API_KEY_FILE=(.*)$", SERVICE, re.MULTILINE)
    (named,) = re.findall(r"^LoadCredential=anthropic:(.*)$", SERVICE, re.MULTILINE)
    assert key == "%d/anthropic"
    file = re.sub("%[hd]", lambda found: filled[found[0]], named)
    program, *words = shlex.split(setting("ExecStart"))
    assert Path(program.replace("%h", str(home))).stat().st_mode & 0o100
    worker = house.start(*words, "--tags", "eu", environ={"ANTHROPIC_API_KEY_FILE": file})
    until(lambda: house.counts().completed == 3, "it drains the queue")
    worker.send(signal.SIGTERM)
    ended = worker.ended(timeout=int(setting("TimeoutStopSec")))
    assert str(ended.code) == setting("SuccessExitStatus")
    refused = house.run("worker", "--provider", "nobody", code=None)
    assert str(refused.code) == setting("RestartPreventExitStatus")


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_call_what_there_is(house: House, name: str) -> None:
    """The words are ones that the program takes, the variables ones that it reads."""
    words, variables = CONTAINERS[name]
    text = (SAMPLES / name).read_text()
    (called,) = re.findall(words, text)
    house.run(*json.loads(called), "--help")
    known = {"BATCHRUNNER_DB", "PGPASSWORD", "ANTHROPIC_API_KEY_FILE"}
    assert set(re.findall(variables, text, re.MULTILINE)) <= known
    if name != "Dockerfile":
        grace = re.findall(r"(?:stop_grace_period: |terminationGracePeriodSeconds: )(\d+)", text)
        # Longer than a worker takes to end.
        assert [int(seconds) > 30 for seconds in grace] == [True]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """systemd knows every setting of it."""
    program = tmp_path / "batchrunner"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "batchrunner-worker@1.service"
    unit.write_text(SERVICE.replace("%h/.local/bin/batchrunner", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", unit.name],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
