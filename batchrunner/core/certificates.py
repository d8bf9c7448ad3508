"""What a server's certificate says, and why it is not trusted, in words for a person.

OpenSSL names a reason and keeps the certificate to itself; so its few telling fields are read here
from its bytes (X.509 in DER, RFC 5280). Nothing is verified: this is for messages only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

__all__ = ["Certificate", "Distrust", "distrust", "read_certificate"]

#: Attributes of a name that tell people most, in this order: CN, O, OU.
_TELLING: Final = (b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b")
_SUBJECT_ALT_NAME: Final = b"\x55\x1d\x11"
_UTC_TIME: Final = 0x17
_EXTENSIONS: Final = 0xA3
_VERSION: Final = 0xA0
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87
#: A message names at most so many host names.
_NAMED: Final = 5


class Certificate(NamedTuple):
    """The telling fields of one certificate."""

    subject: str
    issuer: str
    valid_from: datetime
    valid_until: datetime
    #: The hosts it is for.
    names: tuple[str, ...]


class Distrust(NamedTuple):
    """Why a certificate is not trusted, and what to do."""

    why: str
    fix: str


def read_certificate(der: bytes) -> Certificate:
    """Return what a certificate says.

    :raises ValueError: the bytes are no certificate.
    """
    try:
        _, outer, _ = _value(der, 0)
        _, body, _ = _value(outer, 0)
        fields = [(tag, value) for tag, value in _values(body) if tag != _VERSION]
        # Serial number, signature, issuer, validity, subject, key, and what is optional.
        (_, issuer), (_, validity), (_, subject) = fields[2:5]
        valid_from, valid_until = (_instant(tag, value) for tag, value in _values(validity))
        extensions = next((value for tag, value in fields[5:] if tag == _EXTENSIONS), b"")
        return Certificate(
            _name(subject), _name(issuer), valid_from, valid_until, tuple(_hosts(extensions))
        )
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a certificate") from error


def distrust(
    found: Certificate | None, code: int, reason: str, *, host: str, port: int, now: datetime
) -> Distrust:
    """Return why OpenSSL's ``code`` (X509_V_ERR_…) refuses a certificate of ``host``.

    ``found`` is the server's own, ``None`` where it could not be read; ``reason`` is OpenSSL's. It
    stops at the first; what the dates show at ``now`` is told besides.
    """
    why, fix = _REASONS.get(code, (reason, _FIX_UNKNOWN))
    dated = _date_fault(found, now)
    if code in _DATES and found is not None and dated is None:
        # Its own dates are good: it is one further up that is not.
        why, fix = _DATE_ABOVE
    elif code not in _DATES and dated is not None:
        why, fix = f"{why}; and {_REASONS[dated][0]}", f"{fix.rstrip('.')}. {_FIX_CLOCK}"
    fill = {
        "host": host,
        "place": f"{host}:{port}",
        "issuer": found.issuer if found else "an authority",
        "names": _listed(found.names) if found else "other names",
        "from": f"before {found.valid_from:%Y-%m-%d %H:%M} UTC" if found else "yet",
        "until": f" on {found.valid_until:%Y-%m-%d %H:%M} UTC" if found else "",
    }
    said = why.format_map(fill)
    if found is not None:
        said += (
            f". It is for {found.subject}, issued by {found.issuer},"
            f" valid from {found.valid_from:%Y-%m-%d} to {found.valid_until:%Y-%m-%d}"
        )
    return Distrust(said, fix.format_map(fill))


_FIX_UNKNOWN: Final = (
    "Where a company or a security program inspects TLS, ask its administrators for the"
    " certificate of their authority, then: batchrunner resume --ca-file FILE"
)
_FIX_CLOCK: Final = (
    "See whether this machine's date is right: date -u. If it is, the certificate must be renewed"
    " by whoever runs {host}; then: batchrunner resume"
)
_FIX_OWN: Final = (
    "If {host} is yours, save its certificate and trust it: openssl s_client -connect {place}"
    " -showcerts </dev/null | openssl x509 > ca.pem; batchrunner resume --ca-file ca.pem."
    " If it is not, something stands between you and it: do not send your key there."
)
_FIX_NAME: Final = (
    "Give the base URL with a name that the certificate has (it is for {names}): batchrunner"
    " resume --base-url URL"
)
_UNKNOWN: Final = "it is issued by {issuer}, an authority that is not known here: as with a company that inspects TLS"
#: X509_V_ERR code → (why, what to do).
_REASONS: Final[Mapping[int, tuple[str, str]]] = {
    9: ("it is not valid {from}", _FIX_CLOCK),
    10: ("it has expired{until}", _FIX_CLOCK),
    18: ("it is signed by itself, and nobody vouches for it", _FIX_OWN),
    19: (_UNKNOWN, _FIX_UNKNOWN),
    20: (_UNKNOWN, _FIX_UNKNOWN),
    21: (_UNKNOWN, _FIX_UNKNOWN),
    23: ("it was revoked", "Whoever runs {host} must replace it; do not send your key there."),
    62: ("it is not for {host} but for {names}", _FIX_NAME),
    64: ("it is not for the address {host} but for {names}", _FIX_NAME),
}
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_DATES: Final = frozenset((_NOT_YET, _EXPIRED))
_FIX_ABOVE: Final = (
    "See whether this machine's date is right: date -u. If it is, bring the system's certificates up"
    " to date, or have whoever runs {host} send the chain of an authority that is still good; then:"
    " batchrunner resume"
)
_DATE_ABOVE: Final = (
    "the certificate of an authority above it has expired, or is not valid yet; its own is valid",
    _FIX_ABOVE,
)


def _date_fault(found: Certificate | None, now: datetime) -> int | None:
    """Return the code of what is wrong with a certificate's dates, whatever OpenSSL stopped at."""
    if found is None or found.valid_from <= now <= found.valid_until:
        return None
    return _EXPIRED if now > found.valid_until else _NOT_YET


def _value(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return (tag, contents, where the next begins) of the value at ``at``."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        n = length & 0x7F
        length = int.from_bytes(data[start : start + n], "big")
        start += n
    if start + length > len(data):
        raise ValueError("not a certificate: it is cut")
    return tag, data[start : start + length], start + length


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, value, at = _value(data, at)
        yield tag, value


def _name(value: bytes) -> str:
    """Return the most telling attribute of a name in quotation marks."""
    found: dict[bytes, str] = {}
    for _, group in _values(value):
        for _, pair in _values(group):
            (_, kind), (tag, text) = list(_values(pair))[:2]
            found.setdefault(kind, text.decode("utf-16-be" if tag == 0x1E else "utf-8", "replace"))
    return next((f"“{found[kind]}”" for kind in _TELLING if found.get(kind)), "nobody named")


def _instant(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _hosts(extensions: bytes) -> Iterator[str]:
    for _, listed in _values(extensions):
        for _, extension in _values(listed):
            parts = list(_values(extension))
            if parts[0][1] != _SUBJECT_ALT_NAME:
                continue
            _, names, _ = _value(parts[-1][1], 0)
            for tag, name in _values(names):
                if tag == _DNS_NAME:
                    yield name.decode("ascii")
                elif tag == _IP_ADDRESS and len(name) in (4, 16):
                    yield str(ipaddress.ip_address(name))


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMED]) or "no host at all"
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
