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
    assert not house.db.exists()
    (house.folder / "lines.jsonl").unlink()
    assert find_secret(house.folder, *said(typed, url, line)) == []


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"X-Auth-Token": TOKEN}, "/v1"),
        ({"X-Team": f"Bearer {TOKEN}"}, "/v1"),
        ({"Cookie": f"sid={TOKEN}"}, "/v1"),
        ({}, f"/v1?access_token={TOKEN}"),
        ({}, f"http://me:{TOKEN}@127.0.0.1:9/v1"),
    ],
)
def test_nothing_of_a_line_with_a_credential_is_shown_or_kept(
    house: House, headers: dict[str, str], url: str
) -> None:
    """A line refused for a credential is named by number; no excerpt, no rejects file and no database holds it."""
    line = {"custom_id": "a", "method": "GET", "url": url, "headers": headers}
    good = {"custom_id": "b", "method": "GET", "url": "/v1"}
    house.write("lines.jsonl", [line, good])
    to = ("--provider", "http", "--base-url", "http://127.0.0.1:9", "--no-run")
    refused = house.run("submit", "lines.jsonl", *to, code=2)
    assert "lines.jsonl:1:" in refused.err
    skipped = house.run("submit", "lines.jsonl", *to, "--skip-invalid", code=None)
    (rejects,) = house.folder.glob("*.rejects.jsonl")
    assert '"line":1' in rejects.read_text()
    (house.folder / "lines.jsonl").unlink()
    assert find_secret(house.folder, *said(refused, skipped)) == []


@pytest.mark.parametrize(
    ("typed", "environ"),
    [
        (("-H", f"Bearer {TOKEN}"), {}),
        (("-H", TOKEN), {}),
        (("-H", f"Private-Token: {TOKEN}"), {}),
        (("--base-url", f"https://{TOKEN}@host.example"), {}),
        (("--base-url", f"https://host.example/?key={TOKEN}"), {}),
        ((), {"ANTHROPIC_BASE_URL": f"http://me:{TOKEN}@127.0.0.1:9"}),
        (("--bogus", KEY), {}),
        (("--api-key", KEY), {}),
    ],
)
def test_a_credential_in_a_wrong_place_is_not_repeated(
    house: House, typed: tuple[str, ...], environ: dict[str, str]
) -> None:
    """Exit 2 without the value, whatever was typed wrongly around it; nothing of it is stored."""
    house.jobs(1)
    provider = ("--provider", "anthropic", "--model", "m")
    done = house.run("submit", "jobs.jsonl", *provider, *typed, code=2, environ=environ)
    again = house.run("submit", "jobs.jsonl", *provider, *typed, "--json", code=2, environ=environ)
    assert "error: " in done.err
    assert find_secret(house.folder, *said(done, again)) == []


def test_no_process_shows_a_key(house: House, api: ApiServer) -> None:
    """Neither the command line nor the title of a process that sends holds a key from its environment."""
    api.script([{"fault": "hang"}])
    house.jobs(1)
    house.is_cold = True
    running = house.start_submit(environ={"ANTHROPIC_API_KEY": KEY})
    running.until(api.requests, "a request")
    place = Path("/proc", str(running.process.pid))
    if not place.exists():
        pytest.skip("no /proc here")
    shown = (place / "cmdline").read_text() + (place / "comm").read_text()
    running.kill()
    assert "submit" in shown
    assert find_secret(house.folder, shown) == []


def test_a_kill_leaves_no_key_behind(house: House, api: ApiServer) -> None:
    """After kill -9 the files of the database, its log included, hold no key either."""
    api.script([{"n": 1}, {"fault": "hang"}])
    house.jobs(4)
    running = house.start_submit("-c", "2", environ={"ANTHROPIC_API_KEY": KEY})
    running.sees("job.completed")
    running.kill()
    assert find_secret(house.folder, running.so_far.out, running.so_far.err) == []
