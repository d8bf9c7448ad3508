"""The dialects the simulator speaks, by path; Anthropic's Messages API is written out here.

Bodies and headers are those the providers send, down to the error objects, so that the same
profiles read them. Each dialect turns a decoded body into ``Asked``, and an answer or a refusal
into bytes. Pure: instants are arguments, epoch seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from batchrunner.providers.simulator import answers, wire
from batchrunner.providers.simulator.cache import CacheUse
from batchrunner.providers.simulator.openai_forms import Embeddings, Geocode, OpenAI, Responses
from batchrunner.providers.simulator.windows import Standing
from batchrunner.providers.simulator.wire import Asked, Dialect, InvalidBodyError

_encode = msgspec.json.Encoder().encode


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
        model, messages = wire.required(body, "model", str), wire.messages(body)
        max_tokens = wire.required(body, "max_tokens", int)
        if max_tokens < 1:
            raise InvalidBodyError("max_tokens: Input should be greater than or equal to 1")
        prompt = wire.text(
            next(m for m in reversed(messages) if m.get("role") == "user").get("content")
        )
        return Asked(model, prompt, wire.text(body.get("system")), max_tokens)

    def answer(self, asked: Asked, request_id: str) -> bytes:
        """Write a message."""
        said = answers.answer(asked.prompt, asked.system, asked.max_tokens)
        cached = asked.cached or CacheUse(said.input_tokens, 0, 0, 0)
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
                    "input_tokens": cached.rest,
                    "output_tokens": said.output_tokens,
                    "cache_creation_input_tokens": cached.written + cached.written_1h,
                    "cache_read_input_tokens": cached.read,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": cached.written,
                        "ephemeral_1h_input_tokens": cached.written_1h,
                    },
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
