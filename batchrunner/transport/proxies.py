"""Which proxies stand before an address: those typed, else the environment's; fails closed.

``--proxy`` holds for every address, and wins over the environment altogether. Without it
``HTTPS_PROXY``, ``HTTP_PROXY`` (by the address's scheme), ``ALL_PROXY`` and ``NO_PROXY`` are read
in either case, lower case first, and this machine itself (loopback) is never proxied. aiohttp's
own reading is not used: it ignores ``ALL_PROXY`` and goes direct where it does not know a proxy's
scheme. Whatever can't be used is an error, never the direct way.

No message, ``repr`` or stored text from here holds a password; :func:`without_password` says what
is stored in its place, and :func:`read_proxies` finds it again in the environment, or refuses.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from yarl import URL

from batchrunner.core.hosts import is_loopback

__all__ = [
    "DIRECT",
    "Proxy",
    "UnusableProxyError",
    "environment_proxy",
    "is_exempt",
    "is_loopback",
    "read_proxies",
    "without_password",
]

#: What ``--proxy`` says for the direct way.
DIRECT: Final = "none"
#: Stands where a password was.
WITHHELD: Final = "***"


class _Scheme(NamedTuple):
    """A kind of proxy."""

    is_socks: bool
    default_port: int
    #: The proxy looks names up, not this machine.
    resolves: bool


_SCHEMES: Final[Mapping[str, _Scheme]] = {
    "http": _Scheme(False, 80, True),
    "https": _Scheme(False, 443, True),
    "socks5": _Scheme(True, 1080, False),
    "socks5h": _Scheme(True, 1080, True),
    "socks4": _Scheme(True, 1080, False),
    "socks4a": _Scheme(True, 1080, True),
}
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,11}")
_ALIASES: Final[Mapping[str, str]] = {"socks": "socks5h"}
_VARIABLES: Final = ("https_proxy", "http_proxy", "all_proxy")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class UnusableProxyError(Exception):
    """A proxy is set that can't be used; going direct would be a surprise."""

    def __init__(self, message: str, fix: str) -> None:
        """Say what is wrong, and what to write instead."""
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy as it is used; the login is not part of ``url``."""

    url: URL
    #: Where it was said: ``--proxy`` or a variable's name.
    source: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS; else HTTP."""
        return _SCHEMES[self.url.scheme].is_socks

    @property
    def resolves(self) -> bool:
        """Whether the proxy looks names up."""
        return _SCHEMES[self.url.scheme].resolves

    @property
    def headers(self) -> Mapping[str, str]:
        """What an HTTP proxy wants with each request to it."""
        if self.user is None or self.is_socks:
            return {}
        pair = f"{self.user}:{self.password or ''}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown; a user name alone is as good as a password."""
        sent = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        return tuple(text for text in (self.password or self.user, sent) if text)

    def __str__(self) -> str:
        """Return its address and where it was said, without a login."""
        return f"{str(self.url).rstrip('/')} ({self.source})"


class _Parts(NamedTuple):
    """A proxy's address, split as text: what can't be parsed must not be shown either."""

    scheme: str
    user: str
    password: str
    #: ``host:port`` and whatever follows.
    rest: str

    @classmethod
    def of(cls, text: str) -> _Parts:
        """Split ``[scheme://][user[:password]@]host[:port]``."""
        scheme, mark, rest = text.strip().partition("://")
        if not mark:
            scheme, rest = "http", text.strip()
        login, _, rest = rest.rpartition("@")
        user, _, password = login.partition(":")
        return cls(scheme.lower(), user, password, rest.rstrip("/"))

    @property
    def is_withheld(self) -> bool:
        return WITHHELD in (self.user, self.password)

    def is_same_place(self, other: _Parts) -> bool:
        """Whether ``other`` can stand in for this one: the same proxy, the same user."""
        users = {self.user, other.user} - {WITHHELD}
        return (
            (self.scheme, self.rest) == (other.scheme, other.rest)
            and len(users) <= 1
            and bool(other.user)
        )


def read_proxies(
    texts: Sequence[str],
    environ: Mapping[str, str],
    *,
    typed: Sequence[str] = (),
    source: str = "--proxy",
) -> tuple[Proxy | None, ...]:
    """Return the proxies said by ``--proxy``, in order; ``None`` is the direct way.

    ``${VAR}`` is filled in. A password that was not stored is taken from those ``typed`` in this
    call, else from the environment's proxy of the same address.

    :raises UnusableProxyError: the message names no password.
    """
    if DIRECT in texts and len(texts) > 1:
        raise UnusableProxyError(
            f"{source} {DIRECT} and a proxy exclude one another.", f"Keep one of them: {source} URL"
        )
    return tuple(
        None
        if text == DIRECT
        else _proxy(source, _supplied(_Parts.of(text), typed, environ), environ)
        for text in texts
    )


