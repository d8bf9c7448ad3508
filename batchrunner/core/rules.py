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

__all__ = ["GENERIC", "Form", "Reset", "Rule", "words"]


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
    #: What a person should do; ``{url}``, ``{provider}`` and ``{location}`` are filled in.
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


_NETWORK_FIX: Final = "Check the base URL and the network, then run resume."
_PORTAL_FIX: Final = (
    "Open {url} in a browser: sign in to the network, or correct the base URL; then run resume."
)
_PROXY_FIX: Final = "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, then run resume."

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
)
_UNKNOWN_MODEL: Final = words(
    r"invalid model name|unknown model|model[^.]{0,80}(?:does not exist|not found|is not a valid)"
    r"|not a valid model"
)
_REGION: Final = words(
    r"(?:country|region|territory)[^.]{0,60}(?:not (?:supported|available)|unsupported)"
    r"|(?:not (?:supported|available)|unsupported)[^.]{0,60}(?:country|region|territory)"
)
_OVERLOADED: Final = words(
    r"overloaded|high demand|at capacity|no capacity|temporarily unable|resource[ _]unavailable"
)
_OVERLOADED_CODES: Final = frozenset(
    {"overloaded_error", "server_is_overloaded", "service_unavailable_error", "capacity_exceeded"}
)

_FAULTS: Final[Sequence[Rule]] = (
    Rule(
        id="fault-too-long-answer",
        faults=frozenset({ErrorKind.BAD_RESPONSE}),
        body_re=words(r"^answer longer than"),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.BAD_RESPONSE,
        fix="Raise --max-response, or ask for a shorter answer; then run retry.",
    ),
    Rule(
        id="fault-proxy-refuses",
        faults=frozenset({ErrorKind.PROXY}),
        body_re=words(r"\b40[37]\b|not supported"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PROXY,
        fix=_PROXY_FIX,
    ),
    Rule(
        id="fault-tls",
        faults=frozenset({ErrorKind.TLS}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.TLS,
        fix="Check the base URL (http or https?). Where a proxy opens TLS, name its "
        "certificate authority in SSL_CERT_FILE. Then run resume.",
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
        "the network; then run resume.",
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
        fix="Check the key ({provider}): it must be the gateway's own; then run resume.",
    ),
    Rule(
        id="authentication",
        statuses=(401,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        fix="Check the key ({provider}), then run resume.",
    ),
    Rule(
        id="payment",
        statuses=(402,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.CREDIT,
        account_wide=True,
        fix="Add credit at the provider, then run resume.",
    ),
    Rule(
        id="region-code",
        statuses=(400, 403),
        codes=frozenset({"unsupported_country_region_territory"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        fix="The provider does not serve the region this machine connects from.",
    ),
    Rule(
        id="region-words",
        statuses=(403,),
        body_re=_REGION,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        fix="The provider does not serve the region this machine connects from.",
    ),
    Rule(
        id="model-not-permitted",
        statuses=(403,),
        message_re=_A_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        fix="Ask for access to the model, or give another with --set model=NAME; then run resume.",
    ),
    Rule(
        id="permission",
        statuses=(403,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        fix="Give the key the permission it lacks, then run resume.",
    ),
    Rule(
        id="model-code",
        statuses=(400, 404),
        codes=frozenset({"model_not_found", "deploymentnotfound"}),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix="Check the model's name, then: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="model-not-found",
        statuses=(404,),
        message_re=_A_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix="Check the model's name, then: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="model-invalid",
        statuses=(400, 422),
        message_re=_UNKNOWN_MODEL,
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix="Check the model's name, then: batchrunner resume --set model=NAME",
    ),
    Rule(
        id="not-found",
        statuses=(404,),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        says="There is nothing at {url}. {base_rule}",
        fix="Correct the base URL, then run retry --base-url URL.",
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
