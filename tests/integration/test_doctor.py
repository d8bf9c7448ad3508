"""doctor finds what stands between a person and a provider, over real sockets, and costs nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from batchrunner.models import RunState, WaitingReason
from batchrunner.options import RunOptions
from batchrunner.views import CheckStatus, CheckView
from tests.fakes import ApiServer, running_server
from tests.fakes.network import Authority, running_proxy, tls_front
from tests.integration.house import House

KEY = "sk-ant-api03-" + "k" * 95
NAMES = [
    "configuration", "key", "dns", "tcp", "proxy", "tls", "http", "authentication", "permission",
    "model", "limits", "clock", "database", "disk",
]  # fmt: skip
MODELS = {"data": [{"id": "claude-haiku-4-5", "lifecycle": "active"}, {"id": "claude-opus-4-5"}]}
LISTED: list[dict[str, Any]] = [{"path": "/v1/models", "body": MODELS}]

OK, WARN, FAIL, SKIP = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAIL, CheckStatus.SKIP


@pytest.fixture
def keyed(house: House) -> House:
    """A house whose environment has a key."""
    house.environ["ANTHROPIC_API_KEY"] = KEY
    return house


async def examined(house: House, *, live: bool = False, **run: Any) -> dict[str, CheckView]:
    """Return the checks of a doctor by name; it never shows the key."""
    options = RunOptions(**{"provider": "anthropic", "base_url": house.url, **run})
    checks = await house.app.doctor(run=options, is_live=live)
    assert KEY not in repr(checks)
    return {check.check: check for check in checks}


def failed(checks: dict[str, CheckView]) -> list[tuple[str, int]]:
    """Return the checks that failed, with what each would exit with."""
    return [(name, check.exit_code) for name, check in checks.items() if check.status is FAIL]


def asked(api: ApiServer) -> list[str]:
    """Return what a server was asked for."""
    return [f"{request.method} {request.path}" for request in api.requests()]


# --- the command


def test_everything_is_well(keyed: House, api: ApiServer) -> None:
    """Each check is there in its order, nothing failed, one request was made, and no database."""
    api.script(LISTED)
    done = keyed.run("doctor", "--provider", "anthropic", "--base-url", api.url, "--json")
    checks = done.json["checks"]
    assert done.json["version"] == 1
    assert [check["check"] for check in checks] == NAMES
    assert {check["status"] for check in checks} <= {"ok", "skip"}
    assert all({"check", "status", "detail", "fix"} <= set(check) for check in checks)
    assert next(c for c in checks if c["check"] == "http")["took_ms"] > 0
    # The second, without the key, tells whether the list says anything of it.
    assert asked(api) == ["GET /v1/models"] * 2
    assert list(keyed.folder.iterdir()) == []


def test_a_person_reads_a_table(keyed: House, api: ApiServer) -> None:
    """Lines fit 80 columns, fixes stand below, the count is on stderr, and the key is nowhere."""
    api.script([{"path": "/v1/models", "status": 401}])
    done = keyed.run("doctor", "--provider", "anthropic", "--base-url", api.url, code=4)
    assert "✗ fail  authentication  HTTP 401: " in done.out
    assert "fix: " in done.out
    # A path is never broken, nor a command, so that they can be copied.
    kept = (str(keyed.folder), " && batchrunner doctor --provider anthropic --base-url ")
    told = [line for line in done.out.splitlines() if not any(map(line.__contains__, kept))]
    assert f"{kept[1]}{api.url}\n" in done.out
    assert max(map(len, told)) <= 80
    assert "1 failure" in done.err
    assert KEY not in done.out + done.err


def test_it_asks_for_the_provider_where_nothing_tells(house: House) -> None:
    """Without a run, a key or an option it asks for --provider: exit 2."""
    done = house.run("doctor", code=2)
    assert "--provider" in done.err


def test_the_built_in_provider_is_examined_too(house: House) -> None:
    """The simulator needs no key and no address; --live asks it for a word."""
    done = house.run("doctor", "--provider", "simulator", "--model", "sim-1", "--live", "--json")
    states = {check["check"]: check["status"] for check in done.json["checks"]}
    assert set(states.values()) == {"ok"}
    assert "live" in states


# --- before anything is asked


async def test_a_missing_key_costs_no_request(house: House, api: ApiServer) -> None:
    """It says where it looked: exit 4; nothing goes to the provider."""
    checks = await examined(house, base_url="https://api.anthropic.com", proxy=("none",))
    assert failed(checks)[0] == ("key", 4)
    assert "ANTHROPIC_API_KEY_FILE" in checks["key"].detail
    assert checks["key"].fix.startswith("export ANTHROPIC_API_KEY='…' && batchrunner doctor")
    assert "resume" not in checks["key"].fix
    assert checks["http"].status is SKIP


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("$MY_KEY", "unfilled variable"),
        ("gsk_" + "a" * 40, "Groq"),
        ("sk-ant-admin01-" + "a" * 40, "dmin"),
        (KEY[:60], "is 60 characters long, and keys of this form have 108"),
        ("foo", "does not start with sk-ant-"),
    ],
)
async def test_a_key_of_the_wrong_form_is_told_offline(house: House, key: str, word: str) -> None:
    """What can't be the provider's key is refused by its form: exit 4."""
    house.environ["ANTHROPIC_API_KEY"] = key
    checks = await examined(house, base_url="https://api.anthropic.com", proxy=("none",))
    assert failed(checks)[0] == ("key", 4)
    assert word in checks["key"].detail
    assert checks["http"].status is SKIP


async def test_the_key_variable_tells_the_provider(keyed: House, api: ApiServer) -> None:
    """Without --provider it is that of the key variable that is set, and this is said."""
    api.script(LISTED)
    checks = {c.check: c for c in await keyed.app.doctor(run=RunOptions(base_url=api.url))}
    assert "anthropic (told by ANTHROPIC_API_KEY)" in checks["configuration"].detail


@pytest.mark.parametrize(
    "run",
    [
        {"base_url": "http://example.org"},
        {"base_url": "ftp://example.org"},
        {"proxy": ("ftp://127.0.0.1:1",)},
        {"ca_file": "/nowhere/ca.pem"},
        {"headers": ("X-K: ${NOT_SET}",)},
    ],
    ids=["plain http", "no address", "proxy", "ca file", "header"],
)
async def test_options_that_cannot_work_fail_first(keyed: House, run: dict[str, Any]) -> None:
    """What a run would refuse before its first request is exit 2, and nothing else is tried."""
    done = keyed.run(
        "doctor",
        "--provider",
        "anthropic",
        *_typed({"base_url": keyed.url, **run}),
        "--json",
        code=2,
    )
    if "checks" in done.json:
        assert done.json["checks"][0]["status"] == "fail"
        assert done.json["checks"][0]["fix"]
    else:
        assert done.error["fix"]


def _typed(run: dict[str, Any]) -> list[str]:
    names = {"base_url": "--base-url", "proxy": "--proxy", "ca_file": "--ca-file", "headers": "-H"}
    return [
        word
        for name, value in run.items()
        for one in ([value] if isinstance(value, str) else value)
        for word in (names[name], one)
    ]


# --- the way


async def test_an_unknown_host(keyed: House) -> None:
    """A name that DNS has not: exit 6, and what comes after is skipped with the reason."""
    checks = await examined(keyed, base_url="https://no-such-host.invalid", proxy=("none",))
    assert failed(checks) == [("dns", 6)]
    assert "no-such-host.invalid" in checks["dns"].detail
    assert checks["tls"].detail == "not reached: dns failed"


async def test_a_dead_port(keyed: House, api: ApiServer) -> None:
    """Nobody listens: tcp fails, exit 6."""
    api.stop()
    checks = await examined(keyed)
    assert failed(checks) == [("tcp", 6)]


async def test_an_expired_certificate(keyed: House, api: ApiServer, tmp_path: Path) -> None:
    """tls fails in the transport's words, with the dates."""
    authority = Authority(tmp_path / "ca")
    with tls_front(api.port, authority.context(days=-1)) as url:
        checks = await examined(keyed, base_url=url, ca_file=str(authority.file))
    assert failed(checks) == [("tls", 6)]
    assert "expired" in checks["tls"].detail
    assert checks["tcp"].status is OK


