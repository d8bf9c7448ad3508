"""Profiles: addresses, headers, texts and pools of each provider."""

from __future__ import annotations

import json

import pytest

from batchrunner.core.credentials import Credential
from batchrunner.errors import UsageError
from batchrunner.models import ExitCode
from batchrunner.providers import NAMES, detect, profile

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
