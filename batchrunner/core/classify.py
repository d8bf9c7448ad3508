"""What a reply means: status, headers, body or fault in, a :class:`Decision` out.

Pure. The answer is found by walking a provider's rules and then the generic ones; see
:mod:`batchrunner.core.rules`. Nothing a server sends makes this raise: what can't be read as JSON
is text, and what no rule knows is tried again.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from http import HTTPStatus
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from batchrunner.core.caps import ROLLING
from batchrunner.core.credentials import Secrets, one_line
from batchrunner.core.days import next_reset
from batchrunner.core.generic import GENERIC
from batchrunner.core.headers import parse_wait
from batchrunner.core.key_forms import NEEDED
from batchrunner.core.outcomes import HALTS, Halt
from batchrunner.core.rules import SHOULD_RETRY, Form, Reset, Rule
from batchrunner.core.wordings import CHECK_KEY, GATEWAY_KEY, MEANT
from batchrunner.models import Decision, ErrorKind, Reply, Usage, Verdict

__all__ = ["HALTS", "Answer", "Facts", "Halt", "Rule", "Tongue", "classify"]

#: Error bodies are read up to here; a provider's own are a few hundred bytes.
_TEXT_BOUND: Final = 65_536
#: Larger bodies are not decoded for an error object.
_JSON_BOUND: Final = 1_048_576
#: More tokens than this are none; what fits into no column would end the run that asked.
_MOST_TOKENS: Final = 10_000_000_000
#: Names of models and of reasons are shorter.
_NAME_BOUND: Final = 200

#: Bounded, as all patterns here: a server may repeat the beginning of what is looked for.
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{1,300})</title>", re.IGNORECASE)
_HTML: Final = re.compile(
    rb"(?:<\?xml[^>]*>\s*)?<(?:!doctype|html|head|body|meta|title|script)", re.IGNORECASE
)
#: A page begins within so many bytes.
_HTML_BOUND: Final = 4_096

#: Which status an error object inside an HTTP 200 stands for, by its code or type.
_IMPLIED: Final[Sequence[tuple[re.Pattern[str], int]]] = tuple(
    (re.compile(pattern), status)
    for pattern, status in (
        (r"^(?:authentication_error|invalid_api_key|unauthenticated)$", 401),
        (r"^(?:billing_error|payment_required)$", 402),
        (r"^permission_", 403),
        (r"^(?:not_found_error|model_not_found)$", 404),
        (r"^(?:request_too_large|payload_too_large)$", 413),
        (r"rate_limit|quota|_limit_exceeded$|credit_balance|resource_exhausted|slow_down", 429),
        (r"overloaded|service_unavailable", 529),
        (r"^(?:server_error|api_error|internal|timeout_error|vector_store_timeout)", 500),
        (r"invalid|image|policy|filter|mismatch|unsupported|context_length|moderation", 400),
    )
)
_STATUS: Final = re.compile(r"[45]\d\d", re.ASCII)
#: What an error object stands for that says nothing known.
_IMPLIED_ELSE: Final = 500


class Answer(NamedTuple):
    """What a provider's profile reads out of a 2xx body."""

    usage: Usage
    #: The body is or carries an error object, whatever the status said.
    is_error: bool


class Tongue(Protocol):
    """What :func:`classify` needs to know of a provider; ``providers.profile.Profile`` is one."""

    @property
    def name(self) -> str:
        """The provider's name, as typed."""
        ...

    @property
    def rules(self) -> Sequence[Rule]:
        """The provider's own rows, walked before the generic ones."""
        ...

    @property
    def answers_json(self) -> bool:
        """Whether a 2xx that is no JSON object is no answer (``False``: any 2xx is one)."""
        ...

    @property
    def key_envs(self) -> Sequence[str]:
        """Variables that may hold the key, the first to be named to people."""
        ...

    @property
    def day_zone(self) -> str:
        """When its day ends: an IANA zone's midnight, or ``rolling``."""
        ...

    @property
    def base_rule(self) -> str:
        """A sentence on what a base URL has to be here."""
        ...

    def is_own(self, base_url: str) -> bool:
        """Return whether an address is the provider's own, not a gateway's."""
        ...

    def meant_base(self, url: str) -> str:
        """Return the base URL that is likely meant where ``url`` leads nowhere; empty: unknown."""
        ...

    def read(self, body: bytes, path: str) -> Answer:
        """Read usage and presence of an error out of a body; ``ValueError`` if it can't be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A reply as rules see it."""

    fault: ErrorKind | None = None
    #: The true status: for an error inside a 200, the one it stands for.
    status: int = 0
    headers: Mapping[str, str]
    #: The start of the body, or the fault's message.
    text: str = ""
    form: Form = Form.EMPTY
    #: Lower-case codes of the error object.
    codes: frozenset[str] = frozenset()
    #: Message of the error object; empty where the body has none.
    message: str = ""
    #: A fault's: what to do, and that no try again mends it.
    fix: str = ""
    halts: bool = False


