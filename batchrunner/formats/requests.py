"""What a line may say about its HTTP request: method, URL and headers, checked before storing.

A literal credential is refused here, so that none reaches the database: a header value may name an
environment variable as ``${VAR}``, which is kept unfilled.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from batchrunner.core.credentials import redact
from batchrunner.formats.faults import RefusedLineError, SecretLineError

__all__ = ["check_headers", "check_method", "check_url", "holds_credential"]

_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_SECRET_QUERY: Final = re.compile(
    r"(?i)[?&](?:key|api[_-]?key|token|access_token|sig|signature|x-amz-(?:signature|credential))="
)
#: Their value is a credential, whatever it looks like. Not every key and token is one:
#: ``idempotency-key`` and ``x-page-token`` are none.
_SECRET_HEADER: Final = re.compile(
    r"(?i)(?:proxy-)?authorization|cookie|(?:.*[-_])?(?:"
    r"api[-_]?key|subscription[-_]key|secret(?:[-_]key)?|passw(?:or)?d|passphrase"
    r"|(?:api|auth|access|private|session|security|bearer|refresh|id)[-_]?token)|x-token|token"
)
_PORTS: Final = {"http": 80, "https": 443}


def check_method(value: object) -> str:
    """Return an HTTP method in upper case."""
    if not isinstance(value, str) or not _METHOD.fullmatch(value.upper()):
        raise RefusedLineError("`method` is not an HTTP method such as POST")
    return value.upper()


def check_url(value: object, *, base_url: str | None) -> str:
    """Return a URL that is relative, or absolute and of the base URL's origin."""
    if not isinstance(value, str) or not value:
        raise RefusedLineError("`url` is not a string, or empty")
    return _checked_url(value, base_url)


@lru_cache(maxsize=256)
def _checked_url(value: str, base_url: str | None) -> str:
    """Check a URL; most files name one or a few in all their lines."""
    if _NOT_IN_URL.search(value):
        raise RefusedLineError("`url` has spaces, backslashes or control characters in it")
    if holds_credential(value):
        raise SecretLineError(
            "`url` has a credential in it; keys come from the environment, or in -H with ${VAR}"
        )
    try:
        parts = urlsplit(value)
        ours = urlsplit(base_url or "")
        if not parts.scheme and not parts.netloc:
            return value
        if parts.username is not None or parts.password is not None:
            raise SecretLineError("`url` has a user name or password in it")
        if not base_url or _origin(parts) != _origin(ours):
            raise RefusedLineError(
                f"`url` is not of the base URL's origin ({_shown(ours)}); one base URL a run"
            )
    except ValueError as error:
        raise RefusedLineError(f"`url` is not a URL: {error}") from None
    return value


def holds_credential(url: str) -> bool:
    """Return whether an address has a password, a token or a key in it, or a query that names one."""
    return bool(_SECRET_QUERY.search(url)) or redact(url) != url


def _origin(parts: Any) -> tuple[str, str | None, int | None]:
    return (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))


def _shown(parts: Any) -> str:
    if not parts.hostname:
        return "--base-url was not given"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def check_headers(value: object) -> dict[str, str]:
    """Return headers as given; every value may hold ``${VAR}``, none a literal credential."""
    if not isinstance(value, dict):
        raise RefusedLineError("`headers` is not an object")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise RefusedLineError("`headers` has a name that HTTP does not allow")
        if not isinstance(text, str):
            raise RefusedLineError(f"header `{name}` is not a string")
        if not _HEADER_VALUE.fullmatch(text):
            raise RefusedLineError(f"header `{name}` has characters that HTTP does not allow")
        if _is_secret(name, text):
            raise SecretLineError(
                f"header `{name}` holds a credential; write ${{VAR}} and set VAR in the environment"
            )
    return value


def _is_secret(name: str, text: str) -> bool:
    literal = _VARIABLE.sub("", text)
    if redact(literal, ()) != literal:
        return True
    return bool(_SECRET_HEADER.fullmatch(name)) and literal == text