def environment_proxy(url: URL, environ: Mapping[str, str]) -> Proxy | None:
    """Return the environment's proxy for ``url``, ``None`` for the direct way.

    :raises UnusableProxyError: the message names the variable, never a password.
    """
    if is_exempt(url, environ):
        return None
    variable, text = _read(f"{url.scheme}_proxy", environ)
    if not text:
        variable, text = _read("all_proxy", environ)
    return _proxy(variable, _Parts.of(text), {}) if text else None


def is_exempt(url: URL, environ: Mapping[str, str]) -> bool:
    """Return whether no proxy that was not typed stands before ``url``: loopback, ``NO_PROXY``."""
    host = (url.host or "").rstrip(".").lower()
    return is_loopback(host) or _is_named(host, url.port, _read("no_proxy", environ)[1])


def without_password(text: str) -> str:
    """Return a proxy as it is stored and shown: the password, or a lone user name, left out.

    ``${VAR}`` stays, since it is none.
    """
    parts = _Parts.of(text)
    secret = parts.password or parts.user
    if not secret or _VARIABLE.fullmatch(secret):
        return text
    login = f"{parts.user}:{WITHHELD}" if parts.password else WITHHELD
    return f"{parts.scheme}://{login}@{parts.rest}"


def _supplied(parts: _Parts, typed: Sequence[str], environ: Mapping[str, str]) -> _Parts:
    if not parts.is_withheld:
        return parts
    for text in (*typed, *(_read(name, environ)[1] for name in _VARIABLES)):
        other = _Parts.of(text)
        if parts.is_same_place(other) and not other.is_withheld:
            return other
    login = WITHHELD if not parts.password else f"{parts.user}:{WITHHELD}"
    shown = f"{parts.scheme}://{login}@{parts.rest}"
    raise UnusableProxyError(
        f"The password of the proxy {shown} is not stored with the run, and batchrunner does not "
        "go around a proxy.",
        "Put the password into PROXY_PASSWORD, and say it just so: batchrunner resume --proxy"
        f" '{shown.replace(WITHHELD, '${PROXY_PASSWORD}')}' (stored as it stands). The direct way is:"
        " batchrunner resume --proxy none",
    )


def _read(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for variable in (name, name.upper()):
        if text := environ.get(variable, "").strip():
            return variable, text
    return name.upper(), ""


def _proxy(source: str, parts: _Parts, environ: Mapping[str, str]) -> Proxy:
    scheme = _ALIASES.get(parts.scheme, parts.scheme)
    if (kind := _SCHEMES.get(scheme)) is None:
        raise UnusableProxyError(
            # What stands there may be a login that was put in the wrong place.
            f"The proxy in {source} is of a kind that is not known"
            f"{f': {scheme}://' if _SCHEME.fullmatch(scheme) else ''}.",
            f"Write it like http://HOST:PORT; known are {', '.join(_SCHEMES)}.",
        )
    # Without the login, so that nothing below can show it; a password that was not escaped
    # leaves a part of itself in what should be host and port, which is not shown either.
    try:
        url = URL(f"{scheme}://{parts.rest}")
        is_address = bool(url.host) and url.path in ("", "/") and not (url.query or url.fragment)
        port = url.port or kind.default_port
        # What is read may still be a host that can't be written, such as one with a zero byte.
        url = URL.build(scheme=scheme, host=url.host or "", port=port)
    except ValueError:
        is_address, url, port = False, URL(), 0
    if not is_address or not port or re.search(r"\s", parts.rest):
        raise UnusableProxyError(
            f"The proxy in {source} is no address.",
            f"Write it like {scheme}://HOST:PORT, with a login like"
            f" {scheme}://USER:${{PROXY_PASSWORD}}@HOST:PORT.",
        )
    user, password = (
        unquote(_filled(text, environ, source)) for text in (parts.user, parts.password)
    )
    return Proxy(
        url=url,
        source=source,
        user=user or None,
        password=password or None,
    )


def _filled(text: str, environ: Mapping[str, str], source: str) -> str:
    def fill(match: re.Match[str]) -> str:
        value = environ.get(match[1], "").strip()
        if not value:
            raise UnusableProxyError(
                f"The proxy in {source} wants ${{{match[1]}}}, and {match[1]} is not set.",
                f"Set it, then try again: export {match[1]}='…'",
            )
        return quote(value, safe="")

    return _VARIABLE.sub(fill, text)


def _is_named(host: str, port: int | None, no_proxy: str) -> bool:
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
