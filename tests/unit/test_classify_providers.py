"""Profiles: addresses, headers, texts and pools of each provider."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from batchrunner.core.classify import classify
from batchrunner.core.credentials import Credential
from batchrunner.core.days import check_zone
from batchrunner.errors import UsageError
from batchrunner.models import ExitCode, Reply, Usage, Verdict
from batchrunner.providers import NAMES, detect, profile
from tests.unit.provider_replies import (
    DAY,
    MINUTE,
    QUOTA,
    anthropic,
    delay,
    google,
    mistral,
    openai,
    openrouter,
    reason,
    violated,
)

ANTHROPIC = profile("anthropic")
OPENAI = profile("openai")


@pytest.mark.parametrize(
    ("provider", "base", "path", "url"),
    [
        ("anthropic", "https://api.anthropic.com", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://api.anthropic.com/", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://gw/v1", "/v1/messages", "https://gw/v1/messages"),
        ("anthropic", "https://gw/anthropic/", "/v1/messages", "https://gw/anthropic/v1/messages"),
        ("openai", "https://api.openai.com/v1", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("openai", "https://api.openai.com/v1/", "/v1/responses", "https://api.openai.com/v1/responses"),
        ("openai", "https://gw/openai", "/v1/embeddings", "https://gw/openai/embeddings"),
        ("openai", "https://gw/v1", "/chat/completions", "https://gw/v1/chat/completions"),
        ("openai", "https://gw/v1?api-version=3", "/v1/responses", "https://gw/v1/responses?api-version=3"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "/models/{model}:generateContent", "https://generativelanguage.googleapis.com/v1beta/models/{model}:generateContent"),
        ("gemini", "https://generativelanguage.googleapis.com", "/models/{model}:embedContent", "https://generativelanguage.googleapis.com/v1beta/models/{model}:embedContent"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/", "/models/{model}:generateContent", "https://generativelanguage.googleapis.com/v1beta/models/{model}:generateContent"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/", "/v1/chat/completions", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "/v1/embeddings", "https://generativelanguage.googleapis.com/v1beta/openai/embeddings"),
        ("gemini", "https://gw", "/models", "https://gw/v1beta/models"),
        ("groq", "https://api.groq.com/openai/v1", "/v1/chat/completions", "https://api.groq.com/openai/v1/chat/completions"),
        ("openrouter", "https://openrouter.ai/api/v1", "/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions"),
        ("mistral", "https://api.mistral.ai/v1", "/v1/embeddings", "https://api.mistral.ai/v1/embeddings"),
        ("deepseek", "https://api.deepseek.com", "/v1/chat/completions", "https://api.deepseek.com/chat/completions"),
        ("deepseek", "https://api.deepseek.com/v1", "/v1/chat/completions", "https://api.deepseek.com/v1/chat/completions"),
        ("azure", "https://r.openai.azure.com", "/v1/chat/completions", "https://r.openai.azure.com/openai/deployments/{model}/chat/completions?api-version=2024-10-21"),
        ("azure", "https://r.openai.azure.com/openai/", "/v1/embeddings", "https://r.openai.azure.com/openai/deployments/{model}/embeddings?api-version=2024-10-21"),
        ("azure", "https://r.openai.azure.com/openai/deployments/d", "/v1/chat/completions", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"),
        ("azure", "https://r.openai.azure.com/?api-version=2025-01-01-preview", "/v1/chat/completions", "https://r.openai.azure.com/openai/deployments/{model}/chat/completions?api-version=2025-01-01-preview"),
        ("azure", "https://r.openai.azure.com/openai/v1/", "/v1/chat/completions", "https://r.openai.azure.com/openai/v1/chat/completions"),
        ("azure", "https://r.openai.azure.com", "/v1/models", "https://r.openai.azure.com/openai/models?api-version=2024-10-21"),
        ("azure", "https://r.openai.azure.com", "/v1/responses", "https://r.openai.azure.com/openai/responses?api-version=2024-10-21"),
        ("http", "https://geo/api", "search?q=1", "https://geo/api/search?q=1"),
        ("http", "https://geo/api", "/v1/search", "https://geo/api/v1/search"),
        ("http", "https://geo/v1", "/v1/search", "https://geo/v1/search"),
        ("http", "https://geo", "https://geo/x", "https://geo/x"),
        ("http", "https://geo/x?k=1", "/y?q=2", "https://geo/x/y?q=2&k=1"),
    ],
)  # fmt: skip
def test_a_base_url_means_what_its_sdk_means(provider: str, base: str, path: str, url: str) -> None:
    """Anthropic's without /v1, OpenAI's with it, and never /v1 twice."""
    assert profile(provider).build_url(base, path) == url


def test_anthropics_headers_follow_the_kind_of_credential() -> None:
    """API keys go as x-api-key, tokens as Bearer, and the version can be given."""
    key = Credential("sk-ant-api03-x", "ANTHROPIC_API_KEY")
    assert ANTHROPIC.headers(key) == {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": "sk-ant-api03-x",
    }
    for token in (
        Credential("anything", "ANTHROPIC_AUTH_TOKEN"),
        Credential("anything", "ANTHROPIC_AUTH_TOKEN_FILE"),
        Credential("sk-ant-oat01-x", "ANTHROPIC_API_KEY"),
    ):
        headers = ANTHROPIC.headers(token, "2026-10-21")
        assert headers["authorization"] == f"Bearer {token.value}"
        assert headers["anthropic-version"] == "2026-10-21"
        assert "x-api-key" not in headers
    assert set(profile("simulator").headers(None)) == {"content-type", "anthropic-version"}


def test_openais_headers_carry_organization_and_project() -> None:
    """Bearer, and the two headers where the environment names them."""
    environ = {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": ""}
    assert OPENAI.headers(Credential("sk-x", "OPENAI_API_KEY"), None, environ) == {
        "content-type": "application/json",
        "authorization": "Bearer sk-x",
        "openai-organization": "org-1",
    }


@pytest.mark.parametrize(
    ("provider", "body", "text"),
    [
        ("anthropic", {"content": [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "x"}, {"type": "text", "text": "b"}]}, "ab"),
        ("anthropic", {"content": []}, ""),
        ("anthropic", {"type": "error"}, None),
        ("openai", {"choices": [{"message": {"content": "hi"}}]}, "hi"),
        ("openai", {"choices": [{"message": {"content": None}}]}, None),
        ("openai", {"choices": [{"message": {"content": [{"type": "text", "text": "hi"}]}}]}, "hi"),
        ("openai", {"choices": [{"text": "old"}]}, "old"),
        ("openai", {"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}, "x"),
        ("openai", {"data": [{"embedding": [0.5, -1]}]}, "[0.5,-1]"),
        ("openai", {"odd": 1}, None),
        ("gemini", {"candidates": [{"content": {"parts": [{"text": "thinking", "thought": True}, {"text": "a"}, {"functionCall": {}}, {"text": "b"}]}}]}, "ab"),
        ("gemini", {"candidates": [{"finishReason": "SAFETY"}]}, None),
        ("gemini", {"candidates": [{"content": {"role": "model"}}]}, ""),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, None),
        ("gemini", {"embedding": {"values": [0.5, -1]}}, "[0.5,-1]"),
        ("gemini", {"choices": [{"message": {"content": "hi"}}]}, "hi"),
        ("openrouter", {"choices": [{"message": {"content": "hi"}}]}, "hi"),
        ("http", {"any": 1}, '{"any":1}'),
    ],
)  # fmt: skip
def test_the_text_of_an_answer(provider: str, body: object, text: str | None) -> None:
    """What a person's table shows of each kind of answer."""
    raw = json.dumps(body, separators=(",", ":")).encode()
    assert profile(provider).output_text(raw, None) == text


