"""Options that can't be right are refused before anything is read, stored or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from yarl import URL

from batchrunner.core.days import check_zone
from batchrunner.errors import UsageError
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.requests import check_headers
from batchrunner.options import LimitOptions, RunOptions
from batchrunner.providers import BUILT_IN, Providers

__all__ = ["VARIABLE", "check_base_url", "check_options", "check_variables", "unset"]

#: A variable of the environment in a header's value.
VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


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
    for header in run.headers:
        name, colon, value = header.partition(":")
        try:
            if not colon:
                raise RefusedLineError("it has no colon")
            check_headers({name.strip(): value.strip()})
        except RefusedLineError as refused:
            raise UsageError(
                f"-H {name.strip()!r}: {refused}.", fix="Write it like -H 'NAME: VALUE'."
            ) from refused
    if run.base_url is not None and "@" in run.base_url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            "The base URL holds a credential.",
            fix="Leave it out; send it as a header: -H 'Authorization: Basic ${VAR}'.",
        )
    if run.base_url is not None:
        check_base_url(run.base_url)


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
        f"A header wants ${{{name}}}, and {name} is not set.", fix=f"Set {name} and try again."
    )


def check_base_url(url: str) -> None:
    """Raise :class:`UsageError` where requests can't go to ``url``."""
    try:
        parsed = URL(url)
        is_one = parsed.scheme in ("http", "https") and bool(parsed.host)
    except ValueError:
        is_one = False
    if not is_one:
        raise UsageError(
            f"The base URL {url!r} is not one.", fix="Write it like https://host/path."
        )
