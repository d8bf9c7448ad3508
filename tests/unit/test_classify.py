"""What each reply means: the wordings of PROVIDERS.md as a table, and the rules around it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.classify import Answer, _facts, classify
from batchrunner.core.generic import GENERIC
from batchrunner.core.outcomes import HALTS
from batchrunner.core.wordings import NO_API_SAYS, NOTHING_SAYS
from batchrunner.models import (
    Decision,
    ErrorKind,
    ExitCode,
    Fault,
    Reply,
    Usage,
    Verdict,
    WaitingReason,
)
from batchrunner.providers import NAMES, profile
from tests.unit.provider_replies import REPLIES

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp() * 1000
URL = "https://api.example.com/v1/messages"
DECEMBER = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)

K, V = ErrorKind, Verdict


def decide(
    status: int | None,
    body: object = b"",
    headers: dict[str, str] | None = None,
    *,
    provider: str = "anthropic",
    now: float = NOW,
) -> Decision:
    """Classify one HTTP answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = Reply(status=status, headers=headers or {}, body=raw)
    return classify(reply, profile(provider), url=URL, now_wall=now)


def anthropic(kind: str, message: str, code: str | None = None) -> dict[str, object]:
    """An error body of Anthropic's."""
    error: dict[str, object] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_1"}


