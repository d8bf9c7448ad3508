"""A configuration at work: over real sockets, what the files say is what is sent and kept to."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from batchrunner.models import RunState
from batchrunner.views import LimitView
from tests.fakes import ApiServer
from tests.integration.house import House, until

TOP = 'provider = "anthropic"\nmodel = "sim-1"\n'


def configure(house: House, text: str) -> None:
    """Write the project's file, about the fake provider."""
    (house.folder / "batchrunner.toml").write_text(f'{TOP}base_url = "{house.url}"\n{text}')


def limit(house: House, name: str) -> LimitView | None:
    """Return a limit in force."""
    return next((view for view in house.app.limits() if view.limit == name), None)


def test_nothing_needs_to_be_typed(house: House, api: ApiServer) -> None:
    """Provider, address, model, fill-ins and headers come from the file."""
    configure(
        house,
        'max_tokens = 77\nsystem = "@brief.txt"\napi_version = "2026-10-21"\n'
        'headers = { X-Team = "research", X-Token = "${TEAM_TOKEN}" }\n',
    )
    (house.folder / "brief.txt").write_text("Be brief.")
    house.jobs(1)
    house.run("submit", "jobs.jsonl", environ={"TEAM_TOKEN": "t0k3n-of-the-team"})
    (request,) = api.requests()
    body = json.loads(house.show("j0").request)
    assert (body["model"], body["max_tokens"], body["system"]) == ("sim-1", 77, "Be brief.")
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["x-team"] == "research"
    assert request.headers["x-token"] == "t0k3n-of-the-team"
    assert b"t0k3n-of-the-team" not in house.db.read_bytes()


def test_variable_of_a_header_must_be_set(house: House, api: ApiServer) -> None:
    """A header's variable that is not set is refused before anything is stored."""
    configure(house, 'headers = { X-Token = "${TEAM_TOKEN}" }\n')
    house.jobs(1)
    done = house.run("submit", "jobs.jsonl", code=2)
    assert "TEAM_TOKEN is not set" in done.err
    assert not house.db.exists() or not house.app.runs()
    assert api.requests() == []


def test_flag_stored_environment_file_default(house: House, api: ApiServer) -> None:
    """The order of who is heard, seen in where requests go and what they carry."""
    dead = "http://127.0.0.1:9"
    configure(house, "")
    text = (house.folder / "batchrunner.toml").read_text().replace(house.url, dead)
    (house.folder / "batchrunner.toml").write_text(text + 'api_version = "from-file"\n')
    house.jobs(1)
    # The environment comes before the file.
    house.run("submit", "jobs.jsonl", environ={"ANTHROPIC_BASE_URL": house.url})
    # What is typed comes before both, and is stored: neither moves a later call.
    house.jobs(1, "two.jsonl", prefix="b")
    house.run("submit", "two.jsonl", "--no-run", "--base-url", house.url, "--api-version", "typed")
    house.run("resume", environ={"ANTHROPIC_BASE_URL": dead})
    versions = [request.headers["anthropic-version"] for request in api.requests()]
    assert versions == ["from-file", "typed"]


#: Who says where requests go, the weakest first: each adds its word to those before it.
LAYERS = [
    "user", "user-profile", "project", "project-profile", "environment", "stored", "flag",
]  # fmt: skip


@pytest.mark.parametrize("n", range(1, len(LAYERS) + 1), ids=LAYERS)
def test_each_layer_comes_before_those_below(house: House, api: ApiServer, n: int) -> None:
    """Flag, stored, environment, project's profile and top, user's profile and top: the first that speaks is heard."""
    said = {name: f"{house.url}/{name}" for name in LAYERS[:n]}

    def file(who: str) -> str:
        top = f'base_url = "{said[who]}"\n' if who in said else ""
        chosen = f'base_url = "{said[f"{who}-profile"]}"\n' if f"{who}-profile" in said else ""
        return f"{TOP}{top}[profiles.p]\n{chosen}"

    user = house.folder.parent / "xdg" / "batchrunner" / "batchrunner.toml"
    user.parent.mkdir(parents=True)
    user.write_text(file("user"))
    (house.folder / "batchrunner.toml").write_text(file("project"))
    environ = {"XDG_CONFIG_HOME": str(user.parents[1])}
    if "environment" in said:
        environ["ANTHROPIC_BASE_URL"] = said["environment"]
    house.jobs(1)
    stored = ("--base-url", said["stored"]) if "stored" in said else ()
    flag = ("--base-url", said["flag"]) if "flag" in said else ()
    house.run("submit", "jobs.jsonl", "--no-run", "--profile", "p", *stored, environ=environ)
    house.run("resume", "--profile", "p", *flag, environ=environ, code=None)
    assert {request.path.split("/")[1] for request in api.requests()} == {LAYERS[n - 1]}


