"""What makes two inputs the same: keys, requests as they would be sent, metadata, provider.

File names, line numbers, shapes, the base URL, limits and ``--set`` are not in it. Every field goes
in with its length, so that no two different inputs can read alike.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import Final

from batchrunner.models import JobLine

__all__ = ["Digest"]

#: The length of each field of a job; all ones stands for a field that is not there.
_LENGTHS: Final = Struct(">6Q")
_ABSENT: Final = 2**64 - 1


class Digest:
    """A running SHA-256 over the jobs of an input, in input order."""

    def __init__(self, provider: str) -> None:
        """Begin with the provider's name; the same jobs for another provider are others."""
        name = provider.encode()
        self._hash = sha256(len(name).to_bytes(8, "big") + name)
        self.n_jobs = 0

    def add(self, job: JobLine) -> None:
        """Take in the next job."""
        fields = (
            job.key.encode(),
            None if job.method is None else job.method.encode(),
            None if job.url is None else job.url.encode(),
            job.headers,
            job.body,
            job.metadata,
        )
        lengths = _LENGTHS.pack(*[_ABSENT if field is None else len(field) for field in fields])
        self._hash.update(lengths + b"".join(filter(None, fields)))
        self.n_jobs += 1

    def digest(self) -> bytes:
        """Return the 32 bytes over what has been added so far."""
        return self._hash.digest()
