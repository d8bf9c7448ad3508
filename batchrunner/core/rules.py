"""The rows that tell what a reply means, and the rows that hold for any HTTP server.

A row names what it matches and what follows. Rows are walked top to bottom and the first match
counts; a provider's own rows come before :data:`GENERIC`, so these are the last word only. Within
a table the order is: money, account, the job itself, waiting, plain statuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from batchrunner.models import ErrorKind, Verdict

if TYPE_CHECKING:
    from batchrunner.core.classify import Facts

__all__ = [
    "FIELD_SAYS",
    "GENERIC",
    "NOTHING_SAYS",
    "OTHER_PLACE",
    "REGION",
    "REGION_SAYS",
    "Form",
    "Reset",
    "Rule",
    "words",
]


class Form(StrEnum):
    """What a body is, roughly."""

    EMPTY = "empty"
    HTML = "html"
    #: Neither JSON nor HTML.
    TEXT = "text"
    JSON = "json"


class Reset(StrEnum):
    """How a rule knows when an allowance comes back."""

    NOT_SAID = "not_said"
    #: In the headers or the text of the reply.
    HINT = "hint"
    #: When the provider's own day turns; a hint is not believed.
    NEXT_DAY = "next_day"
    #: A hint where there is one, else when the provider's own day turns.
    HINT_OR_DAY = "hint_or_day"
    #: 00:00 UTC on the first of next month.
    NEXT_MONTH = "next_month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: everything that is given must match."""

    #: Stable; a test names each.
    id: str
    verdict: Verdict
    kind: ErrorKind
    #: Statuses, or classes of them (``4xx``); empty: any.
    statuses: tuple[int | str, ...] = ()
    #: Kinds of fault; a row with none matches HTTP answers only.
    faults: frozenset[ErrorKind] = frozenset()
    #: One of the error object's ``code``, ``type``, ``status``, ``reason`` or details' codes.
    codes: frozenset[str] = frozenset()
    #: Searched in the start of the body (a fault's message).
    body_re: re.Pattern[str] | None = None
    #: Searched in the message of a JSON error object: not in HTML, not in an address.
    message_re: re.Pattern[str] | None = None
    #: (name in lower case, value); ``None``: any value.
    header: tuple[str, str | None] | None = None
    forms: frozenset[Form] = frozenset()
    #: What no pattern can say.
    when: Callable[[Facts], bool] | None = None
    #: The pause or the wait is the whole account's, not the model pool's.
    account_wide: bool = False
    reset: Reset = Reset.NOT_SAID
    #: What a person should do; ``{url}``, ``{provider}``, ``{key}`` (the variable that holds it),
    #: ``{set_key}`` (the command that puts another there), ``{page}`` (where keys are made),
    #: ``{base_rule}`` and ``{location}`` are filled in.
    fix: str = ""
    #: Put in front of the server's words, filled in likewise.
    says: str = ""
    #: The plain statuses it matches, worked out once.
    _exact: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Spell the status classes out."""
        exact: set[int] = set()
        for status in self.statuses:
            if isinstance(status, int):
                exact.add(status)
            else:
                hundred = int(status[0]) * 100
                exact.update(range(hundred, hundred + 100))
        object.__setattr__(self, "_exact", frozenset(exact))

    @property
    def plain(self) -> bool:
        """Whether it goes by the status alone, so that ``x-should-retry`` may overrule it."""
        return bool(self.statuses) and not (
            self.codes or self.body_re or self.message_re or self.when or self.forms
        )

    def matches(self, facts: Facts) -> bool:  # noqa: PLR0911  # one line a column
        """Return whether every given column matches."""
        if self.faults or facts.fault is not None:
            if facts.fault not in self.faults:
                return False
        elif self._exact and facts.status not in self._exact:
            return False
        if self.codes and self.codes.isdisjoint(facts.codes):
            return False
        if self.forms and facts.form not in self.forms:
            return False
        if self.header is not None:
            value = facts.headers.get(self.header[0])
            if value is None or self.header[1] not in {None, value.strip().lower()}:
                return False
        if self.message_re is not None and not self.message_re.search(facts.message):
            return False
        if self.body_re is not None and not self.body_re.search(facts.text):
            return False
        return self.when is None or self.when(facts)


def words(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that ignores case."""
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