async def test_a_trusted_certificate_tells_who_issued_it(
    keyed: House, api: ApiServer, tmp_path: Path
) -> None:
    """The version, the issuer and the end of the certificate; one that ends soon warns."""
    api.script(LISTED)
    authority = Authority(tmp_path / "ca")
    with tls_front(api.port, authority.context(days=90)) as url:
        checks = await examined(keyed, base_url=url, ca_file=str(authority.file))
        assert failed(checks) == []
        assert "Example Corp" in checks["tls"].detail
        assert checks["tls"].status is OK
    with tls_front(api.port, authority.context(days=2)) as url:
        checks = await examined(keyed, base_url=url, ca_file=str(authority.file))
        assert checks["tls"].status is WARN


async def test_a_handshake_that_never_ends(keyed: House) -> None:
    """A server that takes the connection and says nothing: tls fails, not tcp, within the time given."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        checks = await examined(keyed, base_url=url, connect_timeout_s=0.3)
    assert failed(checks) == [("tls", 6)]
    assert checks["tcp"].status is OK


async def test_https_to_a_plain_port(keyed: House, api: ApiServer) -> None:
    """The wrong scheme is told as such."""
    checks = await examined(keyed, base_url=api.url.replace("http://", "https://"))
    assert failed(checks) == [("tls", 6)]


async def test_proxies(keyed: House, api: ApiServer, tmp_path: Path) -> None:
    """A proxy that lets through is named; a wrong login and a dead proxy fail; no password is shown."""
    api.script(LISTED)
    authority = Authority(tmp_path / "ca")
    with (
        tls_front(api.port, authority.context()) as url,
        running_proxy("http", login=("amina", "sesame-open")) as proxy,
    ):
        at: dict[str, Any] = {"base_url": url, "ca_file": str(authority.file)}
        good = await examined(keyed, proxy=(proxy.url_of("amina", "sesame-open"),), **at)
        assert failed(good) == []
        assert proxy.url in good["proxy"].detail
        assert proxy.asked
        wrong = await examined(keyed, proxy=(proxy.url_of("amina", "sesame-shut"),), **at)
        assert failed(wrong) == [("proxy", 6)]
        assert "sesame" not in repr([*good.values(), *wrong.values()])
    dead = await examined(keyed, proxy=(proxy.url,), **at)
    assert failed(dead) == [("proxy", 6)]
    assert dead["tcp"].status is SKIP


def test_a_pasted_fix_examines_the_same_way(keyed: House, api: ApiServer, tmp_path: Path) -> None:
    """Provider, address and certificates that were typed are in the command, and it is all well."""
    api.script(LISTED)
    authority = Authority(tmp_path / "ca")
    with tls_front(api.port, authority.context()) as url, running_proxy("socks5") as proxy:
        typed = ("--provider", "anthropic", "--base-url", url, "--ca-file", str(authority.file))
        by_http = f"http://127.0.0.1:{proxy.port}"
        done = keyed.run("doctor", *typed, "--proxy", by_http, code=6)
        command = re.search(r"batchrunner (doctor --.*)", done.out)
        assert command is not None, done
        mended = keyed.run(*shlex.split(command[1]), code=0)
    assert url in mended.out
    assert f"socks5h://127.0.0.1:{proxy.port} (--proxy) leads to localhost" in " ".join(
        mended.out.split()
    )


async def test_each_of_several_addresses_is_checked(keyed: House, api: ApiServer) -> None:
    """Two base URLs, one of them dead: both are told, and the machine once."""
    api.script(LISTED)
    run = RunOptions(provider="anthropic", base_url=("http://127.0.0.1:9", api.url))
    checks = await keyed.app.doctor(run=run)
    told = [(check.base_url, check.check) for check in checks if check.status is FAIL]
    assert told == [("http://127.0.0.1:9", "tcp")]
    assert [c.status for c in checks if (c.base_url, c.check) == (api.url, "model")] == [OK]
    assert [check.check for check in checks].count("disk") == 1


# --- what answers tell


@pytest.mark.parametrize(
    ("answer", "check", "code"),
    [
        ({"status": 401}, "authentication", 4),
        ({"status": 403}, "permission", 4),
        ({"status": 402}, "permission", 4),
        ({"status": 302, "headers": {"location": "http://portal.example/"}}, "http", 6),
        ({"body": "<html><title>Hotel</title></html>", "headers": {"content-type": "text/html"}}, "http", 6),
        ({"fault": "reset"}, "http", 6),
        ({"fault": "garbage"}, "http", 6),
    ],
    ids=["401", "403", "402", "redirect", "portal", "reset", "garbage"],
)  # fmt: skip
async def test_a_refusal_has_its_place(
    keyed: House, api: ApiServer, answer: dict[str, Any], check: str, code: int
) -> None:
    """Each answer fails the check it belongs to, with a fix, and exits like a run would."""
    api.script([{"path": "/v1/models", **answer}])
    checks = await examined(keyed)
    assert failed(checks) == [(check, code)]
    assert checks[check].fix


@pytest.mark.parametrize("status", [503, 529, 429])
async def test_what_passes_by_itself_is_a_warning(
    keyed: House, api: ApiServer, status: int
) -> None:
    """An overloaded server and a limit are nobody's fault: a run waits for them."""
    api.script([{"path": "/v1/models", "status": status}])
    checks = await examined(keyed)
    assert failed(checks) == []
    assert WARN in {checks["http"].status, checks["limits"].status}