def openai(message: str, code: str | None = None, kind: str = "x") -> dict[str, object]:
    """An error body of OpenAI's."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


INVALID = "invalid_request_error"
TPM = "Rate limit reached for gpt-x in organization org-1 on tokens per min (TPM): "
RPD = "Rate limit reached for gpt-x on requests per day (RPD): Limit 200, Used 200, Requested 1. "

#: (provider, status, headers, body, verdict, kind)
TABLE = [
    # Anthropic, money
    ("anthropic", 400, {}, anthropic(INVALID, "Your credit balance is too low to access the Anthropic API."), V.HALT_RUN, K.CREDIT),
    ("anthropic", 400, {}, anthropic(INVALID, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), V.WAIT_FOR_DAY, K.SPEND_LIMIT),
    ("anthropic", 400, {}, anthropic(INVALID, "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), V.WAIT_FOR_DAY, K.SPEND_LIMIT),
    ("anthropic", 400, {}, anthropic(INVALID, "You have reached your specified API usage limits."), V.HALT_RUN, K.SPEND_LIMIT),
    ("anthropic", 402, {}, anthropic("billing_error", "There is an issue with your billing."), V.HALT_RUN, K.CREDIT),
    ("anthropic", 402, {}, anthropic("billing_error", "x", "linked_organization_spend_limit_reached"), V.HALT_RUN, K.SPEND_LIMIT),
    ("anthropic", 429, {}, anthropic("rate_limit_error", "spent", "enforced_spend_limit_reached"), V.WAIT_FOR_DAY, K.SPEND_LIMIT),
    ("anthropic", 429, {}, anthropic("rate_limit_error", "spent", "contract_spend_limit_reached"), V.WAIT_FOR_DAY, K.SPEND_LIMIT),
    # Anthropic, account
    ("anthropic", 400, {}, anthropic(INVALID, "on hold", "organization_on_hold"), V.HALT_RUN, K.PERMISSION),
    ("anthropic", 400, {}, anthropic(INVALID, "This credential is only authorized for use with Claude Code"), V.HALT_RUN, K.AUTHENTICATION),
    ("anthropic", 401, {}, anthropic("authentication_error", "invalid x-api-key"), V.HALT_RUN, K.AUTHENTICATION),
    ("anthropic", 401, {}, b"no", V.HALT_RUN, K.AUTHENTICATION),
    ("anthropic", 403, {}, anthropic("permission_error", "Your key does not have permission to use the specified resource"), V.HALT_RUN, K.PERMISSION),
    ("anthropic", 403, {}, anthropic("forbidden", "Request not allowed: your country is not supported"), V.HALT_RUN, K.PERMISSION),
    ("anthropic", 404, {}, anthropic("not_found_error", "model: claude-nope"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    # Anthropic, the job
    ("anthropic", 400, {}, anthropic(INVALID, "max_tokens: must be greater than 0"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("anthropic", 400, {}, anthropic(INVALID, "prompt is too long: 210000 tokens > 200000 maximum"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("anthropic", 400, {}, anthropic(INVALID, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("anthropic", 404, {}, anthropic("not_found_error", "Not Found"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("anthropic", 413, {}, b"<html><h1>413 Request Entity Too Large</h1>", V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("anthropic", 422, {}, anthropic(INVALID, "x"), V.FAIL_JOB, K.INVALID_REQUEST),
    # Anthropic, waiting
    ("anthropic", 429, {"retry-after": "12"}, anthropic("rate_limit_error", "This request would exceed your organization's rate limit of 30,000 input tokens per minute"), V.PAUSE, K.RATE_LIMITED),
    ("anthropic", 429, {}, anthropic("rate_limit_error", "x"), V.PAUSE, K.RATE_LIMITED),
    ("anthropic", 429, {"retry-after": "3"}, anthropic("rate_limit_error", "x", "ramp_limit_exceeded"), V.PAUSE, K.RATE_LIMITED),
    # Anthropic, bad luck
    ("anthropic", 500, {}, anthropic("api_error", "Internal server error"), V.RETRY, K.SERVER_ERROR),
    ("anthropic", 503, {}, anthropic("api_error", "retry in a few minutes", "cmek_key_unreachable"), V.RETRY, K.SERVER_ERROR),
    ("anthropic", 504, {}, anthropic("timeout_error", "x"), V.RETRY, K.SERVER_ERROR),
    ("anthropic", 529, {}, anthropic("overloaded_error", "Overloaded"), V.RETRY, K.OVERLOADED),
    ("anthropic", 500, {}, anthropic("overloaded_error", "Overloaded"), V.RETRY, K.OVERLOADED),
    ("anthropic", 408, {}, b"", V.RETRY, K.TIMEOUT),
    ("anthropic", 409, {}, anthropic("conflict_error", "x"), V.RETRY, K.SERVER_ERROR),
    # OpenAI, money
    ("openai", 429, {}, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), V.HALT_RUN, K.CREDIT),
    ("openai", 429, {}, openai("You exceeded your current quota", None, "insufficient_quota"), V.HALT_RUN, K.CREDIT),
    ("openai", 429, {}, openai("x", "credit_balance_exhausted"), V.HALT_RUN, K.CREDIT),
    ("openai", 429, {}, openai("x", "organization_spend_limit_exceeded"), V.HALT_RUN, K.SPEND_LIMIT),
    ("openai", 429, {}, openai("x", "project_spend_limit_exceeded"), V.HALT_RUN, K.SPEND_LIMIT),
    ("openai", 400, {}, openai("x", "billing_hard_limit_reached"), V.HALT_RUN, K.SPEND_LIMIT),
    # OpenAI, account
    ("openai", 401, {}, openai("Incorrect API key provided: sk-XG6GW****wlmi.", "invalid_api_key"), V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 400, {}, openai("No connected db.", "400", "no_db_connection"), V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 403, {}, openai("Country, region, or territory not supported", "unsupported_country_region_territory"), V.HALT_RUN, K.PERMISSION),
    ("openai", 403, {}, openai("You have insufficient permissions for this operation. Missing scopes: model.request."), V.HALT_RUN, K.PERMISSION),
    ("openai", 403, {}, openai("Project `proj_1` does not have access to model `gpt-x`"), V.HOLD_MODEL, K.PERMISSION),
    ("openai", 404, {}, openai("The model `gpt-x` does not exist or you do not have access to it.", "model_not_found"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    # OpenAI, the job
    ("openai", 400, {}, openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openai", 400, {}, openai("too long", "string_above_max_length"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openai", 400, {}, openai("The response was filtered", "content_filter"), V.FAIL_JOB, K.CONTENT_REFUSED),
    ("openai", 400, {}, openai("x", "content_policy_violation"), V.FAIL_JOB, K.CONTENT_REFUSED),
    ("openai", 400, {}, openai("Unsupported parameter: 'max_tokens'", "unsupported_parameter"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 429, {}, openai("Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 41000.", "rate_limit_exceeded"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openai", 413, {}, openai("Request too large for x on tokens per minute (TPM): Limit 8000, Requested 11881", "rate_limit_exceeded"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openai", 429, {}, openai("x", "request_too_large"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    # OpenAI, waiting
    ("openai", 429, {}, openai("Request too large for gpt-x (TPM): Limit 30000, Requested 20000.", "rate_limit_exceeded"), V.PAUSE, K.RATE_LIMITED),
    ("openai", 429, {}, openai(TPM + "Limit 30000, Used 29123, Requested 1800. Please try again in 1.898s.", "rate_limit_exceeded"), V.PAUSE, K.RATE_LIMITED),
    ("openai", 429, {}, openai(RPD + "Please try again in 7m12s.", "rate_limit_exceeded"), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("openai", 429, {}, openai("ramp", "slow_down", "rate_limit_error"), V.PAUSE, K.RATE_LIMITED),
    ("openai", 429, {}, openai("Resource Unavailable", "resource_unavailable"), V.RETRY, K.OVERLOADED),
    # OpenAI, bad luck
    ("openai", 500, {}, openai("The server had an error", "server_error"), V.RETRY, K.SERVER_ERROR),
    ("openai", 503, {}, openai("x", "server_is_overloaded", "service_unavailable_error"), V.RETRY, K.OVERLOADED),
    ("openai", 503, {}, b"The engine is currently overloaded, please try again later", V.RETRY, K.OVERLOADED),
    # Servers of OpenAI's language
    ("openai", 400, {}, {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}, V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openai", 400, {}, openai("/chat/completions: Invalid model name passed in model=nope. Call `/v1/models`", "400"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openai", 404, {}, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}, V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openai", 404, {}, {"detail": "Not Found"}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 404, {}, {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions): see /v1/models"}}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 422, {}, {"detail": [{"loc": ["body"], "msg": "field required"}]}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 401, {}, [{"error": {"code": 401, "message": "bad", "status": "UNAUTHENTICATED"}}], V.HALT_RUN, K.AUTHENTICATION),
    # Errors inside a 200
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "x"}}, V.RETRY, K.SERVER_ERROR),
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"}}, V.PAUSE, K.RATE_LIMITED),
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "invalid_prompt", "message": "x"}}, V.FAIL_JOB, K.CONTENT_REFUSED),
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "bio_policy", "message": "x"}}, V.FAIL_JOB, K.CONTENT_REFUSED),
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "image_file_not_found", "message": "x"}}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 200, {}, {"id": "r", "status": "failed", "error": {"code": "vector_store_timeout", "message": "x"}}, V.RETRY, K.SERVER_ERROR),
    ("openai", 200, {}, {"error": {"code": 502, "message": "upstream"}}, V.RETRY, K.SERVER_ERROR),
    ("openai", 200, {}, {"error": {"code": 401, "message": "no"}}, V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 200, {}, openai("x", "insufficient_quota"), V.HALT_RUN, K.CREDIT),
    ("openai", 200, {}, {"error": "something odd"}, V.RETRY, K.SERVER_ERROR),
    ("anthropic", 200, {}, anthropic("overloaded_error", "Overloaded"), V.RETRY, K.OVERLOADED),
    ("anthropic", 200, {}, anthropic("rate_limit_error", "x"), V.PAUSE, K.RATE_LIMITED),
    # No answers
    ("anthropic", 200, {}, b"<!DOCTYPE html><html><body>Sign in</body>", V.HALT_RUN, K.REDIRECT),
    ("anthropic", 200, {}, b"\n <HTML><head>", V.HALT_RUN, K.REDIRECT),
    ("anthropic", 200, {}, b"", V.RETRY, K.BAD_RESPONSE),
    ("anthropic", 204, {}, b"", V.RETRY, K.BAD_RESPONSE),
    ("anthropic", 200, {}, b'{"type":"message","content":[', V.RETRY, K.BAD_RESPONSE),
    ("anthropic", 200, {}, b"OK", V.RETRY, K.BAD_RESPONSE),
    ("anthropic", 200, {}, b"[1, 2]", V.RETRY, K.BAD_RESPONSE),
    ("anthropic", 302, {"location": "http://portal/"}, b"", V.HALT_RUN, K.REDIRECT),
    ("anthropic", 307, {"location": "http://other/"}, b"", V.HALT_RUN, K.REDIRECT),
    ("anthropic", 511, {}, b"<html>sign in", V.HALT_RUN, K.REDIRECT),
    ("anthropic", 407, {}, b"<html>proxy", V.HALT_RUN, K.PROXY),
    ("anthropic", 400, {}, b"<html>The plain HTTP request was sent to HTTPS port</html>", V.HALT_RUN, K.TLS),
    ("openai", 400, {}, b"Client sent an HTTP request to an HTTPS server.\n", V.HALT_RUN, K.TLS),
    # Any HTTP server
    ("http", 402, {}, b"", V.HALT_RUN, K.CREDIT),
    ("http", 404, {}, b"no such thing", V.FAIL_JOB, K.INVALID_REQUEST),
    ("http", 410, {}, b"", V.FAIL_JOB, K.INVALID_REQUEST),
    ("http", 405, {}, b"", V.FAIL_JOB, K.INVALID_REQUEST),
    ("http", 406, {}, b"<html><title>Not acceptable</title>", V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 404, {}, openai("Container with id 'cntr_1' not found."), V.FAIL_JOB, K.INVALID_REQUEST),
    ("http", 425, {}, b"", V.RETRY, K.SERVER_ERROR),
    ("http", 429, {}, b"daily quota exceeded", V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("http", 429, {}, b"", V.PAUSE, K.RATE_LIMITED),
    ("http", 501, {}, b"", V.FAIL_JOB, K.SERVER_ERROR),
    ("http", 503, {}, b"", V.RETRY, K.SERVER_ERROR),
    ("http", 503, {"retry-after": "30"}, b"", V.PAUSE, K.OVERLOADED),
    ("http", 502, {}, b"<html>Bad Gateway", V.RETRY, K.SERVER_ERROR),
    ("http", 524, {}, b"", V.RETRY, K.SERVER_ERROR),
    ("http", 301, {"location": "https://x/"}, b"", V.HALT_RUN, K.REDIRECT),
    *REPLIES,
]  # fmt: skip


@pytest.mark.parametrize(("provider", "status", "headers", "body", "verdict", "kind"), TABLE)
def test_each_wording_gives_its_verdict(
    provider: str,
    status: int,
    headers: dict[str, str],
    body: object,
    verdict: Verdict,
    kind: ErrorKind,
) -> None:
    """Status, body and headers together decide, as the providers mean them."""
    decision = decide(status, body, headers, provider=provider)
    assert (decision.verdict, decision.kind) == (verdict, kind), decision
    assert decision.message
    assert len(decision.message) <= 500
    assert decision.message.isprintable()
    if verdict in {V.HALT_RUN, V.HOLD_MODEL}:
        assert decision.fix, "a person must act, so it says how"
        assert "{" not in decision.fix


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": " you"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": None,
        "output_tokens": 7,
    },
}


@pytest.mark.parametrize("stop_reason", ["end_turn", "max_tokens", "refusal"])
def test_an_answer_completes_whatever_it_says(stop_reason: str) -> None:
    """A 200 is answered and billed; a refusal or a cut shows in the finish reason."""
    decision = decide(200, {**MESSAGE, "stop_reason": stop_reason})
    assert decision == Decision(
        verdict=V.COMPLETE,
        usage=Usage(
            model="claude-x",
            finish_reason=stop_reason,
            input_tokens=15,
            output_tokens=7,
            cache_write_tokens=5,
        ),
    )


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (
            {
                "model": "gpt-x",
                "choices": [{"finish_reason": "content_filter", "message": {"content": "Hi"}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            },
            Usage(model="gpt-x", finish_reason="content_filter", input_tokens=3, output_tokens=4),
        ),
        (
            {
                "model": "gpt-x",
                "status": "incomplete",
                "error": None,
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [],
                "usage": {"input_tokens": 3, "output_tokens": 4},
            },
            Usage(
                model="gpt-x", finish_reason="max_output_tokens", input_tokens=3, output_tokens=4
            ),
        ),
        (
            {"model": "emb", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
            Usage(model="emb", input_tokens=3),
        ),
        (
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 1,
                    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": None},
                }
            },
            Usage(input_tokens=9, output_tokens=1, cache_read_tokens=8),
        ),
        (
            {"usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}}},
            Usage(input_tokens=9, cache_read_tokens=8),
        ),
        (
            {"usage": {"prompt_tokens": 9, "prompt_tokens_details": "none"}},
            Usage(input_tokens=9),
        ),
        ({"usage": {"prompt_tokens": "three"}, "choices": []}, Usage()),
        ({"odd": True}, Usage()),
    ],
)
def test_usage_is_read_from_every_form(body: object, usage: Usage) -> None:
    """Chat, responses and embeddings tell their cost; an unusual form costs nothing but that."""
    decision = decide(200, body, provider="openai")
    assert decision == Decision(verdict=V.COMPLETE, usage=usage)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "yes"}', b"\xff\x00", b"text"])
def test_plain_http_takes_any_success(status: int, body: bytes) -> None:
    """With ``--provider http`` every 2xx is an answer, its body as it is."""
    assert decide(status, body, provider="http").verdict is V.COMPLETE


def test_a_month_that_is_spent_comes_back_on_the_first() -> None:
    """Anthropic's tier cap names no date; it ends on the first of next month at 00:00 UTC."""
    body = anthropic("rate_limit_error", "spent", "enforced_spend_limit_reached")
    decision = decide(429, body)
    assert (decision.reset_at, decision.account_wide) == (DECEMBER, True)
    new_years_eve = datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp() * 1000
    january = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert decide(429, body, now=new_years_eve).reset_at == january


