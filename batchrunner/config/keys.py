"""Every key of a configuration file, as one table: what it may be, and where its value goes.

The decoder, the schema, ``config show`` and docs/configuration.md all follow this table, so that a
key which is accepted is one that does something.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from batchrunner.config import forms
from batchrunner.config.forms import Form

__all__ = ["BUDGET_KEYS", "KEYS", "MISPLACED", "PRICE_KEYS", "TABLES", "Goes", "Key"]


class Goes(StrEnum):
    """Where a key's value goes."""

    #: Into the jobs, when a file is submitted.
    JOBS = "jobs"
    #: To the run, under what is stored with it.
    RUN = "run"
    #: To the account's limits, with the source ``config``.
    LIMITS = "limits"
    #: To the call.
    CALL = "call"
    #: To the program itself.
    PROGRAM = "program"


class Key(NamedTuple):
    """One key."""

    name: str
    form: Form
    help: str
    #: The value where nobody says one, in words.
    default: str
    goes: Goes
    #: The field of :mod:`batchrunner.options` that it fills.
    field: str
    #: Said of one provider: holds only for the runs of the one that its table names.
    of_provider: bool = False

    @property
    def option(self) -> str:
        """Return the option of the command line that comes before it; empty for none."""
        return _OPTIONS.get(self.name, "--" + self.name.replace("_", "-"))


#: Keys whose option is called otherwise; empty: there is none.
_OPTIONS: Final = {"headers": "-H", "key_file": ""}

KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        key.name: key
        for key in (
            Key("db", forms.PLACE, "The database.", "./batchrunner.db", Goes.PROGRAM, "db"),
            Key(
                "provider", forms.TEXT, "Whose language is spoken; the other keys of the same table are about it.",
                "told by the lines", Goes.JOBS, "provider",
            ),
            Key(
                "base_url", forms.BASE_URLS, "Where requests go; of several the first is preferred, the rest are fail-over.",
                "the provider's", Goes.RUN, "base_url", of_provider=True,
            ),
            Key(
                "key_file", forms.PATH, "A file that holds the provider's key and nothing else.",
                "the provider's variable, else the keyring", Goes.RUN, "key_file", of_provider=True,
            ),
            Key(
                "model", forms.TEXT, "Filled in where a line leaves it out.",
                "none", Goes.JOBS, "model", of_provider=True,
            ),
            Key(
                "max_tokens", forms.COUNT, "Filled in where a line leaves it out.",
                "4096 where the provider demands one", Goes.JOBS, "max_tokens",
            ),
            Key(
                "system", forms.SYSTEM, "System prompt, filled in where a line leaves it out.",
                "none", Goes.JOBS, "system",
            ),
            Key(
                "headers", forms.HEADERS, "Sent with each request; `${VAR}` is filled in at the send. A literal credential is refused.",
                "none", Goes.RUN, "headers", of_provider=True,
            ),
            Key(
                "api_version", forms.TEXT, "The provider's version header.",
                "the provider's", Goes.RUN, "api_version", of_provider=True,
            ),
            Key(
                "account", forms.TEXT, "Whose limits these are.",
                "the organization responses name, else the key", Goes.RUN, "account", of_provider=True,
            ),
            Key(
                "rpm", forms.LIMIT, "Requests per minute.",
                "auto", Goes.LIMITS, "rpm", of_provider=True,
            ),
            Key(
                "tpm", forms.LIMIT, "Tokens per minute, input and output.",
                "auto", Goes.LIMITS, "tpm", of_provider=True,
            ),
            Key(
                "itpm", forms.LIMIT, "Input tokens per minute.",
                "auto", Goes.LIMITS, "itpm", of_provider=True,
            ),
            Key(
                "otpm", forms.LIMIT, "Output tokens per minute.",
                "auto", Goes.LIMITS, "otpm", of_provider=True,
            ),
            Key(
                "rpd", forms.LIMIT, "Requests per day.",
                "auto", Goes.LIMITS, "rpd", of_provider=True,
            ),
            Key(
                "tpd", forms.LIMIT, "Tokens per day.",
                "auto", Goes.LIMITS, "tpd", of_provider=True,
            ),
            Key(
                "day_resets", forms.ZONE, "When a day ends: an IANA zone's midnight, or any 24 h.",
                "the provider's rule, else UTC", Goes.LIMITS, "day_resets", of_provider=True,
            ),
            Key(
                "min_interval", forms.DURATION_OR_ZERO, "Never two sends closer than this.",
                "0", Goes.LIMITS, "min_interval_s", of_provider=True,
            ),
            Key("concurrency", forms.CONCURRENCY, "Requests in flight at most.", "auto", Goes.RUN, "concurrency"),
            Key("priority", forms.NUMBER, "Higher runs go first; equals share.", "0", Goes.RUN, "priority"),
            Key(
                "max_attempts", forms.COUNT, "Tries charged to one job before it fails.",
                "5", Goes.RUN, "max_attempts",
            ),
            Key("timeout", forms.DURATION, "For one request.", "600", Goes.RUN, "timeout_s"),
            Key(
                "connect_timeout", forms.DURATION, "For reaching the server.",
                "30", Goes.RUN, "connect_timeout_s",
            ),
            Key(
                "proxy", forms.PROXIES,
                "Proxies; of several the first is preferred. `${VAR}` is filled in at the send; a literal password is refused. `none`: the direct way.",
                "none", Goes.RUN, "proxy",
            ),
            Key(
                "ca_file", forms.PATH, "Certificates (PEM) trusted besides the system's.",
                "none", Goes.RUN, "ca_file",
            ),
            Key(
                "allow_insecure_http", forms.TRUTH, "Let requests, and the key, go unencrypted to another machine.",
                "false", Goes.RUN, "allow_insecure_http", of_provider=True,
            ),
            Key(
                "max_failures", forms.FAILURES, "Stop when so many jobs, or that share, have failed.",
                "none", Goes.RUN, "max_failures",
            ),
            Key(
                "max_cost", forms.DOLLARS, "Dollars that a run may cost in its whole life; then it stops.",
                "none", Goes.RUN, "max_cost",
            ),
            Key(
                "max_wait", forms.DURATION_OR_ZERO, "Longest single wait before stopping with work left.",
                "26h", Goes.CALL, "max_wait_s",
            ),
            Key(
                "notify", forms.TEXT, "A command that gets the event on its input when a run finishes, halts or begins a long wait.",
                "none", Goes.CALL, "notify",
            ),
            Key(
                "webhook", forms.TEXT, "An address that the same events are posted to; `${VAR}` is filled in.",
                "none", Goes.CALL, "webhook",
            ),
            Key(
                "max_response", forms.SIZE, "A longer answer fails its job.",
                "32MB", Goes.RUN, "max_response",
            ),
            Key(
                "expect_json", forms.EXPECTED, "Answers have to be JSON, and meet that JSON Schema; others are tried again.",
                "none", Goes.RUN, "expect_json",
            ),
            Key(
                "compress", forms.TRUTH, "Keep requests and answers compressed in the database.",
                "false", Goes.RUN, "compress",
            ),
            Key(
                "cache_order", forms.TRUTH, "Send jobs whose requests begin alike one after the other, so that the provider's prompt cache is read.",
                "false", Goes.RUN, "cache_order",
            ),
        )
    }
)  # fmt: skip

#: Tables beside the keys, at the top of a file alone.
TABLES: Final = ("profiles", "prices", "budget", "providers")

#: Keys of ``[prices."MODEL"]``: dollars per million tokens, and how many tokens it reads at most.
PRICE_KEYS: Final = ("input", "output", "cache_read", "cache_write", "context_window")

#: Keys of ``[budget]``: dollars that all runs of a database may cost, by what they are for.
BUDGET_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {"day": "Of one day of UTC.", "month": "Of one month of UTC."}
)

_OF_CALL: Final = "it is said with each call:"
_KEY_ADVICE: Final = "name a file that holds the key with key_file, or set the provider's variable"

#: Words that people try → why they are no keys.
MISPLACED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("api_key", "apikey", "key", "auth_token", "token", "secret", "password"), _KEY_ADVICE),
        "name": f"{_OF_CALL} --name NAME",
        "output": f"{_OF_CALL} -o FILE",
        "max_time": f"{_OF_CALL} --max-time DURATION",
        "no_wait": f"{_OF_CALL} --no-wait",
        "no_run": f"{_OF_CALL} --no-run",
        "wait": f"{_OF_CALL} --wait",
    }
)  # fmt: skip
