"""Secrets stay in memory: no byte of a credential in any file or on any screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import ApiServer, running_server
from tests.integration.house import Done, House

KEY = "sk-ant-api03-" + "SeCrEt0123456789" * 3
TOKEN = "header-token-SeCrEt-9876543210"


def find_secret(folder: Path, *texts: str) -> list[str]:
    """Return where a secret, or a long enough piece of one, is found."""
    pieces = [KEY[13:33], KEY[-16:], TOKEN]
    found = [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(piece.encode() in path.read_bytes() for piece in pieces)
    ]
    return found + [text for text in texts if any(piece in text for piece in pieces)]


def said(*commands: Done) -> list[str]:
    """Return everything commands printed."""
    return [text for done in commands for text in (done.out, done.err)]


@pytest.mark.parametrize(
    "status",
    [400, 401, *(pytest.param(n, marks=pytest.mark.slow) for n in (200, 500))],
)
def test_no_credential_is_kept_or_shown(house: House, status: int, tmp_path: Path) -> None:
    """Even where the server throws the key back at us, no file and no output holds it."""
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": f"bad key {KEY} and {TOKEN}"},
    }
    rule = {"status": status, "body": body} if status != 200 else {}
    environ = {"ANTHROPIC_API_KEY": KEY, "MY_TOKEN": TOKEN}
    with running_server([rule] if rule else []) as api:
        house.url = api.url
        house.jobs(2)
        options = ("-H", "X-Token: ${MY_TOKEN}", "--max-attempts", "1", "--log-file", "log.txt")
        ran = house.submit(*options, "-v", "--max-wait", "1", code=None, environ=environ)
        assert api.requests()[0].auth is not None
        assert api.requests()[0].headers["x-token"] == TOKEN
    views = [
        house.run(*args, code=None, environ=environ)
        for args in (["status"], ["errors"], ["jobs"], ["limits"], ["export", "-f", "jsonl"])
    ]
    assert find_secret(house.folder, *said(ran, *views)) == []


def test_a_credential_typed_is_refused(house: House, api: ApiServer) -> None:
    """A literal credential in -H, a base URL or a line is refused, named by its place, and not repeated."""
    house.jobs(1)
    typed = house.submit("-H", f"x-api-key: {KEY}", code=2)
    url = house.run(
        "submit", "jobs.jsonl", "--provider", "anthropic", "--model", "m",
        "--base-url", f"http://user:{TOKEN}@127.0.0.1:9", "--json", code=2,
    )  # fmt: skip
    house.write(
        "lines.jsonl",
        [
            {
                "custom_id": "a",
                "method": "GET",
                "url": "/",
                "headers": {"Authorization": f"Bearer {KEY}"},
            }
        ],
    )
    line = house.run(
        "submit", "lines.jsonl", "--provider", "http", "--base-url", api.url, "--json", code=2
    )
    assert line.error["lines"][0]["line"] == 1
    assert house.app.runs() == []
    (house.folder / "lines.jsonl").unlink()
    assert find_secret(house.folder, *said(typed, url, line)) == []


def test_a_kill_leaves_no_key_behind(house: House, api: ApiServer) -> None:
    """After kill -9 the files of the database, its log included, hold no key either."""
    api.script([{"n": 1}, {"fault": "hang"}])
    house.jobs(4)
    running = house.start_submit("-c", "2", environ={"ANTHROPIC_API_KEY": KEY})
    running.sees("job.completed")
    running.kill()
    assert find_secret(house.folder, running.so_far.out, running.so_far.err) == []
