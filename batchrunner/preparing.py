"""What a call makes of a stored run before it is sent: options, limits, replaced fields.

Options typed are stored with the run, limits with its account, and what is replaced in the jobs
that are still to be sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec

from batchrunner.config import Config
from batchrunner.core.caching import start_of
from batchrunner.core.credentials import Credential
from batchrunner.errors import RefusedError
from batchrunner.formats.lines import Fill
from batchrunner.formats.sets import apply_sets, model_of
from batchrunner.models import RunId, ScopeId
from batchrunner.options import ACCOUNT_KEY, TAGS, JobFilter, LimitOptions, RunOptions, in_force
from batchrunner.providers import Profile, Providers
from batchrunner.providers.keyring import Look, look
from batchrunner.routes import said_base_urls, stored_routes
from batchrunner.store import cache_order, caps, commands, merge
from batchrunner.store.accounts import (
    account_of_key,
    bind_account,
    is_stand_in,
    replace_account,
    sentence,
    stand_in_key,
)
from batchrunner.store.database import Database
from batchrunner.store.runs import StoredRun, stored_run
from batchrunner.values import NO_TAGS
from batchrunner.wiring import Wiring, account_key

__all__ = [
    "account_of",
    "address_of",
    "apply_limits",
    "check_sets",
    "fill_of",
    "is_built_in_simulator",
    "merge_options",
    "options_in_force",
    "order_for_cache",
    "set_fields",
    "stored_options",
]

Notice = Callable[[str], None]


def stored_options(old: Mapping[str, Any], run: RunOptions) -> dict[str, Any]:
    """Return the options to store: those typed over those stored before."""
    typed = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(run).items()
        if value is not None and value != () and name != "provider"
    }
    if typed.get(TAGS) == [NO_TAGS]:
        typed[TAGS] = []
    if "output" in typed:
        typed["output"] = str(Path(str(typed["output"])).absolute())
        if typed["output"] != old.get("output"):
            typed["output_written"] = False
    return {**old, **stored_routes(typed)}


def address_of(
    run: RunOptions, known: Profile, config: Config, environ: Mapping[str, str]
) -> str | None:
    """Return where a provider's requests go, the preferred address; ``None``: nobody says."""
    typed = {"base_url": run.base_url} if run.base_url else {}
    options = in_force(typed, config.run_defaults(known.name))
    return next(iter(said_base_urls(known, options, environ)), None)


def fill_of(run: RunOptions, config: Config) -> Fill:
    """Return what is filled in where a line leaves it out: typed, else the configuration's."""
    fills = config.fills(run.provider or config.provider)
    return Fill(
        model=run.model or fills.model,
        max_tokens=run.max_tokens or fills.max_tokens,
        system=fills.system if run.system is None else run.system,
    )


def merge_options(db: Database, stored: StoredRun, run: RunOptions) -> StoredRun:
    """Store what was typed with the run, and return the run as it is now."""
    old = msgspec.json.decode(stored.options)
    new = stored_options(old, run)
    priority = stored.priority if run.priority is None else run.priority
    if new != old or priority != stored.priority:
        commands.store_options(db, stored.id, msgspec.json.encode(new).decode(), priority=priority)
    return stored_run(db, stored.id)


def apply_limits(
    db: Database,
    stored: StoredRun,
    typed: LimitOptions,
    *,
    environ: Mapping[str, str],
    config: Config,
    providers: Providers,
    notice: Notice,
    now_ms: int,
    look: Look = look,
) -> None:
    """Bind the run to its account and store its limits, those typed and the configuration's.

    What changed is told as old → new.
    """
    options = options_in_force(stored, config)
    scope = stored.account_id
    is_named = bool(options.get("account"))
    if is_named:
        _note_key(db, stored, options=options, environ=environ, providers=providers, look=look)
    stands_in = scope is not None and is_stand_in(db, scope, stored.uid)
    if scope is None or is_named or stands_in:
        key = account_of(stored.provider, options, environ, providers, look)
        if key is None and typed == LimitOptions():
            # Nothing is sent without one; the configuration's limits come when there is one.
            return
        if is_named or key is None:
            found = caps.scope_for(db, stored.provider, key or stand_in_key(stored.uid))
        else:
            found = account_of_key(db, stored.provider, key)
        bind_account(db, stored.id, found)
        if scope is not None and stands_in and scope != found:
            # What was typed before there was a credential is meant for its account.
            replace_account(db, scope, found)
        scope = found
    for change in caps.store_limits(db, scope, typed, now_ms=now_ms):
        if change.is_change:
            notice(sentence(change))
    _sync_config_limits(db, stored, scope, config, notice=notice, now_ms=now_ms)


def _sync_config_limits(
    db: Database, stored: StoredRun, scope: ScopeId, config: Config, *, notice: Notice, now_ms: int
) -> None:
    changes = caps.sync_config_limits(db, scope, config.limits(stored.provider), now_ms=now_ms)
    typed_before = caps.typed_limits(db, scope) if changes else frozenset()
    for change in changes:
        found = config.setting(change.limit, stored.provider)
        place = found.place if found is not None else "the configuration, which no longer has it"
        above = (
            f"; what was typed stays above it until: batchrunner limits set {change.limit}=auto"
            if change.limit in typed_before
            else ""
        )
        notice(f"{sentence(change)}, by {place}{above}")