def test_a_spend_limits_date_is_told() -> None:
    """The date in the text is when the allowance comes back."""
    text = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
    decision = decide(400, anthropic(INVALID, text))
    assert (decision.reset_at, decision.account_wide) == (DECEMBER, True)


def test_hints_come_with_waits_only() -> None:
    """A wait carries the server's instant; a failure has nothing to wait for."""
    assert decide(429, b"", {"retry-after": "12"}).retry_at == NOW + 12_000
    assert decide(529, b"", {"retry-after": "12"}).retry_at == NOW + 12_000
    assert decide(400, b"", {"retry-after": "12"}).retry_at is None
    daily = decide(429, openai(RPD + "Please try again in 7m12s."), provider="openai")
    assert daily.retry_at == daily.reset_at == NOW + 432_000


@pytest.mark.parametrize(
    ("status", "said", "verdict"),
    [
        (500, "false", V.FAIL_JOB),
        (529, "False", V.FAIL_JOB),
        (400, "true", V.RETRY),
        (404, "true", V.RETRY),
        (500, "true", V.RETRY),
        (500, "maybe", V.RETRY),
        (429, "false", V.PAUSE),
        (401, "true", V.HALT_RUN),
        (402, "true", V.HALT_RUN),
    ],
)
def test_x_should_retry_overrules_plain_statuses(status: int, said: str, verdict: Verdict) -> None:
    """The server's word beats a status rule, but never turns a wait into a failure."""
    assert decide(status, b"", {"x-should-retry": said}).verdict is verdict


