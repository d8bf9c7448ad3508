"""The options that several commands share, as tables, and the values they make.

A parameter's name is the field it fills in :mod:`batchrunner.options`, so that adding an option
is adding a row. Defaults stay unsaid (``None``): what was not typed keeps what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

import click

from batchrunner.cli.values import (
    CONCURRENCY,
    COUNT,
    DOLLARS,
    DURATION,
    DURATION_OR_ZERO,
    ERROR_KIND,
    FIELD_VALUE,
    HEADER,
    LIMIT,
    MAX_FAILURES,
    PRIORITY,
    SCHEMA,
    SIZE,
    STATUS,
    TAGS,
    TEXT_OR_FILE,
)
from batchrunner.options import (
    NO_END,
    NO_WAIT_S,
    CallOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
)
from batchrunner.values import NO_TAGS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_Row = tuple[tuple[str, ...], dict[str, Any]]


def _row(*names: str, **attributes: Any) -> _Row:
    return names, attributes


def _flag(*names: str, **attributes: Any) -> _Row:
    return names, {"is_flag": True, **attributes}


def one_or_several(
    _context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]
) -> str | tuple[str, ...] | None:
    """Return a repeatable option as it was said: not, once, or several times."""
    return value if len(value) > 1 else next(iter(value), None)


def all_tags(
    _context: click.Context, _parameter: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the tags of a repeatable option."""
    tags = tuple(dict.fromkeys(tag for tags in value for tag in tags))
    if NO_TAGS in tags and len(tags) > 1:
        raise click.BadParameter(f"{NO_TAGS} stands alone; it takes all tags back")
    return tags


#: Limits belong to the account; ``submit`` and ``limits set`` write them alike.
_LIMITS: Final = (
    _row(
        "--rpm",
        type=LIMIT,
        metavar="N",
        help="Requests per minute; none, auto. [default: auto, learned from responses]",
    ),
    *(
        _row(
            f"--{name}",
            type=LIMIT,
            metavar="N",
            help=f"{what}; none, auto. [default: auto]",
        )
        for name, what in (
            ("tpm", "Tokens per minute, input and output"),
            ("itpm", "Input tokens per minute"),
            ("otpm", "Output tokens per minute"),
            ("rpd", "Requests per day"),
            ("tpd", "Tokens per day"),
        )
    ),
    _row(
        "--day-resets",
        "day_resets",
        metavar="ZONE|rolling",
        help="When a day ends: an IANA zone's midnight, or any 24 h. [default: the provider's rule, else UTC]",
    ),
    _row(
        "--min-interval",
        "min_interval_s",
        type=DURATION_OR_ZERO,
        metavar="DURATION",
        help="Never two sends closer than this. [default: 0]",
    ),
)

