"""What a request asks, as text: its last user message, or the input of other endpoints."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec

__all__ = ["input_text"]

#: Where the texts stand, by endpoint: the first that is there counts.
_PLACES: Final = ("messages", "contents", "input", "prompt")


def input_text(request: bytes | None) -> str | None:
    """Return the text for a person's table; of a body of another form, the body."""
    if not request:
        return None
    body: Any = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        body = msgspec.json.decode(request)
    if isinstance(body, dict):
        place = next((body[name] for name in _PLACES if name in body), None)
        if isinstance(place, str):
            return place
        if isinstance(place, list):
            return _last(place)
    return request.decode("utf-8", "replace")


def _last(messages: list[Any]) -> str | None:
    if all(isinstance(text, str) for text in messages):
        return "\n".join(messages)
    asked = [m for m in messages if isinstance(m, dict) and m.get("role", "user") == "user"]
    if not asked:
        return None
    return _text(asked[-1].get("content", asked[-1].get("parts")))


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str)) or None
