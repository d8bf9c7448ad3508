"""Secrets: a credential as a value that does not show itself, and texts without secrets.

Redaction is for what people and files get to see of *our* words and of a provider's error
messages: there the known values go, and whatever has the form of a credential. Of answers that
are stored only the known values are taken out (:class:`Secrets`). A request is never altered.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

__all__ = ["REDACTED", "Credential", "Secrets", "one_line", "redact", "secrets_of"]

REDACTED: Final = "[redacted]"
#: Longest message that is stored or shown.
MESSAGE_BOUND: Final = 500
#: How much of a text is looked at for a message.
_READ_BOUND: Final = 8_192
#: Shorter values are not looked for: they would blank out ordinary words.
_SHORTEST_SECRET: Final = 6

#: Names of variables that hold secrets end like this; shorter values are ordinary words.
_SECRET_ENDINGS: Final = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_PASS")
_LIKELY_SECRET: Final = 8
#: So much of a value tells that it may be there.
_PROBE: Final = 12
#: A space in forms; base64 for URLs.
_ALSO: Final = {" ": r"\+", "+": "-", "/": "_"}
#: What stands for itself in a URL, in JSON, in HTML and in a traceback.
_UNCHANGED: Final = re.compile(r"[A-Za-z0-9_.~-]+")

#: PROVIDERS §8. A group named ``keep`` stays in front of the replacement.
_SECRET_FORMS: Final[Sequence[str]] = (
    r"sk-ant-[A-Za-z0-9_-]{8,}",
    r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{8,}",
    r"sk-or-v1-[A-Za-z0-9]{8,}",
    r"sk-[A-Za-z0-9_-]{16,}",
    r"sk-[A-Za-z0-9_-]*[*.]{3,}[A-Za-z0-9]{2,}",
    r"sess-[A-Za-z0-9]{16,}",
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
#: In front of a value, as JSON within JSON or a dictionary's ``repr`` has it.
_QUOTE: Final = r"\\{0,3}[\"']?"
_PATTERNS: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (
        re.compile(
            rf"(?i)\b((?:set-cookie|cookie)\b{_QUOTE}\s*[:=]\s*{_QUOTE})"
            r"[^\s;\"'\\]+(?:;\s*[^\s;=\"'\\]+=[^\s;\"'\\]*)*"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\b(sessionKey\s*=\s*)[^\s;\"'&]+"), rf"\1{REDACTED}"),
    (
        re.compile(
            r"(?i)\b((?:x-api-key|api-key|x-goog-api-key|authorization|proxy-authorization)\b"
            rf"{_QUOTE}\s*[:=]\s*{_QUOTE})(?:(?:Bearer|Basic)\s+)*"
            # Neither the word alone nor a variable to be filled in is one.
            r"(?!(?:Bearer|Basic)\b|\$\{)[^\s\"'\\]+"
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
    # A password that was left out already, or is the name of a variable, is none.
    (
        re.compile(
            r"(://)(?!(?:[\w.%+-]*:)?(?:\*\*\*|\$\{\w+\})@[^@\s]*(?:\s|$))"
            r"[^/\s?#\"'<>@]+(?:@[^/\s?#\"'<>@]+)*@"
        ),
        rf"\1{REDACTED}@",
    ),
    (re.compile(r"\b(?:" + "|".join(_SECRET_FORMS) + ")"), REDACTED),
)

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x9d\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key or token, held in memory only; ``repr`` and ``str`` don't show the value."""

    value: str = field(repr=False)
    #: Where it came from: a variable (``ANTHROPIC_API_KEY``, ``ANTHROPIC_API_KEY_FILE``), a
    #: key file, the keyring.
    source: str
    #: What was mended or is odd in reading it, for the person; empty for nothing.
    notice: str = ""

    def __str__(self) -> str:
        """Return where it came from."""
        return f"credential from {self.source}"

    def fingerprint(self) -> str:
        """Return a short hash that tells keys apart and can't be turned back: 16 hex digits."""
        return hashlib.sha256(b"batchrunner:" + self.value.encode()).hexdigest()[:16]


class _Hunted(NamedTuple):
    """One value as it is looked for, in text and in bytes."""

    #: A part of it that no encoding changes, looked for first: almost every answer has none.
    probe: str
    probe_bytes: bytes
    text: re.Pattern[str]
    data: re.Pattern[bytes]


