"""The request log: one JSON line for each request received, appended at once.

Each line is a single ``write`` on a descriptor opened with ``O_APPEND``: lines of several processes
do not mix, and what was written is there even if the process is killed the moment after.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


class RequestLog:
    """A JSONL file that only grows; readable by its owner alone, for it holds prompts."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is created where it is missing; raises ``OSError``."""
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def append(self, fields: dict[str, Any]) -> None:
        """Append one line."""
        os.write(self._descriptor, self._encode(fields) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