def test_text_of_nonsense_is_unknown() -> None:
    """A stored body that is no JSON has no text, and no usage, and raises nothing."""
    assert ANTHROPIC.output_text(b"<html>", None) is None
    assert OPENAI.output_text(b"", None) is None
    assert ANTHROPIC.usage(b"<html>").input_tokens is None


@pytest.mark.parametrize(
    ("provider", "models"),
    [
        ("anthropic", ("claude-opus-4-1-20250805", "claude-opus-4-5", "claude-opus-4")),
        ("anthropic", ("claude-sonnet-4-5", "claude-sonnet-4-20250514")),
        ("anthropic", ("claude-haiku-4-5", "claude-haiku-4-5-20251001")),
        ("openai", ("gpt-x", "gpt-x-2026-01-31")),
    ],
)
def test_models_of_one_pool_share_it(provider: str, models: tuple[str, ...]) -> None:
    """Dated names, and families that share a limit, are one pool."""
    assert len({profile(provider).pool_of(model) for model in models}) == 1


def test_models_of_other_pools_do_not_share() -> None:
    """Families with their own limits are pools of their own."""
    models = ("claude-opus-4-1", "claude-opus-5", "claude-sonnet-4-5", "claude-sonnet-5")
    assert len({ANTHROPIC.pool_of(model) for model in models}) == 4