def test_x_should_retry_never_overrules_money() -> None:
    """An empty balance halts the run, whatever the header says."""
    headers = {"x-should-retry": "true", "retry-after": "1"}
    for provider, status, body in (
        ("openai", 429, openai("x", "insufficient_quota")),
        ("anthropic", 400, anthropic(INVALID, "Your credit balance is too low")),
    ):
        assert decide(status, body, headers, provider=provider).verdict is V.HALT_RUN


@pytest.mark.parametrize(
    ("kind", "message", "verdict"),
    [
        (K.DNS, "x", V.RETRY),
        (K.CONNECTION, "x", V.RETRY),
        (K.TIMEOUT, "x", V.RETRY),
        (K.CONNECTION_RESET, "x", V.RETRY),
        (K.BAD_RESPONSE, "not HTTP", V.RETRY),
        (K.BAD_RESPONSE, "answer longer than 5 bytes", V.FAIL_JOB),
        (K.PROXY, "Can't reach the proxy", V.RETRY),
        (K.PROXY, "The proxy answered 502 Bad Gateway", V.RETRY),
        (K.TLS, "x", V.HALT_RUN),
        (K.REDIRECT, "x", V.HALT_RUN),
        (K.INVALID_REQUEST, "x", V.FAIL_JOB),
    ],
)
def test_each_fault_gives_its_verdict(kind: ErrorKind, message: str, verdict: Verdict) -> None:
    """What a person must mend halts the run; what may pass is tried again, under its own kind."""
    for provider in NAMES:
        reply = Reply(fault=Fault(kind=kind, message=message, maybe_executed=True))
        decision = classify(reply, profile(provider), url=URL, now_wall=NOW)
        assert (decision.verdict, decision.kind) == (verdict, kind)
        assert decision.message == message


