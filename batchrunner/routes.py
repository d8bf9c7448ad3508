"""The network between us and a provider: addresses, proxies, and whom TLS trusts.

Everything that can't be right is refused here, offline, before anything is sent; what is left can
only be found out by trying. Flag or stored, environment, configuration, the provider's own: the
first that says something holds.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from yarl import URL

from batchrunner.checking import check_base_url
from batchrunner.core.hosts import is_loopback
from batchrunner.errors import UsageError
from batchrunner.options import DEFAULT_TIMEOUT_S, RunOptions, in_force, several
from batchrunner.providers import Profile
from batchrunner.transport.proxies import (
    Proxy,
    UnusableProxyError,
    environment_proxy,
    is_exempt,
    read_proxies,
    without_password,
)
from batchrunner.transport.trust import UnusableTrustError, tls_context, trust_nobody

__all__ = [
    "Route",
    "base_urls",
    "check_routes",
    "route",
    "said_base_urls",
    "short_timeout",
    "stored_routes",
    "strangers",
    "way_to",
]

#: What a model writes in a second, about; for telling what a timeout cuts off.
_TOKENS_PER_S: Final = 50
#: Above this a timeout seldom cuts an answer off.
_SHORT_TIMEOUT_S: Final = 60.0

ProxyBefore = Callable[[URL], Proxy | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a run's requests go."""

    #: The preferred address first.
    base_urls: tuple[str, ...]
    #: For each way to go: what stands before an address. The preferred one first.
    proxies: tuple[ProxyBefore, ...]
    tls: ssl.SSLContext

    def proxies_before(self, base_url: str) -> tuple[Proxy | None, ...]:
        """Return the proxy before an address on each of the ways; ``None`` is direct."""
        return tuple(before(URL(base_url)) for before in self.proxies)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the proxies must not be shown."""
        return tuple(
            secret
            for base_url in self.base_urls
            for proxy in self.proxies_before(base_url)
            if proxy is not None
            for secret in proxy.secrets
        )


def route(
    known: Profile,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    typed_proxies: Sequence[str] = (),
    simulator_url: str | None = None,
) -> Route:
    """Return how a run's requests go; ``typed_proxies`` still have their passwords.

    :raises UsageError: something of it can't be used.
    """
    addresses = base_urls(known, options, environ, simulator_url=simulator_url)
    return _route(addresses, options, environ, typed_proxies)


def way_to(
    address: str,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    typed_proxies: Sequence[str] = (),
) -> Route:
    """Return how a request to some other address goes: by a run's proxies, with its trust.

    :raises UsageError: something of it can't be used.
    """
    return _route((address,), options, environ, typed_proxies)


def _route(
    addresses: tuple[str, ...],
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    typed_proxies: Sequence[str],
) -> Route:
    try:
        proxies = _proxies(options, environ, typed_proxies)
        is_tls = any(
            url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
            for url in map(URL, addresses)
            for proxy in (before(url) for before in proxies)
        )
        ca_file = options.get("ca_file")
        tls = tls_context(ca_file, environ) if is_tls or ca_file else trust_nobody()
    except UnusableProxyError as error:
        raise UsageError(str(error), fix=error.fix, kind="proxy") from error
    except UnusableTrustError as error:
        raise UsageError(str(error), fix=error.fix, kind="tls") from error
    return Route(base_urls=addresses, proxies=proxies, tls=tls)


def base_urls(
    known: Profile,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    simulator_url: str | None = None,
) -> tuple[str, ...]:
    """Return where a run's requests go, the preferred address first.

    :raises UsageError: nobody says, or one is no address, or unencrypted.
    """
    found = said_base_urls(known, options, environ)
    if not found and known.name == "simulator":
        found = several(simulator_url)
    if not found:
        raise UsageError(
            f"--provider {known.name} needs to know where requests go.",
            fix=f"{known.base_rule} Say it with --base-url URL"
            + (f", or in {known.base_url_env}." if known.base_url_env else "."),
        )
    for url in found:
        check_base_url(url, allow_insecure_http=bool(options.get("allow_insecure_http")))
    return found


def said_base_urls(
    known: Profile, options: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the addresses that somebody says, unchecked: none where nobody does."""
    variable = environ.get(known.base_url_env, "").strip() if known.base_url_env else ""
    default = options.get("default_base_url")
    said = (options.get("base_url"), variable, default, known.default_base_url)
    return several(next((url for url in said if url), None))