def test_default_paths_follow_the_body() -> None:
    """A line without a path goes where its body belongs."""
    assert ANTHROPIC.default_path(b"{}") == "/v1/messages"
    assert OPENAI.default_path(b'{"messages":[]}') == "/v1/chat/completions"
    assert OPENAI.default_path(b'{"input":"x","model":"gpt-x"}') == "/v1/responses"
    embedding = b'{"input":"x","model":"text-embedding-3"}'
    assert OPENAI.default_path(embedding) == "/v1/embeddings"
    assert OPENAI.default_path_for({}) == "/v1/chat/completions"
    assert profile("http").default_path(b"no json") == ""


def test_the_own_address_is_told_from_a_gateway() -> None:
    """Only the provider's own origin asks for a key and checks it."""
    assert ANTHROPIC.is_own("https://api.anthropic.com/")
    assert OPENAI.is_own("https://API.openai.com:443/v1")
    assert not ANTHROPIC.is_own("http://api.anthropic.com")
    assert not ANTHROPIC.is_own("https://api.anthropic.com.evil.example")
    assert not profile("http").is_own("https://x")
    assert not ANTHROPIC.is_own("https://[")


def test_the_base_url_in_force() -> None:
    """Typed or stored before the environment before the default."""
    environ = {"ANTHROPIC_BASE_URL": "http://gw"}
    assert ANTHROPIC.base_url("http://typed", environ) == "http://typed"
    assert ANTHROPIC.base_url(None, environ) == "http://gw"
    assert ANTHROPIC.base_url(None, {}) == "https://api.anthropic.com"
    assert profile("simulator").base_url(None, environ) is None


def test_ids_and_organizations_are_read_from_headers() -> None:
    """Whose allowance was used, and the id for the support desk."""
    headers = {"anthropic-organization-id": "org", "request-id": "req_1"}
    assert ANTHROPIC.organization(headers) == "org"
    assert ANTHROPIC.request_id(headers) == "req_1"
    assert OPENAI.request_id({"x-request-id": "a"}) == "a"
    assert OPENAI.organization({}) is None
    assert profile("http").organization(headers) is None


def test_providers_are_found_by_name_and_model() -> None:
    """Names in any case; a wrong one exits 2 with the near name and the list."""
    assert all(profile(name).name == name for name in NAMES)
    assert profile("Anthropic") is ANTHROPIC
    with pytest.raises(UsageError) as caught:
        profile("antropic")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "Did you mean anthropic?" in caught.value.message
    assert "openai" in caught.value.fix
    found = [detect(m) for m in ("claude-opus-5", "gpt-6", "o3", "o4-mini", "text-embedding-3")]
    assert found == ["anthropic", "openai", "openai", "openai", "openai"]
    assert detect("llama-3") is None


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gemini-2.5-flash", "gemini"),
        ("models/gemini-2.5-flash", "gemini"),
        ("mistral-large-latest", "mistral"),
        ("open-mixtral-8x22b", "mistral"),
        ("codestral-2508", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("deepseek-v4-pro", "deepseek"),
        # Groq's.
        ("mixtral-8x7b-32768", None),
        ("mistral-saba-24b", None),
        ("deepseek-r1-distill-llama-70b", None),
        ("openai/gpt-oss-120b", None),
        # OpenRouter's.
        ("google/gemini-2.5-flash", None),
    ],
)
def test_a_model_tells_its_provider_where_only_one_has_the_name(
    model: str, provider: str | None
) -> None:
    """Names that several providers use tell nothing."""
    assert detect(model) == provider


