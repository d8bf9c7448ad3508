"""Standard streams as they come: closed, or in an encoding that lacks what is written."""

from __future__ import annotations

import subprocess
import sys

from tests.fakes import ApiServer
from tests.integration.house import House


def closed(house: House, descriptor: int, *args: str) -> tuple[int, str, str]:
    """Run a command with one standard stream closed, as ``>&-`` does; return code, stdout, stderr."""
    sign = "<" if descriptor == 0 else ">"
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {descriptor}{sign}&-', "sh", sys.executable, *house.program, *args],
        cwd=house.folder, env=house.environ, capture_output=True, timeout=60, check=False, text=True,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


def test_closed_streams_are_as_good_as_null(house: House, api: ApiServer) -> None:
    """A command with stdin, stdout or stderr closed does what it does, without a word where that one was."""
    house.jobs(2)
    assert closed(house, 2, "submit", "jobs.jsonl", *house.to_api) == (0, "", "")
    assert house.counts().completed == 2
    for view in (("status",), ("--version",)):
        assert closed(house, 1, *view) == (0, "", ""), view
    code, out, err = closed(house, 1, "submit", "jobs.jsonl", "--name", "b", "--new", *house.to_api)
    assert (code, out, "Traceback" in err) == (0, "", False), err
    assert house.counts("b").completed == 2
    code, _, err = closed(house, 0, "submit", "-", *house.to_api)
    assert code == 2
    assert "no jobs" in err
