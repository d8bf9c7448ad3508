"""Opens a run's way to its provider: profile, base URL, credential, headers, connections.

Configuration and environment are read anew at each call; what a person typed is stored with the
run and comes first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from yarl import URL

from batchrunner.checking import VARIABLE, check_base_url, unset
from batchrunner.core.credentials import Credential
from batchrunner.engine.live import Claim
from batchrunner.engine.wire import Wire
from batchrunner.errors import UsageError
from batchrunner.options import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_MAX_RESPONSE,
    DEFAULT_TIMEOUT_S,
)
from batchrunner.providers import BUILT_IN, Profile, Providers
from batchrunner.providers.credentials import find_credential
from batchrunner.store.holder import RunRow
from batchrunner.transport import Transport

#: The pool is never smaller than what may be in flight; more costs nothing.
_LEAST_POOL: Final = 128
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
    ) -> None:
        """Take the environment to read and whom to tell of what was mended in it."""
        self._environ = environ
        self._notice = notice
        self._providers = providers
        self._simulator_url = simulator_url
        self._transports: list[Transport] = []
        self._said: set[str] = set()

    def __call__(self, row: RunRow, on_headers: Callable[[Claim], Awaitable[None]]) -> Wire:
        """Return the way to a run's provider.

        Raises :class:`RefusedError` without a usable credential, :class:`UsageError` where the
        base URL, a header or its variable is missing.
        """
        options = row.options
        known = self._providers.profile(row.provider)
        base_url = self.base_url(known, options)
        credential = self.credential(known, base_url, options.get("key_file"))
        headers = {
            "content-type": "application/json",
            **known.headers(credential, options.get("api_version"), self._environ),
            **self._typed_headers(known, options),
        }
        concurrency = options.get("concurrency")
        transport = Transport(
            connect_timeout_s=options.get("connect_timeout_s") or DEFAULT_CONNECT_TIMEOUT_S,
            total_timeout_s=options.get("timeout_s") or DEFAULT_TIMEOUT_S,
            pool_size=max(_LEAST_POOL, concurrency if isinstance(concurrency, int) else 0),
            max_response=options.get("max_response") or DEFAULT_MAX_RESPONSE,
            headers=headers,
            on_headers=on_headers,
            environ=self._environ,
        )
        self._transports.append(transport)
        secrets = self._secrets(credential, known, options)
        return Wire(
            profile=known,
            base_url=base_url,
            headers=headers,
            secrets=secrets,
            transport=transport,
            account_key=account_key(options, credential, base_url),
            fill=partial(self._fill_of_job, secrets),
        )

    async def close(self) -> None:
        """Close every connection."""
        for transport in self._transports:
            await transport.close()

    def base_url(self, known: Profile, options: Mapping[str, Any]) -> str:
        """Return where requests go: typed, the environment's, the configuration's, the provider's own."""
        found = known.base_url(
            options.get("base_url"), self._environ, options.get("default_base_url")
        )
        if found is None and known.name == "simulator":
            found = self._simulator_url
        if found is None:
            raise UsageError(
                f"--provider {known.name} needs to know where requests go.",
                fix="Say it with --base-url URL.",
            )
        check_base_url(found)
        return found

    def credential(
        self, known: Profile, base_url: str, key_file: str | None = None
    ) -> Credential | None:
        """Return the credential for a provider at an address, ``None`` where none is needed."""
        found = find_credential(
            known,
            self._environ,
            base_url_is_own=known.is_own(base_url),
            key_file=Path(key_file) if key_file else None,
        )
        if found is not None and found.notice and found.notice not in self._said:
            self._said.add(found.notice)
            self._notice(found.notice)
        return found

    def fill(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return headers with every ``${VAR}`` filled in."""
        return {name: VARIABLE.sub(self._variable, value) for name, value in headers.items()}

    def _fill_of_job(self, secrets: list[str], headers: Mapping[str, str]) -> Mapping[str, str]:
        """Fill a job's own headers; what was filled in is a secret from now on."""
        for value in headers.values():
            for match in VARIABLE.finditer(value):
                if (filled := self._variable(match)) not in secrets:
                    secrets.append(filled)
        return self.fill(headers)

    def _variable(self, match: re.Match[str]) -> str:
        value = self._environ.get(match[1], "").strip()
        if not value:
            raise unset(match[1])
        return value

    def _typed_headers(self, known: Profile, options: Mapping[str, Any]) -> Mapping[str, str]:
        pairs = (header.partition(":") for header in _headers_of(known, options))
        return self.fill({name.strip().lower(): value.strip() for name, _, value in pairs})

    def _secrets(
        self, credential: Credential | None, known: Profile, options: Mapping[str, Any]
    ) -> list[str]:
        filled = [
            self._environ.get(name, "")
            for header in _headers_of(known, options)
            for name in VARIABLE.findall(header)
        ]
        found = [credential.value] if credential else []
        return [value for value in (*found, *filled) if value]


def _headers_of(known: Profile, options: Mapping[str, Any]) -> Sequence[str]:
    """Return the headers of the provider's table and those typed, which come last and win."""
    return (*known.fixed_headers, *(options.get("headers") or ()))


def account_key(options: Mapping[str, Any], credential: Credential | None, base_url: str) -> str:
    """Return whose limits a run uses: the name typed, the credential's, the address's."""
    if options.get("account"):
        return str(options["account"])
    if credential is not None:
        return credential.fingerprint()
    url = URL(base_url)
    return str(url.origin()) if url.host else _NO_ACCOUNT
