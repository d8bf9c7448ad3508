"""Tells a command or a web address when a run of a call finishes, stops, or begins a long wait.

A notification never hurts the run: it is made beside it, bounded in time, and what goes wrong with
it is told once a call. What is told is an event of ``--json``, with no key in it; a command does
not get the providers' keys in its environment either. Neither the command nor the address is
stored: a database that comes from somewhere else can't have anything run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from yarl import URL

from batchrunner.checking import VARIABLE
from batchrunner.clock import wall_ms
from batchrunner.core.credentials import Secrets, redact
from batchrunner.core.hosts import is_loopback
from batchrunner.engine.feed import counts_json, waiting_json
from batchrunner.engine.roster import Ending
from batchrunner.engine.stops import Stops
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.formats.rows import rfc3339
from batchrunner.models import Request, RunState, Waiting, WaitingReason
from batchrunner.routes import way_to
from batchrunner.transport import Transport
from batchrunner.views import Event, Listener, Progress, RunView

__all__ = ["Notifier", "Target", "webhook_address"]

#: A wait from this on is worth a word (ms).
LONG_WAIT_MS: Final = 5 * 60_000
#: How long a command, and a web address, may take (seconds).
COMMAND_S: Final = 30.0
WEBHOOK_S: Final = 15.0
#: Nobody reads the answer of a web address; its first bytes are enough to be polite.
_MOST_ANSWER: Final = 64 * 1024
#: Ends that somebody brought about who knows of it.
_NO_NEWS: Final = (WaitingReason.INTERRUPTED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is told, and how."""

    command: str | None
    #: With every variable filled in.
    webhook: str | None
    #: The database's absolute path.
    db: str
    #: What the command gets for an environment, before the words about the event.
    environ: Mapping[str, str]
    #: Variables that hold the providers' keys.
    key_variables: frozenset[str]
    secrets: Secrets
    #: The options in force of a run, by its id: its proxy is the web address's too.
    options_of: Callable[[str], Mapping[str, Any]]
    #: This call's proxies, with the passwords that are not stored.
    typed_proxies: tuple[str, ...]


def webhook_address(written: str, environ: Mapping[str, str], *, allow_insecure_http: bool) -> str:
    """Return an address with its ``${VAR}`` filled in; raises :class:`UsageError`, showing nothing of it."""

    def fill(name: str) -> str:
        value = environ.get(name, "").strip()
        if not value:
            raise UsageError(
                f"--webhook wants ${{{name}}}, and {name} is not set.",
                fix=f"Set it, then try again: export {name}='…'",
            )
        return value

    try:
        url = URL(VARIABLE.sub(lambda found: fill(found[1]), written.strip()))
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            "--webhook is no address.", fix="Write it like https://host/path, or '${VAR}'."
        )
    if url.scheme == "http" and not allow_insecure_http and not is_loopback(url.host):
        raise UsageError(
            f"--webhook: http://{url.host} is unencrypted.",
            fix="Write https://, or, where you trust the whole way to it, add --allow-insecure-http.",
        )
    return str(url)