#: Options of ``submit``, ``resume`` and ``retry``.
_RUN: Final = (
    _row(
        "--provider",
        metavar="NAME",
        help="anthropic, openai, gemini, groq, openrouter, mistral, deepseek, azure, http, simulator, or one of the configuration's. [default: told by the lines]",
    ),
    _row(
        "--base-url",
        "base_url",
        multiple=True,
        callback=one_or_several,
        metavar="URL",
        help="Where requests go; repeatable: the first is preferred, the rest are fail-over. [default: the provider's variable (ANTHROPIC_BASE_URL, OPENAI_BASE_URL …), else its own]",
    ),
    _row("--model", metavar="NAME", help="Filled in where a line leaves it out."),
    _row(
        "--max-tokens",
        "max_tokens",
        type=COUNT,
        metavar="N",
        help="Filled in where a line leaves it out. [default: 4096 where the provider demands one]",
    ),
    _row(
        "--system",
        type=TEXT_OR_FILE,
        metavar="TEXT|@FILE",
        help="System prompt, filled in where a line leaves it out.",
    ),
    _row(
        "--set",
        "sets",
        type=FIELD_VALUE,
        multiple=True,
        metavar="FIELD=VALUE",
        help="Replace that body field in every chosen job still to be sent (@FILE reads it); repeatable.",
    ),
    _row(
        "-H",
        "--header",
        "headers",
        type=HEADER,
        multiple=True,
        metavar="'NAME: VALUE'",
        help="Sent with each request; ${VAR} is filled in at the send; repeatable.",
    ),
    _row(
        "--api-version",
        "api_version",
        metavar="V",
        help="The API version: a header for anthropic [default: 2023-06-01], in the address for azure [default: 2024-10-21].",
    ),
    *_LIMITS,
    _row(
        "--account",
        metavar="NAME",
        help="Whose limits these are. [default: the organization responses name, else the key]",
    ),
    _row(
        "--tags",
        type=TAGS,
        multiple=True,
        callback=all_tags,
        metavar="TAG,…",
        help="On a queue only workers started with all of these tags take the run; repeatable; none takes them back. [default: none]",
    ),
    _row(
        "-c",
        "--concurrency",
        type=CONCURRENCY,
        metavar="N|auto",
        help="Requests in flight at most; auto finds how many help. [default: auto]",
    ),
    _row(
        "--priority",
        type=PRIORITY,
        metavar="N",
        help="Higher runs go first; equals share. [default: 0]",
    ),
    _row(
        "--max-attempts",
        "max_attempts",
        type=COUNT,
        metavar="N",
        help="Tries charged to one job before it fails. [default: 5]",
    ),
    _row(
        "--timeout",
        "timeout_s",
        type=DURATION,
        metavar="DURATION",
        help="For one request. [default: 600]",
    ),
    _row(
        "--connect-timeout",
        "connect_timeout_s",
        type=DURATION,
        metavar="DURATION",
        help="For reaching the server. [default: 30]",
    ),
    _row(
        "--proxy",
        multiple=True,
        metavar="URL|none",
        help="http, https, socks5 or socks5h proxy; ${VAR} is filled in at the send, and keeps a password out"
        " of ps and your history, as a variable or the configuration does; repeatable: the first is preferred. [default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY]",
    ),
    _row(
        "--ca-file",
        "ca_file",
        metavar="FILE",
        help="Certificates (PEM) trusted besides the system's. [default: none; SSL_CERT_FILE instead of the system's]",
    ),
    _flag(
        "--allow-insecure-http",
        "allow_insecure_http",
        default=None,
        help="Let requests, and the key, go unencrypted to another machine.",
    ),
    _row(
        "--max-time",
        "max_time_s",
        type=DURATION,
        metavar="DURATION",
        help="Stop this call after that long. [default: none]",
    ),
    _row(
        "--max-cost",
        "max_cost",
        type=DOLLARS,
        metavar="USD|none",
        help="Stop before the run, in its whole life, costs more than that. [default: none]",
    ),
    _row(
        "--max-failures",
        "max_failures",
        type=MAX_FAILURES,
        metavar="N|P%",
        help="Stop when so many jobs, or that share, have failed. [default: none]",
    ),
    _row(
        "--max-wait",
        "max_wait_s",
        type=DURATION_OR_ZERO,
        metavar="DURATION",
        help="Longest single wait before stopping with work left. [default: 26h]",
    ),
    _flag("--wait", help="Wait without end."),
    _flag(
        "--no-wait",
        "no_wait",
        help="Wait 5m at most, and do not follow another process.",
    ),
    _flag("--no-run", "no_run", help="Store only."),
    _row(
        "--max-response",
        "max_response",
        type=SIZE,
        metavar="SIZE",
        help="A longer answer fails its job. [default: 32MB]",
    ),
    _row(
        "--expect-json",
        "expect_json",
        type=SCHEMA,
        is_flag=False,
        flag_value="true",
        metavar="[SCHEMA]",
        help="Answers have to be JSON, and meet that JSON Schema (a file, or JSON itself): others are tried again;"
        " none takes it back. [default: none]",
    ),
    _flag(
        "--compress/--no-compress",
        "compress",
        default=None,
        help="Keep requests and answers compressed in the database. [default: no]",
    ),
    _flag(
        "--cache-order/--no-cache-order",
        "cache_order",
        default=None,
        help="Send jobs whose requests begin alike one after the other, the first alone, so that the rest read the"
        " provider's prompt cache. [default: no, the input's order]",
    ),
    _row(
        "--notify",
        metavar="COMMAND",
        help="Run that with the event on its input when the run finishes, halts or begins a wait of 5m or more;"
        " none for nothing. [default: none]",
    ),
    _row(
        "--webhook",
        metavar="URL",
        help="Post the same events there; ${VAR} is filled in. [default: none]",
    ),
    _row(
        "-o",
        "--output",
        metavar="FILE",
        help="Export there whenever the run ends or stops.",
    ),
)

#: Those of them that say how a provider is reached, which ``doctor`` takes too.
_CONNECTION: Final = (
    "--provider",
    "--base-url",
    "--model",
    "-H",
    "--api-version",
    "--account",
    "--proxy",
    "--ca-file",
    "--allow-insecure-http",
    "--timeout",
    "--connect-timeout",
)
_DOCTOR_HELPS: Final = {
    "--provider": "Which to examine. [default: the latest unfinished run's, else the configuration's, else"
    " that of a key variable that is set]",
    "--model": "Look for it in the provider's list. [default: those the run asks for]",
    "--timeout": "For one request, 20 at most. [default: 20]",
    "--connect-timeout": "For each step of the way. [default: 10]",
}

