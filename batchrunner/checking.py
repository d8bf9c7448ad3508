"""Options that can't be right are refused before anything is read, stored or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from yarl import URL

from batchrunner.core.days import check_zone
from batchrunner.core.expected import Expected
from batchrunner.core.hosts import is_loopback
from batchrunner.errors import UsageError
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.requests import check_headers, holds_credential
from batchrunner.options import LimitOptions, RunOptions, several
from batchrunner.providers import BUILT_IN, Providers

__all__ = ["VARIABLE", "check_base_url", "check_name", "check_options", "check_variables", "unset"]

#: A variable of the environment in a header's value.
VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


#: Characters of a name that is typed; a table has room for it.
_LONGEST_NAME: Final = 100


def check_name(name: str | None) -> None:
    """Refuse a run's name that commands could not take, or no table show."""
    if name is not None and name.startswith("-"):
        raise UsageError(
            f"--name {name}: a name that begins with - would be taken for an option.",
            fix="Begin it otherwise.",
        )
    if name is not None and len(name) > _LONGEST_NAME:
        raise UsageError(
            f"--name: a name of {len(name):,} characters can't be shown.",
            fix=f"Use {_LONGEST_NAME} at most.",
        )


def check_options(run: RunOptions, limits: LimitOptions, providers: Providers = BUILT_IN) -> None:
    """Refuse options that can't be right, before anything is read or stored."""
    if limits.day_resets is not None and limits.day_resets != "rolling":
        try:
            check_zone(limits.day_resets)
        except ValueError as error:
            raise UsageError(
                f"--day-resets: {error}.", fix="Use a name like America/Los_Angeles, or rolling."
            ) from error
    if run.provider is not None:
        providers.profile(run.provider)
    if run.expect_json:
        try:
            Expected(run.expect_json)
        except ValueError as error:
            raise UsageError(
                f"--expect-json: the schema can't be used: {error}.",
                fix="""Mend it; a small one is '{"type": "object", "required": ["label"]}'.""",
            ) from error
    for header in run.headers:
        name, colon, value = header.partition(":")
        try:
            if not colon:
                raise RefusedLineError("it has no colon")
            check_headers({name.strip(): value.strip()})
        except RefusedLineError as refused:
            # Without a colon it may be a credential that was typed alone.
            shown = f" {name.strip()!r}" if colon else ""
            raise UsageError(
                f"-H{shown}: {refused}.",
                fix="Write it like -H 'NAME: VALUE', a credential in it as ${VAR}.",
            ) from refused
    for address in several(run.base_url):
        check_base_url(address)


def check_variables(
    run: RunOptions, environ: Mapping[str, str], headers: Sequence[str] = ()
) -> None:
    """Refuse a header with a ``${VAR}`` that is not set, before anything is stored.

    ``headers`` are the configuration's.
    """
    for header in (*headers, *run.headers):
        for name in VARIABLE.findall(header):
            if not environ.get(name, "").strip():
                raise unset(name)


def unset(name: str) -> UsageError:
    """Return the error for a header's variable that is not set."""
    return UsageError(
        f"A header wants ${{{name}}}, and {name} is not set.",
        fix=f"Set it, then try again: export {name}='…'",
    )


def check_base_url(url: str, *, allow_insecure_http: bool = True) -> None:
    """Raise :class:`UsageError` where requests can't go to ``url``, or must not unencrypted.

    A credential in it would be stored and shown; it is refused, wherever the address comes from.
    """
    if holds_credential(url):
        raise UsageError(
            "The base URL holds a credential.",
            fix="Leave it out; send it as a header: -H 'Authorization: Basic ${VAR}'.",
        )
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        # What stands before an @ may be a login.
        raise UsageError(
            f"The base URL {url.rpartition('@')[2]!r} is not one.",
            fix="Write it like https://host/path.",
        )
    if parsed.scheme == "http" and not allow_insecure_http and not is_loopback(parsed.host or ""):
        raise UsageError(
            f"The base URL http://{parsed.host} is unencrypted: everybody on the way could read the"
            " requests and the key.",
            fix="Write https://, or, where you trust the whole way to it, add --allow-insecure-http.",
        )
