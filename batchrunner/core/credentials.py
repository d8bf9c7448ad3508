"""Secrets: a credential as a value that does not show itself, and texts without secrets.

Redaction is for what people and files get to see of *our* words and of a provider's error
messages. A request is never altered by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from batchrunner.errors import RefusedError

__all__ = ["Credential", "check_form", "one_line", "redact"]

REDACTED: Final = "[redacted]"
#: Longest message that is stored or shown.
MESSAGE_BOUND: Final = 500
#: How much of a text is looked at for a message.
_READ_BOUND: Final = 8_192
#: Shorter values are not looked for: they would blank out ordinary words.
_SHORTEST_SECRET: Final = 6

#: PROVIDERS §8. A group named ``keep`` stays in front of the replacement.
_SECRET_FORMS: Final[Sequence[str]] = (
    r"sk-ant-[A-Za-z0-9_-]{8,}",
    r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{8,}",
    r"sk-or-v1-[A-Za-z0-9]{8,}",
    r"sk-[A-Za-z0-9_-]{16,}",
    r"sk-[A-Za-z0-9_-]*[*.]{3,}[A-Za-z0-9]{2,}",
    r"AIza[0-9A-Za-z_-]{35}",
    r"AQ\.[A-Za-z0-9_.-]{20,}",
    r"gsk_[A-Za-z0-9]{20,}",
    r"xai-[A-Za-z0-9_-]{20,}",
    r"pplx-[A-Za-z0-9]{20,}",
    r"hf_[A-Za-z0-9]{20,}",
    r"r8_[A-Za-z0-9]{20,}",
    r"csk-[A-Za-z0-9]{20,}",
    r"tgp_v1_[\w-]{20,}",
    r"nvapi-[\w-]{20,}",
    r"(?:AKIA|ASIA|ABSK)[A-Za-z0-9+/=]{12,}",
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*",
)
_PATTERNS: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (
        re.compile(
            r"(?i)\b((?:x-api-key|api-key|x-goog-api-key|authorization|proxy-authorization"
            r"|cookie|set-cookie)\b[\"']?\s*[:=]\s*)(?:(?:Bearer|Basic)\s+)?[\"']?[^\s\"']+[\"']?"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)([?&](?:key|api_key|apikey|token|access_token|sig|signature|X-Amz-Signature"
            r"|X-Amz-Credential)=)[^&\s\"']+"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(://)[^/\s:@]+:[^/\s@]+@"), rf"\1{REDACTED}@"),
    (re.compile(r"\b(?:" + "|".join(_SECRET_FORMS) + ")"), REDACTED),
)

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x9d\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)

#: Typographic quotes and dashes that editors and chat programs put into pasted keys.
_QUOTES: Final = frozenset("\"'`´‘’‚“”„«»")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key or token, held in memory only; ``repr`` and ``str`` don't show the value."""

    value: str = field(repr=False)
    #: The variable it came from, e.g. ``ANTHROPIC_API_KEY`` or ``ANTHROPIC_API_KEY_FILE``.
    source: str
    #: What was mended in reading it, for the person; empty for nothing.
    notice: str = ""

    def __str__(self) -> str:
        """Return where it came from."""
        return f"credential from {self.source}"

    def fingerprint(self) -> str:
        """Return a short hash that tells keys apart and can't be turned back: 16 hex digits."""
        return hashlib.sha256(b"batchrunner:" + self.value.encode()).hexdigest()[:16]


def check_form(credential: Credential, *, own_address: bool) -> Credential:
    """Return ``credential`` if it can be sent, else raise naming the variable and the place.

    At the provider's own address (``own_address``) whatever no key of any provider has is
    refused: inner spaces, quotes, a ``Bearer `` in front, an unfilled ``$VAR``. A gateway may
    want any value, so elsewhere only what can't stand in a header is refused.

    :raises RefusedError: kind ``authentication``; the message never shows the value.
    """
    value, source = credential.value, credential.source
    starts = (("$", "an unfilled variable"), ("Bearer ", "the word Bearer"))
    for start, what in starts if own_address else ():
        if value.startswith(start):
            raise _refused(f"The key in {source} starts with {what} instead of the key.", source)
    for position, char in enumerate(value, 1):
        if (fault := _fault_of_char(char, own_address=own_address)) is not None:
            raise _refused(f"The key in {source} has {fault} at character {position}.", source)
    return credential


def _fault_of_char(char: str, *, own_address: bool) -> str | None:
    code = ord(char)
    faults = (
        ("a line break", code in {10, 13}),
        ("a control character", code < 32 or code == 127),
        ("a quotation mark", own_address and char in _QUOTES),
        (f"a character that no header can carry (U+{code:04X})", code > 255),
        ("a space", own_address and char.isspace()),
        (f"a character that no key has (U+{code:04X})", own_address and code > 126),
    )
    return next((words for words, holds in faults if holds), None)


def _refused(message: str, source: str) -> RefusedError:
    return RefusedError(message, fix=f"Set {source} to the key alone, then run resume.")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without anything that looks like a credential, and without ``secrets``.

    ``secrets`` are exact values (keys without a telling form, proxy passwords); they are found
    URL-encoded as well.
    """
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, REDACTED)
            encoded = quote(secret, safe="")
            if encoded != secret:
                text = text.replace(encoded, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def one_line(text: str, secrets: Iterable[str] = (), *, bound: int = MESSAGE_BOUND) -> str:
    """Return ``text`` as one printable, redacted line of at most ``bound`` characters.

    Terminal escapes and control and direction characters are removed, runs of space become one.
    """
    text = _ESCAPES.sub("", text[:_READ_BOUND])
    text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    text = " ".join(redact(text, secrets).split())
    return text if len(text) <= bound else text[: bound - 1].rstrip() + "…"