def classify(
    reply: Reply,
    tongue: Tongue,
    *,
    url: str,
    now_wall: float,
    secrets: Secrets | Sequence[str] = (),
) -> Decision:
    """Return what ``reply``, received at ``now_wall`` (epoch ms), means for job, scope and run.

    ``url`` is the address of the request; ``secrets`` are exact values to keep out of messages.
    """
    status = reply.status or 0
    if reply.fault is None and 200 <= status < 300:
        if not tongue.answers_json:
            return Decision(verdict=Verdict.COMPLETE, usage=_read(tongue, reply.body, url).usage)
        answer = _read(tongue, reply.body, url)
        if not answer.is_error:
            return Decision(verdict=Verdict.COMPLETE, usage=answer.usage)
    facts = _facts(reply)
    rule = next(rule for rule in chain(tongue.rules, GENERIC) if rule.matches(facts))
    return _decide(rule, facts, tongue, url=url, now_wall=now_wall, secrets=secrets)


def _read(tongue: Tongue, body: bytes, url: str) -> Answer:
    """Read a body whose form is unusual: an object without an error is an answer all the same."""
    try:
        answer = tongue.read(body, url)
    except (ValueError, RecursionError):
        return Answer(Usage(), _is_no_answer(body))
    usage = answer.usage
    return answer if _is_sound(usage) else answer._replace(usage=_sound(usage))


def _is_no_answer(body: bytes) -> bool:
    """Whether a body is no object, nor a list of one, or has an error; nothing else of it is built."""
    try:
        error = msgspec.json.decode(body, type=_Top | tuple[_Top])
        error = error[0].error if isinstance(error, tuple) else error.error
        return len(error) > _TEXT_BOUND or bool(msgspec.json.decode(error))
    except (ValueError, RecursionError):
        return True


