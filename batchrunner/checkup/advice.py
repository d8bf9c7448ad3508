"""After a run that halted for a model, or may have: the models that the key can use instead.

One request for the provider's list is made, only then, and said so. It passes the account's limits
and counts like every other; where they admit none at once, or there is no list, or it is not given,
what the run said before stands.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from batchrunner.checkup.allowance import Allowance, Errand
from batchrunner.checkup.answers import nearest_words
from batchrunner.checkup.asking import Asked, ask, list_request
from batchrunner.checkup.listing import Listing, read_listing
from batchrunner.checkup.subject import Subject
from batchrunner.checkup.way import STEPS
from batchrunner.config import Config
from batchrunner.core.credentials import Secrets
from batchrunner.core.wordings import BEYOND_PLAN_SAYS, MAY_NOT_SAYS
from batchrunner.errors import BatchrunnerError
from batchrunner.models import RunId, WaitingReason
from batchrunner.options import in_force
from batchrunner.providers import Providers, pool_of
from batchrunner.providers.keyring import Look, look
from batchrunner.routes import base_urls
from batchrunner.store import errands
from batchrunner.store.database import Database
from batchrunner.store.holder import RunRow
from batchrunner.store.inspection import models_left
from batchrunner.store.runs import driver, run_by_id
from batchrunner.views import RunResult
from batchrunner.wiring import Wiring

__all__ = ["Scene", "advised"]

_REASONS: Final = frozenset({WaitingReason.MODEL_NOT_FOUND, WaitingReason.PERMISSION})
#: Refusals that name no model, and may be for the model all the same.
_MAYBE_THE_MODEL: Final = (MAY_NOT_SAYS, BEYOND_PLAN_SAYS)
#: Nobody waits for advice longer than this: for its turn, and for the answer (seconds).
_PATIENCE_S: Final = 1.5
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 10.0
_FROM_LIST: Final = "from the provider's list, asked for once just now and counted"
#: What a mend without a name ends in.
_UNNAMED: Final = ": batchrunner resume --set model=NAME"
#: Models that are named where none is near.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a call had at hand when its run halted."""

    db: Database
    environ: Mapping[str, str]
    config: Config
    providers: Providers
    #: Learns the keys that are found.
    secrets: Secrets
    #: With the passwords that are not stored.
    typed_proxies: Sequence[str] = ()
    #: Asks the keyring.
    look: Look = look


async def advised(result: RunResult, scene: Scene, run_id: RunId) -> RunResult:
    """Return how a call ended, with models that the key can use in its fix where it halted for one."""
    waiting = result.waiting
    if waiting is None or waiting.reason not in _REASONS:
        return result
    held = list(result.run.holds)
    if not held and not waiting.detail.startswith(_MAYBE_THE_MODEL):
        return result
    try:
        listing = await _listing(scene, run_id)
        if listing is None:
            return result
        name = result.run.name
        told = words(listing, held, name, instead_of=waiting.fix) if held else ""
        if not held and (told := others_words(listing, _models_left(scene, run_id), name)):
            told = f"{waiting.fix.rstrip('.')}{told}"
        if not (fix := scene.secrets.hide(told)):
            return result
        with scene.db.write() as connection:
            errands.mend_stop(driver(connection), run_id, fix)
    except BatchrunnerError:
        # Advice must not take the place of what it is about.
        return result
    waiting = replace(waiting, fix=fix)
    return replace(result, waiting=waiting, run=replace(result.run, waiting=waiting))


async def _listing(scene: Scene, run_id: RunId) -> Listing | None:
    """Ask for the list by the first way that leads to an answer; ``None`` where none does."""
    with scene.db.read() as connection:
        stored = run_by_id(connection, run_id)
    if stored is None or stored.account_id is None:
        return None
    known = scene.providers.profile(stored.provider)
    subject = Subject(
        known=known,
        options=in_force(
            msgspec.json.decode(stored.options), scene.config.run_defaults(stored.provider)
        ),
        run=stored,
        connect_s=_CONNECT_S,
        request_s=_REQUEST_S,
    )
    with scene.db.write() as connection:
        # Of several processes that saw the run halt one asks.
        if known.models_path is None or not known.lists_models:
            return None
        if not errands.begin_advice(driver(connection), run_id):
            return None
    allowance = Allowance(
        scene.db,
        provider=stored.provider,
        account_key="",
        account=stored.account_id,
        day_zone=known.day_zone,
        pool_of=pool_of,
        patience_s=_PATIENCE_S,
    )
    for base_url, proxy in subject.ways(base_urls(known, subject.options, scene.environ)):
        asked = await _ask(scene, subject.row(base_url, proxy), allowance, run_id)
        if asked.is_granted and asked.reply is not None:
            return read_listing(asked.reply.body)
        if asked.place not in STEPS:
            # It was answered, or may have been, or is not to be asked: another way is not tried.
            return None
    return None


async def _ask(scene: Scene, row: RunRow, allowance: Allowance, run_id: RunId) -> Asked:
    wiring = Wiring(
        scene.environ,
        lambda _notice: None,
        providers=scene.providers,
        told=scene.secrets,
        typed_proxies=scene.typed_proxies,
        look=scene.look,
    )
    try:
        wire = wiring(row, allowance.gate)
        return await ask(wire, list_request(wire), Errand(run=run_id))
    finally:
        await wiring.close()


def words(listing: Listing, held: Sequence[str], run: str, *, instead_of: str = "") -> str:
    """Return what helps a run whose models are held back; empty where the list has nothing else.

    ``instead_of`` is the mend that names no model; what else it says stays. The command ends the
    words: whatever follows one on its line, a comment too, some shell does not take.
    """
    told, first = [], ""
    for name in held:
        found = listing.find(name)
        near = [other for other in listing.near(name) if found is None or other != found.name]
        first = first or next(iter(near), "")
        life = f" is {found.life}" if found is not None and found.life else ""
        told.append(f"{name}{life}; {nearest_words(near)}" if life else _near(name, near))
    names = [model.name for model in listing.usable() if model.name not in held]
    if not names:
        return ""
    if not first:
        told = [f"the key can use {_some(names)}"]
    said = instead_of.removesuffix(_UNNAMED) if instead_of.endswith(_UNNAMED) else "Give another"
    return (
        f"{said} ({'; '.join(told)}: {_FROM_LIST}):"
        f" batchrunner resume {shlex.quote(run)} --set model={first or 'NAME'}"
    )


def _models_left(scene: Scene, run_id: RunId) -> Sequence[str]:
    with scene.db.read() as connection:
        stored = run_by_id(connection, run_id)
    return models_left(scene.db, stored) if stored is not None else ()


def others_words(listing: Listing, asked: Sequence[str], run: str) -> str:
    """Return what a list adds to the fix of a refusal that names no model; empty where nothing."""
    missing = [name for name in asked if listing.find(name) is None]
    if missing:
        told = words(listing, missing, run)
        return f"; or {told[0].lower()}{told[1:]}" if told else ""
    names = [model.name for model in listing.usable()]
    if not asked or not names:
        return ""
    return f". The key can use {_some(names)} ({_FROM_LIST}): it is not the model that is refused"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", …" * (len(names) > _NAMED)


def _near(name: str, near: Sequence[str]) -> str:
    return f"nearest to {name}: {', '.join(near)}" if near else f"none is near {name}"
