"""Opens a run's way to its provider: profile, base URL, credential, headers, connections.

Configuration and environment are read anew at each call; what a person typed is stored with the
run and comes first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from yarl import URL

from batchrunner.checking import VARIABLE, unset
from batchrunner.core.credentials import Credential, Secrets
from batchrunner.engine.descriptors import most_connections
from batchrunner.engine.failover import FailoverWire
from batchrunner.engine.wire import Wire
from batchrunner.errors import RefusedError, UsageError
from batchrunner.options import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_MAX_RESPONSE,
    DEFAULT_TIMEOUT_S,
    WAY,
)
from batchrunner.providers import BUILT_IN, Profile, Providers
from batchrunner.providers.credentials import find_credential
from batchrunner.providers.keyring import Look, look
from batchrunner.routes import Route, base_urls, route, short_timeout, strangers
from batchrunner.sameness import check_account, check_same_way, way_of
from batchrunner.store.holder import RunRow
from batchrunner.transport import Transport
from batchrunner.transport.proxies import Proxy

_NO_ACCOUNT: Final = "no-credential"


class Wiring:
    """Makes wires for runs, one a call, and closes them."""

    def __init__(
        self,
        environ: Mapping[str, str],
        notice: Callable[[str], None],
        *,
        providers: Providers = BUILT_IN,
        simulator_url: str | None = None,
        told: Secrets | None = None,
        typed_proxies: Sequence[str] = (),
        look: Look = look,
        accounts: Callable[[str], Collection[str]] | None = None,
    ) -> None:
        """Take the environment to read and whom to tell of what was mended in it.

        ``accounts``: those that a worker's keys for a provider are said to be of; it sends no run of another.

        ``told`` learns each secret that is found, for whoever writes what is told to people.
        ``typed_proxies`` are this call's, with the passwords that are not stored. ``look`` asks the
        keyring.
        """
        self._look = look
        self._accounts = accounts
        self._environ = environ
        self._notice = notice
        self._providers = providers
        self._simulator_url = simulator_url
        self._typed_proxies = typed_proxies
        self._transports: list[Transport] = []
        self._said: set[str] = set()
        #: The keys of this call, to be taken out of answers.
        self._secrets = Secrets()
        self._told = Secrets() if told is None else told

    def __call__(
        self,
        row: RunRow,
        on_headers: Callable[[Any], Awaitable[None]],
        *,
        auth: Mapping[str, str] | None = None,
    ) -> Wire:
        """Return the way to a run's provider.

        ``auth`` goes in the place of the credential's own headers, and then none is looked for.

        Raises :class:`RefusedError` without a usable credential, or with another than whoever
        asked for the run has, and :class:`UsageError` where the base URL, a header or its variable
        is missing.
        """
        options = row.options
        known = self._providers.profile(row.provider)
        road = self.route(known, options)
        base_url = road.base_urls[0]
        known = known.at(base_url, options.get("api_version"), self._environ)
        credential = None
        if auth is None:
            credential = self.credential(known, road.base_urls, options.get("key_file"))
        if credential is not None:
            known = known.with_key_of(credential.source)
            if self._accounts is not None:
                check_account(options, credential.fingerprint(), self._accounts(row.provider))
        headers = self._headers(known, credential, options, auth)
        self._learn(*road.secrets)
        check_same_way(options.get(WAY) or {}, way_of(known, options, self._environ, road, headers))
        self._warn(known, options, road, has_key=credential is not None)
        transports = self._open(known, options, road, headers, on_headers)
        wire: dict[str, Any] = {
            "profile": known,
            "headers": headers,
            "secrets": self._secrets,
            "account_key": account_key(options, credential, base_url),
            "counting": known.counting_at(base_url),
            "fill": self.fill,
        }
        if len(transports) == len(road.base_urls) == 1:
            return Wire(base_url=base_url, transport=transports[0], **wire)
        return FailoverWire.over(
            transports,
            nodes=road.base_urls,
            proxies=[_name_of(proxy) for proxy in road.proxies_before(base_url)],
            notice=self._notice,
            **wire,
        )

    def way(self, provider: str, options: Mapping[str, Any]) -> Mapping[str, str]:
        """Return what tells this process's way to a provider from another's; shows no secret.

        Without a credential any will do; a way that can't be gone is like no other.
        """
        known = self._providers.profile(provider)
        headers = None
        try:
            road = self.route(known, options)
            known = known.at(road.base_urls[0], options.get("api_version"), self._environ)
            with suppress(RefusedError):
                credential = self.credential(known, road.base_urls, options.get("key_file"))
                headers = self._headers(known, credential, options)
        except UsageError:
            return {"address": ""}
        return way_of(known, options, self._environ, road, headers)

    def _open(
        self,
        known: Profile,
        options: Mapping[str, Any],
        road: Route,
        headers: Mapping[str, str],
        on_headers: Callable[[Any], Awaitable[None]],
    ) -> list[Transport]:
        """Return connections yet to be made, by each of the proxies."""
        transports = [
            Transport(
                connect_timeout_s=options.get("connect_timeout_s") or DEFAULT_CONNECT_TIMEOUT_S,
                total_timeout_s=options.get("timeout_s") or DEFAULT_TIMEOUT_S,
                # Senders are the bound, and it changes while they run.
                pool_size=most_connections(),
                max_response=options.get("max_response") or DEFAULT_MAX_RESPONSE,
                headers=headers,
                on_headers=on_headers,
                environ=self._environ,
                proxy_before=proxy_before,
                tls=road.tls,
                answers_json=known.answers_json,
            )
            for proxy_before in road.proxies
        ]
        self._transports += transports
        return transports

    def _warn(
        self, known: Profile, options: Mapping[str, Any], road: Route, *, has_key: bool
    ) -> None:
        """Say, once, what a person should know before the first request."""
        third_party = strangers(known, road.base_urls) if has_key else ""
        for said in (third_party, short_timeout(known, options)):
            if said and said not in self._said:
                self._said.add(said)
                self._notice(said)

    async def close(self) -> None:
        """Close every connection."""
        for transport in self._transports:
            await transport.close()

    def base_urls(self, known: Profile, options: Mapping[str, Any]) -> Sequence[str]:
        """Return where requests go, the preferred address first; raises :class:`UsageError`."""
        return base_urls(known, options, self._environ, simulator_url=self._simulator_url)

    def route(self, known: Profile, options: Mapping[str, Any]) -> Route:
        """Return the network between us and a run's provider; raises :class:`UsageError`."""
        return route(
            known,
            options,
            self._environ,
            typed_proxies=self._typed_proxies,
            simulator_url=self._simulator_url,
        )

    def credential(
        self, known: Profile, addresses: Sequence[str], key_file: str | None = None
    ) -> Credential | None:
        """Return the credential for a provider at all of its addresses, ``None`` where none is needed.

        It goes to each of them, so one that is the provider's own decides which it must be.
        """
        own = next((address for address in addresses if known.is_own(address)), "")
        try:
            found = find_credential(
                known,
                self._environ,
                base_url_is_own=bool(own),
                key_file=Path(key_file) if key_file else None,
                look=self._look,
            )
        except RefusedError as refused:
            if not own or len(addresses) == 1:
                raise
            where = f"It would go to {URL(own).host} too, which is one of the base URLs."
            raise type(refused)(f"{refused.message} {where}", fix=refused.fix) from refused
        if found is None:
            return None
        self._learn(found.value)
        if found.notice and found.notice not in self._said:
            self._said.add(found.notice)
            self._notice(found.notice)
        return found

    def fill(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers with every ``${VAR}`` filled in; what filled it is a secret from then on."""
        return {name: VARIABLE.sub(self._variable, value) for name, value in headers.items()}

    def _variable(self, match: re.Match[str]) -> str:
        value = self._environ.get(match[1], "").strip()
        if not value:
            raise unset(match[1])
        self._learn(value)
        return value

    def _learn(self, *values: str) -> None:
        """Know secrets from now on: in answers, and in what is told."""
        self._secrets.add(*values)
        self._told.add(*values)

    def _headers(
        self,
        known: Profile,
        credential: Credential | None,
        options: Mapping[str, Any],
        auth: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Return what is sent with every request; headers typed come last and win."""
        return {
            "content-type": "application/json",
            **known.headers(credential, options.get("api_version"), self._environ),
            **(auth or {}),
            **self._typed_headers(known, options),
        }

    def _typed_headers(self, known: Profile, options: Mapping[str, Any]) -> Mapping[str, str]:
        pairs = (header.partition(":") for header in _headers_of(known, options))
        return self.fill({name.strip().lower(): value.strip() for name, _, value in pairs})


def _headers_of(known: Profile, options: Mapping[str, Any]) -> Sequence[str]:
    """Return the headers of the provider's table and those typed, which come last and win."""
    return (*known.fixed_headers, *(options.get("headers") or ()))


def _name_of(proxy: Proxy | None) -> str:
    return "the direct way" if proxy is None else f"the proxy {proxy}"


def account_key(options: Mapping[str, Any], credential: Credential | None, base_url: str) -> str:
    """Return whose limits a run uses: the name typed, the credential's, the address's."""
    if options.get("account"):
        return str(options["account"])
    if credential is not None:
        return credential.fingerprint()
    url = URL(base_url)
    return str(url.origin()) if url.host else _NO_ACCOUNT
