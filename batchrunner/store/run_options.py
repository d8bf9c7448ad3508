"""One of the options stored with a run, changed inside a transaction that somebody else began."""

from __future__ import annotations

from typing import Any

import msgspec

from batchrunner.models import RunId
from batchrunner.store.driver import DriverConnection

__all__ = ["put_option"]


def put_option(conn: DriverConnection, run_id: RunId, name: str, value: Any) -> None:
    """Store an option of a run; ``None`` takes it away."""
    (text,) = conn.execute("SELECT options FROM run WHERE id = ?", (run_id,)).fetchone()
    options = msgspec.json.decode(text)
    options.pop(name, None)
    if value is not None:
        options[name] = value
    conn.execute(
        "UPDATE run SET options = ? WHERE id = ?",
        (msgspec.json.encode(options).decode(), run_id),
    )
