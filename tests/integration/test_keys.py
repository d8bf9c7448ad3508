"""Where keys are found and kept: variables, files, the keyring; what is said where there is none."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

ROOT = Path(__file__).parents[2]
KEY = "sk-ant-api03-" + "KeYrInG0123456789" * 6
OWN = ("--provider", "anthropic", "--model", "claude-haiku-4-5")


@pytest.fixture
def ring(house: House) -> dict[str, str]:
    """Give the environment in which a file is the system's keyring."""
    return {
        "PYTHONPATH": str(ROOT),
        "PYTHON_KEYRING_BACKEND": "tests.fakes.keyring_file.FileKeyring",
        "KEYRING_PROPERTY_PATH": str(house.folder.parent / "ring.json"),
    }


def kept(ring: Mapping[str, str]) -> dict[str, str]:
    """Return what is in the keyring."""
    file = Path(ring["KEYRING_PROPERTY_PATH"])
    return dict(json.loads(file.read_text())) if file.exists() else {}


def test_a_key_from_the_keyring_is_sent(house: House, api: ApiServer, ring: dict[str, str]) -> None:
    """A key piped into key set is used by submit, is shown by no command, and is gone after key remove."""
    done = house.run("key", "set", "anthropic", "-", stdin=f"{KEY}\n".encode(), environ=ring)
    assert kept(ring) == {"batchrunner/anthropic": KEY}
    listed = house.run("key", "list", "--json", environ=ring)
    row = next(row for row in listed.json["keys"] if row["provider"] == "anthropic")
    assert (row["source"], row["usable"]) == ("the keyring", True)
    table = house.run("key", "list", environ=ring)
    assert "the keyring" in table.out
    house.jobs(1)
    house.submit(environ=ring)
    assert api.requests()[0].auth is not None
    removed = house.run("key", "remove", "anthropic", environ=ring)
    again = house.run("key", "remove", "anthropic", environ=ring)
    assert "was removed" in removed.err
    assert "was not in" in again.err
    assert kept(ring) == {}
    for said in (done, listed, table, removed):
        assert KEY[13:30] not in said.out + said.err


@pytest.mark.parametrize("verb", ["submit", "resume", "doctor"])
def test_the_keyring_is_asked_once_a_call(
    house: House, api: ApiServer, ring: dict[str, str], verb: str
) -> None:
    """However often a key is needed in a call, and by however many addresses, a person unlocks the keyring once."""
    house.run("key", "set", "anthropic", "-", stdin=KEY.encode(), environ=ring)
    counted = {**ring, "PYTHON_KEYRING_BACKEND": "tests.fakes.keyring_file.CountedKeyring"}
    house.jobs(1)
    to = (*house.to_api, "--base-url", f"{api.url}/second")
    if verb == "resume":
        house.run("submit", "jobs.jsonl", *to, "--no-run")
    args = {"submit": ("jobs.jsonl", *to), "resume": (), "doctor": to}[verb]
    house.run(verb, *args, environ=counted, code=None if verb == "doctor" else 0)
    assert api.requests()[0].auth is not None
    asked = Path(f"{ring['KEYRING_PROPERTY_PATH']}.asked").read_text().splitlines()
    assert asked == ["batchrunner/anthropic"]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ANTHROPIC_API_KEY": "foo"}, "does not start with sk-ant-"),
        ({"ANTHROPIC_API_KEY": "gsk_" + "a1" * 26}, "holds a Groq key"),
        ({}, "There is no key for Anthropic"),
    ],
    ids=["no key", "another's", "missing"],
)
def test_the_key_must_fit_each_of_several_addresses(
    house: House, api: ApiServer, environ: dict[str, str], words: str
) -> None:
    """A gateway first and the provider's own address second: what the provider can't take is told before anything is sent."""
    house.jobs(1)
    to = (*house.to_api, "--base-url", "https://api.anthropic.com", "--json")
    environ = {**environ, "https_proxy": "http://127.0.0.1:9"}
    done = house.run("submit", "jobs.jsonl", *to, environ=environ, code=4)
    assert words in done.error["message"]
    assert "api.anthropic.com too, which is one of the base URLs" in done.error["message"]
    assert api.requests() == []
    house.resume(environ={**environ, "ANTHROPIC_API_KEY": KEY})
    assert house.counts().completed == 1


