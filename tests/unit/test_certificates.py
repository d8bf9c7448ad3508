"""A certificate's telling fields, and the reason in words, for certificates that openssl made."""

from __future__ import annotations

import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batchrunner.core.certificates import Certificate, distrust, read_certificate
from tests.fakes.network import Authority

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the openssl command to make certificates"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority's folder with one certificate of a server."""
    folder = tmp_path_factory.mktemp("ca")
    Authority(folder).context("DNS:api.example,DNS:*.b.example,IP:192.0.2.1,IP:2001:db8::1")
    return folder


def der(file: Path) -> bytes:
    """The bytes of a PEM file's certificate."""
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def test_the_telling_fields_are_read(folder: Path) -> None:
    """Subject, issuer, dates and names are what openssl wrote."""
    found = read_certificate(der(folder / "1.pem"))
    assert found.subject == "“server 1”"
    assert found.issuer == "“Example Corp Inspection CA”"
    assert found.names == ("api.example", "*.b.example", "192.0.2.1", "2001:db8::1")
    assert found.valid_until - found.valid_from == timedelta(days=2)
    assert abs(datetime.now(UTC) - found.valid_from) < timedelta(minutes=5)


def test_a_certificate_without_names_is_read(folder: Path) -> None:
    """An authority's own has no host names."""
    found = read_certificate(der(folder / "ca.pem"))
    assert found.names == ()
    assert found.subject == found.issuer


def test_what_is_no_certificate_is_a_value_error(folder: Path) -> None:
    """Nothing but ValueError comes of bytes that are cut or are something else."""
    whole = der(folder / "1.pem")
    for n in range(0, len(whole), 7):
        with pytest.raises(ValueError):
            read_certificate(whole[:n])
    for data in (b"", b"\x30", b"hello world", bytes(100), b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(ValueError):
            read_certificate(data)


KNOWN = Certificate(
    "“api.example”",
    "“Some CA”",
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
    tuple(f"h{i}.example" for i in range(7)),
)
VALID = datetime(2026, 2, 1, tzinfo=UTC)
EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "why", "fix"),
    [
        (9, "not valid before 2026-01-02", "date -u"),
        (10, "expired on 2026-03-04 05:06 UTC", "date -u"),
        (18, "signed by itself", "openssl s_client -connect api.example:8443"),
        (19, "“Some CA”", "--ca-file"),
        (20, "issued by “Some CA”", "--ca-file"),
        (62, "not for api.example but for h0.example", "--base-url"),
        (64, "not for the address", "--base-url"),
        (99, "openssl's own words", "--ca-file"),
    ],
)
def test_each_reason_says_why_and_what_to_do(code: int, why: str, fix: str) -> None:
    """Every reason has its words, the certificate's subject, issuer and dates, and a fix."""
    now = {9: EARLY, 10: LATE}.get(code, VALID)
    told = distrust(KNOWN, code, "openssl's own words", host="api.example", port=8443, now=now)
    assert why in told.why
    assert "“api.example”, issued by “Some CA”, valid from 2026-01-02 to 2026-03-04" in told.why
    assert fix in told.fix
    assert "h6.example" not in told.why, "a long list of names is cut"
    assert "; and it" not in told.why
    assert distrust(None, code, "openssl's own words", host="h", port=1, now=now).why


@pytest.mark.parametrize("code", [18, 19, 20, 21, 62, 64])
@pytest.mark.parametrize(
    ("now", "dated"),
    [(LATE, "it has expired on 2026-03-04"), (EARLY, "it is not valid before 2026-01-02")],
    ids=["late", "early"],
)
def test_what_the_dates_show_is_told_besides(code: int, now: datetime, dated: str) -> None:
    """OpenSSL stops at the first reason; a certificate that is out of date too is told of both."""
    told = distrust(KNOWN, code, "", host="api.example", port=8443, now=now)
    assert f"; and {dated}" in told.why
    first = distrust(KNOWN, code, "", host="api.example", port=8443, now=VALID)
    assert told.why.startswith(first.why.partition(". It is for")[0])
    assert told.fix.startswith(first.fix.rstrip("."))
    assert "date -u" in told.fix
    assert ".." not in told.fix.replace("…", "")


@pytest.mark.parametrize("code", [9, 10])
def test_an_authority_that_has_expired_is_not_called_the_server(code: int) -> None:
    """Where the server's own dates are good, the one above it is what is out of date."""
    told = distrust(KNOWN, code, "", host="api.example", port=8443, now=VALID)
    assert "an authority above it" in told.why
    assert "it has expired on 2026-03-04" not in told.why