def check_routes(
    run: RunOptions, defaults: Mapping[str, Any], environ: Mapping[str, str], known: Profile | None
) -> None:
    """Refuse what was typed, and what ``defaults`` and environment say, before anything is stored.

    ``known`` is ``None`` where only the job lines tell the provider; then what depends on it is
    refused before the first send.
    """
    typed = {
        "base_url": run.base_url,
        "proxy": run.proxy,
        "ca_file": run.ca_file,
        "allow_insecure_http": run.allow_insecure_http,
    }
    options = in_force({name: value for name, value in typed.items() if value}, defaults)
    try:
        read_proxies(run.proxy, environ)
        if run.ca_file:
            tls_context(run.ca_file, environ)
    except UnusableProxyError as error:
        raise UsageError(str(error), fix=error.fix, kind="proxy") from error
    except UnusableTrustError as error:
        raise UsageError(str(error), fix=error.fix, kind="tls") from error
    for address in several(run.base_url):
        check_base_url(address, allow_insecure_http=bool(options.get("allow_insecure_http")))
    if known is not None and (known.default_base_url or options.get("base_url")):
        route(known, options, environ, typed_proxies=run.proxy)


def stored_routes(typed: dict[str, Any]) -> dict[str, Any]:
    """Return options as they are stored: proxies without passwords, a file by its whole path."""
    stored = dict(typed)
    if "proxy" in stored:
        stored["proxy"] = [without_password(text) for text in stored["proxy"]]
    if "ca_file" in stored:
        stored["ca_file"] = os.path.abspath(stored["ca_file"])  # noqa: PTH100 (links stay links)
    return stored


def strangers(known: Profile, addresses: Sequence[str]) -> str:
    """Return a sentence on third parties that get the key; empty for none.

    This machine itself is none.
    """
    hosts = [
        URL(address).host or address
        for address in addresses
        if not known.is_own(address) and not is_loopback(URL(address).host or "")
    ]
    own = URL(known.default_base_url or "").host or next(iter(known.own_hosts), "")
    if not hosts or not own:
        return ""
    return f"The key goes to {' and '.join(hosts)}, which is not {known.title}'s own ({own})."


def short_timeout(known: Profile, options: Mapping[str, Any]) -> str:
    """Return a sentence on answers that the timeout cuts off and the bill does not; empty for none."""
    timeout_s = options.get("timeout_s") or DEFAULT_TIMEOUT_S
    fits = int(timeout_s * _TOKENS_PER_S)
    if timeout_s > _SHORT_TIMEOUT_S or not known.needs_model:
        return ""
    if (options.get("max_tokens") or fits + 1) <= fits:
        return ""
    return (
        f"With --timeout {timeout_s:g} an answer that takes longer is cut off, and may be paid for all"
        f" the same: that is some {fits:,} tokens. The default is {DEFAULT_TIMEOUT_S:g} seconds."
    )


def _proxies(
    options: Mapping[str, Any], environ: Mapping[str, str], typed: Sequence[str]
) -> tuple[ProxyBefore, ...]:
    said = read_proxies(several(options.get("proxy")), environ, typed=typed)
    if said:
        return tuple(partial(_always, proxy) for proxy in said)
    configured = read_proxies(
        several(options.get("default_proxy")), environ, source="the configuration"
    )
    return tuple(partial(_unless_said, environ, proxy) for proxy in configured or (None,))


def _always(proxy: Proxy | None, _url: URL) -> Proxy | None:
    """What ``--proxy`` says holds for every address, this machine's too."""
    return proxy


def _unless_said(environ: Mapping[str, str], configured: Proxy | None, url: URL) -> Proxy | None:
    if is_exempt(url, environ):
        return None
    return environment_proxy(url, environ) or configured