def test_file_is_read_anew(house: House, api: ApiServer) -> None:
    """What the file said at submit is not kept: a changed line holds for the next call."""
    configure(house, 'headers = { X-Try = "one" }\n')
    house.jobs(1)
    house.run("submit", "jobs.jsonl", "--no-run")
    configure(house, 'headers = { X-Try = "two" }\n')
    house.run("resume")
    assert [request.headers["x-try"] for request in api.requests()] == ["two"]


def test_limits_of_the_file_come_and_go(house: House) -> None:
    """Limits hold with the source config, change with the file, and go when it lacks them."""
    configure(house, "rpm = 600\nrpd = 1000\nday_resets = 'Asia/Tokyo'\nmin_interval = '0.01'\n")
    house.jobs(2)
    done = house.run("submit", "jobs.jsonl")
    assert f"auto → 600, by {house.folder / 'batchrunner.toml'}:4" in done.err
    rpm, rpd, interval = (limit(house, name) for name in ("rpm", "rpd", "min_interval"))
    assert rpm is not None and rpd is not None and interval is not None  # noqa: PT018
    assert (rpm.value, rpm.source, rpm.used) == (600, "config", 2)
    assert (rpd.value, rpd.source, rpd.zone) == (1000, "config", "Asia/Tokyo")
    assert (interval.value, interval.source) == (10, "config")
    configure(house, "rpm = 300\n")
    done = house.run("resume")
    assert "600 → 300" in done.err
    rpm = limit(house, "rpm")
    assert rpm is not None
    assert (rpm.value, rpm.source, limit(house, "rpd")) == (300, "config", None)
    done = house.run("resume")
    assert "→" not in done.err
    (house.folder / "batchrunner.toml").unlink()
    done = house.run("resume")
    assert "300 → auto, by the configuration, which no longer has it" in done.err
    assert limit(house, "rpm") is None


def test_typed_limit_stays_above(house: House) -> None:
    """A flag's limit holds over the file's, says so, and gives way when it is taken back."""
    configure(house, "")
    house.jobs(1)
    house.run("submit", "jobs.jsonl", "--rpm", "500")
    configure(house, "rpm = 300\n")
    done = house.run("resume")
    assert "stays above it until: batchrunner limits set rpm=auto" in done.err
    found = limit(house, "rpm")
    assert found is not None
    assert (found.value, found.source) == (500, "flag")
    house.run("limits", "set", "rpm=auto")
    found = limit(house, "rpm")
    assert found is not None
    assert (found.value, found.source) == (300, "config")


def test_limits_of_the_file_are_kept_to(house: House, api: ApiServer) -> None:
    """A day's limit of the file stops the run like a typed one; a profile frees it at once."""
    configure(house, "rpd = 3\nday_resets = 'rolling'\n[profiles.paid]\nrpd = 'none'\n")
    house.jobs(5)
    house.run("submit", "jobs.jsonl", "--no-wait", code=3)
    assert len(api.requests()) == 3
    house.run("resume", "--no-wait", "--profile", "paid")
    assert len(api.requests()) == 5
    assert house.status().state is RunState.FINISHED


def test_limits_move_with_the_organization(house: House, api: ApiServer) -> None:
    """Where responses name an organization, the file's limits hold for it, and still come and go."""
    api.script([{"headers": {"anthropic-organization-id": "org-1"}}])
    configure(house, "rpd = 3\n")
    house.jobs(5)
    key = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "x" * 40}
    house.run("submit", "jobs.jsonl", "--no-wait", code=3, environ=key)
    assert len(api.requests()) == 3
    configure(house, "")
    house.run("resume", "--no-wait", environ=key)
    assert len(api.requests()) == 5
    assert [view for view in house.app.limits() if view.source == "config"] == []


