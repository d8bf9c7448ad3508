"""What the dialects have in common: what a request asks for, and how its body is read."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from batchrunner.providers.simulator.cache import CacheUse
from batchrunner.providers.simulator.windows import Standing


class InvalidBodyError(Exception):
    """A request that the provider would refuse with 400; the message says why."""


class Asked(NamedTuple):
    """What a request asks for."""

    model: str
    prompt: str
    system: str = ""
    max_tokens: int | None = None
    #: Texts to embed; empty for a conversation.
    inputs: tuple[str, ...] = ()
    #: What of it the prompt cache gives and takes; ``None``: nothing is marked for it.
    cached: CacheUse | None = None


class Dialect(Protocol):
    """How one provider's requests are read and answers written."""

    def asked(self, body: Any) -> Asked:
        """Read a request's decoded body; raises :class:`InvalidBodyError`."""
        ...

    def answer(self, asked: Asked, request_id: str, /) -> bytes:
        """Write the answer."""
        ...

    def error(self, status: int, message: str, request_id: str, /) -> bytes:
        """Write an error's body."""
        ...

    def headers(
        self, request_id: str, organization: str, standing: Standing | None, now: float, /
    ) -> dict[str, str]:
        """Write the headers that name the request, the organization and the limit."""
        ...


def required(body: Any, name: str, kind: type[Any]) -> Any:
    """Return a field of the body, which must be there and of that type."""
    value = body.get(name) if isinstance(body, dict) else None
    if value is None:
        raise InvalidBodyError(f"{name}: Field required")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidBodyError(f"{name}: Input should be a valid {kind.__name__}")
    return value


def messages(body: Any, name: str = "messages") -> list[dict[str, Any]]:
    """Return the conversation, of which at least one message is the user's."""
    found: list[dict[str, Any]] = required(body, name, list)
    if not all(isinstance(message, dict) for message in found):
        raise InvalidBodyError(f"{name}: Input should be a valid list of messages")
    if not any(message.get("role") == "user" for message in found):
        raise InvalidBodyError(f"{name}: at least one message is required")
    return found


def limit(body: Any, *names: str) -> int | None:
    """Return the most tokens the answer may have: the first of the fields that is given."""
    given = next((body[name] for name in names if body.get(name) is not None), None)
    if given is not None and (not isinstance(given, int) or given < 1):
        raise InvalidBodyError(f"{names[0]}: Input should be an integer of at least 1")
    return given


def text(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, list):
        return " ".join(
            block["text"]
            for block in content
            if isinstance(block, dict) and isinstance(block.get("text"), str)
        )
    return content if isinstance(content, str) else ""
