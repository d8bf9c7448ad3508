"""Standard streams as they come: closed, or in an encoding that lacks what is written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_json_in_any_encoding(house: House, api: ApiServer, encoding: str) -> None:
    """Where stdout is not UTF-8, views and events of --json are ASCII: é and emoji come back as they were."""
    text = "é \U0001f600"
    api.script(
        [{"status": 400, "body": {"error": {"type": "invalid_request_error", "message": text}}}]
    )
    house.write("jobs.jsonl", [{"id": text, "prompt": "x"}])
    bytes_out = [
        subprocess.run(
            [sys.executable, *house.program, *args],
            cwd=house.folder, env={**house.environ, "PYTHONIOENCODING": encoding},
            stdout=subprocess.PIPE, timeout=60, check=False,
        ).stdout
        for args in (
            ("submit", "jobs.jsonl", *house.to_api, "--json"), ("jobs", "--json"), ("errors", "--json"),
        )
    ]  # fmt: skip
    events, jobs, errors = [
        [json.loads(line) for line in out.decode("ascii").splitlines()]
        if n == 0
        else json.loads(out.decode("ascii"))
        for n, out in enumerate(bytes_out)
    ]
    assert text in [event.get("key") for event in events]
    assert [job["key"] for job in jobs["jobs"]] == [text]
    assert text in str(errors["errors"])