def test_the_environment_comes_before_the_keyring(house: House, ring: dict[str, str]) -> None:
    """A variable wins over the keyring, and key set and key list say so."""
    environ = {**ring, "ANTHROPIC_API_KEY": KEY + "x"}
    done = house.run("key", "set", "anthropic", "-", stdin=KEY.encode(), environ=environ)
    assert "ANTHROPIC_API_KEY comes before the keyring" in done.err
    listed = house.run("key", "list", "--json", environ=environ).json["keys"]
    assert [row["source"] for row in listed if row["provider"] == "anthropic"] == [
        "ANTHROPIC_API_KEY"
    ]


def test_a_key_is_asked_for_without_an_echo(house: House, ring: dict[str, str]) -> None:
    """On a terminal key set asks, and what is typed does not appear."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchrunner", "key", "set", "anthropic"],
        cwd=house.folder, env={**house.environ, **ring},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"Key for Anthropic" not in shown:
        shown += os.read(mine, 1024)
    os.write(mine, KEY.encode() + b"\n")
    while True:
        try:
            piece = os.read(mine, 1024)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(mine)
    assert process.wait(30) == 0, shown
    assert kept(ring) == {"batchrunner/anthropic": KEY}
    assert KEY[:20].encode() not in shown


@pytest.mark.parametrize(
    ("args", "stdin", "code", "words"),
    [
        (["anthropic"], b"", 2, "write - to read standard input"),
        (["anthropic", KEY], b"", 2, "never an argument"),
        (["anthropic", "-"], b" \n", 2, "No key was given"),
        (["anthropic", "-"], b"sk-proj-abcdefgh1234", 4, "an OpenAI key"),
        (["anthropic", "-"], b"sk-ant-api03 x", 4, "a space at character 13"),
        (["anthropic", "-"], b"x" * 20_000, 2, "too long"),
        (["http", "-"], b"abc", 2, "takes no key"),
        (["anthropc", "-"], b"abc", 2, "Did you mean anthropic?"),
    ],
)
def test_what_is_no_key_is_not_kept(
    house: House, ring: dict[str, str], args: list[str], stdin: bytes, code: int, words: str
) -> None:
    """A key typed as an argument, another provider's, a malformed one: refused, nothing is kept or shown."""
    done = house.run("key", "set", *args, stdin=stdin, environ=ring, code=code)
    assert words in done.err
    assert KEY[:20] not in done.err
    assert kept(ring) == {}


def test_a_gateways_key_may_have_any_form(house: House, ring: dict[str, str]) -> None:
    """--any-form keeps what is no provider's form; a line break stays out all the same."""
    house.run("key", "set", "openai", "-", "--any-form", stdin=b'a "gateway" key', environ=ring)
    assert kept(ring) == {"batchrunner/openai": 'a "gateway" key'}
    house.run("key", "set", "openai", "-", "--any-form", stdin=b"a\nb", environ=ring, code=4)


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("keyring.backends.fail.Keyring", "this machine has none"),
        ("tests.fakes.keyring_file.LockedKeyring", "it is locked"),
        ("tests.fakes.keyring_file.ForgetfulKeyring", "it does not keep"),
    ],
)
def test_a_keyring_that_cannot_be_used_is_told(
    house: House, ring: dict[str, str], backend: str, words: str
) -> None:
    """No keyring, a locked one, one that forgets: key set exits 2 and says which; a run says where it looked."""
    environ = {**ring, "PYTHON_KEYRING_BACKEND": backend}
    done = house.run("key", "set", "anthropic", "-", stdin=KEY.encode(), environ=environ, code=2)
    assert words in done.err
    assert "fix: " in done.err
    house.jobs(1)
    run = house.run("submit", "jobs.jsonl", *OWN, "--json", environ=environ, code=4)
    assert "keyring" in run.error["message"]