def order_for_cache(
    db: Database,
    stored: StoredRun,
    config: Config,
    providers: Providers,
    notice: Notice,
    *,
    is_changed: bool,
) -> None:
    """Find, or forget, the starts that a run's jobs share, as ``--cache-order`` wants it by now.

    ``is_changed``: requests of it were added or replaced.
    """
    is_wanted = bool(options_in_force(stored, config).get("cache_order"))
    is_ordered = bool(msgspec.json.decode(stored.options).get(cache_order.ORDERED))
    if is_wanted == is_ordered and not (is_wanted and is_changed):
        return
    known = providers.profile(stored.provider)
    caching = known.caching
    if not is_wanted:
        cache_order.order_jobs(db, stored.id, None)
        return
    if caching is None:
        notice(
            f"{known.title} is not known to keep a prompt cache: {stored.name} goes in the input's order"
        )
        return
    found = cache_order.order_jobs(
        db, stored.id, lambda body, model: start_of(body, model, caching)
    )
    for sentence_of in _CACHE_WORDS:
        if text := sentence_of(found, stored.name, known):
            notice(text)


def _shared_words(found: cache_order.Ordered, name: str, _known: Profile) -> str:
    if not found.n_shared:
        return f"{name}: no two of {found.n_jobs:,} jobs begin alike for long enough to be cached"
    starts = "start" if found.n_starts == 1 else "starts"
    return (
        f"{name}: {found.n_shared:,} of {found.n_jobs:,} jobs share {found.n_starts:,} {starts}; the first"
        " of each goes alone, the others read it from the cache"
    )


def _unmarked_words(found: cache_order.Ordered, name: str, known: Profile) -> str:
    if not found.n_unmarked:
        return ""
    return (
        f"{name}: {found.n_unmarked:,} of {found.n_jobs:,} jobs have no cache_control, and {known.title} keeps only"
        ' what is marked. Put "cache_control": {"type": "ephemeral"} on the last block that they share, then:'
        f" batchrunner submit FILE --name {shlex.quote(name)} --update"
    )


def _short_words(found: cache_order.Ordered, name: str, known: Profile) -> str:
    if not (found.n_short and found.n_shared):
        return ""
    return (
        f"{name}: {found.n_short:,} jobs have no start that is long enough for {known.title}'s cache; they"
        " go between the others"
    )


_CACHE_WORDS: Final = (_shared_words, _unmarked_words, _short_words)


def options_in_force(stored: StoredRun, config: Config) -> dict[str, Any]:
    """Return a run's own options over the configuration's."""
    return in_force(msgspec.json.decode(stored.options), config.run_defaults(stored.provider))


def account_of(
    provider: str,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    providers: Providers,
    look: Look = look,
) -> str | None:
    """Return whose limits a provider's run uses; ``None`` where no credential is there to tell."""
    if options.get("account"):
        return str(options["account"])
    if _is_built_in_simulator(provider, options):
        return "simulator"
    try:
        credential, address = _credential(provider, options, environ, providers, look)
    except RefusedError:
        return None
    return account_key(options, credential, address)


def _credential(
    provider: str,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    providers: Providers,
    look: Look,
) -> tuple[Credential | None, str]:
    """Return what a provider's run would be sent with from here, and the address that it prefers."""
    wiring = Wiring(environ, lambda _text: None, providers=providers, look=look)
    known = providers.profile(provider)
    addresses = wiring.base_urls(known, options)
    return wiring.credential(known, addresses, options.get("key_file")), addresses[0]


def _note_key(
    db: Database,
    stored: StoredRun,
    *,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    providers: Providers,
    look: Look,
) -> None:
    """Keep which key the account of a run has, as far as one is there: workers with another leave the run."""
    if _is_built_in_simulator(stored.provider, options):
        return
    with suppress(RefusedError):
        credential, _ = _credential(stored.provider, options, environ, providers, look)
        if credential is not None:
            found = [str(options["account"]), credential.fingerprint()]
            if options.get(ACCOUNT_KEY) != found:
                commands.store_option(db, stored.id, ACCOUNT_KEY, found)


def is_built_in_simulator(stored: StoredRun, options: Mapping[str, Any]) -> bool:
    """Whether a run wants the built-in provider, and names no other address for it."""
    return _is_built_in_simulator(stored.provider, options)


def _is_built_in_simulator(provider: str, options: Mapping[str, Any]) -> bool:
    named = options.get("base_url") or options.get("default_base_url")
    return provider == "simulator" and not named


def check_sets(
    db: Database,
    stored: StoredRun,
    jobs: JobFilter,
    sets: Sequence[tuple[str, str]],
    *,
    new: RunId | None = None,
) -> None:
    """Refuse what :func:`set_fields` can't do, before anything is stored; ``new``: with that taken in."""
    if sets:
        merge.check_sets(db, stored, jobs, replace=lambda body: apply_sets(body, sets), new=new)


def set_fields(
    db: Database,
    stored: StoredRun,
    jobs: JobFilter,
    sets: Sequence[tuple[str, str]],
    notice: Notice,
) -> None:
    """Replace body fields in the chosen jobs that are still to be sent (``--set``)."""
    n = merge.apply_sets(
        db, stored, jobs, replace=lambda body: apply_sets(body, sets), model_of=model_of
    )
    fields = ", ".join(field for field, _ in sets)
    notice(f"{fields} was replaced in {n} jobs of {stored.name}")
