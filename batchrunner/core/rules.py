"""A row that tells what a reply means: what it matches, and what follows.

Rows are walked top to bottom and the first match counts; a provider's own come before those of
:mod:`batchrunner.core.generic`, which have the last word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from batchrunner.models import ErrorKind, Verdict

if TYPE_CHECKING:
    from batchrunner.core.classify import Facts

__all__ = ["SHOULD_RETRY", "Form", "Reset", "Rule", "words"]


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
    #: The address may be to blame: the message says which base URL was likely meant.
    of_address: bool = False
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


#: What ``x-should-retry`` makes of a plain status rule's verdict. A pause stays one: waiting is
#: not failing.
SHOULD_RETRY: Final[Mapping[str, Mapping[Verdict, Verdict]]] = {
    "true": {Verdict.FAIL_JOB: Verdict.RETRY},
    "false": {Verdict.RETRY: Verdict.FAIL_JOB},
}
