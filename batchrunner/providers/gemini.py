"""Google's Gemini API as data: its own language, and OpenAI's where requests are in that.

A body with ``contents`` goes to ``models/{model}:generateContent`` with the model in the address; one
with ``messages`` or ``input`` goes to the same host's OpenAI-compatible endpoint. A base URL that ends in
``/openai`` makes prompts into the latter form and sends the key as a bearer.

The traps (PROVIDERS §3.1): a bad key is a 400; one 429 lists several violated quotas, and the one
that counts is told by ``quotaId``; a day's violation may come with a wait of seconds, which is wrong;
errors of the compatible endpoint are lists of one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from batchrunner.core.classify import Answer
from batchrunner.core.credentials import Credential
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Usage, Verdict
from batchrunner.providers import openai
from batchrunner.providers.fixes import OTHER_MODEL
from batchrunner.providers.profile import MODEL, Body, PathRules, Profile

__all__ = ["GEMINI", "RULES"]

_NATIVE: Final = f"/models/{MODEL}:generateContent"
_KEY_FIX: Final = "Make a key at {page}, then: {set_key}"

RULES: Final = (
    Rule(
        id="gemini-not-on-this-tier",
        statuses=("4xx",),
        codes=frozenset({"resource_exhausted"}),
        body_re=words(r'limit: 0(?!\d|\.\d)|"quotaValue"\s*:\s*"?0"?\s*[,}]'),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        says="The project's tier gives this model no requests at all",
        fix="Turn billing on for the project, or give another model: batchrunner resume --set"
        " model=NAME",
    ),
    Rule(
        id="gemini-day",
        statuses=("4xx", "5xx"),
        body_re=words(r'"quotaId"\s*:\s*"[^"]*PerDay'),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        # A day's violation has been seen with a delay of 38 s.
        reset=Reset.NEXT_DAY,
    ),
    Rule(
        # Capacity that all share, not the project's quota.
        id="gemini-shared-capacity",
        statuses=(429,),
        message_re=words(r"^resource exhausted\. please try again later"),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="gemini-exhausted",
        statuses=("4xx", "5xx"),
        codes=frozenset({"resource_exhausted"}),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.RATE_LIMITED,
    ),
    Rule(
        id="gemini-key-expired",
        statuses=(400,),
        codes=frozenset({"api_key_invalid"}),
        message_re=words(r"expired"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key has expired",
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-key",
        statuses=(400,),
        codes=frozenset({"api_key_invalid"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-two-credentials",
        statuses=(400,),
        message_re=words(r"multiple authentication credentials"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        fix="Leave other credentials out of -H, or use the address without /openai: batchrunner resume"
        " --base-url https://generativelanguage.googleapis.com/v1beta",
    ),
    Rule(
        id="gemini-key-kind",
        statuses=(401,),
        codes=frozenset({"access_token_type_unsupported"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The address does not take this kind of key",
        fix="Use the base URL without /openai: batchrunner resume --base-url"
        " https://generativelanguage.googleapis.com/v1beta",
    ),
    Rule(
        id="gemini-key-leaked",
        statuses=(403,),
        message_re=words(r"reported as leaked"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key was made public and is blocked",
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-service-off",
        statuses=(403,),
        codes=frozenset({"service_disabled", "api_key_service_blocked"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The key's project may not use the Gemini API",
        fix="Enable the Generative Language API for the project, and take the key's restrictions off"
        " it; then: batchrunner resume",
    ),
    Rule(
        id="gemini-no-free-tier",
        statuses=(400,),
        codes=frozenset({"failed_precondition"}),
        message_re=words(r"free tier|billing"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The free tier is not to be had in the country this machine connects from",
        fix="Turn billing on for the project in Google AI Studio, then: batchrunner resume",
    ),
    Rule(
        id="gemini-model",
        statuses=(404,),
        codes=frozenset({"not_found"}),
        message_re=words(r"\bmodels/|\bmodel\b"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
    Rule(
        id="gemini-model-form",
        statuses=(400,),
        message_re=words(r"unexpected model name format"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
)


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
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

    @property
    def is_native(self) -> bool:
        """Whether it is an answer in Gemini's own language."""
        found = (self.candidates, self.prompt_feedback, self.usage_metadata, self.embedding)
        return any(part is not None for part in (*found, self.total_tokens))


_decode: Final = msgspec.json.Decoder(_Result).decode


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _read(body: bytes, path: str) -> Answer:
    result = _decode(body)
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
        ),
        False,
    )


def _output_text(body: bytes, path: str | None) -> str | None:
    """Return the first candidate's text, or the vector as JSON."""
    try:
        result = _decode(body)
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