class Secrets:
    """Exact values that nobody may see, in each form in which a text can carry one.

    Values are only ever added. Those shorter than six characters are left out: they would blank
    out ordinary words.
    """

    __slots__ = ("_coded", "_plain", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        """Take the values known by now."""
        self._values: set[str] = set()
        #: The longest first, so that a value within another does not split it.
        self._plain: tuple[_Hunted, ...] = ()
        #: What base64 makes of them.
        self._coded: tuple[_Hunted, ...] = ()
        self.add(*values)

    def __repr__(self) -> str:
        """Return how many there are."""
        return f"<{len(self._values)} secrets>"

    def __len__(self) -> int:
        """Return how many values are known."""
        return len(self._values)

    def add(self, *values: str) -> None:
        """Know more values; the same again changes nothing."""
        new = {value for value in values if len(value) >= _SHORTEST_SECRET} - self._values
        if not new:
            return
        self._values |= new
        ordered = sorted(self._values, key=len, reverse=True)
        self._plain = tuple(map(_hunted, ordered))
        self._coded = tuple(_hunted(form) for value in ordered for form in _base64_of(value))

    def hide(self, text: str, *, is_cut: bool = False) -> str:
        """Return ``text`` without them; ``is_cut``: it may end in the beginning of one."""
        for hunted in (*self._plain, *self._coded):
            if hunted.probe in text:
                text = hunted.text.sub(REDACTED, text)
        if is_cut:
            ends = [_overlap(text, value) for value in self._values]
            if longest := max(ends, default=0):
                text = text[:-longest]
        return text

    def hide_bytes(self, body: bytes, *, with_base64: bool = True) -> bytes:
        """Return ``body`` without them; the same object where it has none.

        To look for what base64 makes of them takes three times as long.
        """
        for hunted in (*self._plain, *self._coded) if with_base64 else self._plain:
            if hunted.probe_bytes in body and hunted.data.search(body):
                body = hunted.data.sub(REDACTED.encode(), body)
        return body


def _hunted(value: str) -> _Hunted:
    pattern = "".join(map(_any_form, re.findall(r"\\+|[^\\]", value)))
    pattern = f"{pattern}|{re.escape(value)}"
    # Those of base64 for URLs differ; a long one takes longer to look for.
    probe = max(re.findall(r"[A-Za-z0-9]+", value), key=len, default="")[:_PROBE]
    return _Hunted(
        probe,
        probe.encode(),
        re.compile(pattern),
        re.compile(pattern.encode("utf-8", "surrogateescape")),
    )


def _any_form(char: str) -> str:
    """Return a pattern for a character as it is, and as URLs, JSON, HTML and tracebacks carry it.

    Each may stand within another, so that backslashes are doubled several times. A server may send
    a million of them: they are bounded, and taken once and for all.
    """
    if char.startswith("\\"):
        n = len(char)
        return (
            rf"(?:{_BACKSLASH}{{{n},{16 * n}}}+|(?:(?i:{_BACKSLASH}{{1,15}}+(?:u00|x)5c)){{{n}}})"
        )
    if _UNCHANGED.fullmatch(char):
        return re.escape(char)
    code = ord(char)
    as_bytes = char.encode("utf-8", "surrogateescape")
    entities = [rf"{_sign('#')}(?:0{{0,5}}{code}|x0{{0,5}}{code:x})"]
    if (escaped := html.escape(char)) != char:
        entities.append(escaped.strip("&;"))
    forms = [
        rf"{_sign('&')}(?:amp{_sign(';')}){{0,3}}(?:{'|'.join(entities)}){_sign(';')}",
        "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in as_bytes),
        rf"u{code:04x}|x{code:02x}",
    ]
    if also := _ALSO.get(char):
        forms.append(also)
    if 127 < code < 256:
        forms.append(rf"\x{code:02x}")  # in bytes: Latin-1, as headers have it
    # As it is comes last: a sign that begins its own encoding must not leave the rest of it.
    # A value may itself hold what is an encoded backslash elsewhere.
    before = r"\\" if char == "%" else _BACKSLASH
    return rf"{before}{{0,15}}+(?:(?i:{'|'.join(forms)})|{re.escape(char)})"


def _sign(char: str) -> str:
    """Return a pattern for a sign of an encoding, itself in a URL or not."""
    return rf"(?:{re.escape(char)}|(?i:%(?:25){{0,3}}{ord(char):02x}))"


_BACKSLASH: Final = _sign("\\")


def _base64_of(value: str) -> Iterator[str]:
    """Yield what base64 makes of a value wherever it stands in what was encoded (``user:value``)."""
    data = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        # Characters that also hold bits of what stands before or after it are left out.
        whole = (before + len(data)) * 8 // 6
        yield encoded[(0, 2, 3)[before] : whole].decode()


def _overlap(text: str, value: str) -> int:
    """Return how much of the start of ``value`` ends ``text``; too little to tell is nothing."""
    longest = min(len(value) - 1, len(text))
    return next((n for n in range(longest, 3, -1) if text.endswith(value[:n])), 0)


def secrets_of(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what an environment holds that is likely to be secret: keys, passwords of proxies.

    For our own words only. An answer is searched for what is really sent, since any of these
    may be an ordinary word.
    """
    for name, value in environ.items():
        if name.upper().endswith(_SECRET_ENDINGS) and len(value.strip()) >= _LIKELY_SECRET:
            yield value.strip()
        if name.upper().endswith("_PROXY") and "@" in value:
            yield from secrets_of_url(value)


def secrets_of_url(url: str) -> Iterator[str]:
    """Yield the password of an address, as it is written and as it is meant."""
    try:
        password = urlsplit(url if "://" in url else f"//{url}").password
    except ValueError:
        password = None
    if password:
        yield from {password, unquote(password)}


def redact(text: str, secrets: Secrets | Iterable[str] = (), *, is_cut: bool = False) -> str:
    """Return ``text`` without anything that looks like a credential, and without ``secrets``.

    ``secrets`` are exact values (keys without a telling form, proxy passwords).
    """
    known = secrets if isinstance(secrets, Secrets) else Secrets(secrets)
    text = known.hide(text, is_cut=is_cut)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def one_line(
    text: str, secrets: Secrets | Iterable[str] = (), *, bound: int = MESSAGE_BOUND
) -> str:
    """Return ``text`` as one printable, redacted line of at most ``bound`` characters.

    Terminal escapes and control and direction characters are removed, runs of space become one.
    """
    is_cut = len(text) > _READ_BOUND
    text = _ESCAPES.sub("", text[:_READ_BOUND])
    text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    text = " ".join(redact(text, secrets, is_cut=is_cut).split())
    return text if len(text) <= bound else text[: bound - 1].rstrip() + "…"