async def test_no_list_of_models_is_said(keyed: House, api: ApiServer) -> None:
    """A gateway without a list: the base URL's rule is told, and --live tells more."""
    api.script([{"path": "/v1/models", "status": 404, "body": {"error": "no"}}])
    checks = await examined(keyed, model="sim-1", live=True)
    assert checks["http"].status is WARN
    assert "--live" in checks["http"].fix
    assert checks["model"].status is SKIP
    assert checks["live"].status is OK
    assert checks["authentication"].status is OK


async def test_any_http_api_is_reached_and_not_asked(house: House, api: ApiServer) -> None:
    """The http provider has no list: the way is examined, no request is made, and this is said."""
    checks = await examined(house, provider="http")
    assert checks["tcp"].status is OK
    assert "no list of models" in checks["authentication"].detail
    assert asked(api) == []


@asynccontextmanager
async def gateway(header: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a list of models to whoever has the key in one header only."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        value = request.headers.get(header, "").removeprefix("Bearer ")
        seen.append(header if value == KEY else "")
        if value != KEY:
            return web.json_response({"error": {"message": "no key"}}, status=401)
        return web.json_response(MODELS)

    app = web.Application()
    app.router.add_get("/v1/models", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def test_a_gateway_that_takes_a_bearer(keyed: House) -> None:
    """x-api-key is refused, Authorization: Bearer is taken: the option for it is named."""
    async with gateway("Authorization") as (url, seen):
        checks = await examined(keyed, base_url=url)
        assert failed(checks) == [("authentication", 4)]
        assert "Authorization: Bearer, not as x-api-key" in checks["authentication"].detail
        assert "ANTHROPIC_AUTH_TOKEN" in checks["authentication"].fix
        assert seen == ["", "Authorization"]
        # What it names helps.
        keyed.environ["ANTHROPIC_AUTH_TOKEN"] = keyed.environ.pop("ANTHROPIC_API_KEY")
        assert failed(await examined(keyed, base_url=url)) == []


async def test_a_gateway_that_takes_x_api_key(house: House) -> None:
    """The other way about, with OpenAI's language: -H with the variable, and it helps."""
    house.environ["OPENAI_API_KEY"] = KEY
    async with gateway("x-api-key") as (url, _):
        checks = await examined(house, provider="openai", base_url=f"{url}/v1")
        assert failed(checks) == [("authentication", 4)]
        assert "-H 'x-api-key: ${OPENAI_API_KEY}'" in checks["authentication"].fix
        header = "x-api-key: ${OPENAI_API_KEY}"
        mended = await examined(house, provider="openai", base_url=f"{url}/v1", headers=(header,))
        assert failed(mended) == []


async def test_a_list_shown_to_anybody_proves_no_key(keyed: House, api: ApiServer) -> None:
    """Where the list comes without a key as well, doctor says that the key was not looked at."""
    api.script(LISTED)
    checks = await examined(keyed)
    assert checks["authentication"].status is SKIP
    assert "--live" in checks["authentication"].detail


async def test_a_guarded_list_proves_the_key(keyed: House) -> None:
    """Where it does not, the key is accepted."""
    async with gateway("x-api-key") as (url, seen):
        checks = await examined(keyed, base_url=url)
    assert checks["authentication"].status is OK
    assert seen == ["x-api-key", ""]


async def test_a_model_that_is_not_there(keyed: House, api: ApiServer) -> None:
    """The nearest name is told, with the command that takes it: exit 4."""
    api.script(LISTED)
    checks = await examined(keyed, model="claude-haiku-4.5")
    assert failed(checks) == [("model", 4)]
    assert "nearest: claude-haiku-4-5" in checks["model"].detail
    assert "--set model=claude-haiku-4-5" in checks["model"].fix


async def test_without_a_model_the_list_is_counted(keyed: House, api: ApiServer) -> None:
    """How many models the key can use."""
    api.script(LISTED)
    assert "can use 2: claude-haiku-4-5" in (await examined(keyed))["model"].detail


async def test_a_wrong_clock_warns(keyed: House, api: ApiServer) -> None:
    """A server whose Date is an hour ahead: how far, and what sets the clock."""
    date = formatdate(time.time() + 3600, usegmt=True)
    api.script([{"path": "/v1/models", "body": MODELS, "headers": {"date": date}}])
    checks = await examined(keyed)
    assert checks["clock"].status is WARN
    assert "60 min behind" in checks["clock"].detail
    assert checks["clock"].fix.startswith("Set it: sudo timedatectl")


# --- the ledger


def used(house: House) -> tuple[int, int]:
    """Return the requests of all accounts in the ledger's slots of a day, and in the days' counts."""
    connection = sqlite3.connect(house.db)
    try:
        (slots,) = connection.execute(
            "SELECT coalesce(sum(u.n), 0) FROM usage_slot u JOIN scope s ON s.id = u.scope_id"
            " WHERE s.kind = 'account' AND u.grain = 60000 AND u.unit = 'requests'"
        ).fetchone()
        (days,) = connection.execute("SELECT coalesce(sum(requests), 0) FROM usage_day").fetchone()
    finally:
        connection.close()
    return slots, days


async def test_live_asks_one_model_once_and_books_it(keyed: House, api: ApiServer) -> None:
    """One tiny request for the model; it and the lists are booked where a database knows the account."""
    keyed.jobs(1)
    keyed.submit()
    assert used(keyed) == (1, 1)
    checks = await examined(keyed, model="sim-1", live=True)
    assert failed(checks) == []
    assert "booked in the database's ledger" in checks["live"].detail
    (request,) = [r for r in api.requests() if r.prompt == "Say OK."]
    assert request.json["max_tokens"] == 16
    # The list twice (the second time without the key), and the model.
    assert used(keyed) == (4, 4)


async def test_a_spent_day_leaves_the_requests_out(keyed: House, api: ApiServer) -> None:
    """No limit is passed for the sake of a check: what can be told without a request is told."""
    api.script([{"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1)
    keyed.submit("--rpd", "1")
    checks = await examined(keyed, model="sim-1", live=True)
    assert failed(checks) == []
    assert checks["tls"].status is OK
    assert "admit no request before" in checks["http"].detail
    assert asked(api) == ["POST /v1/messages"]
    assert used(keyed) == (1, 1)


async def test_a_minutes_limit_is_waited_for(keyed: House, api: ApiServer) -> None:
    """With 60 a minute the checks take their turns, and no window holds more than it may."""
    api.script([{"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1)
    keyed.submit("--rpm", "60", "--min-interval", "0.5")
    await examined(keyed, model="sim-1", live=True)
    times = [request.mono for request in api.requests()]
    assert len(times) == 4
    assert min(b - a for a, b in pairwise(times)) >= 0.5


async def test_beside_a_process_that_sends_nothing_is_asked(keyed: House, api: ApiServer) -> None:
    """A holder has the ledger in memory: with a limit, doctor examines the way and leaves the rest."""
    api.script([{"method": "POST", "delay_s": 30}, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1)
    running = keyed.start_submit("--rpm", "600")
    running.until(api.requests, "a request in flight")
    checks = await examined(keyed)
    assert checks["tcp"].status is OK
    assert "another process sends" in checks["http"].detail
    assert "sends on it now" in checks["database"].detail
    assert [request.method for request in api.requests()] == ["POST"]
    running.kill()


async def test_beside_a_process_without_limits_it_counts(keyed: House, api: ApiServer) -> None:
    """Where no limit is in force doctor asks beside a holder, and its requests are in usage and in the day's count."""
    api.script([{"method": "POST", "delay_s": 30}, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1)
    running = keyed.start_submit()
    running.until(api.requests, "a request in flight")
    before = used(keyed)
    checks = await examined(keyed)
    assert checks["http"].status is OK
    n = asked(api).count("GET /v1/models")
    assert n == 2
    after = used(keyed)
    assert (after[0] - before[0], after[1] - before[1]) == (n, n)
    running.kill()


# --- the run that stands still


async def test_the_latest_unfinished_run_is_examined(keyed: House, api: ApiServer) -> None:
    """Without --provider it is the run's provider and address, and the models that its jobs ask for."""
    api.script([{"path": "/v1/models", "body": MODELS}])
    keyed.jobs(2, model="claude-opus-4.5")
    keyed.submit("--no-run", "--name", "tickets")
    checks = {check.check: check for check in await keyed.app.doctor()}
    assert f"as run tickets does) at {api.url}" in checks["configuration"].detail
    assert checks["model"].status is FAIL
    assert checks["model"].fix == "batchrunner resume tickets --set model=claude-opus-4-5"


async def test_a_run_whose_jobs_failed_is_examined(keyed: House, api: ApiServer) -> None:
    """Where no run has work left it is the latest whose jobs failed, at the address where they did."""
    api.script([{"path": "/v1/models", "body": MODELS}, {"status": 400, "body": "no"}])
    keyed.jobs(2)
    keyed.submit("--name", "tickets", code=1)
    checks = {check.check: check for check in await keyed.app.doctor()}
    assert f"as run tickets does) at {api.url}" in checks["configuration"].detail


def test_a_damaged_database_is_exit_5(keyed: House, api: ApiServer) -> None:
    """The way is well, the database is not."""
    api.script(LISTED)
    keyed.db.write_bytes(b"not a database" * 1000)
    done = keyed.run("doctor", "--provider", "anthropic", "--base-url", api.url, "--json", code=5)
    assert [c["check"] for c in done.json["checks"] if c["status"] == "fail"] == ["database"]


# --- advice in a run


NOT_FOUND: dict[str, Any] = {
    "method": "POST",
    "status": 404,
    "body": {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: claude-haiku-4.5"},
    },
}


def test_a_halt_for_a_model_names_the_nearest(keyed: House, api: ApiServer) -> None:
    """One request for the list, said and counted; the command in the fix finishes the run."""
    api.script([NOT_FOUND, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(3, model="claude-haiku-4.5")
    done = keyed.submit("--name", "tickets", code=4)
    assert done.error["kind"] == "model_not_found"
    assert done.error["fix"].endswith("resume tickets --set model=claude-haiku-4-5")
    assert "asked for once" in done.error["fix"]
    assert asked(api) == ["POST /v1/messages", "GET /v1/models"]
    assert used(keyed) == (2, 2)
    view = keyed.status()
    assert view.state is RunState.HALTED
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.MODEL_NOT_FOUND
    assert view.waiting.fix == done.error["fix"]
    api.script([])
    keyed.resume("--set", "model=claude-haiku-4-5")
    assert keyed.counts().completed == 3


def test_a_model_that_is_not_permitted_gets_advice_too(keyed: House, api: ApiServer) -> None:
    """A 403 for a model names the others."""
    message = {"type": "permission_error", "message": "Your key may not use the model claude-x-9."}
    api.script(
        [
            {"method": "POST", "status": 403, "body": {"type": "error", "error": message}},
            {"path": "/v1/models", "body": {"data": [{"id": "claude-x-9"}, {"id": "claude-x-8"}]}},
        ]
    )
    keyed.jobs(1, model="claude-x-9")
    done = keyed.submit(code=4)
    assert done.error["kind"] == "permission"
    assert done.error["fix"].startswith("Ask for access to the model, or give another (nearest ")
    assert done.error["fix"].endswith(" --set model=claude-x-8")


@pytest.mark.parametrize(
    "answer",
    [{"status": 500}, {"status": 401}, {"body": "no list"}, {"body": {"data": []}}, {"fault": "reset"}],
    ids=["500", "401", "no JSON", "empty", "reset"],
)  # fmt: skip
def test_without_a_list_the_message_stands(
    keyed: House, api: ApiServer, answer: dict[str, Any]
) -> None:
    """Whatever becomes of the advice, the run's own reason and fix are there."""
    api.script([NOT_FOUND, {"path": "/v1/models", **answer}])
    keyed.jobs(1, model="claude-haiku-4.5")
    done = keyed.submit(code=4)
    assert done.error["kind"] == "model_not_found"
    assert "--set model=NAME" in done.error["fix"]
    assert "asked for once" not in done.error["fix"]


def test_advice_never_passes_a_limit(keyed: House, api: ApiServer) -> None:
    """With the day used up by the request that failed, the list is not asked for."""
    api.script([NOT_FOUND, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(2, model="claude-haiku-4.5")
    done = keyed.submit("--rpd", "1", code=4)
    assert asked(api) == ["POST /v1/messages"]
    assert "--set model=NAME" in done.error["fix"]


def test_advice_that_no_limit_admitted_is_asked_for_later(keyed: House, api: ApiServer) -> None:
    """A list that was left out for a limit is asked for by the next call that halts for the same model."""
    api.script([NOT_FOUND, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(2, model="claude-haiku-4.5")
    keyed.submit("--rpd", "1", code=4)
    assert "GET /v1/models" not in asked(api)
    done = keyed.resume("--rpd", "none", code=4)
    assert "--set model=claude-haiku-4-5" in done.error["fix"]
    assert asked(api).count("GET /v1/models") == 1


def test_advice_goes_by_the_way_that_works(keyed: House, api: ApiServer) -> None:
    """With a dead address before the good one the list comes from where the answers come from."""
    api.script([NOT_FOUND, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1, model="claude-haiku-4.5")
    done = keyed.run(
        "submit", "jobs.jsonl", "--provider", "anthropic", "--json",
        "--base-url", "http://127.0.0.1:9", "--base-url", api.url, code=4,
    )  # fmt: skip
    assert "--set model=claude-haiku-4-5" in done.error["fix"]


def test_of_several_processes_one_asks(keyed: House, api: ApiServer) -> None:
    """A follower sees the same halt, and the list is asked for once."""
    api.script([{**NOT_FOUND, "delay_s": 0.5}, {"path": "/v1/models", "body": MODELS}])
    keyed.jobs(1, model="claude-haiku-4.5")
    sender = keyed.start_submit("--name", "tickets")
    sender.until(api.requests, "a request in flight")
    # The server stands still until the second process follows.
    os.kill(api.pid, signal.SIGSTOP)
    try:
        follower = keyed.start("resume", "tickets")
        follower.says("following it")
    finally:
        os.kill(api.pid, signal.SIGCONT)
    sender.ended(4)
    follower.ended(4)
    assert asked(api) == ["POST /v1/messages", "GET /v1/models"]


def test_other_halts_ask_for_nothing(keyed: House) -> None:
    """A bad key costs one request, and no look at a list."""
    with running_server([{"status": 401}]) as api:
        keyed.url = api.url
        keyed.jobs(3)
        keyed.submit(code=4)
        assert len(api.requests()) == 1


def test_json_of_a_failure_has_no_secret(keyed: House, api: ApiServer) -> None:
    """A server that throws the key back does not get it shown."""
    api.script(
        [{"path": "/v1/models", "status": 401, "body": {"error": {"message": f"bad {KEY}"}}}]
    )
    done = keyed.run(
        "doctor", "--provider", "anthropic", "--base-url", api.url, "--json", code=4
    )  # fmt: skip
    assert KEY not in done.out + done.err
    assert "redacted" in json.dumps(done.json)
