"""OpenAI's dialect: chat completions, responses, embeddings; and a plain HTTP API in its manner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from batchrunner.providers.simulator import answers, wire
from batchrunner.providers.simulator.windows import Standing
from batchrunner.providers.simulator.wire import Asked, InvalidBodyError

_encode = msgspec.json.Encoder().encode


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
        model, messages = wire.required(body, "model", str), wire.messages(body)
        system = " ".join(
            wire.text(m.get("content"))
            for m in messages
            if m.get("role") in {"system", "developer"}
        )
        limit = wire.limit(body, "max_completion_tokens", "max_tokens")
        return Asked(model, wire.text(messages[-1].get("content")), system, limit)

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
        model = wire.required(body, "model", str)
        given = body.get("input")
        if not isinstance(given, str):
            given = wire.text(wire.messages(body, "input")[-1].get("content"))
        limit = wire.limit(body, "max_output_tokens")
        return Asked(model, given, wire.text(body.get("instructions")), limit)

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
        model, given = wire.required(body, "model", str), body.get("input")
        inputs = tuple(given) if isinstance(given, list) else (given,)
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
        return Asked("", wire.required(body, "q", str))

    def answer(self, asked: Asked, _request_id: str, /) -> bytes:
        """Write where the place is."""
        latitude, longitude = answers.coordinates(asked.prompt)
        return _encode({"q": asked.prompt, "lat": latitude, "lon": longitude})
