"""After a run that halted for a model: the models that the key can use instead.

One request for the provider's list is made, only then, and said so. It passes the account's limits
and counts like every other; where they admit none at once, or there is no list, or it is not given,
what the run said before stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from batchrunner.checkup.allowance import Allowance, Errand
from batchrunner.checkup.answers import nearest_words
from batchrunner.checkup.asking import ask, list_request
from batchrunner.checkup.listing import Listing, read_listing
from batchrunner.config import Config
from batchrunner.core.credentials import Secrets
from batchrunner.errors import BatchrunnerError
from batchrunner.models import RunId, WaitingReason
from batchrunner.options import in_force
from batchrunner.providers import Providers, pool_of
from batchrunner.store import errands, holder
from batchrunner.store.database import Database
from batchrunner.store.runs import driver
from batchrunner.views import RunResult
from batchrunner.wiring import Wiring

__all__ = ["advised"]

_REASONS: Final = frozenset({WaitingReason.MODEL_NOT_FOUND, WaitingReason.PERMISSION})
#: Nobody waits for advice longer than this: for its turn, and for the answer (seconds).
_PATIENCE_S: Final = 1.5
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 10.0
#: Models that are named where none is near.
_NAMED: Final = 5


async def advised(
    result: RunResult,
    *,
    db: Database,
    run_id: RunId,
    environ: Mapping[str, str],
    config: Config,
    providers: Providers,
    secrets: Secrets,
) -> RunResult:
    """Return how a call ended, with the nearest models in its fix where it halted for one."""
    waiting = result.waiting
    if waiting is None or waiting.reason not in _REASONS or not result.run.holds:
        return result
    try:
        fix = await _advice(
            result,
            db=db,
            run_id=run_id,
            environ=environ,
            config=config,
            providers=providers,
            secrets=secrets,
        )
        fix = secrets.hide(fix)
        if not fix:
            return result
        with db.write() as connection:
            errands.mend_stop(driver(connection), run_id, fix)
    except BatchrunnerError:
        # Advice must not take the place of what it is about.
        return result
    waiting = replace(waiting, fix=fix)
    return replace(result, waiting=waiting, run=replace(result.run, waiting=waiting))


async def _advice(
    result: RunResult,
    *,
    db: Database,
    run_id: RunId,
    environ: Mapping[str, str],
    config: Config,
    providers: Providers,
    secrets: Secrets,
) -> str:
    with db.write() as connection:
        conn = driver(connection)
        row = holder.load_run(conn, run_id)
        # Of several processes that saw the run halt one asks.
        if row is None or not errands.begin_advice(conn, run_id):
            return ""
    known = providers.profile(row.provider)
    options: dict[str, Any] = in_force(row.options, config.run_defaults(row.provider))
    if known.models_path is None or not known.lists_models or row.account_id is None:
        return ""
    wiring = Wiring(environ, lambda _notice: None, providers=providers, told=secrets)
    allowance = Allowance(
        db,
        provider=row.provider,
        account_key="",
        account=row.account_id,
        day_zone=known.day_zone,
        pool_of=pool_of,
        patience_s=_PATIENCE_S,
    )
    options |= {"connect_timeout_s": _CONNECT_S, "timeout_s": _REQUEST_S}
    try:
        wire = wiring(row._replace(options=options), allowance.gate)
        asked = await ask(wire, list_request(wire), Errand(run=run_id))
    finally:
        await wiring.close()
    if not asked.is_granted or asked.reply is None:
        return ""
    listing = read_listing(asked.reply.body)
    return "" if listing is None else words(listing, list(result.run.holds), row.name)


def words(listing: Listing, held: Sequence[str], run: str) -> str:
    """Return what helps a run whose models are held back; empty where the list has nothing else."""
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
        told = [f"the key can use {', '.join(names[:_NAMED])}{', …' * (len(names) > _NAMED)}"]
    return (
        f"batchrunner resume {run} --set model={first or 'NAME'}"
        f" ({'; '.join(told)}: from the provider's list, asked for once just now and counted)"
    )


def _near(name: str, near: Sequence[str]) -> str:
    return f"nearest to {name}: {', '.join(near)}" if near else f"none is near {name}"
