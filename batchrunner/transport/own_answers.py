"""Whose an answer is, where a plain http request went by an HTTP proxy: the server's, or its own.

Through a tunnel nobody but the server can answer. Without one the proxy reads the request, and its
own refusals (a login, its rules, no way to the server) have the form of an answer: taken for the
provider's, a proxy's 401 would be a refused key and its 503 an overloaded provider.

* A 407, and what bears a proxy's sign (its program's ``Server``, ``X-Squid-Error`` …), is its own.
* What came through a proxy that signs (``Via``), or names another program that made it, is the
  server's; and so is what has an API's form.
* A page or nothing at all, by nobody who says so, where an API answers in JSON: as far as can be
  told its own, and the message says no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from http import HTTPStatus
from typing import Final

from yarl import URL

from batchrunner.models import ErrorKind, Fault
from batchrunner.transport.proxies import Proxy
from batchrunner.transport.refusals import FIX_BEYOND, filled, of_status

__all__ = ["own_answer"]

#: Programs that are proxies of their users, as they name themselves in ``Server``.
_PROGRAMS: Final = re.compile(
    r"squid|tinyproxy|privoxy|mitmproxy|3proxy|polipo|zscaler|bluecoat|proxysg|web ?gateway|websense"
    r"|forcepoint|fortiproxy|fiddler|charles|cntlm|e2guardian|dansguardian|kerio|http ?proxy",
    re.IGNORECASE,
)
#: Headers that only a proxy of its user sends with what it made itself.
_SIGNS: Final = ("x-squid-error", "proxy-authenticate")
#: What some write on a page that has no such header.
_PAGES: Final = re.compile(
    rb"privoxy|tinyproxy|mitmproxy|fiddler|squid/\d|<title>[^<]*\bproxy error|zscaler|dansguardian"
    rb"|requested url could not be retrieved",
    re.IGNORECASE,
)
#: The proxy did not reach the server, so that nothing can have been executed.
_UNREACHED: Final = re.compile(
    r"ERR_(?:CONNECT_FAIL|DNS_FAIL|CANNOT_FORWARD|SECURE_CONNECT_FAIL)|unable to connect"
    r"|connect failed|no such domain|forwarding failure",
    re.IGNORECASE,
)
#: What an unsigned page is taken to be the proxy's by: what proxies say of themselves.
_OWN_STATUSES: Final = frozenset((401, 403, 500, 502, 503, 504))
_TITLE: Final = re.compile(rb"<title[^>]*>([^<]{1,300})</title>", re.IGNORECASE)
_READ_BOUND: Final = 65_536
_WORDS_BOUND: Final = 120


def own_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: URL,
    proxy: Proxy,
    answers_json: bool,
) -> Fault | None:
    """Return the fault that a proxy's own answer is; ``None``: it is the server's.

    ``answers_json`` is whether the server is an API whose errors are JSON.
    """
    if status < 400:
        return None
    body = body[:_READ_BOUND]
    is_signed = status == 407 or _is_signed(headers, body)
    if not is_signed and not (answers_json and _is_likely(status, headers, body)):
        return None
    said = _said(status, headers, body)
    refusal = of_status(status, proxy)
    at = url.origin()
    if refusal is not None and is_signed:
        message = f"The proxy {proxy} {refusal.why} on the way to {at}: it answered itself, {said}"
    elif is_signed:
        message = f"The proxy {proxy} gave no way to {at}, and answered itself: {said}"
    else:
        message = (
            f"Not {at} but the proxy {proxy}, or what stands behind it, seems to have answered:"
            f" {said}, not in the form of an API"
        )
    return Fault(
        kind=ErrorKind.PROXY,
        message=message,
        maybe_executed=status >= 500 and _UNREACHED.search(said) is None,
        fix=filled(FIX_BEYOND if refusal is None else refusal.fix, proxy),
        halts=refusal is not None and refusal.halts,
    )


def _is_signed(headers: Mapping[str, str], body: bytes) -> bool:
    if any(name in headers for name in _SIGNS):
        return True
    if "via" in headers:
        # It passed the answer on; whoever made it is further away.
        return False
    program = headers.get("server", "")
    if program:
        return _PROGRAMS.search(program) is not None or (
            not _is_json(body) and b"proxy error" in body.lower()
        )
    return not _is_json(body) and _PAGES.search(body) is not None


def _is_likely(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    return (
        status in _OWN_STATUSES
        and "via" not in headers
        and "server" not in headers
        and not _is_json(body)
    )


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] in (b"{", b"[")


def _said(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Return an answer in few words: status, title of its page, and a proxy's own code."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    words = [f"{status} {phrase}".strip()]
    if title := _TITLE.search(body):
        text = " ".join(unescape(title[1].decode("utf-8", "replace")).split())
        words.append(f"“{text[:_WORDS_BOUND]}”")
    if code := headers.get("x-squid-error", ""):
        words.append(f"({code[:_WORDS_BOUND]})")
    return " ".join(words)