#: Options about the files, of ``submit`` alone.
_SUBMIT: Final = (
    _row("--name", metavar="NAME", help="The run's name. [default: from the first file]"),
    _row(
        "--template",
        metavar="FILE",
        help='Make a prompt of each row of JSONL, CSV or TSV with this Jinja template: {{ field }}, {{ row["a b"] }}.',
    ),
    _row(
        "--key",
        metavar="FIELD",
        help="The field that is a job's key. [default: custom_id, else id, else line-N]",
    ),
    _flag(
        "--skip-invalid",
        "skip_invalid",
        help="Store the good lines; the others, with reasons, go to NAME.rejects.jsonl.",
    ),
    _flag(
        "--update",
        help="Take FILE into the run of that name: new keys are added, open jobs take their new line.",
    ),
    _flag("--new", help="A new run, though the same has been submitted."),
)

#: Of ``submit`` and ``resume``.
_SAMPLE: Final = (
    _row(
        "--sample",
        type=COUNT,
        metavar="N",
        help="Send N jobs, spread over those that are left, then pause the run (exit 3); resume sends the rest.",
    ),
)

#: Options that choose jobs, alike for ``jobs``, ``export`` and ``retry``.
_JOBS: Final = (
    _row(
        "--status",
        "statuses",
        type=STATUS,
        multiple=True,
        metavar="S",
        help=f"Only jobs of that status ({', '.join(STATUS.choices)}); repeatable.",
    ),
    _row(
        "--error",
        "errors",
        type=ERROR_KIND,
        multiple=True,
        metavar="KIND",
        help="Only jobs whose last error is of that kind; repeatable.",
    ),
    _row("--job", "keys", multiple=True, metavar="KEY", help="Only that job; repeatable."),
    _row("--limit", type=COUNT, metavar="N", help="At most N jobs."),
)


def _decorator(rows: Sequence[_Row]) -> Decorator:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for names, attributes in reversed(rows):
            function = click.option(*names, **attributes)(function)
        return function

    return add


def _connection(helps: Mapping[str, str]) -> Decorator:
    """Return the options that say how a provider is reached, some with a help of their own."""
    named = {row[0][-1]: row for row in _RUN} | {row[0][0]: row for row in _RUN}
    rows = [named[name] for name in _CONNECTION]
    return _decorator(
        [
            (names, {**attributes, "help": helps.get(names[0], attributes["help"])})
            for names, attributes in rows
        ]
    )


run_options: Final = _decorator(_RUN)
connection_options: Final = _connection(_DOCTOR_HELPS)
submit_options: Final = _decorator((*_SUBMIT, *_SAMPLE))
sample_options: Final = _decorator(_SAMPLE)
job_options: Final = _decorator(_JOBS)


class Typed(NamedTuple):
    """What was typed, by how long it lasts: the run's, the account's, this call's."""

    run: RunOptions
    limits: LimitOptions
    call: CallOptions


def typed_options(values: Mapping[str, Any]) -> Typed:
    """Return the values of ``run_options`` and ``submit_options``.

    Raises :class:`click.UsageError` for options that exclude one another.
    """
    if values.get("update") and values.get("new"):
        raise click.UsageError("--update and --new exclude one another; keep one")
    return Typed(
        run=RunOptions(**_chosen(RunOptions, values)),
        limits=LimitOptions(**_chosen(LimitOptions, values)),
        call=CallOptions(**{**_chosen(CallOptions, values), "max_wait_s": longest_wait(values)}),
    )


def connection(values: Mapping[str, Any]) -> RunOptions:
    """Return the values of ``connection_options``."""
    return RunOptions(**_chosen(RunOptions, values))


def job_filter(values: Mapping[str, Any]) -> JobFilter:
    """Return the jobs chosen by ``job_options``."""
    return JobFilter(**_chosen(JobFilter, values))


def _chosen(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def longest_wait(values: Mapping[str, Any]) -> float | None:
    said = [
        name
        for name, is_said in (
            ("--max-wait", values["max_wait_s"] is not None),
            ("--wait", values["wait"]),
            ("--no-wait", values["no_wait"]),
        )
        if is_said
    ]
    if len(said) > 1:
        raise click.UsageError(f"{' and '.join(said)} exclude one another; keep one")
    if values["wait"]:
        return NO_END
    if values["no_wait"]:
        return NO_WAIT_S
    typed: float | None = values["max_wait_s"]
    return typed
