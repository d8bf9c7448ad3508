"""Replies of providers, in the words they use, and what each means: data for the tests.

Bodies are those that their documentation, their users' reports and their SDKs show.
"""

from __future__ import annotations

from typing import Any

from batchrunner.models import ErrorKind, Verdict

K, V = ErrorKind, Verdict

Row = tuple[str, int, dict[str, str], Any, Verdict, ErrorKind]


def anthropic(kind: str, message: str) -> dict[str, Any]:
    """An error body of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def openai(message: str, code: str | None = None, kind: str = "x") -> dict[str, Any]:
    """An error body of OpenAI's language."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(
    code: int, status: str, message: str, *details: dict[str, Any], as_list: bool = False
) -> Any:
    """An error body of Google's; the compatible endpoint puts it into a list."""
    body = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return [body] if as_list else body


def reason(name: str) -> dict[str, Any]:
    """A detail that names the reason."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": name,
        "domain": "googleapis.com",
    }


def violated(quota: str, value: str = "20") -> dict[str, Any]:
    """A detail that names a quota."""
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": quota,
                "quotaDimensions": {"location": "global", "model": "gemini-2.5-flash"},
                "quotaValue": value,
            }
        ],
    }


def delay(text: str) -> dict[str, Any]:
    """A detail that names a wait."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": text}


