"""The system's own verification and store of certificates, by way of truststore.

Apart from the rest since it is imported only where TLS is spoken: it takes longer than ``--help``.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any, Final

import truststore

from batchrunner.transport.trust import note_handshake

__all__ = ["SystemTrust"]

#: Where OpenSSL alone verifies, truststore's work is to find the store, and once is enough: it
#: would read it anew for each connection, 50 ms on the event loop each.
_FINDS_ONLY: Final = sys.platform not in ("darwin", "win32")


class SystemTrust(truststore.SSLContext):
    """The system's verification, with its own store."""

    _is_found = False

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a handshake."""
        note_handshake()
        if self._is_found:
            return self._ctx.wrap_bio(*args, **kwargs)
        self._is_found = _FINDS_ONLY
        return super().wrap_bio(*args, **kwargs)
