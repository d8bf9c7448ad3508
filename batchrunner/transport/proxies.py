"""Which proxy stands before an address, told from the environment; fails closed.

``HTTPS_PROXY``, ``HTTP_PROXY`` (by the address's scheme), ``ALL_PROXY`` and ``NO_PROXY`` are read
in either case, lower case first. This machine itself (loopback) is never proxied. aiohttp's own
reading is not used: it ignores ``ALL_PROXY`` and goes direct where it does not know a proxy's
scheme.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from yarl import URL

__all__ = ["Proxy", "UnusableProxyError", "find_proxy"]

_SUPPORTED: Final = frozenset({"http"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; the password is not part of ``url``."""

    url: URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class UnusableProxyError(Exception):
    """A proxy is set that this version can't use; going direct would be a surprise."""


def find_proxy(url: URL, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for ``url``, ``None`` for the direct way.

    :raises UnusableProxyError: the message names the variable, never a password.
    """
    host = (url.host or "").rstrip(".").lower()
    if _is_loopback(host) or _is_exempt(host, url.port, _read("no_proxy", environ)[1]):
        return None
    variable, text = _read(f"{url.scheme}_proxy", environ)
    if not text:
        variable, text = _read("all_proxy", environ)
    return _proxy(variable, text) if text else None


def _read(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for variable in (name, name.upper()):
        if text := environ.get(variable, "").strip():
            return variable, text
    return name.upper(), ""


def _proxy(variable: str, text: str) -> Proxy:
    try:
        url = URL(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError as error:
        raise UnusableProxyError(f"The proxy in {variable} is no address") from error
    if url.scheme not in _SUPPORTED:
        raise UnusableProxyError(
            f"The proxy in {variable} is a {url.scheme}:// proxy, "
            "which is not supported by this version"
        )
    if not url.host or not port:
        raise UnusableProxyError(f"The proxy in {variable} is not supported: it names no host")
    headers = {}
    if url.raw_user is not None:
        pair = f"{unquote(url.raw_user)}:{unquote(url.raw_password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(url=url.with_user(None).origin(), headers=headers)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether an entry of ``NO_PROXY`` names ``host``: a name and what is under it, an
    address, a network, each with or without a port; ``*`` names all.
    """
    for entry in no_proxy.lower().replace(" ", ",").split(","):
        name, _, entry_port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        name = name.removeprefix("*").strip(".[]")
        if entry == "*":
            return True
        if not name or (entry_port and entry_port != str(port)):
            continue
        if host == name or host.endswith(f".{name}") or _in_network(host, name):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