class _Top(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


def _is_sound(usage: Usage) -> bool:
    return (
        0 <= (usage.input_tokens or 0) <= _MOST_TOKENS
        and 0 <= (usage.output_tokens or 0) <= _MOST_TOKENS
        and 0 <= (usage.cache_read_tokens or 0) <= _MOST_TOKENS
        and 0 <= (usage.cache_write_tokens or 0) <= _MOST_TOKENS
        and len(usage.model or "") <= _NAME_BOUND
        and len(usage.finish_reason or "") <= _NAME_BOUND
    )


def _sound(usage: Usage) -> Usage:
    """Return what is said without counts that can't be, and with names that can be stored."""

    def count(n: int | None) -> int | None:
        return n if n is not None and 0 <= n <= _MOST_TOKENS else None

    return Usage(
        model=usage.model and usage.model[:_NAME_BOUND],
        finish_reason=usage.finish_reason and usage.finish_reason[:_NAME_BOUND],
        input_tokens=count(usage.input_tokens),
        output_tokens=count(usage.output_tokens),
        cache_read_tokens=count(usage.cache_read_tokens),
        cache_write_tokens=count(usage.cache_write_tokens),
        cache_write_1h_tokens=count(usage.cache_write_1h_tokens),
        tier=usage.tier,
        is_billed=usage.is_billed,
    )


def _facts(reply: Reply) -> Facts:
    if reply.fault is not None:
        fault = reply.fault
        return Facts(
            fault=fault.kind,
            headers=reply.headers,
            text=fault.message,
            fix=fault.fix,
            halts=fault.halts,
        )
    status = reply.status or 0
    value = _decoded(reply.body) if len(reply.body) <= _JSON_BOUND else None
    codes, message = _error_object(value)
    form = _form(reply.body, value)
    if 200 <= status < 300 and form is Form.JSON:
        status = _implied_status(codes)
    return Facts(
        status=status,
        headers=reply.headers,
        text=reply.body[:_TEXT_BOUND].decode("utf-8", "replace"),
        form=form,
        codes=codes,
        message=message,
    )


def _decoded(body: bytes) -> Any:
    """Return the JSON value of a body, a one-element list unwrapped; ``None`` if it has none."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _form(body: bytes, value: Any) -> Form:
    if not body.strip():
        return Form.EMPTY
    if isinstance(value, dict):
        return Form.JSON
    begins = body[:_HTML_BOUND].lstrip().removeprefix(codecs.BOM_UTF8).lstrip()
    return Form.HTML if _HTML.match(begins) else Form.TEXT


def _error_object(value: Any) -> tuple[frozenset[str], str]:
    """Return (codes in lower case, message) of an error in any of the forms that are in use.

    ``{"error": {…}}``, ``{"error": "text"}``, RFC 9457 problem details, and a bare ``message``.
    """
    if not isinstance(value, dict):
        return frozenset(), ""
    error = value.get("error")
    if not isinstance(error, dict):
        error = {**value, "message": error} if isinstance(error, str) else value
    codes = frozenset(code.strip().lower() for code in _codes(error) if code.strip())
    for name in ("message", "detail", "error_description", "title", "Message"):
        words = error.get(name)
        if isinstance(words, str) and words.strip():
            return codes, words
        if words and isinstance(words, dict | list):
            return codes, msgspec.json.encode(words).decode()
    return codes, ""


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status", "reason"):
        code = error.get(name)
        if isinstance(code, str | int) and not isinstance(code, bool):
            yield str(code)
    details = error.get("details")
    further = (error.get("innererror"), error.get("metadata"))
    for detail in (*(details if isinstance(details, list) else [details]), *further):
        if isinstance(detail, dict):
            for name in ("error_code", "code", "reason", "error_type", "limit_source"):
                if isinstance(detail.get(name), str):
                    yield detail[name]


def _implied_status(codes: frozenset[str]) -> int:
    for code in codes:
        if _STATUS.fullmatch(code):
            return int(code)
    for pattern, status in _IMPLIED:
        if any(pattern.search(code) for code in codes):
            return status
    return _IMPLIED_ELSE


def _decide(
    rule: Rule,
    facts: Facts,
    tongue: Tongue,
    *,
    url: str,
    now_wall: float,
    secrets: Secrets | Sequence[str],
) -> Decision:
    verdict = rule.verdict
    if rule.plain:
        said = facts.headers.get("x-should-retry", "").strip().lower()
        verdict = SHOULD_RETRY.get(said, {}).get(verdict, verdict)
    retry_at = None
    if facts.fault is None and verdict in {Verdict.RETRY, Verdict.PAUSE, Verdict.WAIT_FOR_DAY}:
        retry_at = parse_wait(facts.headers, facts.text, now_wall_ms=now_wall)
    key = tongue.key_envs[0] if tongue.key_envs else ""
    needed = NEEDED.get(tongue.name)
    fill = {
        "url": one_line(url, secrets, bound=200),
        "provider": tongue.name,
        "key": key or "the header that carries it",
        "set_key": f"export {key}='…' && batchrunner resume"
        if key
        else "batchrunner resume -H 'NAME: ${VAR}'",
        "page": needed.page if needed is not None else "the provider",
        "location": one_line(facts.headers.get("location", "nowhere"), secrets, bound=200),
        "base_rule": tongue.base_rule,
    }
    base = one_line(tongue.meant_base(url), secrets, bound=200) if rule.of_address else ""
    fill |= {"meant": f" {MEANT.format(base=base)}" if base else "", "base": base or "URL"}
    is_gateways = rule.fix is CHECK_KEY and not tongue.is_own(url)
    return Decision(
        verdict=verdict,
        kind=rule.kind,
        message=one_line(_message(rule, facts, fill), secrets),
        retry_at=retry_at,
        reset_at=_reset_at(rule, retry_at, now_wall, tongue.day_zone),
        account_wide=rule.account_wide,
        fix=facts.fix or (GATEWAY_KEY if is_gateways else rule.fix).format_map(fill),
        meant_base=base,
    )


def _reset_at(rule: Rule, retry_at: int | None, now_wall: float, day_zone: str) -> int | None:
    if rule.reset is Reset.HINT_OR_DAY and retry_at is not None:
        return retry_at
    if rule.reset in {Reset.NEXT_DAY, Reset.HINT_OR_DAY}:
        return None if day_zone == ROLLING else next_reset(now_wall, day_zone)
    if rule.reset is Reset.NEXT_MONTH:
        now = datetime.fromtimestamp(now_wall / 1000, UTC)
        year, month = divmod(now.year * 12 + now.month, 12)
        return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() * 1000)
    return retry_at if rule.reset is Reset.HINT else None


def _said_plainly(facts: Facts) -> str:
    """Return what a body without an error object says: text, or the title of a web page."""
    if facts.form is Form.HTML:
        title = _TITLE.search(facts.text)
        return f"“{unescape(title[1].strip())}”" if title else ""
    text = facts.text.strip()
    return "" if text == "{}" else text


def _message(rule: Rule, facts: Facts, fill: Mapping[str, str]) -> str:
    """Return our sentence, the server's own words, or at least the status, in this order."""
    words = facts.message or _said_plainly(facts)
    said = rule.says.format_map(fill)
    if said:
        return f"{said}: {words}" if words and not said.endswith(".") else f"{said} {words}"
    if words and facts.form is Form.HTML:
        return f"{fill['url']} answered {facts.status} with a web page: {words}"
    if words:
        return words
    try:
        phrase = HTTPStatus(facts.status).phrase
    except ValueError:
        phrase = "a status of its own"
    return f"{fill['url']} answered {facts.status} ({phrase}) and gave no reason"
