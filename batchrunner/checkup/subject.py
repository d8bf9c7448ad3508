"""What ``doctor`` is about: which provider, with which options, for which models.

What was typed comes first. Where no provider was, it is that of the latest unfinished run, with all
that is stored with it, since that is what stands still; else of the latest whose jobs failed; else
the configuration's; else that of the key variables that are set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from batchrunner.config.resolve import Config
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.models import JobCounts, RunId, ScopeId
from batchrunner.options import RunOptions, in_force, several
from batchrunner.preparing import stored_options
from batchrunner.providers import Profile, Providers
from batchrunner.store.database import Database
from batchrunner.store.holder import RunRow
from batchrunner.store.inspection import models_left, run_in_question
from batchrunner.store.runs import StoredRun

__all__ = ["Subject", "choose"]

#: For one step of the way and for one request, since somebody waits (seconds).
CONNECT_S: Final = 10.0
REQUEST_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One provider, and the options with which it is reached."""

    known: Profile
    #: As they would be stored with a run.
    options: Mapping[str, Any]
    #: How the provider was found, after its name.
    told_by: str = ""
    #: The models to look for; empty: whatever there is.
    models: Sequence[str] = ()
    #: The run that it is about.
    run: StoredRun | None = None
    #: The longest that a step of the way takes where nothing is said, and a request in any case
    #: (seconds).
    connect_s: float = CONNECT_S
    request_s: float = REQUEST_S

    @property
    def account(self) -> ScopeId | None:
        """The account that the run is bound to."""
        return self.run.account_id if self.run is not None else None

    @property
    def is_built_in_simulator(self) -> bool:
        """Whether the program itself has to start the provider."""
        named = self.options.get("base_url") or self.options.get("default_base_url")
        return self.known.name == "simulator" and not named

    @property
    def connect_timeout_s(self) -> float:
        """How long each step of the way may take: what was said, or what somebody waits for."""
        return float(self.options.get("connect_timeout_s") or self.connect_s)

    def ways(self, base_urls: Sequence[str | None]) -> Iterator[tuple[str | None, str | None]]:
        """Yield what is examined: each address by the first proxy, the first by all others."""
        first, *others = several(self.options.get(self._proxies)) or (None,)
        yield from ((base_url, first if others else None) for base_url in base_urls)
        yield from ((base_urls[0], proxy) for proxy in others)

    @property
    def _proxies(self) -> str:
        return "proxy" if self.options.get("proxy") else "default_proxy"

    def row(self, base_url: str | None, proxy: str | None) -> RunRow:
        """Return a run of no jobs that goes to one address, by one proxy where there are several."""
        options = {
            **self.options,
            "base_url": base_url,
            "connect_timeout_s": self.connect_timeout_s,
            "timeout_s": min(self.options.get("timeout_s") or self.request_s, self.request_s),
        }
        if proxy is not None:
            options[self._proxies] = [proxy]
        return RunRow(
            id=RunId(0),
            uid="",
            name="doctor",
            state="ready",
            provider=self.known.name,
            account_id=self.account,
            options=options,
            priority=0,
            counts=JobCounts(),
            n_rejected=0,
            created_at=0,
            started_at=None,
        )


def choose(
    typed: RunOptions,
    *,
    db: Database | None,
    config: Config,
    providers: Providers,
    environ: Mapping[str, str],
) -> Subject:
    """Return what to examine. Raises :class:`UsageError` where nothing tells the provider."""
    run = _latest(db) if typed.provider is None else None
    if run is not None:
        name, told_by = run.provider, f"as run {run.name} does"
    else:
        name, told_by = _told(typed, config, providers, environ)
    known = providers.profile(name)
    stored = msgspec.json.decode(run.options) if run is not None else {}
    options = in_force(stored_options(stored, typed), config.run_defaults(known.name))
    models = [typed.model] if typed.model else _models(db, run)
    return Subject(known=known, options=options, told_by=told_by, models=models, run=run)


def _latest(db: Database | None) -> StoredRun | None:
    if db is None:
        return None
    try:
        return run_in_question(db)
    except BatchrunnerError:
        # What is wrong with the database is told by its own check.
        return None


def _models(db: Database | None, run: StoredRun | None) -> Sequence[str]:
    if db is None or run is None:
        return ()
    try:
        return models_left(db, run)
    except BatchrunnerError:
        return ()


def _told(
    typed: RunOptions, config: Config, providers: Providers, environ: Mapping[str, str]
) -> tuple[str, str]:
    if typed.provider is not None:
        return typed.provider, "--provider"
    if config.provider is not None:
        return config.provider, "told by the configuration"
    found = [
        (name, variable)
        for name in providers.names
        for variable in _variables(providers, name)
        if environ.get(variable, "").strip()
    ]
    if not found:
        raise UsageError(
            "Nothing tells which provider to examine: there is no run with work left or failed jobs, and no key"
            " variable is set.",
            fix=f"Name it: batchrunner doctor --provider NAME ({', '.join(providers.names)}).",
        )
    name, variable = found[0]
    others = list(dict.fromkeys(other for other, _ in found if other != name))
    more = f"; for {' or '.join(others)}: --provider" if others else ""
    return name, f"told by {variable}{more}"


def _variables(providers: Providers, name: str) -> Sequence[str]:
    try:
        keys = providers.profile(name).key_envs
    except UsageError:
        # A package's that can't be loaded; whoever wants it is told why.
        return ()
    return [variable for key in keys for variable in (key, f"{key}_FILE")]
