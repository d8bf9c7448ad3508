"""A prompt cache that behaves like Anthropic's, on purpose shared with nothing else.

It judges whether batchrunner sends in an order that reads it. A prefix is kept where a block is marked
with ``cache_control``, in the order tools, system, messages, once the first answer to it begins, for five
minutes or an hour from when it was last read. A prefix that was kept is read up to 20 blocks before a
mark. Pure: instants are arguments, epoch seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from batchrunner.providers.simulator.answers import count_tokens

_MARK: Final = "cache_control"
_HOUR_S: Final = 3_600.0
#: A prefix is looked for in so many blocks before a mark.
_LOOKED_BACK: Final = 20

_encode = msgspec.json.Encoder().encode


class CacheUse(NamedTuple):
    """What a request's input is to the cache, in tokens."""

    #: Neither read nor written.
    rest: int
    read: int
    #: Written for five minutes, and for an hour.
    written: int
    written_1h: int


class _Block(NamedTuple):
    text: str
    #: Whether it is marked, and for an hour.
    is_marked: bool
    is_long: bool


class _Entry(NamedTuple):
    #: When the answer that wrote it began.
    ready_at: float
    until: float
    length_s: float


class PromptCache:
    """The prefixes that a provider keeps, by model."""

    def __init__(self, *, least: int, kept_s: float) -> None:
        """Keep prefixes of at least so many tokens; what is not marked for an hour for ``kept_s``."""
        self._least, self._kept_s = least, kept_s
        self._entries: dict[tuple[str, bytes], _Entry] = {}

    def use(self, model: str, body: Any, *, now: float, ready_at: float) -> CacheUse | None:
        """Read and write what a request asks for; ``None`` where it marks nothing."""
        blocks = list(_blocks(body))
        marks = [n for n, block in enumerate(blocks) if block.is_marked]
        if not marks:
            return None
        prefixes, sizes = _prefixes(blocks)
        total = sizes[-1]
        read_to = self._find(model, prefixes, marks, now)
        read = sizes[read_to] if read_to >= 0 else 0
        written = written_1h = 0
        seen = read
        for n in marks:
            if sizes[n] < self._least:
                continue
            length_s = _HOUR_S if blocks[n].is_long else self._kept_s
            key = (model, prefixes[n])
            old = self._entries.get(key)
            if n <= read_to and old is not None:
                self._entries[key] = old._replace(until=now + old.length_s)
                continue
            self._entries[key] = _Entry(ready_at, ready_at + length_s, length_s)
            if blocks[n].is_long:
                written_1h += sizes[n] - seen
            else:
                written += sizes[n] - seen
            seen = max(seen, sizes[n])
        return CacheUse(total - read - written - written_1h, read, written, written_1h)

    def _find(self, model: str, prefixes: list[bytes], marks: list[int], now: float) -> int:
        """Return the last block of the longest prefix that is kept; -1: none is."""
        for mark in reversed(marks):
            for n in range(mark, max(-1, mark - _LOOKED_BACK), -1):
                entry = self._entries.get((model, prefixes[n]))
                if entry is not None and entry.ready_at <= now < entry.until:
                    self._entries[model, prefixes[n]] = entry._replace(until=now + entry.length_s)
                    return n
        return -1


def _prefixes(blocks: list[_Block]) -> tuple[list[bytes], list[int]]:
    so_far, prefixes, sizes, size = hashlib.sha256(), [], [], 0
    for block in blocks:
        so_far.update(block.text.encode(errors="replace") + b"\0")
        size += count_tokens(block.text)
        prefixes.append(so_far.digest())
        sizes.append(size)
    return prefixes, sizes


def _blocks(body: Any) -> Iterator[_Block]:
    """Yield what a Messages request is made of, in the order in which it is kept."""
    found = [
        *_of("tools", body.get("tools")),
        *_of("system", body.get("system")),
        *(
            block
            for message in body.get("messages") or ()
            for block in _of(str(message.get("role")), message.get("content"))
        ),
    ]
    if isinstance(mark := body.get(_MARK), dict) and found:
        found[-1] = found[-1]._replace(is_marked=True, is_long=mark.get("ttl") == "1h")
    yield from found


def _of(where: str, content: Any) -> Iterator[_Block]:
    if isinstance(content, str):
        yield _Block(f"{where}: {content}", False, False)
        return
    for item in content if isinstance(content, list) else ():
        mark = item.get(_MARK) if isinstance(item, dict) else None
        bare = {k: v for k, v in item.items() if k != _MARK} if mark else item
        text = bare.get("text") if isinstance(bare, dict) else None
        yield _Block(
            f"{where}: {text if isinstance(text, str) else _encode(bare).decode()}",
            isinstance(mark, dict),
            isinstance(mark, dict) and mark.get("ttl") == "1h",
        )
