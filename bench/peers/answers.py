"""What the servers answer, in the two dialects that the clients speak."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from bench.common import MODEL, canned_answer


class Dialect(StrEnum):
    """An API; the value is its path."""

    OPENAI = "/v1/chat/completions"
    ANTHROPIC = "/v1/messages"


def answer(dialect: Dialect) -> str:
    """Return a completion; both carry the same words."""
    completion = canned_answer()
    if dialect is Dialect.OPENAI:
        return completion
    decoded = json.loads(completion)
    text = decoded["choices"][0]["message"]["content"]
    usage = decoded["usage"]
    message = {
        "id": "msg_000000000000000000000000",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
        },
    }
    return json.dumps(message)


def refusal(dialect: Dialect, status: int, message: str) -> str:
    """Return an error object as the providers write it."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    error: dict[str, Any] = {"type": kind, "message": message}
    if dialect is Dialect.ANTHROPIC:
        return json.dumps({"type": "error", "error": error})
    code = "rate_limit_exceeded" if status == 429 else None
    return json.dumps({"error": error | {"type": "requests", "param": None, "code": code}})