def test_a_fault_that_only_a_person_mends_halts_and_brings_its_fix() -> None:
    """A proxy that wants another login is not tried again, and what to do is the fault's own word."""
    fault = Fault(
        kind=K.PROXY, message="407", maybe_executed=False, fix="Say it again.", halts=True
    )
    decision = classify(Reply(fault=fault), profile("http"), url=URL, now_wall=NOW)
    assert (decision.verdict, decision.kind) == (V.HALT_RUN, K.PROXY)
    assert decision.fix == "Say it again."


def test_a_fault_after_a_200_is_a_fault() -> None:
    """An answer that grew too long fails its job though its status was 200."""
    fault = Fault(kind=K.BAD_RESPONSE, message="answer longer than 5 bytes", maybe_executed=True)
    reply = Reply(status=200, fault=fault)
    decision = classify(reply, profile("http"), url=URL, now_wall=NOW)
    assert decision.verdict is V.FAIL_JOB


def test_a_wrong_address_says_what_a_base_url_is() -> None:
    """A 404 that names no model shows the URL and the provider's rule for base URLs."""
    decision = decide(404, {"detail": "Not Found"}, provider="openai")
    assert URL in decision.message
    assert "/v1" in decision.message.replace(URL, "")


@pytest.mark.parametrize(
    ("provider", "url", "base"),
    [
        ("openai", "http://h:8080/chat/completions", "http://h:8080/v1"),
        ("openai", "http://h/api/responses", "http://h/api/v1"),
        ("openai", "http://h/v1/chat/completions", ""),
        ("openai", "http://h/v1/chat/completions/chat/completions", "http://h/v1"),
        ("openai", "https://api.openai.com/chat/completions", "https://api.openai.com/v1"),
        ("openai", "https://api.openai.com/v1/chat/completions", ""),
        ("groq", "https://api.groq.com/v1/chat/completions", "https://api.groq.com/openai/v1"),
        ("gemini", "http://h/models/x:generateContent", "http://h/v1beta"),
        ("anthropic", "http://h/v1/messages", ""),
        ("anthropic", "http://h/v1/messages/v1/messages", "http://h"),
        ("deepseek", "http://h/chat/completions", ""),
        ("http", "http://h/chat/completions", ""),
        ("openai", "http://h/chat/completions?key=x", ""),
    ],
)
def test_the_base_url_that_was_meant_is_told_from_the_address(
    provider: str, url: str, base: str
) -> None:
    """A version that is missing and an endpoint given for a base are seen; where neither is it, nothing is guessed."""
    assert profile(provider).meant_base(url) == base