class Notifier:
    """A :class:`batchrunner.views.Listener` that passes everything on, and tells others besides."""

    def __init__(
        self, target: Target, listener: Listener | None, stops: Stops, *, holds_end: bool = False
    ) -> None:
        """Stand before ``listener``; ``holds_end``: how a run ended is told when all is written."""
        self._target = target
        self._listener = listener
        self._stops = stops
        self.holds_end = holds_end
        self.wants_jobs = listener is not None and listener.wants_jobs
        self._deliveries: set[asyncio.Task[None]] = set()
        self._ended: set[str] = set()
        #: Run → the end of the wait that was told last.
        self._waits: dict[str, int] = {}
        self._complained: set[str] = set()

    # --- what a listener takes

    def event(self, event: Event) -> None:
        """Take one event, after its commit."""
        if self._listener is not None:
            self._listener.event(event)
        if event.event in ("run.finished", "run.halted") and not self.holds_end:
            self._end(event)

    def progress(self, progress: Progress) -> None:
        """Look whether a long wait has begun."""
        if self._listener is not None:
            self._listener.progress(progress)
        run = progress.run
        until = run.waiting.until if run.waiting is not None else None
        if run.state is not RunState.WAITING or until is None:
            return
        now = wall_ms()
        if until - now >= LONG_WAIT_MS and self._waits.get(run.id, 0) <= now:
            self._waits[run.id] = until
            self._tell(_event("limit.waiting", run, {"waiting": _told(run.waiting)}))

    def notice(self, text: str) -> None:
        """Pass a sentence on."""
        if self._listener is not None:
            self._listener.notice(text)

    # --- the call's own

    def ended(self, run: RunView, ending: Ending, output: str | None) -> None:
        """Tell how a run of the call ended, unless that was told."""
        data: dict[str, Any] = {"jobs": counts_json(run.jobs), "exit_code": int(ending.exit_code)}
        if output is not None:
            data["output"] = output
        if ending.waiting is None:
            self._end(_event("run.finished", run, data))
        else:
            data["waiting"] = _told(ending.waiting)
            self._end(_event("run.halted", run, data))

    async def close(self) -> None:
        """Wait for what is under way; a Ctrl-C from now on ends that."""
        aborted = asyncio.Event()
        self._stops.watch(aborted.set)
        if self._stops.abort:
            aborted.set()
        stopping = asyncio.ensure_future(aborted.wait())
        while self._deliveries and not aborted.is_set():
            await asyncio.wait({*self._deliveries, stopping}, return_when=asyncio.FIRST_COMPLETED)
        left = [stopping, *self._deliveries]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _end(self, event: Event) -> None:
        if event.run_id in self._ended:
            return
        self._ended.add(event.run_id)
        waiting = event.data.get("waiting")
        if waiting is None or waiting["reason"] not in _NO_NEWS:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for channel, deliver in (("--notify", self._command), ("--webhook", self._post)):
            task = asyncio.ensure_future(self._deliver(channel, deliver, event))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, channel: str, deliver: Any, event: Event) -> None:
        try:
            trouble = await deliver(event, self._message(event))
        except (OSError, BatchrunnerError) as error:
            trouble = str(error)
        if trouble and channel not in self._complained:
            self._complained.add(channel)
            told = redact(trouble, self._target.secrets)
            self.notice(f"{channel}: {told} ({event.event} of {event.run_name}); the run goes on")

    def _message(self, event: Event) -> bytes:
        message = {
            "version": 1,
            "event": event.event,
            "at": rfc3339(event.at),
            "run": {"id": event.run_id, "name": event.run_name},
            "database": self._target.db,
            **event.data,
        }
        return self._target.secrets.hide_bytes(msgspec.json.encode(message))

    # --- ways to tell

    async def _command(self, event: Event, message: bytes) -> str:
        """Run the command with the event on its input; return what went wrong, in words."""
        if self._target.command is None:
            return ""
        # A file, not a pipe: a command need not read it.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(message)
            stdin.seek(0)
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", self._target.command,
                stdin=stdin,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment(event),
                start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(COMMAND_S):
                code = await process.wait()
        except TimeoutError:
            return f"the command took longer than {COMMAND_S:.0f} seconds and was ended"
        finally:
            if process.returncode is None:
                # What it started ends with it.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return f"the command ended with exit code {code}" if code else ""

    def _environment(self, event: Event) -> dict[str, str]:
        kept = {
            name: value
            for name, value in self._target.environ.items()
            if name not in self._target.key_variables and self._target.secrets.hide(value) == value
        }
        waiting = event.data.get("waiting") or {}
        return {
            **kept,
            "BATCHRUNNER_EVENT": event.event,
            "BATCHRUNNER_RUN": event.run_name,
            "BATCHRUNNER_RUN_ID": event.run_id,
            "BATCHRUNNER_DB": self._target.db,
            "BATCHRUNNER_REASON": waiting.get("reason") or "",
        }

    async def _post(self, event: Event, message: bytes) -> str:
        """Post the event; return what went wrong, in words that name the host alone."""
        address = self._target.webhook
        if address is None:
            return ""
        host = URL(address).host
        way = way_to(
            address,
            self._target.options_of(event.run_id),
            self._target.environ,
            typed_proxies=self._target.typed_proxies,
        )
        self._target.secrets.add(*way.secrets)
        transport = Transport(
            connect_timeout_s=WEBHOOK_S,
            total_timeout_s=WEBHOOK_S,
            pool_size=1,
            max_response=_MOST_ANSWER,
            environ=self._target.environ,
            proxy_before=way.proxies[0],
            tls=way.tls,
        )
        try:
            reply = await transport.send(
                Request(
                    method="POST",
                    url=address,
                    headers={"content-type": "application/json"},
                    body=message,
                )
            )
        finally:
            await transport.close()
        if reply.fault is not None:
            return f"{host} was not reached: {reply.fault.message}"
        if reply.status is not None and not 200 <= reply.status < 300:
            return f"{host} answered {reply.status}"
        return ""


def _told(waiting: Waiting | None) -> dict[str, Any] | None:
    """Return why a run waits, without the fix: it is read elsewhere than where it could be pasted."""
    told = waiting_json(waiting)
    return told and {name: value for name, value in told.items() if name != "fix"}


def _event(name: str, run: RunView, data: Mapping[str, Any]) -> Event:
    return Event(event=name, at=wall_ms(), run_id=run.id, run_name=run.name, data=data)
