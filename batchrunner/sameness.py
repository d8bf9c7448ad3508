"""Whether the process that sends goes the same way as the one that asked for a run.

Keys, proxies and addresses come from each process's own environment. A run that another process
asked for is sent only as that process would send it: never with another key, which is another's
bill and another's limits, nor to another address or around a proxy. So the ask carries short hashes,
which tell ways apart and can't be turned back, and the process that sends compares them with its own.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from yarl import URL

from batchrunner.errors import RefusedError, UsageError
from batchrunner.options import ACCOUNT_KEY
from batchrunner.providers import Profile
from batchrunner.routes import Route, said_base_urls

__all__ = ["check_account", "check_same_way", "way_of"]

#: What differs, in words.
_WORDS: Final[Mapping[str, str]] = {
    "address": "sends to another address",
    "proxy": "goes by another proxy",
    "ca": "trusts other certificates",
    "key": "has another key, or other headers",
}


def way_of(
    known: Profile,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    road: Route,
    headers: Mapping[str, str] | None,
) -> Mapping[str, str]:
    """Return a way as hashes by name; no ``headers``: there is no key, and any will do.

    The built-in simulator is each process's own, and so no address.
    """
    addresses = said_base_urls(known, options, environ)
    proxies = [proxy for address in addresses for proxy in road.proxies_before(address)]
    way = {
        "address": _hash(str(URL(address)) for address in addresses),
        "proxy": _hash(
            "none" if proxy is None else f"{proxy.url} {proxy.user}" for proxy in proxies
        ),
        "ca": _hash(environ.get(name, "").strip() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")),
    }
    if headers is not None:
        way["key"] = _hash(f"{name}: {headers[name]}" for name in sorted(headers))
    return way


def check_same_way(asked: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Raise :class:`RefusedError` where whoever asked for a run would send it otherwise."""
    for name, value in asked.items():
        if own.get(name) != value:
            words = _WORDS.get(name, "goes another way")
            raise RefusedError(
                f"it {words} than the process that asked for the run",
                fix="Nothing: the run goes on when that process is done.",
            )


def check_account(options: Mapping[str, Any], fingerprint: str, accounts: Collection[str]) -> None:
    """Raise :class:`UsageError` where a run is of an account that this worker's key may not be of.

    A worker sends whatever run it is given the key for, unless the run names its account: then its key is
    the one that was there when the run was submitted or resumed last, or its account is among
    ``accounts``, those that the worker was told of.
    """
    name = options.get("account")
    if (
        name is not None
        and name not in accounts
        and [name, fingerprint] != options.get(ACCOUNT_KEY)
    ):
        raise UsageError(
            f"it is for the account {name}, and the key here is not known to be of that (worker --account"
            f" {shlex.quote(name)}, where it is)",
            fix=f"batchrunner worker --account {shlex.quote(name)}",
        )


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(("batchrunner", *parts)).encode()).hexdigest()[:16]
