"""What answers taught of each model's tokens, kept as rows of ``meta``: by it estimates are corrected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from batchrunner.core.tokens import Seen
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.runs import driver

__all__ = ["load_seen", "seen_row", "seen_tokens"]

#: Before a model's name in ``meta.key``.
_KEY: Final = "tokens:"
_decode: Final = msgspec.json.Decoder(Seen).decode


def load_seen(conn: DriverConnection) -> dict[str, Seen]:
    """Return what is known of each model's tokens."""
    rows: Iterable[tuple[str, str]] = conn.execute(
        "SELECT key, value FROM meta WHERE key >= ? AND key < ?", (_KEY, _KEY[:-1] + ";")
    )
    return {key.removeprefix(_KEY): _decode(value) for key, value in rows}


def seen_row(model: str, seen: Seen) -> tuple[str, str]:
    """Return the row of ``meta`` that keeps what is known of a model's tokens."""
    return _KEY + model, msgspec.json.encode(seen).decode()


def seen_tokens(db: Database) -> dict[str, Seen]:
    """Return what is known of each model's tokens, for views and plans."""
    with db.read() as connection:
        return load_seen(driver(connection))