#: A model that the message is about; ``model.request`` is a scope of a key, ``/v1/models`` a path.
_A_MODEL: Final = words(r"(?<![/.\w])model\b(?!\.\w)")
_LIMIT_REQUESTED: Final = words(r"limit:?\s*([\d,]+).{0,80}?requested:?\s*([\d,]+)")


def _beyond_limit(facts: Facts) -> bool:
    """Return whether the request asks for more than the whole allowance (or no numbers say)."""
    match = _LIMIT_REQUESTED.search(facts.text)
    if match is None:
        return True
    limit, requested = (int(number.replace(",", "") or 0) for number in match.groups())
    return requested > limit


_NETWORK_FIX: Final = "Check the base URL and the network, then: batchrunner resume"
_PORTAL_FIX: Final = (
    "Open {url} in a browser: sign in to the network, or correct the base URL; then: batchrunner"
    " resume"
)
_PROXY_FIX: Final = (
    "Check --proxy, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, then: batchrunner resume"
)

_NEW_KEY: Final = "Make a new key at {page}, then: {set_key}"
OTHER_PLACE: Final = (
    "The key is good. Leave by another address: batchrunner resume --proxy URL; or go to another"
    " node: batchrunner resume --base-url URL"
)
_LISTED_PLACE: Final = (
    "Have the address added to the account's list, then: batchrunner resume; or leave by one that is:"
    " batchrunner resume --proxy URL"
)
_NO_FIELD: Final = (
    "Take the field out and submit the mended file with --update, or replace it:"
    " batchrunner retry --set FIELD=VALUE"
)
FIELD_SAYS: Final = "This model or API version does not take a field of the request"
NOTHING_SAYS: Final = "There is nothing at"
REGION_SAYS: Final = (
    "The provider refuses the country or region that this machine connects from, not the key"
)
_OTHER_MODEL: Final = "Check the model's name, then: batchrunner resume --set model=NAME"

