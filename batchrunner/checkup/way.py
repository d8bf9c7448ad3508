"""The way to an address: name, port, proxy, TLS; walked step by step, and written down.

The steps are timed one by one; whether the way can be gone is what a request meets on it, in the
transport's words.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Final

from yarl import URL

from batchrunner.checkup.probes import (
    Handshake,
    Step,
    connect,
    day_of,
    look_up,
    shake_hands,
)
from batchrunner.checkup.sheet import Sheet
from batchrunner.core.hosts import is_loopback
from batchrunner.transport.proxies import Proxy
from batchrunner.views import CheckStatus

__all__ = ["STEPS", "Way", "look_along", "put_way"]

#: The checks that are steps of the way, in order.
STEPS: Final = ("dns", "tcp", "proxy", "tls")
#: A certificate that ends sooner than this is told of (seconds).
_SOON_S: Final = 14 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How far the way was gone, step by step."""

    url: URL
    proxy: Proxy | None
    dns: Step
    #: ``None``: the name was not found.
    tcp: Step | None = None
    #: ``None``: there is none, or it goes through a proxy, or it failed.
    handshake: Handshake | None = None

    @property
    def is_secured(self) -> bool:
        """Whether TLS is spoken."""
        return self.url.scheme == "https"

    @property
    def host(self) -> str:
        """The server's name."""
        return self.url.host or ""


async def look_along(
    url: URL, proxy: Proxy | None, context: ssl.SSLContext, timeout_s: float
) -> Way:
    """Go the way as far as it can be gone without asking anything."""
    first = proxy.url if proxy is not None else url
    host, port = first.host or "", first.port or 0
    dns = await look_up(host, port, timeout_s)
    if not dns.works:
        return Way(url=url, proxy=proxy, dns=dns)
    tcp = await connect(host, port, timeout_s)
    handshake = None
    if tcp.works and proxy is None and url.scheme == "https":
        handshake = await shake_hands(host, port, context, timeout_s)
    return Way(url=url, proxy=proxy, dns=dns, tcp=tcp, handshake=handshake)


def put_way(sheet: Sheet, way: Way, failed: str | None) -> None:
    """Write down the steps that a request took, up to the one that ``failed``."""
    for name in STEPS:
        if name == failed:
            return
        step = {"dns": way.dns, "tcp": way.tcp}.get(name)
        if failed is not None and step is not None and not step.works:
            # The same fault; the request's words for it are told there.
            sheet.put(name, CheckStatus.SKIP, f"see {failed}: {step.detail}")
            continue
        status, detail, took_ms = _WORDS[name](way)
        sheet.put(name, status, detail, fix=_fix(name, status, way), took_ms=took_ms)


def _dns(way: Way) -> tuple[CheckStatus, str, float | None]:
    detail = way.dns.detail
    if way.proxy is not None and way.proxy.resolves:
        detail += f" (the proxy; it finds {way.host} itself)"
    return _of(way.dns, detail)


def _tcp(way: Way) -> tuple[CheckStatus, str, float | None]:
    if way.tcp is None:
        return CheckStatus.WARN, "not tried", None
    return _of(way.tcp, way.tcp.detail + (" (the proxy)" if way.proxy is not None else ""))


def _of(step: Step, detail: str) -> tuple[CheckStatus, str, float | None]:
    if step.works:
        return CheckStatus.OK, detail, step.took_ms
    return CheckStatus.WARN, f"failed once ({detail}), then worked", step.took_ms


def _proxy(way: Way) -> tuple[CheckStatus, str, float | None]:
    if way.proxy is not None:
        return CheckStatus.OK, f"{way.proxy} leads to {way.host}", None
    if is_loopback(way.host):
        return CheckStatus.OK, "none: this machine itself is asked without one", None
    return CheckStatus.OK, "none: the way is direct", None


def _tls(way: Way) -> tuple[CheckStatus, str, float | None]:
    if not way.is_secured:
        if is_loopback(way.host):
            return CheckStatus.OK, "none: plain http, within this machine", None
        return CheckStatus.WARN, f"none: the key goes to {way.host} unencrypted", None
    made = way.handshake
    if made is None:
        by = " (through the proxy)" if way.proxy is not None else ""
        return CheckStatus.OK, f"the certificate of {way.host} is trusted{by}", None
    until = f", valid until {day_of(made.ends_at)}" if made.ends_at else ""
    soon = made.ends_at is not None and made.ends_at - time.time() < _SOON_S
    status = CheckStatus.WARN if soon else CheckStatus.OK
    return status, f"{made.version}, certificate by {made.issuer}{until}", made.took_ms


_WORDS: Final = {"dns": _dns, "tcp": _tcp, "proxy": _proxy, "tls": _tls}


def _fix(name: str, status: CheckStatus, way: Way) -> str:
    if status is not CheckStatus.WARN:
        return ""
    if name == "tls":
        return (
            f"Tell whoever runs {way.host} that its certificate ends soon."
            if way.is_secured
            else "Use the https address of the server, if it has one: --base-url https://…"
        )
    return "Run doctor again: what comes and goes is the network's or the resolver's."
