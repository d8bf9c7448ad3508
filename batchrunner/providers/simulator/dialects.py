"""The two dialects the simulator speaks: Anthropic's Messages API and OpenAI's forms.

Bodies and headers are those the providers send, down to the error objects, so that the same
profiles read them. Each dialect turns a decoded body into :class:`Asked`, and an answer or a
refusal into bytes. Pure: instants are arguments, epoch seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from batchrunner.providers.simulator import answers
from batchrunner.providers.simulator.windows import Standing

_encode = msgspec.json.Encoder().encode


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


class Anthropic:
    """``POST /v1/messages``."""

    #: Status → ``error.type``; a status that is not listed is an ``invalid_request_error``.
    types: Final[Mapping[int, str]] = {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        503: "api_error",
        504: "timeout_error",
        529: "overloaded_error",
    }

    def asked(self, body: Any) -> Asked:
        """Read a Messages request."""
        model, messages = _required(body, "model", str), _messages(body)
        max_tokens = _required(body, "max_tokens", int)
        if max_tokens < 1:
            raise InvalidBodyError("max_tokens: Input should be greater than or equal to 1")
        prompt = _text(
            next(m for m in reversed(messages) if m.get("role") == "user").get("content")
        )
        return Asked(model, prompt, _text(body.get("system")), max_tokens)

    def answer(self, asked: Asked, request_id: str) -> bytes:
        """Write a message."""
        said = answers.answer(asked.prompt, asked.system, asked.max_tokens)
        return _encode(
            {
                "id": "msg_" + request_id.removeprefix("req_"),
                "type": "message",
                "role": "assistant",
                "model": asked.model,
                "content": [{"type": "text", "text": said.text}] if said.text else [],
                "stop_reason": said.stop_reason,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": said.input_tokens,
                    "output_tokens": said.output_tokens,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "service_tier": "standard",
                },
            }
        )

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """Write an error object."""
        kind = self.types.get(status, "invalid_request_error")
        return _encode(
            {
                "type": "error",
                "error": {"type": kind, "message": message},
                "request_id": request_id,
            }
        )

    def headers(
        self, request_id: str, organization: str, standing: Standing | None, _now: float, /
    ) -> dict[str, str]:
        """Write ``request-id``, ``anthropic-organization-id`` and the request limit."""
        headers = {"request-id": request_id, "anthropic-organization-id": organization}
        if standing is not None:
            # Up to the next second: a client that comes back at the reset must not be early.
            reset = datetime.fromtimestamp(math.ceil(standing.whole_at), UTC)
            headers["anthropic-ratelimit-requests-limit"] = str(standing.limit)
            headers["anthropic-ratelimit-requests-remaining"] = str(max(0, standing.remaining))
            headers["anthropic-ratelimit-requests-reset"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
        return headers


class OpenAI:
    """``POST /v1/chat/completions``, and what OpenAI's forms have in common."""

    #: Status → (``error.type``, ``error.code``).
    codes: Final[Mapping[int, tuple[str, str | None]]] = {
        401: ("invalid_request_error", "invalid_api_key"),
        404: ("invalid_request_error", "model_not_found"),
        429: ("requests", "rate_limit_exceeded"),
        500: ("server_error", None),
        503: ("service_unavailable_error", "server_is_overloaded"),
        529: ("service_unavailable_error", "server_is_overloaded"),
    }
    #: Anthropic's stop reason → ``finish_reason``.
    reasons: Final[Mapping[str, str]] = {
        "end_turn": "stop",
        "max_tokens": "length",
        "refusal": "content_filter",
    }

    def asked(self, body: Any) -> Asked:
        """Read a chat completion request."""
        model, messages = _required(body, "model", str), _messages(body)
        system = " ".join(
            _text(m.get("content")) for m in messages if m.get("role") in {"system", "developer"}
        )
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        return Asked(model, _text(messages[-1].get("content")), system, limit)

    def answer(self, asked: Asked, request_id: str, /) -> bytes:
        """Write a chat completion."""
        said = answers.answer(asked.prompt, asked.system, asked.max_tokens)
        return _encode(
            {
                "id": "chatcmpl-" + request_id.removeprefix("req_"),
                "object": "chat.completion",
                "created": 0,
                "model": asked.model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": said.text},
                        "finish_reason": self.reasons[said.stop_reason],
                    }
                ],
                "usage": {
                    "prompt_tokens": said.input_tokens,
                    "completion_tokens": said.output_tokens,
                    "total_tokens": said.input_tokens + said.output_tokens,
                },
            }
        )

    def error(self, status: int, message: str, _request_id: str, /) -> bytes:
        """Write an error object."""
        kind, code = self.codes.get(status, ("invalid_request_error", None))
        error = {"message": message, "type": kind, "param": None, "code": code}
        return _encode({"error": error})

    def headers(
        self, request_id: str, organization: str, standing: Standing | None, now: float
    ) -> dict[str, str]:
        """Write ``x-request-id``, ``openai-organization`` and the request limit."""
        headers = {"x-request-id": request_id, "openai-organization": organization}
        if standing is not None:
            wait_ms = math.ceil(max(0.0, standing.whole_at - now) * 1000)
            headers["x-ratelimit-limit-requests"] = str(standing.limit)
            headers["x-ratelimit-remaining-requests"] = str(max(0, standing.remaining))
            headers["x-ratelimit-reset-requests"] = f"{wait_ms}ms"
        return headers