def test_waiting_follows_the_file(house: House) -> None:
    """max_wait of the file ends a wait; what is typed comes before it."""
    configure(house, "rpd = 1\nmax_wait = '5s'\n")
    house.jobs(2)
    done = house.run("submit", "jobs.jsonl", code=3)
    assert "longer than this call may wait" in done.err


def test_tries_come_from_the_file(house: House, api: ApiServer) -> None:
    """max_attempts of the file bounds the tries; it is not stored with the run."""
    api.script([{"status": 500}])
    configure(house, "max_attempts = 1\n")
    house.jobs(1)
    house.run("submit", "jobs.jsonl", code=1)
    assert len(api.requests()) == 1
    assert house.rows()["j0"].attempts == 1


def test_run_is_sent_as_who_asked_configured_it(house: House, api: ApiServer) -> None:
    """A run taken up by another process goes where its own asker's configuration says."""
    api.script([{"delay_s": 0.1}])
    configure(house, "")
    house.jobs(300, "one.jsonl", prefix="a")
    house.jobs(2, "two.jsonl", prefix="b")
    other = house.folder / "other.toml"
    text = (house.folder / "batchrunner.toml").read_text()
    other.write_text(f'{text}headers = {{ X-Asker = "second" }}\npriority = 5\n')
    first = house.start("submit", "one.jsonl", "--json", "-c", "1")
    first.sees("job.completed")
    second = house.start("submit", "two.jsonl", "--json", "--config", str(other))
    second.ended(0)
    assert first.process.poll() is None
    until(lambda: house.counts("two").completed == 2, "the second run is done")
    first.kill()
    asked = {r.prompt: r.headers.get("x-asker") for r in api.requests()}
    assert {prompt: by for prompt, by in asked.items() if by} == {
        "say b0;": "second", "say b1;": "second",
    }  # fmt: skip


def test_key_file_is_used_and_never_shown(house: House, api: ApiServer) -> None:
    """key_file holds the key, relative to the file that names it."""
    configure(house, 'key_file = "key"\n')
    key = "sk-ant-api03-" + "k" * 60
    (house.folder / "key").write_text(f"{key}\n")
    (house.folder / "key").chmod(0o600)
    house.jobs(1)
    done = house.run("submit", "jobs.jsonl", "-v")
    (request,) = api.requests()
    assert request.auth is not None
    assert sha256(key.encode()).hexdigest().startswith(request.auth)
    assert key not in done.err + done.out
    assert key.encode() not in house.db.read_bytes()


def test_another_providers_run_is_not_sent_to_the_address(house: House, api: ApiServer) -> None:
    """--provider beside a file about another one takes nothing of its address."""
    configure(house, "")
    house.write("o.jsonl", [{"messages": [], "model": "gpt-x"}])
    done = house.run("submit", "o.jsonl", "--provider", "openai", code=4)
    assert "OPENAI_API_KEY" in done.err
    assert api.requests() == []


def test_database_of_the_file_is_used(house: House) -> None:
    """db names the database, relative to the file; --db and BATCHRUNNER_DB come before it."""
    configure(house, 'db = "data.db"\n')
    house.jobs(1)
    house.run("submit", "jobs.jsonl")
    assert (house.folder / "data.db").exists()
    assert not house.db.exists()
    assert "jobs" in house.run("runs").out
    house.run("runs", "--db", "none.db", code=2)
    house.run("runs", code=2, environ={"BATCHRUNNER_DB": "none.db"})


@pytest.mark.parametrize("words", [["resume"], ["runs"], ["export"]])
def test_broken_file_ends_before_anything(house: House, words: list[str]) -> None:
    """With a faulty file nothing is done: exit 2, the file, the line and the key."""
    configure(house, "rmp = 3\n")
    done = house.run(*words, code=2)
    assert "batchrunner.toml:4: there is no key rmp; did you mean rpm?" in done.err


