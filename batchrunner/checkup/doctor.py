"""Every check in order: each address of a provider, then this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from batchrunner.checkup.allowance import Allowance
from batchrunner.checkup.case import Case
from batchrunner.checkup.endpoint import examine_endpoint
from batchrunner.checkup.machine import examine_machine
from batchrunner.checkup.subject import Subject, choose
from batchrunner.clock import wall_ms
from batchrunner.config import Config
from batchrunner.core.credentials import Secrets
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.options import RunOptions, several
from batchrunner.places import Place
from batchrunner.providers import Providers, pool_of
from batchrunner.providers.keyring import Look, Ring
from batchrunner.routes import base_urls
from batchrunner.store import errands
from batchrunner.store.database import Database
from batchrunner.store.limits import limits_of_account
from batchrunner.store.opening import open_if_current
from batchrunner.store.runs import driver
from batchrunner.views import CheckView, LimitView
from batchrunner.wiring import Wiring

__all__ = ["examine"]


async def examine(
    place: Place,
    *,
    typed: RunOptions,
    is_live: bool,
    environ: Mapping[str, str],
    config: Config,
    providers: Providers,
    secrets: Secrets,
) -> list[CheckView]:
    """Return every check; nothing is created or changed but what a request books.

    ``secrets`` learns the keys that are found; none of them is in what is returned.

    Raises :class:`~batchrunner.errors.UsageError` where nothing tells which provider is meant.
    """
    db = _usable(place)
    subject = choose(typed, db=db, config=config, providers=providers, environ=environ)
    turn, ring = asyncio.Lock(), Ring()
    async with _simulator(subject) as simulator_url:
        examined = await asyncio.gather(
            *(
                _examine_one(
                    subject,
                    base_url,
                    proxy,
                    db=db,
                    turn=turn,
                    is_live=is_live,
                    environ=environ,
                    providers=providers,
                    secrets=secrets,
                    typed_proxies=typed.proxy,
                    simulator_url=simulator_url,
                    look=ring.look,
                )
                for base_url, proxy in subject.ways(_addresses(subject, environ, simulator_url))
            )
        )
    # Afterwards, since a request that is booked holds the database's locks for a moment.
    examined.append(await examine_machine(place))
    return [check for checks in examined for check in checks]


async def _examine_one(
    subject: Subject,
    base_url: str | None,
    proxy: str | None,
    *,
    db: Database | None,
    turn: asyncio.Lock,
    is_live: bool,
    environ: Mapping[str, str],
    providers: Providers,
    secrets: Secrets,
    typed_proxies: Sequence[str],
    simulator_url: str | None,
    look: Look,
) -> list[CheckView]:
    notices: list[str] = []
    wiring = Wiring(
        environ,
        notices.append,
        providers=providers,
        simulator_url=simulator_url,
        typed_proxies=typed_proxies,
        told=secrets,
        look=look,
    )
    case = Case(
        subject=subject,
        base_url=base_url,
        proxy=proxy,
        environ=environ,
        wiring=wiring,
        secrets=secrets,
        notices=notices,
        allowance=lambda key: Allowance(
            db,
            provider=subject.known.name,
            account_key=key,
            account=subject.account,
            makes_account=is_live,
            day_zone=subject.known.day_zone,
            pool_of=pool_of,
            turn=turn,
        ),
        limits=partial(_limits, db, subject),
        is_live=is_live,
    )
    try:
        return await examine_endpoint(case)
    finally:
        await wiring.close()


def _addresses(
    subject: Subject, environ: Mapping[str, str], simulator_url: str | None
) -> Sequence[str | None]:
    try:
        return base_urls(subject.known, subject.options, environ, simulator_url=simulator_url)
    except UsageError:
        # Each is refused for itself where several were said, else the one that nobody said.
        return several(subject.options.get("base_url")) or (None,)


def _usable(place: Place) -> Database | None:
    try:
        return open_if_current(place)
    except BatchrunnerError:
        # Its own check says what is wrong with it.
        return None


def _limits(db: Database | None, subject: Subject, key: str) -> Sequence[LimitView]:
    if db is None:
        return ()
    with db.read() as connection:
        account = subject.account or errands.known_account(
            driver(connection), subject.known.name, key
        )
        if account is None:
            return ()
        return limits_of_account(
            connection, account, wall_ms(), lambda _provider: subject.known.day_zone
        )


@asynccontextmanager
async def _simulator(subject: Subject) -> AsyncIterator[str | None]:
    """Start the built-in provider where it is examined and no other address is named for it."""
    if not subject.is_built_in_simulator:
        yield None
        return
    from batchrunner.providers.simulator import Simulator, SimulatorConfig  # noqa: PLC0415

    async with Simulator(SimulatorConfig()) as base_url:
        yield base_url