@pytest.mark.parametrize(
    ("status", "body", "is_blamed"),
    [
        (404, b"<html>", True),
        (404, b"404 page not found", True),
        (404, {"detail": "Not Found"}, True),
        (404, {"message": "no Route matched with those values"}, True),
        (405, {"detail": "Method Not Allowed"}, True),
        (501, b"<html>Unsupported method", True),
        (400, b"<html>Bad Request", True),
        (400, {"error": {"message": "no"}}, False),
        (404, {"error": {"message": "File 'file-1' not found"}}, False),
        (404, {"error": {"message": "No such vector store: vs_1"}}, False),
    ],
)
def test_what_is_the_addresss_fault_says_what_helps_then(
    status: int, body: object, is_blamed: bool
) -> None:
    """Pages, unknown routes and methods may be the address's fault; what one request refers to is not."""
    decision = decide(status, body, provider="openai")
    assert decision.verdict is V.FAIL_JOB
    assert decision.message.startswith((NOTHING_SAYS, NO_API_SAYS)) is is_blamed


def test_a_portal_and_a_redirect_name_the_address() -> None:
    """The person can see which address answered, and where it pointed."""
    assert URL in decide(200, b"<html>").message
    redirect = decide(302, b"", {"location": "http://portal.example/login?token=abcdef"})
    assert "http://portal.example/login" in redirect.message
    assert "abcdef" not in redirect.message


def test_messages_are_redacted_and_harmless() -> None:
    """A key that the provider echoes, a secret and terminal escapes don't come through."""
    text = "Incorrect API key provided: sk-XG6GW****wlmi \x1b[31mred\nhunter22-secret"
    reply = Reply(status=401, headers={}, body=json.dumps(openai(text)).encode())
    decision = classify(
        reply, profile("openai"), url=URL, now_wall=NOW, secrets=("hunter22-secret",)
    )
    said = "The key is refused: Incorrect API key provided: [redacted] red [redacted]"
    assert decision.message == said