def test_demo_ignores_the_file(house: House) -> None:
    """The demo runs beside any file, a broken one too."""
    (house.folder / "batchrunner.toml").write_text("rmp = 3\n")
    assert house.run("demo", "--help").code == 0
    running = house.start("demo", "--json")
    running.sees("run.started")


def test_proxy_of_the_file_is_taken(house: House) -> None:
    """The file's proxy stands before every address but this machine's; its password is a variable's."""
    text = (
        TOP
        + 'base_url = "http://api.invalid"\nallow_insecure_http = true\nproxy = "http://u:${PW}@127.0.0.1:9"\n'
    )
    (house.folder / "batchrunner.toml").write_text(text)
    house.jobs(1)
    done = house.run("submit", "jobs.jsonl", code=2)
    assert "PW" in done.err
    secret = "pr0xy-passw0rd"
    done = house.run("submit", "jobs.jsonl", "--max-wait", "1", code=6, environ={"PW": secret})
    assert "127.0.0.1:9" in done.err
    assert secret not in done.err
    assert secret.encode() not in house.db.read_bytes()


def test_absolute_addresses_are_held_to_the_files_address(house: House, api: ApiServer) -> None:
    """Plain HTTP lines may name absolute addresses of the file's base URL, and of no other."""
    text = f'provider = "HTTP"\nbase_url = "{house.url}"\n'
    (house.folder / "batchrunner.toml").write_text(text)
    house.write("good.jsonl", [{"id": "a", "method": "GET", "url": f"{house.url}/v1/models"}])
    house.write("bad.jsonl", [{"id": "b", "method": "GET", "url": "http://127.0.0.1:9/x"}])
    house.run("submit", "good.jsonl", "--no-run")
    done = house.run("submit", "bad.jsonl", "--no-run", code=2)
    assert "not of the base URL's origin" in done.err


def test_address_of_the_environment_tells_the_language(house: House) -> None:
    """A provider that speaks differently at another address does so for a variable's address too."""
    house.jobs(1)
    house.run(
        "submit", "jobs.jsonl", "--provider", "gemini", "--model", "gemini-2.5-flash", "--no-run",
        environ={"GOOGLE_GEMINI_BASE_URL": "https://gateway.example/v1beta/openai"},
    )  # fmt: skip
    assert json.loads(house.show("j0").request)["messages"][0]["content"] == "say j0;"


def test_limits_come_with_the_key(house: House, api: ApiServer) -> None:
    """Limits of a run that was stored without a key hold for the key's account once there is one."""
    house.jobs(2)
    own = ("--provider", "anthropic", "--model", "sim-1")
    house.run("submit", "jobs.jsonl", *own, "--no-run", "--rpm", "600")
    (house.folder / "batchrunner.toml").write_text("rpd = 100\n")
    house.jobs(2, "two.jsonl", prefix="b")
    key = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "x" * 95, "ANTHROPIC_BASE_URL": house.url}
    house.run("resume", environ=key)
    house.run("submit", "two.jsonl", *own, environ=key)
    views = house.app.limits()
    assert len({view.scope for view in views}) == 1
    assert {(view.limit, view.value, view.source, view.used) for view in views} == {
        ("rpm", 600, "flag", 4), ("rpd", 100, "config", 4),
    }  # fmt: skip


def test_run_taken_up_with_a_key_shares_its_limits(house: House, api: ApiServer) -> None:
    """A run whose own process had no usable key goes under the account of the one that sends."""
    api.script([{"delay_s": 0.1}])
    house.jobs(300, "one.jsonl", prefix="a")
    house.jobs(2, "two.jsonl", prefix="b")
    good = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "x" * 95}
    first = house.start("submit", "one.jsonl", *house.to_api, "--json", "-c", "1", environ=good)
    first.sees("job.completed")
    bad = {"ANTHROPIC_API_KEY": "sk-ant-\nx"}
    second = house.start("submit", "two.jsonl", *house.to_api, "--rpm", "6000", environ=bad)
    second.says("2 jobs")
    second.until(lambda: house.counts("two").completed == 2, "the second run is sent")
    (view,) = house.app.limits()
    assert (view.limit, view.value, view.source) == ("rpm", 6000, "flag")
    assert view.used is not None
    assert view.used > 2
    second.ended(0)
    first.kill()
