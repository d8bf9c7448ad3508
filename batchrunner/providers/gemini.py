"""Google's Gemini API as data: its own language, and OpenAI's where requests are in that.

A body with ``contents`` goes to ``models/{model}:generateContent`` with the model in the address; one
with ``messages`` or ``input`` goes to the same host's OpenAI-compatible endpoint. A base URL that ends in
``/openai`` makes prompts into the latter form and sends the key as a bearer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.classify import Answer
from batchrunner.core.counting import Counting
from batchrunner.core.credentials import Credential
from batchrunner.models import Usage
from batchrunner.providers import openai
from batchrunner.providers.gemini_rules import RULES
from batchrunner.providers.profile import MODEL, Body, PathRules, Profile
from batchrunner.providers.salvage import salvage

__all__ = ["GEMINI"]

_NATIVE: Final = f"/models/{MODEL}:generateContent"


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    #: Prompt tokens that tools brought; not in ``promptTokenCount``.
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    #: Billed as output, and not in ``candidatesTokenCount``.
    thoughts_token_count: int | None = None


class _Part(msgspec.Struct):
    text: str | None = None
    #: A summary of what was thought, not of what is answered.
    thought: bool = False


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Vector(msgspec.Struct):
    values: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Result(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    embedding: _Vector | None = None
    #: ``countTokens``.
    total_tokens: int | None = None
    #: Beside what was answered before it broke off, too.
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_native(self) -> bool:
        """Whether it is an answer in Gemini's own language."""
        found = (self.candidates, self.prompt_feedback, self.usage_metadata, self.embedding)
        return any(part is not None for part in (*found, self.total_tokens))


_decode: Final = msgspec.json.Decoder(_Result).decode


def _result(body: bytes) -> _Result:
    try:
        return _decode(body)
    except msgspec.ValidationError:
        return salvage(body, _Result)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _read(body: bytes, path: str) -> Answer:
    result = _result(body)
    if not result.is_native:
        return openai.read(body, path)
    usage = result.usage_metadata or _Usage()
    reason = None
    if result.candidates:
        reason = result.candidates[0].finish_reason
    elif result.prompt_feedback is not None:
        # Refused before a word was answered: no error, and billed.
        reason = result.prompt_feedback.block_reason
    return Answer(
        Usage(
            model=result.model_version,
            finish_reason=reason,
            input_tokens=_sum(
                usage.prompt_token_count, usage.tool_use_prompt_token_count, result.total_tokens
            ),
            output_tokens=_sum(usage.candidates_token_count, usage.thoughts_token_count),
            cache_read_tokens=usage.cached_content_token_count,
            is_billed=result.total_tokens is None,
        ),
        result.error is not msgspec.UNSET and bytes(result.error) != b"null",
    )


def _output_text(body: bytes, path: str | None) -> str | None:
    """Return the first candidate's text, or the vector as JSON."""
    try:
        result = _result(body)
    except (ValueError, RecursionError):
        return None
    if not result.is_native:
        return openai.output_text(body, path)
    if result.embedding is not None and result.embedding.values is not msgspec.UNSET:
        return bytes(result.embedding.values).decode()
    if not result.candidates or (content := result.candidates[0].content) is None:
        return None
    return "".join(part.text or "" for part in content.parts or () if not part.thought)


def _headers(
    credential: Credential | None, _api_version: str | None, _environ: Mapping[str, str]
) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if credential is not None:
        headers["x-goog-api-key"] = credential.value
    return headers


def _path_for(body: Body) -> str:
    if "messages" in body or "input" in body:
        return openai.chat_path_for(body)
    return _NATIVE


def _count(body: Body) -> tuple[str, Body] | None:
    if "contents" not in body:
        return None
    model = str(body.get("model", "")).removeprefix("models/")
    whole = {**body, "model": f"models/{model}"}
    return f"/models/{MODEL}:countTokens", {"model": model, "generateContentRequest": whole}


def _compatible_path_for(body: Body) -> str:
    return _NATIVE if "contents" in body else openai.chat_path_for(body)


_VERSION: Final = re.compile(r"/v1(?:alpha|beta\d*)?$")
_NAMES_MODEL: Final = re.compile(
    r"/(?:v1(?:alpha|beta\d*)?/)?models/(?P<model>[^/:?]+)(?=:[A-Za-z]+)"
)


def _arrange(base: str, path: str, _version: str) -> tuple[str, str]:
    """Join either language's paths to a base URL with or without version and ``/openai``."""
    base = base.removesuffix("/openai")
    if not _VERSION.search(base):
        base += "/v1beta"
    if path.startswith("/v1/") and not _NAMES_MODEL.match(path):
        return f"{base}/openai", path.removeprefix("/v1")
    return base, re.sub(r"^/v1(?:alpha|beta\d*)?/", "/", path)


def _at(
    profile: Profile, base_url: str, _api_version: str | None, _environ: Mapping[str, str]
) -> Profile:
    if not base_url.partition("?")[0].rstrip("/").endswith("/openai"):
        return profile
    return dataclasses.replace(
        profile, make_headers=openai.bearer, default_path_for=_compatible_path_for
    )


GEMINI: Final = Profile(
    name="gemini",
    title="Gemini",
    default_base_url="https://generativelanguage.googleapis.com/v1beta",
    base_url_env="GOOGLE_GEMINI_BASE_URL",
    # The order of Google's own SDK.
    key_envs=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    base_rule="Gemini's base URL is https://generativelanguage.googleapis.com/v1beta.",
    base_has_version=True,
    # Its pages are of 50 where nobody asks for more.
    models_path="/models?pageSize=1000",
    needs_model=True,
    demands_max_tokens=False,
    allow_any_url=False,
    answers_json=True,
    day_zone="America/Los_Angeles",
    request_id_headers=("x-goog-request-id", "x-request-id"),
    # Its tokens a minute are the input's.
    counting=Counting(total_has_output=False),
    caching=AUTOMATIC,
    count=_count,
    rules=RULES,
    paths=PathRules(
        arrange=_arrange, names_model=(_NAMES_MODEL, f"/models/{MODEL}"), drops_model=True
    ),
    variant=_at,
    fixed_path=None,
    default_path_for=_path_for,
    make_headers=_headers,
    read=_read,
    output_text=_output_text,
    pool_of=lambda model: model.removeprefix("models/"),
)