def test_without_the_extra_the_command_says_how_to_get_it(house: House) -> None:
    """Where the package keyring is missing, key set names the pip command, and a run looks elsewhere."""
    (house.folder / "keyring.py").write_text("raise ModuleNotFoundError('keyring')")
    environ = {"PYTHONPATH": str(house.folder)}
    done = house.run("key", "set", "anthropic", "-", stdin=KEY.encode(), environ=environ, code=2)
    assert "pip install 'batchrunner[keyring]'" in done.err
    house.jobs(1)
    run = house.run("submit", "jobs.jsonl", *OWN, "--json", environ=environ, code=4)
    assert "pip install 'batchrunner[keyring]'" in run.error["message"]


def test_a_missing_key_names_every_place(house: House) -> None:
    """Without a key a run halts with exit 4, names where it looked, sends nothing, and resume goes on once it is there."""
    house.jobs(1)
    environ = {"ANTHROPIC_AUTH_TOKEN": " "}
    done = house.run("submit", "jobs.jsonl", *OWN, "--json", environ=environ, code=4)
    assert done.error["kind"] == "authentication"
    for place in (
        "ANTHROPIC_API_KEY (not set)", "ANTHROPIC_API_KEY_FILE (not set)",
        "ANTHROPIC_AUTH_TOKEN (empty)", "key_file", "the keyring",
    ):  # fmt: skip
        assert place in done.error["message"]
    assert "export ANTHROPIC_API_KEY=" in done.error["fix"]
    assert house.counts().pending == 1
    assert house.status().requests.sent == 0


def test_a_run_goes_on_when_its_key_is_mended(house: House, api: ApiServer) -> None:
    """A key refused for its form costs no request; resume with a good one finishes the run."""
    house.jobs(2)
    file = house.folder / "key"
    file.write_bytes(b"sk-ant-api03-ab\ncd")
    file.chmod(0o644)
    environ = {"ANTHROPIC_API_KEY_FILE": str(file)}
    done = house.submit(environ=environ, code=4)
    assert "a line break at character 16" in done.error["message"]
    assert api.requests() == []
    file.write_text(f"  {KEY}\n")
    done = house.resume(environ=environ)
    assert house.counts().completed == 2
    assert "chmod 600" in done.err
    assert "Stripped the space around the key in ANTHROPIC_API_KEY_FILE" in done.err


@pytest.mark.parametrize(
    ("provider", "variable", "key", "words"),
    [
        ("anthropic", "ANTHROPIC_API_KEY", KEY[:70], "is 70 characters long, and keys of this form have 108"),
        ("openai", "OPENAI_API_KEY", "foo", "holds something that does not start with sk-"),
        ("groq", "GROQ_API_KEY", "gsk_" + "a1" * 9, "it was cut when it was copied"),
    ],
)  # fmt: skip
def test_a_key_that_was_cut_costs_no_request(
    house: House, provider: str, variable: str, key: str, words: str
) -> None:
    """At the provider's own address what is too short to be a key halts the run before anything is sent: exit 4."""
    house.jobs(1)
    done = house.run(
        "submit", "jobs.jsonl", "--provider", provider, "--model", "m", "--json",
        environ={variable: key, "https_proxy": "http://127.0.0.1:9"}, code=4,
    )  # fmt: skip
    assert (done.error["kind"], done.error["exit_code"]) == ("authentication", 4)
    assert words in done.error["message"]
    assert f"export {variable}='…' && batchrunner resume" in done.error["fix"]
    assert key not in done.out + done.err or key == "foo"
    assert house.status().requests.sent == 0


def test_a_key_file_of_the_configuration_is_used(house: House, api: ApiServer) -> None:
    """key_file is read where no variable has a key, named by key list, and missing it is refused by name."""
    file = house.folder / "secret.key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    (house.folder / "batchrunner.toml").write_text('key_file = "secret.key"\n')
    listed = house.run("key", "list", "--json").json["keys"]
    assert {row["source"] for row in listed if row["provider"] == "anthropic"} == {"key_file"}
    house.jobs(1)
    house.submit()
    assert api.requests()[0].auth is not None
    file.unlink()
    house.jobs(2, "more.jsonl", prefix="m")
    done = house.submit(file="more.jsonl", code=4)
    assert str(file) in done.error["message"]
    assert "key_file" in done.error["message"]