_REFUSED_CODES: Final = frozenset(
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
_TOO_LARGE_CODES: Final = frozenset(
    {
        "request_too_large",
        "request_body_too_large_after_decoding",
        "context_length_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
        "payload_too_large",
    }
)
_TOO_LONG: Final = words(
    r"prompt is too long|exceeds? (?:the )?(?:\w+ )?context|maximum context length"
    r"|context (?:window|length|size)[^.]{0,40}exceed|larger than the (?:model's )?context"
    r"|input token count[^.]{0,40}exceeds"
)
_UNKNOWN_MODEL: Final = words(
    r"invalid model|unknown model|model[^.]{0,80}(?:does not exist|not exist|not found)"
    r"|model[^.]{0,80}is not a valid|not a valid model"
)
#: A country as the reason: what is refused is the address that requests come from, not the key.
REGION: Final = words(
    r"(?:country|region|territory|(?:user|your) location)[^.]{0,60}"
    r"(?:not (?:supported|available|allowed|served)|unsupported|blocked)"
    r"|(?:not (?:supported|available|allowed)|unsupported|banned)[^.]{0,60}"
    r"(?:country|region|territory)"
)
_ADDRESS: Final = words(
    r"\bIP(?:[ -]address)?\b.{0,80}not (?:authorized|allowed|allow-?listed|permitted)"
)
#: ``model `x` has been retired``, and not ``top_k is deprecated for this model``.
_RETIRED: Final = words(
    r"\bmodels?:?\s+(?:\S{1,80}\s+)?(?:is|was|has been|have been)\s+(?:now\s+)?"
    r"(?:retired|decommissioned|deprecated|removed|shut ?down|sunset|discontinued|no longer)"
)
_RENAMED: Final = words(r"\bmodel\b[^.]{0,80}\brenamed\b")
_PLAN: Final = words(
    r"\b(?:your|current|free|this) (?:\w+ )?(?:plan|tier|subscription)\b"
    r"|upgrade (?:your|to a) (?:\w+ )?(?:plan|tier|account)"
)
_EXPIRED: Final = words(r"\bexpired\b|\bhas expired|\bkey expir")
_SWITCHED_OFF: Final = words(
    r"deactivated|disabled|inactive|not active|revoked|deleted|suspended|archived|leaked"
)
#: A field that the request has and the API does not.
_FIELD: Final = words(
    r"(?:extra inputs|unknown|unexpected|unrecognized|unsupported|unexpected keyword)"
    r" (?:request )?(?:are not permitted|name|field|parameter|argument)"
    r"|extra inputs are not permitted|cannot find field"
    r"|(?:parameter|field|argument)\b[^.]{0,60}(?:not (?:a )?supported|not permitted|no longer|removed)"
)
_FIELD_CODES: Final = frozenset({"unsupported_parameter", "unknown_parameter", "extra_forbidden"})
_VERSION: Final = words(
    r"(?:anthropic-|api[ -_]?)version\b[^.]{0,80}"
    r"(?:not (?:a )?(?:valid|supported)|unsupported|invalid|required|missing|unknown)"
    r"|(?:invalid|unsupported|unknown|missing)[^.]{0,40}(?:anthropic-|api[ -_]?)version\b"
)
_OVERLOADED: Final = words(
    r"overloaded|high demand|at capacity|no capacity|temporarily unable|resource[ _]unavailable"
    # A model that is brought into memory: llama.cpp, Hugging Face, Ollama.
    r"|\bloading\b|still starting|not (?:yet )?ready"
)
_OVERLOADED_CODES: Final = frozenset(
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

_FAULTS: Final[Sequence[Rule]] = (
    Rule(
        id="fault-too-long-answer",
        faults=frozenset({ErrorKind.BAD_RESPONSE}),
        body_re=words(r"^answer longer than"),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.BAD_RESPONSE,
        fix="Raise --max-response, or ask for a shorter answer; then: batchrunner retry",
    ),
    Rule(
        id="fault-proxy-refuses",
        faults=frozenset({ErrorKind.PROXY}),
        when=lambda facts: facts.halts,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PROXY,
        fix=_PROXY_FIX,
    ),
    Rule(
        id="fault-tls",
        faults=frozenset({ErrorKind.TLS}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.TLS,
        fix="Check the base URL (http or https?). Where a company inspects TLS, name its "
        "certificate authority: --ca-file FILE. Then: batchrunner resume",
    ),
    Rule(
        id="fault-redirect",
        faults=frozenset({ErrorKind.REDIRECT}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.REDIRECT,
        fix=_PORTAL_FIX,
    ),
    Rule(
        id="fault-unsendable",
        faults=frozenset({ErrorKind.INVALID_REQUEST}),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        fix="Correct the job's address or headers, then submit with --update.",
    ),
    *(
        Rule(
            id=f"fault-{kind.value.replace('_', '-')}",
            faults=frozenset({kind}),
            verdict=Verdict.RETRY,
            kind=kind,
            fix=fix,
        )
        for kind, fix in (
            (ErrorKind.DNS, _NETWORK_FIX),
            (ErrorKind.CONNECTION, _NETWORK_FIX),
            (ErrorKind.PROXY, _PROXY_FIX),
            (ErrorKind.TIMEOUT, "If answers take that long, raise --timeout."),
            (ErrorKind.CONNECTION_RESET, ""),
            (ErrorKind.BAD_RESPONSE, ""),
        )
    ),
)

_STATUSES: Final[Sequence[Rule]] = (
    Rule(
        # nginx, and Go's and Java's servers.
        id="http-on-https-port",
        statuses=(400,),
        body_re=words(
            r"plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server"
            r"|requires TLS"
        ),
        when=lambda facts: facts.form is not Form.JSON,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.TLS,
        says="{url} speaks TLS, and was asked in plain http",
        fix="Write https: batchrunner resume --base-url https://…",
    ),
    Rule(
        id="captive-portal",
        statuses=("2xx",),
        forms=frozenset({Form.HTML}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.REDIRECT,
        says="{url} answered with a web page instead of an API's answer",
        fix=_PORTAL_FIX,
    ),
    Rule(
        id="no-answer",
        statuses=("2xx",),
        forms=frozenset({Form.EMPTY, Form.TEXT}),
        verdict=Verdict.RETRY,
        kind=ErrorKind.BAD_RESPONSE,
        says="{url} answered with something that is not JSON",
    ),
    Rule(
        id="sign-in-to-network",
        statuses=(511,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.REDIRECT,
        says="The network wants a sign-in before it reaches {url}",
        fix=_PORTAL_FIX,
    ),
    Rule(
        id="redirect",
        statuses=("3xx",),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.REDIRECT,
        says="{url} redirects to {location}, and a request with a key is not sent on",
        fix="Give the address that it redirects to as --base-url if you trust it, or sign in to "
        "the network; then: batchrunner resume",
    ),
    Rule(
        id="proxy-authentication",
        statuses=(407,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PROXY,
        says="The proxy on the way to {url} wants a user name and password",
        fix=_PROXY_FIX,
    ),
    Rule(
        id="content-refused",
        statuses=("4xx",),
        codes=_REFUSED_CODES,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.CONTENT_REFUSED,
        fix="Change what the job asks for, then submit with --update.",
    ),
    Rule(
        id="too-large-code",
        statuses=(400, 413, 422),
        codes=_TOO_LARGE_CODES,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix="Shorten the request, then submit with --update.",
    ),
    Rule(
        id="too-large-words",
        statuses=(400, 422),
        message_re=_TOO_LONG,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix="Shorten the request, then submit with --update.",
    ),
    Rule(
        id="larger-than-the-limit",
        statuses=(413, 429),
        body_re=words(r"request too large"),
        when=_beyond_limit,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix="It asks for more than the whole limit: shorten it, then submit with --update.",
    ),
    Rule(
        id="too-large",
        statuses=(413,),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix="Shorten the request, then submit with --update.",
    ),
    Rule(
        # A litellm proxy without a database, asked with another key than its master key.
        id="gateway-key",
        statuses=(400,),
        codes=frozenset({"no_db_connection"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The gateway does not know the key",
        fix="Give the gateway's own key: {set_key}",
    ),
    Rule(
        id="address-refused",
        statuses=(401, 403),
        codes=frozenset({"ip_not_authorized", "ip_not_allowed"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The account does not take requests from the address this machine connects from",
        fix=_LISTED_PLACE,
    ),
    Rule(
        id="address-refused-words",
        statuses=(401, 403),
        message_re=_ADDRESS,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The account does not take requests from the address this machine connects from",
        fix=_LISTED_PLACE,
    ),
    Rule(
        id="key-expired",
        statuses=(401,),
        message_re=_EXPIRED,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key has expired",
        fix=_NEW_KEY,
    ),
    Rule(
        id="key-switched-off",
        statuses=(401,),
        message_re=_SWITCHED_OFF,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key is known and no longer good: it, or what it belongs to, was switched off",
        fix=_NEW_KEY,
    ),
    Rule(
        id="authentication",
        statuses=(401,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        fix="Is the key in {key} whole, this provider's, and still listed at {page}? If not:"
        " {set_key}",
    ),
    Rule(
        id="payment",
        statuses=(402,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.CREDIT,
        account_wide=True,
        fix="Add credit at the provider, then: batchrunner resume",
    ),
    Rule(
        id="region-code",
        statuses=(400, 403),
        codes=frozenset({"unsupported_country_region_territory"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=REGION_SAYS,
        fix=OTHER_PLACE,
    ),
    Rule(
        id="region-words",
        statuses=(403, 451),
        body_re=REGION,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=REGION_SAYS,
        fix=OTHER_PLACE,
    ),
    Rule(
        id="region-location",
        statuses=(400,),
        message_re=words(r"(?:user|your) location[^.]{0,40}not supported"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=REGION_SAYS,
        fix=OTHER_PLACE,
    ),
    Rule(
        id="model-retired",
        statuses=(400, 403, 404, 410, 422),
        message_re=_RETIRED,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        says="The model was retired",
        fix="Give its successor: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="model-renamed",
        statuses=(400, 404, 410, 422),
        message_re=_RENAMED,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        says="The model has another name now",
        fix="Give it: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="model-beyond-the-plan",
        statuses=(403,),
        message_re=_PLAN,
        when=lambda facts: bool(_A_MODEL.search(facts.message)),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        says="The account's plan does not include this model",
        fix="Choose a plan that does, or give another model: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="beyond-the-plan",
        statuses=(403,),
        message_re=_PLAN,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The account's plan does not include this",
        fix="Choose a plan that does (a subscription to the provider's chat program is not one);"
        " then: batchrunner resume",
    ),
    Rule(
        id="model-not-permitted",
        statuses=(403,),
        message_re=_A_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        says="The key is good, but may not use this model",
        fix="Ask for access to the model, or give another: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="permission",
        statuses=(403,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The key is good, but may not do this",
        fix="Have the permission granted to the key, then: batchrunner resume; or give another:"
        " {set_key}",
    ),
    Rule(
        id="model-code",
        statuses=(400, 404),
        codes=frozenset({"model_not_found", "deploymentnotfound"}),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=_OTHER_MODEL,
    ),
    Rule(
        id="model-not-found",
        statuses=(404,),
        message_re=_A_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=_OTHER_MODEL,
    ),
    Rule(
        id="model-invalid",
        statuses=(400, 422),
        message_re=_UNKNOWN_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=_OTHER_MODEL,
    ),
    Rule(
        id="not-found",
        statuses=(404,),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        says=f"{NOTHING_SAYS} {{url}}. {{base_rule}}",
        fix="Correct the base URL: batchrunner retry --base-url URL",
    ),
    Rule(
        id="daily-limit",
        statuses=(429,),
        body_re=words(r"per[ _-]?day|daily|\b(?:RPD|TPD)\b"),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        reset=Reset.HINT,
    ),
    Rule(id="rate-limit", statuses=(429,), verdict=Verdict.PAUSE, kind=ErrorKind.RATE_LIMITED),
    Rule(
        id="request-timeout",
        statuses=(408,),
        verdict=Verdict.RETRY,
        kind=ErrorKind.TIMEOUT,
    ),
    Rule(
        id="unavailable-until",
        statuses=(503,),
        header=("retry-after", None),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(id="overloaded", statuses=(529,), verdict=Verdict.RETRY, kind=ErrorKind.OVERLOADED),
    Rule(
        id="overloaded-code",
        statuses=("5xx",),
        codes=_OVERLOADED_CODES,
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="overloaded-words",
        statuses=(503,),
        body_re=_OVERLOADED,
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="not-implemented",
        statuses=(501, 505),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.SERVER_ERROR,
    ),
    Rule(
        id="server-error",
        statuses=(409, 425, 499, "5xx"),
        verdict=Verdict.RETRY,
        kind=ErrorKind.SERVER_ERROR,
    ),
    Rule(
        id="version-not-known",
        statuses=(400,),
        message_re=_VERSION,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.INVALID_REQUEST,
        account_wide=True,
        says="The API does not take the version that was asked for",
        fix="Ask for one that it has: batchrunner resume --api-version VERSION",
    ),
    Rule(
        id="field-code",
        statuses=(400, 422),
        codes=_FIELD_CODES,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        says=FIELD_SAYS,
        fix=_NO_FIELD,
    ),
    Rule(
        id="field-words",
        statuses=(400, 422),
        message_re=_FIELD,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        says=FIELD_SAYS,
        fix=_NO_FIELD,
    ),
    Rule(
        id="invalid-request",
        statuses=("4xx",),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        fix="Correct the request, then submit with --update.",
    ),
    Rule(
        id="no-http-status",
        verdict=Verdict.RETRY,
        kind=ErrorKind.BAD_RESPONSE,
        says="{url} answered with a status that HTTP does not have",
    ),
)

#: Any HTTP server. Its last row matches whatever is left.
GENERIC: Final[Sequence[Rule]] = (*_FAULTS, *_STATUSES)

#: What ``x-should-retry`` makes of a plain status rule's verdict. A pause stays one: waiting is
#: not failing.
SHOULD_RETRY: Final[Mapping[str, Mapping[Verdict, Verdict]]] = {
    "true": {Verdict.FAIL_JOB: Verdict.RETRY},
    "false": {Verdict.RETRY: Verdict.FAIL_JOB},
}