def test_an_error_without_words_still_says_something() -> None:
    """An empty error body gives the address and the status in words."""
    assert decide(500).message == f"{URL} answered 500 (Internal Server Error) and gave no reason"
    assert "599" in decide(599).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "details", "usage", "status"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
    header=st.text(max_size=20),
    provider=st.sampled_from(NAMES),
)
def test_nothing_a_server_sends_raises(
    status: int, body: bytes, header: str, provider: str
) -> None:
    """Any status, body and header give a decision with a printable message."""
    names = ("retry-after", "date", "x-should-retry", "location")
    decision = decide(status, body, dict.fromkeys(names, header), provider=provider)
    assert (decision.kind is None) == (decision.verdict is V.COMPLETE)
    assert decision.message.isprintable()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            502,
            b"<html><head><title> Bad &amp; gone </title></head>",
            "502 with a web page: “Bad & gone”",
        ),
        (
            401,
            b'<?xml version="1.0" ?>\n<!DOCTYPE html><html><title>Sign in</title></html>',
            "401 with a web page: “Sign in”",
        ),
        (502, b"<html><h1>no title</h1>", "502 (Bad Gateway) and gave no reason"),
        (429, b"{}", "429 (Too Many Requests) and gave no reason"),
        (500, b" plain words ", "plain words"),
    ],
)
def test_a_message_says_what_the_server_said(status: int, body: bytes, said: str) -> None:
    """Where a body has no error object, its text or its page's title is the reason, if it has any."""
    assert decide(status, body).message.endswith(said)


def test_deep_json_is_no_defect() -> None:
    """A body nested beyond any reason is text."""
    deep = b"[" * 100_000
    assert decide(500, deep).kind is K.SERVER_ERROR
    assert decide(200, b'{"a":' * 100_000).verdict is V.RETRY


def test_rule_ids_are_unique() -> None:
    """Each row can be named."""
    ids = [rule.id for name in NAMES if name != "simulator" for rule in profile(name).rules]
    ids += [rule.id for rule in GENERIC]
    assert len(ids) == len(set(ids))


def test_every_rule_can_be_reached() -> None:
    """Each row decides at least one of the replies of this file's tables: none is dead."""
    reached = set()
    for provider, status, headers, body, _, _ in TABLE:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        reached.add(_rule_of(provider, Reply(status=status, headers=headers, body=raw)))
    for kind, message in (
        *((kind, "x") for kind in ErrorKind),
        (K.BAD_RESPONSE, "answer longer than 5"),
    ):
        fault = Fault(kind=kind, message=message, maybe_executed=False)
        reached.add(_rule_of("anthropic", Reply(fault=fault)))
    for kind in (K.PROXY, K.TLS):
        fault = Fault(kind=kind, message="x", maybe_executed=False, halts=True)
        reached.add(_rule_of("anthropic", Reply(fault=fault)))
    reached.add(_rule_of("http", Reply(status=999)))
    every = {rule.id for name in NAMES for rule in (*profile(name).rules, *GENERIC)}
    assert every - reached == set()


def _rule_of(provider: str, reply: Reply) -> str | None:
    facts = _facts(reply)
    rules = (*profile(provider).rules, *GENERIC)
    return next((rule.id for rule in rules if rule.matches(facts)), None)


def test_every_kind_says_how_a_run_stands_that_stops_on_it() -> None:
    """The one table from kinds to waiting reason, halted and exit code is complete and right."""
    assert set(HALTS) == set(ErrorKind)
    for kind in (K.AUTHENTICATION, K.PERMISSION, K.CREDIT, K.SPEND_LIMIT, K.MODEL_NOT_FOUND):
        assert HALTS[kind] == (WaitingReason(kind.value), True, ExitCode.REFUSED)
    for kind in (K.TLS, K.PROXY, K.REDIRECT):
        assert HALTS[kind] == (WaitingReason(kind.value), True, ExitCode.NETWORK)
    for kind in (K.DNS, K.CONNECTION):
        assert HALTS[kind] == (WaitingReason.NETWORK, True, ExitCode.NETWORK)


def test_an_answer_is_a_pair() -> None:
    """A profile reads usage and whether it is an error, in one pass."""
    raw = json.dumps(MESSAGE).encode()
    usage = Usage(
        model="claude-x", finish_reason="end_turn", input_tokens=15, output_tokens=7,
        cache_write_tokens=5,
    )  # fmt: skip
    assert profile("anthropic").read(raw, "") == Answer(usage, False)
