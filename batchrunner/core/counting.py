"""What a request's tokens are to its provider's limits: reserved before the send, corrected after.

Providers differ (PROVIDERS: rate limits). Some charge what is really used, and guess it while the
request runs; some charge the bound on the answer up front and never give back what it left unused.
A gateway in front of one counts as it likes: there, what is really used is charged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from batchrunner.core.tokens import Estimate, Expected, Seen, expect

__all__ = [
    "AS_USED",
    "NO_TOKENS",
    "TOTAL_IS_INPUT",
    "Charge",
    "Counting",
    "UpFront",
    "after_answer",
    "likely_charge",
    "reservation",
]


class Charge(NamedTuple):
    """Tokens of one send, as they count to the limits."""

    input: int
    output: int


NO_TOKENS: Final = Charge(0, 0)


class UpFront(Enum):
    """What a provider charges when a request arrives."""

    #: What it turns out to use.
    AS_USED = "as_used"
    #: The larger of its input and the bound on its answer.
    LARGER = "larger"
    #: Its input and the bound on its answer.
    SUM = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How a provider counts tokens against its limits."""

    up_front: UpFront = UpFront.AS_USED
    #: Whether what was read from its cache counts as input.
    cache_reads: bool = True
    #: Models of which it does all the same; ``None``: of none.
    cache_reads_of: re.Pattern[str] | None = None
    #: Whether ``tpm`` and ``tpd`` count answers besides the input.
    total_has_output: bool = True
    #: Whether a request that was refused counts all the same.
    refused: bool = False

    def counts_reads(self, model: str) -> bool:
        """Whether what a model's requests read from the cache counts as input."""
        return self.cache_reads or (
            self.cache_reads_of is not None and self.cache_reads_of.search(model) is not None
        )


AS_USED: Final = Counting()
#: Providers whose ``tpm`` and ``tpd`` count input alone, for views, which know no profile.
TOTAL_IS_INPUT: Final = frozenset({"gemini"})


def reservation(estimated: Estimate, seen: Seen, counting: Counting) -> Charge:
    """Return what to reserve for a request: what it should take at most.

    What an answer leaves of it is given back as soon as it is there.
    """
    return _reserved(expect(estimated, seen), estimated.most_output, counting)


def likely_charge(expected: Expected, most_output: int | None, counting: Counting) -> Charge:
    """Return what a request should count in the end, its answer being what is expected."""
    reserved = _reserved(expected, most_output, counting)
    return after_answer(reserved, counting, input=expected.input, output=expected.output)


def _reserved(expected: Expected, most: int | None, counting: Counting) -> Charge:
    if counting.up_front is UpFront.LARGER:
        return Charge(expected.input_high, max(0, (most or 0) - expected.input_high))
    if counting.up_front is UpFront.SUM and most is not None:
        return Charge(expected.input_high, most)
    return Charge(expected.input_high, expected.output_high)


def after_answer(
    reserved: Charge,
    counting: Counting,
    *,
    input: int | None,  # noqa: A002
    output: int | None,
    cached: int = 0,
    model: str = "",
) -> Charge:
    """Return what a request counts once its answer said what it used; ``None``: it did not say."""
    used = Charge(
        reserved.input if input is None else input,
        reserved.output if output is None else output,
    )
    if cached and not counting.counts_reads(model):
        used = Charge(max(0, used.input - cached), used.output)
    if counting.up_front is UpFront.AS_USED:
        return used
    # Nothing is given back, and nobody knows how it was guessed: the larger of both.
    total = max(sum(reserved), sum(used))
    return Charge(used.input, max(used.output, total - used.input))