def openrouter(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    """An error body of OpenRouter's."""
    error: dict[str, Any] = {"code": code, "message": message}
    if metadata:
        error["metadata"] = metadata
    return {"error": error, "user_id": "user_1"}


def mistral(message: str, kind: str = "invalid_request_error", code: str | None = None) -> Any:
    """An error body of Mistral's: on top, not under ``error``."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
QUOTA = "You exceeded your current quota, please check your plan and billing details."
UTC_DAY = {
    "X-RateLimit-Limit": "50",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": "1788825600000",
}
INVALID = "invalid_request_error"

#: What any provider may say; the names of the first two stand for all.
ANY: list[Row] = [
    # Keys
    ("anthropic", 401, {}, anthropic("authentication_error", "This API key has expired."), V.HALT_RUN, K.AUTHENTICATION),
    ("anthropic", 401, {}, anthropic("authentication_error", "API key is inactive"), V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 401, {}, openai("Your account has been deactivated", "account_deactivated"), V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 401, {}, openai("The key was revoked.", "invalid_api_key"), V.HALT_RUN, K.AUTHENTICATION),
    ("openai", 401, {}, openai("OpenAI-Organization header should match organization for API key", "mismatched_organization"), V.HALT_RUN, K.AUTHENTICATION),
    # Subscriptions
    ("anthropic", 403, {}, anthropic("permission_error", "OAuth authentication is currently not allowed for this organization."), V.HALT_RUN, K.AUTHENTICATION),
    ("anthropic", 400, {}, anthropic(INVALID, "This credential is only authorized for use with Claude Code and cannot be used for other API requests."), V.HALT_RUN, K.AUTHENTICATION),
    # Addresses and countries
    ("openai", 401, {}, openai("Your IP is not allowed", "ip_not_authorized"), V.HALT_RUN, K.PERMISSION),
    ("anthropic", 403, {}, anthropic("permission_error", "Your IP address 192.0.2.7 is not allowed to access this workspace."), V.HALT_RUN, K.PERMISSION),
    ("anthropic", 403, {}, anthropic("forbidden", "Request not allowed"), V.HALT_RUN, K.PERMISSION),
    ("openai", 403, {}, b"<html><title>Access denied</title>The owner of this website has banned the country or region your IP address is in.", V.HALT_RUN, K.PERMISSION),
    # Permission
    ("anthropic", 403, {}, anthropic("permission_error", "Your current plan does not include the model claude-x."), V.HOLD_MODEL, K.PERMISSION),
    ("openai", 403, {}, openai("This feature is not available on your current plan. Upgrade your plan."), V.HALT_RUN, K.PERMISSION),
    ("openai", 403, {}, openai("Your organization must be verified to use the model `gpt-x`."), V.HOLD_MODEL, K.PERMISSION),
    # Models
    ("openai", 404, {}, openai("The model `gpt-4-32k` has been deprecated, learn more here: https://x", "model_not_found"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("anthropic", 404, {}, anthropic("not_found_error", "model: claude-2.1 was retired on 2025-07-21"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openai", 410, {}, {"error": "Model old-one is no longer available"}, V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openai", 400, {}, openai("The model `gpt-4.1-x` does not exist."), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openai", 400, {}, openai("Use a model. The file does not exist."), V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 404, {}, openai("The model gpt-x was renamed to gpt-y."), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("anthropic", 400, {}, anthropic(INVALID, "`temperature` is deprecated for this model."), V.FAIL_JOB, K.INVALID_REQUEST),
    # Versions and fields
    ("anthropic", 400, {}, anthropic(INVALID, "temperature: Extra inputs are not permitted"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("anthropic", 400, {}, anthropic(INVALID, "`temperature` and `top_p` cannot both be specified for this model."), V.FAIL_JOB, K.INVALID_REQUEST),
    ("anthropic", 400, {}, anthropic(INVALID, "anthropic-version: 2022-01-01 is not a valid version"), V.HALT_RUN, K.INVALID_REQUEST),
    ("openai", 400, {}, openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 400, {}, openai("Unrecognized request argument supplied: foo"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("openai", 400, {}, openai("Invalid API version: 3"), V.HALT_RUN, K.INVALID_REQUEST),
    # A model that is being loaded
    ("openai", 503, {}, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, V.RETRY, K.OVERLOADED),
    ("openai", 503, {}, {"error": "Model x is currently loading", "estimated_time": 20.0}, V.RETRY, K.OVERLOADED),
]  # fmt: skip

GEMINI: list[Row] = [
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(MINUTE), delay("18.4s")), V.PAUSE, K.RATE_LIMITED),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(MINUTE), violated(DAY), delay("38s")), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(DAY), as_list=True), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("gemini", 503, {}, google(503, "RESOURCE_EXHAUSTED", QUOTA), V.PAUSE, K.RATE_LIMITED),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA + "\n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0", violated(DAY)), V.HOLD_MODEL, K.PERMISSION),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(DAY, "0")), V.HOLD_MODEL, K.PERMISSION),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA + " limit: 0.5", violated(MINUTE)), V.PAUSE, K.RATE_LIMITED),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."), V.RETRY, K.OVERLOADED),
    ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), V.PAUSE, K.RATE_LIMITED),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason("API_KEY_INVALID")), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", reason("API_KEY_INVALID")), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", "Multiple authentication credentials received. Please pass only one.", as_list=True), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 401, {}, google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", reason("ACCESS_TOKEN_TYPE_UNSUPPORTED"), as_list=True), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 401, {}, google(401, "UNAUTHENTICATED", "Request is missing required authentication credential."), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 403, {}, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."), V.HALT_RUN, K.AUTHENTICATION),
    ("gemini", 403, {}, google(403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1 before or it is disabled.", reason("SERVICE_DISABLED")), V.HALT_RUN, K.PERMISSION),
    ("gemini", 403, {}, google(403, "PERMISSION_DENIED", "The caller does not have permission"), V.HALT_RUN, K.PERMISSION),
    ("gemini", 400, {}, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), V.HALT_RUN, K.PERMISSION),
    ("gemini", 400, {}, google(400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio."), V.HALT_RUN, K.PERMISSION),
    ("gemini", 404, {}, google(404, "NOT_FOUND", "models/gemini-nope is not found for API version v1beta, or is not supported for generateContent."), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", "* GenerateContentRequest.model: unexpected model name format\n"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("gemini", 404, {}, b"<html><title>Error 404 (Not Found)!!1</title>", V.FAIL_JOB, K.INVALID_REQUEST),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "x": Cannot find field.'), V.FAIL_JOB, K.INVALID_REQUEST),
    ("gemini", 400, {}, google(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("gemini", 499, {}, google(499, "CANCELLED", "The operation was cancelled."), V.RETRY, K.SERVER_ERROR),
    ("gemini", 500, {}, google(500, "INTERNAL", "An internal error has occurred."), V.RETRY, K.SERVER_ERROR),
    ("gemini", 503, {}, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), V.RETRY, K.OVERLOADED),
    ("gemini", 503, {}, google(503, "UNAVAILABLE", "The service is currently unavailable."), V.RETRY, K.OVERLOADED),
    ("gemini", 504, {}, google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."), V.RETRY, K.SERVER_ERROR),
]  # fmt: skip

GROQ: list[Row] = [
    ("groq", 429, {"retry-after": "12"}, openai("Rate limit reached for model `x` in organization `org_1` on tokens per minute (TPM): Limit 6000, Used 5000, Requested 1500. Please try again in 5s.", "rate_limit_exceeded", "tokens"), V.PAUSE, K.RATE_LIMITED),
    ("groq", 429, {}, openai("Rate limit reached for model `x` on tokens per day (TPD): Limit 200000, Used 197494, Requested 4035. Please try again in 11m0.528s.", "rate_limit_exceeded", "tokens"), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("groq", 429, {"x-ratelimit-remaining-requests": "0", "retry-after": "86"}, openai("Rate limit reached for model `x`.", "rate_limit_exceeded", "requests"), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("groq", 413, {}, openai("Request too large for model `x` on tokens per minute (TPM): Limit 8000, Requested 11881", "rate_limit_exceeded", "tokens"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("groq", 498, {}, openai("Flex tier capacity exceeded", "capacity_exceeded"), V.RETRY, K.OVERLOADED),
    ("groq", 400, {}, openai("Organization has been restricted. Please reach out to support if you believe this was in error.", "organization_restricted"), V.HALT_RUN, K.PERMISSION),
    ("groq", 400, {}, openai("Failed to call a function. Please adjust your prompt.", "tool_use_failed"), V.RETRY, K.BAD_RESPONSE),
    ("groq", 424, {}, openai("Failed dependency"), V.RETRY, K.SERVER_ERROR),
    ("groq", 499, {}, openai("cancelled"), V.RETRY, K.SERVER_ERROR),
    ("groq", 401, {}, openai("Invalid API Key", "invalid_api_key"), V.HALT_RUN, K.AUTHENTICATION),
    ("groq", 404, {}, openai("The model `x` does not exist or you do not have access to it.", "model_not_found"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("groq", 400, {}, openai("The model `llama2-70b` has been decommissioned and is no longer supported.", "model_decommissioned"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("groq", 503, {}, openai("Service Unavailable", "service_unavailable_error"), V.RETRY, K.OVERLOADED),
]  # fmt: skip

OPENROUTER: list[Row] = [
    ("openrouter", 429, {}, openrouter(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day", headers=UTC_DAY, provider_name=None), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("openrouter", 429, {}, openrouter(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("openrouter", 429, {}, openrouter(429, "Rate limit exceeded: free-models-per-min."), V.PAUSE, K.RATE_LIMITED),
    ("openrouter", 429, {}, openrouter(429, "Provider returned error", provider_code="rate_limited", limit_source="upstream_provider_shared_pool"), V.RETRY, K.OVERLOADED),
    ("openrouter", 402, {}, openrouter(402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits", limit_source="openrouter_credits"), V.HALT_RUN, K.CREDIT),
    ("openrouter", 402, {}, openrouter(402, "Key limit exceeded", limit_source="openrouter_key_limit"), V.HALT_RUN, K.SPEND_LIMIT),
    ("openrouter", 402, {"retry-after": "4"}, openrouter(402, "Too much in flight", limit_source="openrouter_in_flight_budget"), V.PAUSE, K.RATE_LIMITED),
    ("openrouter", 402, {}, openrouter(402, "This request requires more credits, or fewer max_tokens.", limit_source="openrouter_credits", reason="weight_exceeds_budget"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openrouter", 200, {}, openrouter(502, "Provider returned error"), V.RETRY, K.SERVER_ERROR),
    ("openrouter", 200, {}, openrouter(429, "Rate limit exceeded: free-models-per-day."), V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("openrouter", 200, {}, openrouter(402, "Insufficient credits"), V.HALT_RUN, K.CREDIT),
    ("openrouter", 200, {}, {"id": "gen-1", "choices": [{"finish_reason": "error", "message": {"content": "half"}}]}, V.RETRY, K.SERVER_ERROR),
    ("openrouter", 401, {}, openrouter(401, "User not found."), V.HALT_RUN, K.AUTHENTICATION),
    ("openrouter", 403, {}, openrouter(403, "Your input was flagged", reasons=["violence"], flagged_input="…"), V.FAIL_JOB, K.CONTENT_REFUSED),
    ("openrouter", 403, {}, openrouter(403, "No", error_type="permission_denied"), V.HALT_RUN, K.PERMISSION),
    ("openrouter", 403, {}, openrouter(403, "This model is not available in your region."), V.HALT_RUN, K.PERMISSION),
    ("openrouter", 404, {}, openrouter(404, "No endpoints found for acme/nope."), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openrouter", 404, {}, openrouter(404, "No endpoints found matching your data policy (Free model publication)."), V.HOLD_MODEL, K.PERMISSION),
    ("openrouter", 400, {}, openrouter(400, "acme/nope is not a valid model ID"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("openrouter", 400, {}, openrouter(400, "This endpoint's maximum context length is 8192 tokens.", error_type="context_length_exceeded"), V.FAIL_JOB, K.REQUEST_TOO_LARGE),
    ("openrouter", 503, {}, openrouter(503, "No available model provider", error_type="provider_overloaded"), V.RETRY, K.OVERLOADED),
    ("openrouter", 502, {}, openrouter(502, "Bad gateway", error_type="provider_unavailable"), V.RETRY, K.SERVER_ERROR),
    ("openrouter", 524, {}, b"", V.RETRY, K.SERVER_ERROR),
]  # fmt: skip

MISTRAL: list[Row] = [
    ("mistral", 401, {}, {"message": "Unauthorized", "request_id": "r"}, V.HALT_RUN, K.AUTHENTICATION),
    ("mistral", 400, {}, mistral("Invalid model: nope", "invalid_model", "1500"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("mistral", 403, {}, mistral("This model is not available on your plan"), V.HOLD_MODEL, K.PERMISSION),
    ("mistral", 422, {}, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}, "type": "invalid_request_error"}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("mistral", 422, {}, {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}, V.FAIL_JOB, K.INVALID_REQUEST),
    ("mistral", 429, {"retry-after": "2"}, {"message": "Requests rate limit exceeded"}, V.PAUSE, K.RATE_LIMITED),
    ("mistral", 429, {}, mistral("Service tier capacity exceeded for this model.", "service_tier_capacity_exceeded", "3505"), V.PAUSE, K.OVERLOADED),
    ("mistral", 429, {}, mistral("You have used up the tokens per month of your workspace.", "rate_limited"), V.WAIT_FOR_DAY, K.SPEND_LIMIT),
    ("mistral", 500, {}, mistral("Internal server error", "internal_server_error"), V.RETRY, K.SERVER_ERROR),
    ("mistral", 503, {}, {"message": "no healthy upstream"}, V.RETRY, K.SERVER_ERROR),
]  # fmt: skip

DEEPSEEK: list[Row] = [
    ("deepseek", 402, {}, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), V.HALT_RUN, K.CREDIT),
    ("deepseek", 401, {}, openai("Authentication Fails, Your api key: ****abcd is invalid", "invalid_request_error", "authentication_error"), V.HALT_RUN, K.AUTHENTICATION),
    ("deepseek", 400, {}, openai("Model Not Exist", "invalid_request_error"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("deepseek", 422, {}, openai("Failed to deserialize the JSON body into the target type"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("deepseek", 429, {}, openai("Rate limit reached"), V.PAUSE, K.RATE_LIMITED),
    ("deepseek", 500, {}, openai("Internal error"), V.RETRY, K.SERVER_ERROR),
    ("deepseek", 503, {}, openai("Server overloaded"), V.RETRY, K.OVERLOADED),
]  # fmt: skip

AZURE: list[Row] = [
    ("azure", 429, {"retry-after-ms": "500", "retry-after": "1"}, openai("Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 37 seconds.", "429"), V.PAUSE, K.RATE_LIMITED),
    ("azure", 429, {}, openai("The system is currently experiencing high demand and cannot process your request.", "429"), V.RETRY, K.OVERLOADED),
    ("azure", 400, {}, {"error": {"message": "The response was filtered", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, V.FAIL_JOB, K.CONTENT_REFUSED),
    ("azure", 404, {}, openai("The API deployment for this resource does not exist.", "DeploymentNotFound"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("azure", 404, {}, openai("Resource not found", "404"), V.FAIL_JOB, K.INVALID_REQUEST),
    ("azure", 400, {}, openai("The chatCompletion operation does not work with the specified model, text-embedding-3.", "OperationNotSupported"), V.HOLD_MODEL, K.MODEL_NOT_FOUND),
    ("azure", 400, {}, openai("API version not supported", "BadRequest"), V.HALT_RUN, K.INVALID_REQUEST),
    ("azure", 401, {}, openai("Access denied due to invalid subscription key or wrong API endpoint.", "401"), V.HALT_RUN, K.AUTHENTICATION),
    ("azure", 401, {}, openai("The principal `p` lacks the required data action", "PermissionDenied"), V.HALT_RUN, K.PERMISSION),
    ("azure", 403, {}, openai("Access denied due to Virtual Network/Firewall rules.", "AccessDenied"), V.HALT_RUN, K.PERMISSION),
    ("azure", 403, {}, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 00:54:20."}, V.WAIT_FOR_DAY, K.DAILY_LIMIT),
    ("azure", 408, {}, openai("The operation was timeout.", "Timeout"), V.RETRY, K.TIMEOUT),
]  # fmt: skip

REPLIES: list[Row] = [*ANY, *GEMINI, *GROQ, *OPENROUTER, *MISTRAL, *DEEPSEEK, *AZURE]
