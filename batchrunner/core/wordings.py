"""The words that servers use, as patterns and codes, and what helps, as sentences: for rows of rules.

Sentences are filled in as :class:`batchrunner.core.rules.Rule` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchrunner.core.rules import words

if TYPE_CHECKING:
    from batchrunner.core.classify import Facts

__all__ = [
    "ADDRESS",
    "ASK_DOCTOR",
    "A_MODEL",
    "A_THING",
    "BEYOND_PLAN_SAYS",
    "CHECK_KEY",
    "EXPIRED",
    "FIELD",
    "FIELD_CODES",
    "FIELD_SAYS",
    "GATEWAY_KEY",
    "LISTED_PLACE",
    "MAY_NOT_SAYS",
    "MEANT",
    "NETWORK_FIX",
    "NEW_KEY",
    "NOTHING_SAYS",
    "NO_API_SAYS",
    "NO_FIELD",
    "OTHER_MODEL",
    "OTHER_PLACE",
    "OVERLOADED",
    "OVERLOADED_CODES",
    "PLAN",
    "PORTAL_FIX",
    "PROXY_FIX",
    "REFUSED_CODES",
    "REGION",
    "REGION_SAYS",
    "RENAMED",
    "RETIRED",
    "SWITCHED_OFF",
    "TOO_LARGE_CODES",
    "TOO_LONG",
    "UNKNOWN_MODEL",
    "VERSION",
    "is_beyond_limit",
]

#: A model that the message is about; ``model.request`` is a scope of a key, ``/v1/models`` a path.
A_MODEL: Final = words(r"(?<![/.\w])model\b(?!\.\w)")
#: Something that one request refers to and others need not.
A_THING: Final = words(
    r"\b(?:file|container|vector[ _]store|response|conversation|prompt|cached ?content|assistant"
    r"|batch|item|image|document)s?\b[^.]{0,120}(?:not (?:be )?found|no such|not exist)"
    r"|(?:no|unknown)(?: such)? (?:file|container|vector[ _]store|response|conversation|item)\b"
)
_LIMIT_REQUESTED: Final = words(r"limit:?\s*([\d,]+).{0,80}?requested:?\s*([\d,]+)")


def is_beyond_limit(facts: Facts) -> bool:
    """Return whether the request asks for more than the whole allowance (or no numbers say)."""
    match = _LIMIT_REQUESTED.search(facts.text)
    if match is None:
        return True
    limit, requested = (int(number.replace(",", "") or 0) for number in match.groups())
    return requested > limit


NETWORK_FIX: Final = "Check the base URL and the network, then: batchrunner resume"
PORTAL_FIX: Final = (
    "Open {url} in a browser: sign in to the network, or correct the base URL; then: batchrunner"
    " resume"
)
PROXY_FIX: Final = (
    "Check --proxy, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, then: batchrunner resume"
)

CHECK_KEY: Final = (
    "Is the key in {key} whole, this provider's, and still listed at {page}? If not: {set_key}"
)
#: At an address that is not the provider's own, which may want another key or another header.
#: What only doctor finds out is said by nobody else but doctor.
ASK_DOCTOR: Final = "; whether it wants another header is told by: batchrunner doctor"
GATEWAY_KEY: Final = (
    "Is the key in {key} whole, and the one that this address takes? If not: {set_key}" + ASK_DOCTOR
)
NEW_KEY: Final = "Make a new key at {page}, then: {set_key}"
OTHER_PLACE: Final = (
    "The key is good. Leave by another address: batchrunner resume --proxy URL; or go to another"
    " node: batchrunner resume --base-url URL"
)
LISTED_PLACE: Final = (
    "Have the address added to the account's list, then: batchrunner resume; or leave by one that is:"
    " batchrunner resume --proxy URL"
)
NO_FIELD: Final = (
    "Take the field out and submit the mended file with --update, or replace it:"
    " batchrunner retry --set FIELD=VALUE"
)
FIELD_SAYS: Final = "This model or API version does not take a field of the request"
MAY_NOT_SAYS: Final = "The key is good, but may not do this"
BEYOND_PLAN_SAYS: Final = "The account's plan does not include this"
NOTHING_SAYS: Final = "There is nothing at"
NO_API_SAYS: Final = "It is no API that answers at"
#: What of a message names the base URL that was likely meant.
MEANT: Final = "Did you mean --base-url {base}?"
REGION_SAYS: Final = (
    "The provider refuses the country or region that this machine connects from, not the key"
)
OTHER_MODEL: Final = "Check the model's name, then: batchrunner resume --set model=NAME"

REFUSED_CODES: Final = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "moderation_blocked",
        "invalid_prompt",
        "bio_policy",
        "misalignment_policy_violation",
    }
)
TOO_LARGE_CODES: Final = frozenset(
    {
        "request_too_large",
        "request_body_too_large_after_decoding",
        "context_length_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
        "payload_too_large",
    }
)
TOO_LONG: Final = words(
    r"prompt is too long|exceeds? (?:the )?(?:\w+ )?context|maximum context length"
    r"|context (?:window|length|size)[^.]{0,40}exceed|larger than the (?:model's )?context"
    r"|input token count[^.]{0,40}exceeds"
)
UNKNOWN_MODEL: Final = words(
    # A dot that no space follows is one of a name, not the end of a sentence.
    r"invalid model(?: name| id|:)|unknown model|not a valid model"
    r"|model(?:[^.]|\.(?=\S)){0,80}(?:does not exist|not exist|not found|is not a valid)"
)
#: A country as the reason: what is refused is the address that requests come from, not the key.
REGION: Final = words(
    r"(?:country|region|territory|(?:user|your) location)[^.]{0,60}"
    r"(?:not (?:supported|available|allowed|served)|unsupported|blocked)"
    r"|(?:not (?:supported|available|allowed)|unsupported|banned)[^.]{0,60}"
    r"(?:country|region|territory)"
)
ADDRESS: Final = words(
    r"\bIP(?:[ -]address)?\b.{0,80}not (?:authorized|allowed|allow-?listed|permitted)"
)
#: ``model `x` has been retired``, and not ``top_k is deprecated for this model``.
RETIRED: Final = words(
    r"\bmodels?:?\s+(?:\S{1,80}\s+)?(?:is|was|has been|have been)\s+(?:now\s+)?"
    r"(?:retired|decommissioned|deprecated|removed|shut ?down|sunset|discontinued|no longer)"
)
RENAMED: Final = words(r"\bmodel\b(?:[^.]|\.(?=\S)){0,80}\brenamed\b")
PLAN: Final = words(
    r"\b(?:your|current|free|this) (?:\w+ )?(?:plan|tier|subscription)\b"
    r"|upgrade (?:your|to a) (?:\w+ )?(?:plan|tier|account)"
)
EXPIRED: Final = words(r"\bexpired\b|\bkey expir")
SWITCHED_OFF: Final = words(
    r"deactivated|disabled|inactive|not active|revoked|deleted|suspended|archived|leaked"
)
#: A field that the request has and the API does not.
FIELD: Final = words(
    r"(?:extra inputs|unknown|unexpected|unrecognized|unsupported|unexpected keyword)"
    r" (?:request )?(?:are not permitted|name|field|parameter|argument)"
    r"|extra inputs are not permitted|cannot find field"
    r"|(?:parameter|field|argument)\b[^.]{0,60}(?:not (?:a )?supported|not permitted|no longer|removed)"
)
FIELD_CODES: Final = frozenset({"unsupported_parameter", "unknown_parameter", "extra_forbidden"})
VERSION: Final = words(
    r"(?:anthropic-|api[ -_]?)version\b[^.]{0,80}"
    r"(?:not (?:a )?(?:valid|supported)|unsupported|invalid|required|missing|unknown)"
    r"|(?:invalid|unsupported|unknown|missing)[^.]{0,40}(?:anthropic-|api[ -_]?)version\b"
)
OVERLOADED: Final = words(
    r"overloaded|high demand|at capacity|no capacity|temporarily unable|resource[ _]unavailable"
    # A model that is brought into memory: llama.cpp, Hugging Face, Ollama.
    r"|\bloading\b|still starting|not (?:yet )?ready"
)
OVERLOADED_CODES: Final = frozenset(
    {
        "overloaded_error",
        "server_is_overloaded",
        "service_unavailable_error",
        "capacity_exceeded",
        "unavailable",
        "unavailable_error",
        "provider_overloaded",
    }
)
