"""Rows as the result lines of a provider's own batch endpoint, so that its readers work on ours.

``openai``: a job that got an HTTP answer has it under ``response``, success or not. ``error`` is
``null`` for a completed job and for an error status, which speaks for itself there, as OpenAI does
it; otherwise its ``code`` is our error kind, ``batch_cancelled`` for a cancelled job, and
``batch_expired`` for one that is not done yet.

``anthropic``: ``succeeded``, ``errored``, ``canceled``, and ``expired`` for a job not done yet.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec

from batchrunner.formats.rows import Exported, ExportRules, answer
from batchrunner.models import ErrorKind, JobState
from batchrunner.views import JobView

__all__ = ["anthropic_row", "openai_row"]

_NOT_DONE: Final = "This request was not finished when the results were exported."

#: The error types of Anthropic's API; what is not here is an ``api_error``.
_ANTHROPIC_TYPES: Final = {
    ErrorKind.AUTHENTICATION: "authentication_error",
    ErrorKind.PERMISSION: "permission_error",
    ErrorKind.CREDIT: "billing_error",
    ErrorKind.SPEND_LIMIT: "billing_error",
    ErrorKind.MODEL_NOT_FOUND: "not_found_error",
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.REQUEST_TOO_LARGE: "request_too_large",
    ErrorKind.CONTENT_REFUSED: "invalid_request_error",
    ErrorKind.RATE_LIMITED: "rate_limit_error",
    ErrorKind.DAILY_LIMIT: "rate_limit_error",
    ErrorKind.OVERLOADED: "overloaded_error",
    ErrorKind.TIMEOUT: "timeout_error",
}


def openai_row(row: Exported, _rules: ExportRules) -> bytes:
    """Return one line of an OpenAI batch's output or error file."""
    job = row.job
    answered = job.status in (JobState.COMPLETED, JobState.FAILED) and job.http_status is not None
    response = {
        "status_code": job.http_status,
        "request_id": job.request_id,
        "body": answer(row.response),
    }
    return msgspec.json.encode(
        {
            "id": f"batch_req_{sha256(job.key.encode()).hexdigest()[:32]}",
            "custom_id": job.key,
            "response": response if answered else None,
            "error": _openai_error(job),
        }
    )


def _openai_error(job: JobView) -> dict[str, Any] | None:
    if job.status == JobState.COMPLETED:
        return None
    if job.status == JobState.CANCELLED:
        return {"code": "batch_cancelled", "message": "This request was cancelled."}
    if job.status != JobState.FAILED:
        return {"code": "batch_expired", "message": _NOT_DONE}
    if job.http_status is not None and job.http_status >= 400:
        return None
    return {"code": job.error_kind, "message": job.error_message}


def anthropic_row(row: Exported, _rules: ExportRules) -> bytes:
    """Return one line of an Anthropic message batch's results."""
    return msgspec.json.encode({"custom_id": row.job.key, "result": _anthropic_result(row)})


def _anthropic_result(row: Exported) -> dict[str, Any]:
    status = row.job.status
    if status == JobState.COMPLETED:
        return {"type": "succeeded", "message": answer(row.response)}
    if status == JobState.FAILED:
        return {"type": "errored", "error": _anthropic_error(row)}
    return {"type": "canceled" if status == JobState.CANCELLED else "expired"}


class _ErrorBody(msgspec.Struct):
    """An Anthropic error response; only ``error`` is passed on, as it came."""

    error: dict[str, Any]


def _anthropic_error(row: Exported) -> dict[str, Any]:
    job = row.job
    error: dict[str, Any] = {
        "type": _ANTHROPIC_TYPES.get(ErrorKind(job.error_kind), "api_error")
        if job.error_kind
        else "api_error",
        "message": job.error_message or "",
    }
    try:
        told = msgspec.json.decode(row.response or b"", type=_ErrorBody).error
        if isinstance(told.get("type"), str) and isinstance(told.get("message"), str):
            error = told
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return {"type": "error", "error": error, "request_id": job.request_id}
