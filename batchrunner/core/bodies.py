"""Bodies made small: what the requests of a run have in common, or its answers, is kept once.

A compressed body is its length, four bytes, and a zlib stream over a preset dictionary. The stream
names the dictionary by a checksum and ends with one of the body, so that no damage passes for an
answer; the length bounds what reading it back may take. Measured on requests and answers of 0.2 to
1.6 kB: a dictionary of 4 kB of the run's own first bodies leaves 20 to 40 %, without one it is 50
to 80 %; four times as much dictionary gains another 2 to 5 % and costs half as much time again, as
does zlib's usual level 6 over this one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["FEWEST", "SAMPLE", "DamagedError", "compressed", "dictionary_of", "restored"]

#: A dictionary is made of at most so many bodies, and of no fewer than these.
SAMPLE: Final = 64
FEWEST: Final = 8

_LEVEL: Final = 3
_LENGTH_BYTES: Final = 4
#: Deflate makes nothing smaller than this (https://zlib.net/zlib_tech.html).
_MOST_SHRUNK: Final = 1032
#: What all bodies begin and end with goes in whole: it costs no more than compressing it each time.
#: So much of both; with the examples it fits into zlib's window of 32 kB.
_SHARED: Final = 26 * 1024
#: Of the rest, so much in all, and of each body so much from both its ends.
_EXAMPLES: Final = 4 * 1024
_EXAMPLE_END: Final = 512


class DamagedError(ValueError):
    """A compressed body can't be read back; the message says why."""


def dictionary_of(bodies: Sequence[bytes]) -> bytes:
    """Return a dictionary for bodies like these; empty where they are too few to tell."""
    if len(bodies) < FEWEST:
        return b""
    # Of a long one only what can be used is carried about.
    bodies = [
        body if len(body) <= 2 * _SHARED else body[:_SHARED] + body[-_SHARED:]
        for body in bodies[:SAMPLE]
    ]
    begin = _begin(bodies)[:_SHARED]
    rests = [body[len(begin) :] for body in bodies]
    end = _begin([rest[::-1] for rest in rests])[: _SHARED - len(begin)][::-1]
    examples = _examples(rest[: len(rest) - len(end)] for rest in rests)
    # zlib wants what is likeliest last.
    return examples + end + begin


def _begin(bodies: Sequence[bytes]) -> bytes:
    """Return what all begin with: what the first and the last in order do."""
    first, last = min(bodies), max(bodies)
    same = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(same, min(len(first), len(last)))]


def _examples(rests: Iterable[bytes]) -> bytes:
    chosen: list[bytes] = []
    left = _EXAMPLES
    for rest in rests:
        if len(rest) > 2 * _EXAMPLE_END:
            chosen.append(rest[:_EXAMPLE_END] + rest[-_EXAMPLE_END:])
        else:
            chosen.append(rest)
        left -= len(chosen[-1])
        if left <= 0:
            break
    return b"".join(chosen)


def compressed(body: bytes, dictionary: bytes) -> bytes | None:
    """Return a body compressed; ``None`` where that makes it no smaller."""
    # An empty dictionary is none.
    stream = zlib.compressobj(_LEVEL, zdict=dictionary)
    small = len(body).to_bytes(_LENGTH_BYTES) + stream.compress(body) + stream.flush()
    return small if len(small) < len(body) else None


def restored(small: bytes, dictionary: bytes) -> bytes:
    """Return a body as it was before :func:`compressed`. Raises :class:`DamagedError`."""
    length = int.from_bytes(small[:_LENGTH_BYTES])
    if not 0 < length <= len(small) * _MOST_SHRUNK:
        raise DamagedError(f"{len(small)} bytes can't be a body of {length}")
    stream = zlib.decompressobj(zdict=dictionary)
    try:
        body = stream.decompress(small[_LENGTH_BYTES:], length)
        # The checksum is looked at only when somebody asks for what follows the last byte.
        surplus = stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise DamagedError(str(error)) from error
    if surplus or len(body) != length or not stream.eof or stream.unused_data:
        raise DamagedError(f"it is not {length} bytes long")
    return body
