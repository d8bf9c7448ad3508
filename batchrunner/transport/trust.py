"""Which certificates are trusted: the system's, and those a person names; never none.

``--ca-file`` is trusted *besides* the system's store, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``
*instead* of it. There is no way to switch the check off.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrunner.transport.phases import MAKING, Phase

__all__ = ["UnusableTrustError", "note_handshake", "tls_context", "trust_nobody"]


class UnusableTrustError(Exception):
    """A file of certificates can't be used."""

    def __init__(self, message: str, fix: str) -> None:
        """Say what is wrong, and what to do."""
        super().__init__(message)
        self.fix = fix


def tls_context(ca_file: str | None, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return what every TLS connection of a run is made with.

    :raises UnusableTrustError: a file is missing, unreadable, or holds no certificate.
    """
    file, folder = (environ.get(name, "").strip() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    context: ssl.SSLContext
    if file or folder:
        context = _Plain(ssl.PROTOCOL_TLS_CLIENT)
        if file:
            _load(context, "SSL_CERT_FILE", file)
        if folder:
            context.load_verify_locations(capath=folder)
    else:
        from batchrunner.transport.system_trust import SystemTrust  # noqa: PLC0415 (not for http)

        context = SystemTrust(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file:
        _load(context, "--ca-file", ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def trust_nobody() -> ssl.SSLContext:
    """Return what stands where no TLS is to be spoken: it would refuse everybody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _load(context: ssl.SSLContext, source: str, file: str) -> None:
    try:
        text = Path(file).read_bytes()
        if b"-----BEGIN CERTIFICATE-----" not in text:
            raise UnusableTrustError(
                f"{source}: there is no certificate in {file}.",
                "It must hold PEM blocks (-----BEGIN CERTIFICATE-----); turn a DER file into one"
                f" with: openssl x509 -inform der -in {file} -out ca.pem",
            )
        context.load_verify_locations(cafile=file)
    except ssl.SSLError as error:
        raise UnusableTrustError(
            f"{source}: the certificates in {file} can't be read: {error.reason or error}.",
            f"Get the file anew; to look at it: openssl x509 -in {file} -noout -text",
        ) from error
    except OSError as error:
        raise UnusableTrustError(
            f"{source}: can't read {file}: {error.strerror or error}.",
            "Name a file that is there and that you may read.",
        ) from error


def note_handshake() -> None:
    """Note that the running task's connection has come as far as TLS."""
    if (making := MAKING.get()) is not None:
        making.enter(Phase.TLS, asyncio.get_running_loop().time())


class _Plain(ssl.SSLContext):
    """OpenSSL's own verification of the certificates loaded."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a handshake."""
        note_handshake()
        return super().wrap_bio(*args, **kwargs)