def test_geminis_model_goes_into_the_address() -> None:
    """A stored body keeps its model, what is sent has it in the address alone."""
    gemini = profile("gemini")
    url = gemini.build_url("https://g/v1beta", gemini.default_path_for({"contents": []}))
    body = b'{"model":"models/gemini-x","contents":[{"parts":[{"text":"1.50"}]}]}'
    assert gemini.place_model(url, body) == (
        "https://g/v1beta/models/gemini-x:generateContent",
        b'{"contents":[{"parts":[{"text":"1.50"}]}]}',
    )
    odd = b'{"model":"a/b?c","contents":[]}'
    assert gemini.place_model(url, odd)[0].endswith("/models/a%2Fb%3Fc:generateContent")
    assert gemini.default_path(body) == "/models/gemini-x:generateContent"


def test_azures_deployment_goes_into_the_address_and_stays_in_the_body() -> None:
    """As Azure's own SDK sends it."""
    azure = profile("azure")
    url = azure.build_url("https://r.openai.azure.com", "/v1/chat/completions")
    body = b'{"model":"my deployment","messages":[]}'
    sent, same = azure.place_model(url, body)
    assert "/deployments/my%20deployment/chat" in sent
    assert same is body


@pytest.mark.parametrize(
    ("path", "template", "model"),
    [
        ("/v1beta/models/gemini-x:generateContent", "/models/{model}:generateContent", "gemini-x"),
        ("/models/gemini-x:embedContent", "/models/{model}:embedContent", "gemini-x"),
        ("/v1/chat/completions", "/v1/chat/completions", None),
    ],
)  # fmt: skip
def test_a_path_may_name_the_model(path: str, template: str, model: str | None) -> None:
    """A line's own path is split, so that its model can be replaced like any other's."""
    gemini = profile("gemini")
    assert gemini.read_path(path) == (template, model)
    assert gemini.read_path(gemini.show_path(template, {"model": model})) == (template, model)
    assert OPENAI.read_path(path) == (path, None)


def test_gemini_speaks_openais_language_at_the_compatible_address() -> None:
    """There prompts become chat completions, and the key goes as a bearer."""
    key = Credential("AIza-x", "GEMINI_API_KEY")
    native = profile("gemini").at(None)
    compatible = profile("gemini").at("https://generativelanguage.googleapis.com/v1beta/openai/")
    assert native.headers(key)["x-goog-api-key"] == key.value
    assert "authorization" not in native.headers(key)
    assert compatible.headers(key)["authorization"] == "Bearer AIza-x"
    assert "x-goog-api-key" not in compatible.headers(key)
    assert native.default_path_for({}) == "/models/{model}:generateContent"
    assert compatible.default_path_for({}) == "/v1/chat/completions"
    for profile_there in (native, compatible):
        assert profile_there.default_path_for({"contents": []}).endswith(":generateContent")
        assert profile_there.default_path_for({"messages": []}) == "/v1/chat/completions"
        assert profile_there.default_path_for({"input": "x"}) == "/v1/embeddings"


def test_azures_headers_and_version() -> None:
    """Keys go as api-key, tokens as a bearer; the version typed comes before the environment's."""
    azure = profile("azure")
    assert azure.headers(Credential("k", "AZURE_OPENAI_API_KEY"))["api-key"] == "k"
    token = azure.headers(Credential("t", "AZURE_OPENAI_AD_TOKEN"))
    assert token["authorization"] == "Bearer t"
    assert "api-key" not in token
    base, environ = "https://r.openai.azure.com", {"OPENAI_API_VERSION": "2025-02-01"}
    path = "/v1/chat/completions"
    assert azure.at(base, None, environ).build_url(base, path).endswith("=2025-02-01")
    assert azure.at(base, "2026-01-01", environ).build_url(base, path).endswith("=2026-01-01")


def test_a_fix_names_the_variable_that_held_the_key() -> None:
    """Of several variables the one that was found is the one to change."""
    gemini = profile("gemini").with_key_of("GEMINI_API_KEY_FILE")
    assert gemini.key_envs == ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    body = json.dumps(google(401, "UNAUTHENTICATED", "no")).encode()
    reply = Reply(status=401, headers={}, body=body)
    told = classify(reply, gemini, url="https://x", now_wall=NOW)
    assert "export GEMINI_API_KEY='…' && batchrunner resume" in told.fix
    assert profile("gemini").with_key_of("key_file").key_envs[0] == "GOOGLE_API_KEY"


