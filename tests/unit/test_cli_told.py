"""What the command line says holds no secret: notices, what libraries log, its own errors."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from batchrunner.cli.told import Told, without_secrets
from batchrunner.core.credentials import Secrets
from batchrunner.views import Event, Listener, Progress

SECRET = "plain-looking-but-secret-42"


class Ear:
    """A listener that remembers."""

    wants_jobs = True

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.events: list[Event] = []
        self.entered = 0

    def event(self, event: Event) -> None:
        self.events.append(event)

    def progress(self, progress: Progress) -> None: ...

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_a_notice_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of a variable that looks like a secret does not reach who watches; events do, as they are."""
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    ear = Ear()

    @contextlib.contextmanager
    def watching() -> Iterator[Listener]:
        ear.entered += 1
        yield ear

    event = Event(event="run.started", at=1, run_id="r", run_name="n")
    with Told(watching()) as told:
        assert told.wants_jobs
        told.notice(f"the server said {SECRET} and sk-ant-api03-abcdefgh12345")
        told.event(event)
    assert ear.notices == ["the server said [redacted] and [redacted]"]
    assert (ear.events, ear.entered) == ([event], 1)


@pytest.mark.parametrize(
    ("variable", "value", "is_hidden"),
    [
        ("MY_API_KEY", SECRET, True),
        ("HTTPS_PROXY", f"http://me:{SECRET}@proxy:3128", True),
        ("PROJECT", SECRET, False),
        ("SHORT_KEY", "five5", False),
    ],
)
def test_variables_that_look_like_secrets_are_hidden(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_hidden: bool
) -> None:
    """By name and length, and a proxy's password; ordinary words stay."""
    monkeypatch.setattr("batchrunner.cli.told.SECRETS", Secrets())
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    monkeypatch.setenv(variable, value)
    word = SECRET if SECRET in value else value
    assert ("[redacted]" in without_secrets(f"it is {word}.")) is is_hidden


def test_what_libraries_log_is_told_without_secrets() -> None:
    """A traceback that asyncio or aiohttp logs where nobody has set up logging goes through the same sieve."""
    script = f"""
import asyncio, os
from batchrunner.cli.told import quiet_loggers
os.environ["SOME_TOKEN"] = {SECRET!r}
quiet_loggers()
async def broken():
    raise ValueError("header: " + os.environ["SOME_TOKEN"])
async def main():
    task = asyncio.ensure_future(broken())
    await asyncio.sleep(0)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "never retrieved" in done.stderr
    assert "header: [redacted]" in done.stderr
    assert SECRET not in done.stderr.replace(script, "")
