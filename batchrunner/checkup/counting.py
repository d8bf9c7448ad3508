"""``plan --count-tokens``: a provider counts the tokens of some requests itself.

Only where somebody asks for it, and only where the provider has an endpoint that does. The requests
pass the account's limits like every other that no job makes (:mod:`.allowance`), one at a time. The
first that fails ends it, unless it is that one request's own fault, which three in a row are not; what is
counted by then counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from batchrunner.checkup.allowance import Allowance, Errand
from batchrunner.checkup.asking import Asked, ask
from batchrunner.checkup.probes import Stopwatch
from batchrunner.checkup.subject import Subject
from batchrunner.core.credentials import Secrets
from batchrunner.core.tokens import estimate
from batchrunner.engine.wire import Wire
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.models import ErrorKind, JobId, Request
from batchrunner.providers import Profile, Providers, pool_of
from batchrunner.providers.keyring import Ring
from batchrunner.routes import base_urls
from batchrunner.store.database import Database
from batchrunner.store.records import ClaimedJob
from batchrunner.wiring import Wiring

__all__ = ["Tally", "Way", "check_counts", "count_tokens"]

#: Somebody waits: after so long what is counted has to do (seconds).
_PATIENCE_S: Final = 60.0
#: So many that are refused for themselves, one after the other, are not refused for themselves.
_MOST_REFUSED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the provider of a plan is reached."""

    known: Profile
    #: In force for the run that it would be.
    options: Mapping[str, Any]
    #: ``None``: there is none that counts requests.
    db: Database | None
    environ: Mapping[str, str]
    providers: Providers
    #: Learns the keys that are found.
    secrets: Secrets
    #: With the passwords that are not stored.
    typed_proxies: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted: (estimated, counted) of each request, by model."""

    pairs: Mapping[str, Sequence[tuple[int, int]]]
    #: Why not all of them were; empty: they were.
    stopped: str = ""


def check_counts(known: Profile) -> None:
    """Raise :class:`UsageError` where a provider has no endpoint that counts tokens."""
    if known.count is None:
        raise UsageError(
            f"{known.title} has no endpoint that counts tokens.",
            fix="Leave --count-tokens out: the plan estimates them, and corrects that by the answers seen.",
        )


async def count_tokens(way: Way, jobs: Iterable[tuple[str, bytes]]) -> Tally:
    """Have the provider count requests, each a model and its body."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    stopped, n_refused = "", 0
    subject = Subject(known=way.known, options=way.options)
    wiring = Wiring(
        way.environ,
        lambda _notice: None,
        providers=way.providers,
        typed_proxies=way.typed_proxies,
        told=way.secrets,
        look=Ring().look,
    )
    try:
        addresses = base_urls(way.known, subject.options, way.environ)
        base_url, proxy = next(subject.ways(addresses))
        gate = _Gate()
        wire = wiring(subject.row(base_url, proxy), gate)
        gate.allowance = Allowance(
            way.db,
            provider=way.known.name,
            account_key=wire.account_key,
            day_zone=way.known.day_zone,
            pool_of=pool_of,
        )
        watch = Stopwatch()
        for model, body in jobs:
            if (request := _request(wire, body)) is None:
                continue
            if watch.ms > _PATIENCE_S * 1000.0:
                stopped = f"it took longer than {_PATIENCE_S:g} s"
                break
            asked = await ask(wire, request, Errand())
            counted = _counted(asked)
            if counted is not None:
                pairs.setdefault(model, []).append((estimate(body).input, counted))
                n_refused = 0
                continue
            stopped, n_refused = way.secrets.hide(_why(asked)), n_refused + 1
            if asked.kind is not ErrorKind.INVALID_REQUEST or n_refused == _MOST_REFUSED:
                break
    except BatchrunnerError as error:
        stopped = error.message
    finally:
        await wiring.close()
    return Tally(pairs=pairs, stopped=stopped)


class _Gate:
    """The ledger's word; whose ledger it is is told by the wire, which is made with the gate."""

    allowance: Allowance | None = None

    async def __call__(self, errand: Any) -> None:
        """Wait until the errand may go."""
        assert self.allowance is not None
        await self.allowance.gate(errand)


def _request(wire: Wire, body: bytes) -> Request | None:
    """Return the request that counts a job's tokens; ``None``: that kind of job is not counted."""
    assert wire.profile.count is not None
    found = wire.profile.count(msgspec.json.decode(body))
    if found is None:
        return None
    path, counted = found
    made = msgspec.json.encode(counted)
    return wire.request(ClaimedJob(JobId(0), "", 0, 0, None, "POST", path, None, made))


def _counted(asked: Asked) -> int | None:
    if not asked.is_granted or asked.decision is None or asked.decision.usage is None:
        return None
    return asked.decision.usage.input_tokens


def _why(asked: Asked) -> str:
    if asked.refusal:
        return asked.refusal
    if asked.is_granted:
        return "the answer names no count"
    assert asked.decision is not None
    status = asked.reply.status if asked.reply is not None else None
    return f"HTTP {status}: {asked.decision.message}" if status else asked.decision.message
