"""A provider that a person describes in the configuration, without code.

    [providers.acme]
    like = "openai"
    base_url = "https://llm.acme.example/v1"
    auth_header = "X-Acme-Key: {key}"
    key_env = ["ACME_API_KEY"]
    day_resets = "Europe/Berlin"

    [[providers.acme.rules]]
    status = [403]
    contains = "quota for today"
    verdict = "wait_for_day"

:class:`ProviderTable` is what such a table says, :func:`custom_profile` makes it a profile. What is
left out is that of the provider it is like. Its own rules come before all others.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec
from yarl import URL

from batchrunner.core.counting import AS_USED, Counting, UpFront
from batchrunner.core.credentials import Credential, redact
from batchrunner.core.days import check_zone
from batchrunner.core.rules import Reset, Rule
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers.anthropic import ANTHROPIC
from batchrunner.providers.http import HTTP
from batchrunner.providers.openai import OPENAI
from batchrunner.providers.profile import HeaderMaker, Profile

__all__ = ["LIKE", "NAME", "ProviderTable", "RuleTable", "TableFaultError", "custom_profile"]

#: What a provider may be called.
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")

#: Whose language it may speak.
LIKE: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: profile for profile in (OPENAI, ANTHROPIC, HTTP)}
)

_COUNTING: Final[Mapping[str, Counting]] = MappingProxyType(
    {
        "used": AS_USED,
        "larger": Counting(up_front=UpFront.LARGER),
        "sum": Counting(up_front=UpFront.SUM),
    }
)

#: A verdict that a rule may give → the kind where the rule names none.
_KINDS: Final[Mapping[str, ErrorKind]] = MappingProxyType(
    {
        "retry": ErrorKind.SERVER_ERROR,
        "pause": ErrorKind.RATE_LIMITED,
        "wait_for_day": ErrorKind.DAILY_LIMIT,
        "fail_job": ErrorKind.INVALID_REQUEST,
        "hold_model": ErrorKind.MODEL_NOT_FOUND,
        "halt_run": ErrorKind.PERMISSION,
    }
)
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([\t\x20-\x7e]+)")
_STATUS_CLASS: Final = re.compile(r"[1-5]xx")
_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class RuleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of ``[[providers.NAME.rules]]``: everything that is given must match."""

    #: Statuses or classes of them: ``429``, ``"4xx"``; empty: any.
    status: tuple[int | str, ...] = ()
    #: One of the error object's codes, in any case; empty: any.
    code: tuple[str, ...] = ()
    #: Words of the body, in any case; empty: any.
    contains: str = ""
    #: ``retry``: try that job again, charged; ``pause``: wait, uncharged; ``wait_for_day``: until
    #: the day turns; ``fail_job``; ``hold_model``: hold the jobs of that model; ``halt_run``.
    verdict: Literal["retry", "pause", "wait_for_day", "fail_job", "hold_model", "halt_run"]
    #: The error kind; left out: the one that fits the verdict.
    kind: ErrorKind | None = None
    #: What a person should do then, one sentence.
    fix: str = ""


class ProviderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``[providers.NAME]`` may say; ``msgspec.convert`` reads it from a TOML table."""

    #: Whose requests, answers and errors it speaks.
    like: Literal["openai", "anthropic", "http"] = "openai"
    #: As people write it; left out: its name.
    title: str = ""
    #: Where requests go; left out: ``--base-url`` is needed.
    base_url: str = ""
    #: Variable that replaces ``base_url``.
    base_url_env: str = ""
    #: How the key is sent, ``NAME: VALUE`` with ``{key}`` in the value; left out: as by the other.
    auth_header: str = ""
    #: Variables that may hold the key, in order, each also as ``NAME_FILE``; empty: no key.
    key_env: tuple[str, ...] = ()
    #: Sent with every request; values may hold ``${VAR}``, and no literal credential.
    headers: Mapping[str, str] = {}
    #: When a day ends: an IANA zone's midnight, or ``rolling``; left out: ``UTC``.
    day_resets: str = ""
    #: How tokens count against its limits: ``used``: what was used; ``larger``: the larger of the
    #: input and ``max_tokens``, up front; ``sum``: their sum, up front.
    counts_tokens: Literal["used", "larger", "sum"] = "used"
    #: Response header that names the request.
    request_id_header: str = ""
    #: Response header that names whose limits were used.
    organization_header: str = ""
    #: Where models are listed, like ``/v1/models``; left out: as by the other; ``none``: nowhere.
    models_path: str = ""
    #: Whether every request must name a model; left out: as by the other.
    needs_model: bool | None = None
    rules: tuple[RuleTable, ...] = ()


class TableFaultError(ValueError):
    """A value that can't be right."""

    def __init__(self, key: str, reason: str) -> None:
        """Name the key within the table (``rules.0.status``) and what is wrong with it."""
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


