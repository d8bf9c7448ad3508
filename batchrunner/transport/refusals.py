"""What a proxy said instead of giving a way: its refusals as literal tables, and their fixes.

A fix says the proxy where it was said: typed, in a variable, in the configuration. Nothing here
shows a login.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import aiohttp

from batchrunner.transport.connector import CLOSED, NOT_HTTP, SILENT, TunnelError
from batchrunner.transport.proxies import Proxy

__all__ = [
    "FIX_BEYOND",
    "FIX_NO_PROXY",
    "FIX_PROXY_REACH",
    "Refusal",
    "filled",
    "of_status",
    "refusal_of",
    "saying",
]


class Refusal(NamedTuple):
    """What a proxy's answer means."""

    why: str
    fix: str
    #: No try again mends it.
    halts: bool = True


FIX_PROXY_REACH: Final = (
    "See whether it runs, and say its right host and port: {reach}. The direct way is: batchrunner"
    " resume --proxy none"
)
FIX_NO_PROXY: Final = "Check its port and kind; as one of another kind it is: {another}"
#: It speaks HTTP: another scheme would only lead back here.
_FIX_NO_TUNNEL: Final = (
    "A web server listens there, or a proxy that makes no tunnels. Say the host and port of a proxy"
    " that does: {reach}. The direct way is: batchrunner resume --proxy none"
)
_FIX_LOGIN: Final = "Put its password into a variable, export PROXY_PASSWORD='…', and give its user name, just so: {login}"
_FIX_RULES: Final = (
    "Ask whoever runs the proxy to allow it, or go another way: batchrunner resume --proxy URL (none is"
    " the direct way)"
)
FIX_BEYOND: Final = (
    "Check the base URL, and whether the proxy itself has a network; another is: batchrunner resume"
    " --proxy URL"
)

_LOGIN_WANTED: Final = "wants a user name and password"
_LOGIN_REFUSED: Final = "does not accept the user name and password"
#: By status of an HTTP proxy's own answer, to CONNECT and to a plain request alike.
_LOGINS: Final[Mapping[int, Refusal]] = {
    407: Refusal("{login} (407)", _FIX_LOGIN),
    401: Refusal("{login} (401)", _FIX_LOGIN),
}
_CONNECT_REFUSALS: Final[Mapping[int, Refusal]] = {
    **_LOGINS,
    403: Refusal("refuses to connect (403)", _FIX_RULES),
    400: Refusal("does not know CONNECT (400)", _FIX_NO_TUNNEL),
    404: Refusal("does not know CONNECT (404)", _FIX_NO_TUNNEL),
    405: Refusal("does not know CONNECT (405)", _FIX_NO_TUNNEL),
    501: Refusal("does not know CONNECT (501)", _FIX_NO_TUNNEL),
}
_PLAIN_REFUSALS: Final[Mapping[int, Refusal]] = {
    **_LOGINS,
    403: Refusal("refuses to pass the request on (403)", _FIX_RULES),
}
#: By reply code of SOCKS5.
_SOCKS_REFUSALS: Final[Mapping[int, Refusal]] = {
    1: Refusal("could not connect", FIX_BEYOND, halts=False),
    2: Refusal("refuses to connect by its rules", _FIX_RULES),
    3: Refusal("has no network", FIX_BEYOND, halts=False),
    4: Refusal("can't reach the host", FIX_BEYOND, halts=False),
    5: Refusal("was refused the connection", FIX_BEYOND, halts=False),
    6: Refusal("can't reach the host (TTL expired)", FIX_BEYOND, halts=False),
    7: Refusal("can't make connections", FIX_NO_PROXY),
    8: Refusal("does not take this kind of address", FIX_BEYOND),
}
#: Refusals that have no code, by our own words and those of aiohttp-socks.
_WORDS: Final[Sequence[tuple[str, Refusal]]] = (
    (NOT_HTTP, Refusal("does not speak HTTP", FIX_NO_PROXY)),
    (CLOSED, Refusal("closed the connection", FIX_NO_PROXY, halts=False)),
    (SILENT, Refusal("did not answer to SOCKS's first word", FIX_NO_PROXY, halts=False)),
    ("No acceptable authentication", Refusal("{login}", _FIX_LOGIN)),
    ("authentication failure", Refusal("{login}", _FIX_LOGIN)),
    ("SOCKS version", Refusal("does not speak SOCKS", FIX_NO_PROXY)),
    ("reply version", Refusal("does not speak SOCKS", FIX_NO_PROXY)),
    ("Malformed", Refusal("does not speak SOCKS", FIX_NO_PROXY)),
    ("Invalid", Refusal("does not speak SOCKS", FIX_NO_PROXY)),
)


def refusal_of(error: BaseException, proxy: Proxy | None) -> Refusal | None:
    """Return what a proxy that was reached said instead of connecting; ``None``: ``error`` is none."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        said = Refusal(f"answered {error.status} {error.message}", FIX_BEYOND, halts=False)
        return _with_login(_CONNECT_REFUSALS.get(error.status, said), proxy)
    if not isinstance(error, TunnelError):
        return None
    if error.code is not None and error.code in _SOCKS_REFUSALS:
        return _SOCKS_REFUSALS[error.code]
    said = Refusal(f"gave no way: {error.words}", FIX_BEYOND, halts=False)
    known = next((known for words, known in _WORDS if words in error.words), said)
    return _with_login(known, proxy)


def of_status(status: int, proxy: Proxy) -> Refusal | None:
    """Return what a proxy means by its own answer to a plain request; ``None``: it had no way."""
    known = _PLAIN_REFUSALS.get(status)
    return None if known is None else _with_login(known, proxy)


def saying(proxy: Proxy, address: str) -> str:
    """Return the command, or the line, that says ``address`` where ``proxy`` was said.

    A variable's is in double quotes, so that the shell fills in a password: nobody else would.
    """
    if proxy.source == "--proxy":
        quoted = f"'{address}'" if "$" in address else address
        return f"batchrunner resume --proxy {quoted}"
    if proxy.source.isidentifier():
        return f'export {proxy.source}="{address}" && batchrunner resume'
    return (
        f'proxy = "{address}" in the configuration (batchrunner config show names its file), then:'
        " batchrunner resume"
    )


def filled(fix: str, proxy: Proxy | None) -> str:
    """Return a fix with its ``{login}``, ``{reach}`` and ``{another}`` in the words of the proxy's source."""
    if proxy is None:
        return fix
    scheme, place = proxy.url.scheme, f"{proxy.url.host_subcomponent}:{proxy.url.port}"
    another = "http" if proxy.is_socks else "socks5h"
    return fix.format(
        login=saying(proxy, f"{scheme}://USER:${{PROXY_PASSWORD}}@{place}"),
        reach=saying(proxy, f"{scheme}://HOST:PORT"),
        another=saying(proxy, f"{another}://{place}"),
    )


def _with_login(refusal: Refusal, proxy: Proxy | None) -> Refusal:
    has_login = proxy is not None and proxy.user is not None
    words = _LOGIN_REFUSED if has_login else _LOGIN_WANTED
    return refusal._replace(why=refusal.why.replace("{login}", words))