def test_azures_own_hosts() -> None:
    """Every resource's host is Azure's own, over TLS; another's is not."""
    azure = profile("azure")
    assert azure.is_own("https://r.openai.azure.com/openai/v1")
    assert azure.is_own("https://r.cognitiveservices.azure.com")
    assert not azure.is_own("http://r.openai.azure.com")
    assert not azure.is_own("https://openai.azure.com.evil.example")


@pytest.mark.parametrize(
    ("provider", "body", "usage"),
    [
        (
            "gemini",
            {
                "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "toolUsePromptTokenCount": 3,
                    "candidatesTokenCount": 5,
                    "thoughtsTokenCount": 2,
                    "totalTokenCount": 20,
                },
                "modelVersion": "gemini-x-001",
            },
            Usage(model="gemini-x-001", finish_reason="STOP", input_tokens=13, output_tokens=7),
        ),
        (
            "gemini",
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}},
            Usage(finish_reason="SAFETY", input_tokens=4),
        ),
        ("gemini", {"totalTokens": 31}, Usage(input_tokens=31, is_billed=False)),
        (
            "gemini",
            {
                "model": "g",
                "choices": [{"finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2},
            },
            Usage(model="g", finish_reason="stop", input_tokens=1, output_tokens=2),
        ),
        ("mistral", {"model": "m"}, Usage(model="m")),
    ],
)
def test_what_an_answer_cost(provider: str, body: object, usage: Usage) -> None:
    """Tokens and finish reason of each language, and of both where a provider speaks two."""
    assert profile(provider).usage(json.dumps(body).encode()) == usage


def test_free_models_of_openrouter_share_a_pool() -> None:
    """They share a minute and a day; the others are pools of their own."""
    pool_of = profile("openrouter").pool_of
    assert pool_of("a/b:free") == pool_of("c/d:free") != pool_of("a/b")
    assert pool_of("a/b") != pool_of("c/d")


NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("provider", "status", "headers", "body", "until"),
    [
        # Midnight Pacific, in winter at 08:00 UTC, whatever delay is named.
        ("gemini", 429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(DAY), delay("38s")), datetime(2026, 11, 24, 8, tzinfo=UTC)),
        ("groq", 429, {}, openai("on requests per day (RPD): Limit 50, Used 50, Requested 1. Please try again in 28m48s."), datetime(2026, 11, 23, 12, 28, 48, tzinfo=UTC)),
        ("groq", 429, {"x-ratelimit-remaining-requests": "0", "retry-after": "90"}, openai("x"), datetime(2026, 11, 23, 12, 1, 30, tzinfo=UTC)),
        ("openrouter", 429, {}, openrouter(429, "free-models-per-day", headers={"X-RateLimit-Reset": "1795478400000"}), datetime(2026, 11, 24, tzinfo=UTC)),
        ("openrouter", 429, {}, openrouter(429, "free-models-per-day"), datetime(2026, 11, 24, tzinfo=UTC)),
        ("mistral", 429, {}, mistral("monthly tokens used up"), datetime(2026, 12, 1, tzinfo=UTC)),
        ("azure", 403, {}, {"message": "Out of call volume quota. Quota will be replenished in 00:54:20."}, datetime(2026, 11, 23, 12, 54, 20, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_days_end_is_that_of_the_provider(
    provider: str, status: int, headers: dict[str, str], body: object, until: datetime
) -> None:
    """Midnight of its zone, a rolling wait, a date, or the first of the month, as each has it."""
    reply = Reply(status=status, headers=headers, body=json.dumps(body).encode())
    decision = classify(reply, profile(provider), url="https://x", now_wall=NOW)
    assert decision.verdict is Verdict.WAIT_FOR_DAY
    assert decision.reset_at == until.timestamp() * 1000


@pytest.mark.parametrize(
    ("provider", "headers", "body", "wait_s"),
    [
        ("gemini", {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, violated(MINUTE), delay("18.4s")), 18.4),
        ("gemini", {}, google(429, "RESOURCE_EXHAUSTED", QUOTA + " Please retry in 20.5s."), 20.5),
        ("azure", {"retry-after-ms": "500", "retry-after": "1"}, openai("x"), 0.5),
        ("azure", {}, openai("exceeded token rate limit. Please retry after 37 seconds."), 37),
        ("mistral", {"retry-after": "2"}, mistral("x"), 2),
        ("openrouter", {"retry-after": "7"}, openrouter(429, "free-models-per-min"), 7),
    ],
)  # fmt: skip
def test_a_minutes_wait_is_that_of_the_provider(
    provider: str, headers: dict[str, str], body: object, wait_s: float
) -> None:
    """RetryInfo, prose, milliseconds and seconds, as each says it."""
    reply = Reply(status=429, headers=headers, body=json.dumps(body).encode())
    decision = classify(reply, profile(provider), url="https://x", now_wall=NOW)
    assert (decision.verdict, decision.retry_at) == (Verdict.PAUSE, NOW + wait_s * 1000)


@pytest.mark.parametrize(
    ("provider", "status", "body", "words"),
    [
        ("anthropic", 401, anthropic("authentication_error", "This API key has expired."), ("expired", "ANTHROPIC_API_KEY")),
        ("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), ("subscription", "is not API credit")),
        ("anthropic", 403, anthropic("permission_error", "OAuth authentication is currently not allowed for this organization."), ("subscription", "is not API credit")),
        ("openai", 429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}, ("ChatGPT", "is not API credit")),
        ("anthropic", 403, anthropic("forbidden", "Request not allowed"), ("country", "--proxy")),
        ("openai", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"), ("not the key", "--base-url")),
        ("gemini", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), ("not the key", "--proxy")),
        ("anthropic", 400, anthropic("invalid_request_error", "temperature: Extra inputs are not permitted"), ("2026-10-21", "--api-version 2023-06-01")),
        ("anthropic", 400, anthropic("invalid_request_error", "anthropic-version: 2022-01-01 is not a valid version"), ("version", "--api-version 2023-06-01")),
        ("openai", 400, openai("Unsupported parameter: 'x'", "unsupported_parameter"), ("field", "--set FIELD=VALUE")),
        ("openai", 403, openai("Project `p` does not have access to model `gpt-x`"), ("gpt-x", "--set model=NAME")),
        ("openai", 403, openai("Missing scopes: model.request"), ("model.request", "OPENAI_API_KEY")),
        ("openai", 404, openai("The model `gpt-4-32k` has been deprecated"), ("retired", "--set model=NAME")),
        ("azure", 404, openai("The API deployment for this resource does not exist.", "DeploymentNotFound"), ("deployment", "--set model=DEPLOYMENT")),
        ("azure", 400, openai("API version not supported"), ("version", "--api-version 2024-10-21")),
        ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", reason("API_KEY_INVALID")), ("expired", "GOOGLE_API_KEY")),
        ("openrouter", 402, openrouter(402, "Key limit exceeded", limit_source="openrouter_key_limit"), ("limit that was set for it", "settings/keys")),
    ],
)  # fmt: skip
def test_a_refusal_says_what_it_is_and_what_helps(
    provider: str, status: int, body: object, words: tuple[str, ...]
) -> None:
    """The message or its fix names what a person must know to act."""
    reply = Reply(status=status, headers={}, body=json.dumps(body).encode())
    decision = classify(reply, profile(provider), url="https://x", now_wall=NOW)
    told = f"{decision.message} {decision.fix}"
    assert all(word in told for word in words), told


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_whole(name: str) -> None:
    """Every profile names a base URL's rule, and a day that there is."""
    known = profile(name)
    assert known.base_rule.endswith(".")
    assert known.title
    if known.day_zone != "rolling":
        check_zone(known.day_zone)
    for variable in known.key_envs:
        assert variable.isupper()


@pytest.mark.parametrize(
    ("url", "is_gateways"),
    [("https://api.anthropic.com/v1/messages", False), ("https://gw.example/v1/messages", True)],
)
def test_a_refused_key_at_a_gateway_may_be_in_the_wrong_header(url: str, is_gateways: bool) -> None:
    """At an address that is not the provider's own the fix leads to doctor, which tries both headers."""
    reply = Reply(
        status=401, body=json.dumps(anthropic("authentication_error", "invalid x-api-key")).encode()
    )
    decision = classify(reply, ANTHROPIC, url=url, now_wall=0)
    assert decision.verdict is Verdict.HALT_RUN
    assert ("batchrunner doctor" in decision.fix) is is_gateways
    assert ("console.anthropic.com" in decision.fix) is not is_gateways