def custom_profile(name: str, table: ProviderTable) -> Profile:
    """Return the profile of a provider that a person describes.

    :raises TableFaultError: a value that can't be right; it names the key.
    """
    if not NAME.fullmatch(name):
        raise TableFaultError(
            "", "a provider's name is lower-case letters, digits, - and _, 32 at most"
        )
    _check(table)
    base = LIKE[table.like]
    title = table.title or name
    request_ids = (table.request_id_header.lower(),) if table.request_id_header else ()
    return dataclasses.replace(
        base,
        name=name,
        title=title,
        default_base_url=table.base_url or None,
        base_url_env=table.base_url_env,
        key_envs=table.key_env,
        base_rule=f"{title} was described like {base.title}: {base.base_rule}",
        models_path={"": base.models_path, "none": None}.get(table.models_path, table.models_path),
        needs_model=base.needs_model if table.needs_model is None else table.needs_model,
        day_zone=table.day_resets or "UTC",
        counting=_COUNTING[table.counts_tokens],
        tokens_limit=None,
        organization_header=table.organization_header.lower() or base.organization_header,
        request_id_headers=(*request_ids, *base.request_id_headers),
        fixed_headers=tuple(f"{header}: {value}" for header, value in table.headers.items()),
        rules=(*(_rule(name, n, row) for n, row in enumerate(table.rules)), *base.rules),
        make_headers=_header_maker(table, base),
        # As :func:`batchrunner.providers.pool_of` has it for a name it does not know.
        pool_of=lambda model: model,
    )


def _header_maker(table: ProviderTable, base: Profile) -> HeaderMaker:
    if not table.auth_header:
        return base.make_headers
    name, _, template = table.auth_header.partition(":")

    def make(
        credential: Credential | None, api_version: str | None, environ: Mapping[str, str]
    ) -> dict[str, str]:
        headers = base.make_headers(None, api_version, environ)
        if credential is not None:
            headers[name.strip().lower()] = template.strip().replace("{key}", credential.value)
        return headers

    return make


def _rule(name: str, n: int, row: RuleTable) -> Rule:
    verdict = Verdict(row.verdict)
    return Rule(
        id=f"{name}-{n + 1}",
        statuses=row.status,
        codes=frozenset(code.strip().lower() for code in row.code),
        body_re=re.compile(re.escape(row.contains), re.IGNORECASE) if row.contains else None,
        verdict=verdict,
        kind=row.kind or _KINDS[row.verdict],
        account_wide=verdict is Verdict.HALT_RUN,
        reset=Reset.HINT if verdict is Verdict.WAIT_FOR_DAY else Reset.NOT_SAID,
        fix=row.fix.replace("{", "{{").replace("}", "}}") or _FIXES.get(verdict, ""),
    )


#: Where a rule that stops says nothing itself.
_FIXES: Final[Mapping[Verdict, str]] = {
    Verdict.HOLD_MODEL: "Give another model: batchrunner resume --set model=NAME",
    Verdict.HALT_RUN: "Mend what the provider names, then: batchrunner resume",
}


def _check(table: ProviderTable) -> None:
    """Refuse values that no type can refuse."""
    if table.base_url and not _is_address(table.base_url):
        raise TableFaultError("base_url", "is not an address like https://host/v1")
    if table.auth_header and not (
        (match := _HEADER.fullmatch(table.auth_header)) and match[2].count("{key}") == 1
    ):
        raise TableFaultError(
            "auth_header", 'is not like "Authorization: Bearer {key}", with {key} once'
        )
    for header, value in table.headers.items():
        if not _HEADER.fullmatch(f"{header}: {value}"):
            raise TableFaultError(f"headers.{header}", "is not a header that HTTP allows")
        literal = _VARIABLE.sub("", f"{header}: {value}")
        if redact(literal) != literal:
            raise TableFaultError(
                f"headers.{header}", "holds a credential; write ${VAR} and set VAR"
            )
    if table.day_resets and table.day_resets != "rolling":
        try:
            check_zone(table.day_resets)
        except ValueError as error:
            raise TableFaultError("day_resets", str(error)) from error
    if table.models_path not in {"", "none"} and not table.models_path.startswith("/"):
        raise TableFaultError("models_path", "is not a path like /v1/models, nor none")
    for n, row in enumerate(table.rules):
        _check_rule(f"rules.{n}", row)


def _check_rule(key: str, row: RuleTable) -> None:
    for status in row.status:
        is_class = isinstance(status, str) and _STATUS_CLASS.fullmatch(status)
        if not is_class and not (isinstance(status, int) and 100 <= status <= 599):
            raise TableFaultError(f"{key}.status", f'{status!r} is not like 429 or "4xx"')
    if not (row.status or row.code or row.contains):
        raise TableFaultError(key, "matches everything; give status, code or contains")


def _is_address(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host) and url.user is None
