"""What a person may tune, as values with defaults that are right for most (CONTRACT §1).

``RunOptions`` are stored with the run, ``LimitOptions`` with the account, ``CallOptions`` live for
one call only, ``WorkerOptions`` for a worker's time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

#: ``None``: not said (keep what is stored, else learn it); ``"none"``: no such limit;
#: ``"auto"``: forget what was said and learn it from response headers.
LimitValue = int | Literal["none", "auto"] | None

DEFAULT_MAX_TOKENS: Final = 4096
DEFAULT_MAX_ATTEMPTS: Final = 5
DEFAULT_TIMEOUT_S: Final = 600.0
DEFAULT_CONNECT_TIMEOUT_S: Final = 30.0
DEFAULT_MAX_WAIT_S: Final = 26 * 3600.0
#: A wait without end.
NO_END: Final = math.inf
NO_WAIT_S: Final = 300.0
DEFAULT_MAX_RESPONSE: Final = 32 * 1024 * 1024

#: Among the options of a run that another process asked for: how that process would send it.
WAY: Final = "way"
#: Among what holds for a run: the prices that the configuration says, by model.
PRICES: Final = "prices"
#: Among what holds for a run: dollars that a day and a month may cost over all runs (``core.budget``).
BUDGET: Final = "budget"
#: Options' names among those that are stored.
MAX_COST: Final = "max_cost"
CONCURRENCY: Final = "concurrency"
#: A named account, and the fingerprint of the key that was there when its run was prepared last.
ACCOUNT_KEY: Final = "account_key"
TAGS: Final = "tags"
#: Options for which a variable of the environment comes before the configuration.
UNDER_ENVIRONMENT: Final = ("base_url", "proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options stored with a run; ``None`` means not typed, so the default or the stored one holds."""

    provider: str | None = None
    #: One, or several: the first is preferred, the rest are fail-over (:func:`several`).
    base_url: str | tuple[str, ...] | None = None
    model: str | None = None
    max_tokens: int | None = None
    #: The text itself (``@FILE`` has been read).
    system: str | None = None
    #: ``NAME: VALUE`` with ``${VAR}`` unfilled.
    headers: tuple[str, ...] = ()
    api_version: str | None = None
    account: str | None = None
    #: What a worker needs to take it; ``("none",)``: nothing any more.
    tags: tuple[str, ...] = ()
    #: ``None``: not typed; ``"auto"``: found by trying.
    concurrency: int | Literal["auto"] | None = None
    priority: int | None = None
    max_attempts: int | None = None
    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    #: ``"N"`` or ``"P%"``.
    max_failures: str | None = None
    #: Dollars that the run may spend in its whole life; 0: there is no such bound.
    max_cost: float | None = None
    max_response: int | None = None
    #: Keep requests and answers compressed in the database.
    compress: bool | None = None
    #: Send jobs that begin alike one after the other, so that the provider's cache is read.
    cache_order: bool | None = None
    #: JSON Schema that answers have to meet, as text; ``"true"``: any JSON; ``""``: any answer.
    expect_json: str | None = None
    #: Export there whenever the run ends or stops.
    output: str | None = None
    #: Addresses of proxies, the first preferred, or ``none``; ``${VAR}`` unfilled. Stored without
    #: passwords.
    proxy: tuple[str, ...] = ()
    #: Certificates trusted besides the system's.
    ca_file: str | None = None
    #: Plain http to another machine may be spoken.
    allow_insecure_http: bool | None = None


def several(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return an option that may be said once or several times as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def in_force(stored: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's options: those stored with it over ``defaults``, the configuration's.

    What an environment's variable comes between is kept apart, as ``default_NAME``; headers of
    both are sent, the stored ones last.
    """
    below = {f"default_{name}": defaults[name] for name in UNDER_ENVIRONMENT if name in defaults}
    rest = {name: value for name, value in defaults.items() if name not in UNDER_ENVIRONMENT}
    headers = [*defaults.get("headers", ()), *stored.get("headers", ())]
    return {**rest, **below, **stored, **({"headers": headers} if headers else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """Limits of the account; ``None`` leaves what is stored."""

    rpm: LimitValue = None
    tpm: LimitValue = None
    itpm: LimitValue = None
    otpm: LimitValue = None
    rpd: LimitValue = None
    tpd: LimitValue = None
    #: An IANA zone's name or ``rolling``.
    day_resets: str | None = None
    min_interval_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options of one call; never stored with the run."""

    name: str | None = None
    max_time_s: float | None = None
    #: Longest single wait; ``NO_END``: whatever it takes (``--wait``). ``None``: not said, so that
    #: the configuration's holds, else the default.
    max_wait_s: float | None = None
    #: What ``sh`` runs when a run ends or begins a long wait; ``none``: nothing, whatever the
    #: configuration says.
    notify: str | None = None
    #: Where the same is posted, with ``${VAR}`` unfilled; ``none`` as above.
    webhook: str | None = None
    #: ``--no-wait``: also do not follow another process.
    no_wait: bool = False
    no_run: bool = False
    new: bool = False
    update: bool = False
    skip_invalid: bool = False
    #: The file of a template that makes prompts of rows.
    template: str | None = None
    #: The field of a line or row that is its key.
    key: str | None = None
    #: So many jobs go first, spread over the input; then the run is paused.
    sample: int | None = None
    #: (dotted body field, value as JSON text).
    sets: tuple[tuple[str, str], ...] = ()

    @property
    def longest_wait_s(self) -> float | None:
        """The longest single wait in force; ``None``: no end."""
        longest = DEFAULT_MAX_WAIT_S if self.max_wait_s is None else self.max_wait_s
        return None if longest == NO_END else longest


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Which runs a worker takes, and when it ends."""

    #: Only runs of that provider.
    provider: str | None = None
    #: What it has: runs that ask for a tag which is not among these are left to others.
    tags: tuple[str, ...] = ()
    #: Runs that ask for no tag are left to others too.
    only_tagged: bool = False
    #: Accounts (``--account`` of a run) that its keys are of, beside those that are known to be.
    accounts: tuple[str, ...] = ()
    #: End where nothing is left, not by a signal alone.
    until_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a view, an export or ``retry`` is about; empty fields choose all."""

    statuses: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every job is chosen."""
        return not (self.statuses or self.errors or self.keys or self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What ``export`` writes, and where."""

    #: ``csv``, ``jsonl``, ``openai``, ``anthropic``, ``input``; ``None``: told by the ending.
    format: str | None = None
    #: ``None``: stdout.
    output: Path | None = None
    force: bool = False
    jobs: JobFilter = JobFilter()
    #: Names of columns in order; none: all of the format.
    columns: tuple[str, ...] = ()
    #: As a spreadsheet wants it.
    excel: bool = False