class Responses(OpenAI):
    """``POST /v1/responses``."""

    def asked(self, body: Any) -> Asked:
        """Read a Responses request."""
        model = _required(body, "model", str)
        given = body.get("input")
        prompt = given if isinstance(given, str) else _text(_messages(body, "input")[-1]["content"])
        instructions = body.get("instructions") or ""
        return Asked(model, prompt, instructions, body.get("max_output_tokens"))

    def answer(self, asked: Asked, request_id: str, /) -> bytes:
        """Write a response."""
        said = answers.answer(asked.prompt, asked.system, asked.max_tokens)
        cut = said.stop_reason == "max_tokens"
        part = {"type": "output_text", "text": said.text, "annotations": []}
        return _encode(
            {
                "id": "resp_" + request_id.removeprefix("req_"),
                "object": "response",
                "created_at": 0,
                "model": asked.model,
                "status": "incomplete" if cut else "completed",
                "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
                "error": None,
                "output": [
                    {
                        "type": "message",
                        "role": "assistant",
                        "status": "completed",
                        "content": [part],
                    }
                ],
                "usage": {
                    "input_tokens": said.input_tokens,
                    "output_tokens": said.output_tokens,
                    "total_tokens": said.input_tokens + said.output_tokens,
                },
            }
        )


class Embeddings(OpenAI):
    """``POST /v1/embeddings``."""

    def asked(self, body: Any) -> Asked:
        """Read an embeddings request."""
        model, given = _required(body, "model", str), body.get("input")
        inputs = (given,) if isinstance(given, str) else tuple(given or ())
        if not inputs or not all(isinstance(text, str) for text in inputs):
            raise InvalidBodyError("'input' must be a string or a list of strings")
        return Asked(model, "\n".join(inputs), inputs=inputs)

    def answer(self, asked: Asked, _request_id: str, /) -> bytes:
        """Write a list of embeddings."""
        n_tokens = sum(map(answers.count_tokens, asked.inputs))
        data = [
            {"object": "embedding", "index": index, "embedding": answers.vector(text)}
            for index, text in enumerate(asked.inputs)
        ]
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return _encode({"object": "list", "model": asked.model, "data": data, "usage": usage})


class Geocode(OpenAI):
    """``/geocode``: a plain HTTP API, for ``--provider http``. The place stands in ``q``."""

    def asked(self, body: Any) -> Asked:
        """Read the place from the query's, or the body's, ``q``."""
        return Asked("", _required(body, "q", str))

    def answer(self, asked: Asked, _request_id: str, /) -> bytes:
        """Write where the place is."""
        latitude, longitude = answers.coordinates(asked.prompt)
        return _encode({"q": asked.prompt, "lat": latitude, "lon": longitude})


ANTHROPIC: Final = Anthropic()

#: Path → dialect. A base URL with and one without ``/v1`` both lead here.
DIALECTS: Final[Mapping[str, Dialect]] = {
    "/v1/messages": ANTHROPIC,
    "/v1/chat/completions": OpenAI(),
    "/v1/responses": Responses(),
    "/v1/embeddings": Embeddings(),
    "/geocode": Geocode(),
}


def request_id(body: bytes, n: int) -> str:
    """Return an id for the n-th request."""
    return "req_sim" + hashlib.sha256(b"%d:" % n + body).hexdigest()[:21]


def model_list(models: tuple[str, ...]) -> bytes:
    """Write the answer of ``GET /v1/models``."""
    data = [
        {
            "id": name,
            "type": "model",
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": 200_000,
            "max_tokens": 64_000,
        }
        for name in models
    ]
    first, last = (models[0], models[-1]) if models else (None, None)
    return _encode({"data": data, "has_more": False, "first_id": first, "last_id": last})


def _required(body: Any, name: str, kind: type[Any]) -> Any:
    """Return a field of the body, which must be there and of that type."""
    value = body.get(name) if isinstance(body, dict) else None
    if value is None:
        raise InvalidBodyError(f"{name}: Field required")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidBodyError(f"{name}: Input should be a valid {kind.__name__}")
    return value


def _messages(body: Any, name: str = "messages") -> list[dict[str, Any]]:
    """Return the conversation, of which at least one message is the user's."""
    messages: list[dict[str, Any]] = _required(body, name, list)
    if not all(isinstance(message, dict) for message in messages):
        raise InvalidBodyError(f"{name}: Input should be a valid list of messages")
    if not any(message.get("role") == "user" for message in messages):
        raise InvalidBodyError(f"{name}: at least one message is required")
    return messages


def _text(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, list):
        return " ".join(
            block["text"]
            for block in content
            if isinstance(block, dict) and isinstance(block.get("text"), str)
        )
    return content if isinstance(content, str) else ""
