"""What requests should take of the tokens: reserved before they go, learned from what they took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from batchrunner.core.counting import Charge, Counting, reservation
from batchrunner.core.tokens import Estimate, Seen, estimate
from batchrunner.models import JobId, Usage

__all__ = ["Ahead", "TokenEstimates"]

#: Where no limit asks for estimates one answer in so many ms is learned from (a model), and a long
#: request the less often: what it costs stays far below a hundredth of the loop.
_SAMPLE_MS: Final = 50.0
_BYTES_A_MS: Final = 1_000

#: So many estimates are remembered.
_MOST_KEPT: Final = 8_192

_NOTHING: Final = Seen()


class Ahead(NamedTuple):
    """A job that is next in its lane, and what it will take."""

    job_id: JobId
    charge: Charge
    #: The start that it shares with others, in a run that goes in the order of the cache.
    start: int = 0


class TokenEstimates:
    """What each model's answers taught; one for all runs of a holder."""

    def __init__(self, seen: Mapping[str, Seen] | None = None) -> None:
        """Begin with what is stored."""
        self._seen: dict[str, Seen] = dict(seen or {})
        self._changed: set[str] = set()
        self._sample_at: dict[str, float] = {}
        #: Of jobs that have not been answered; told from their text once.
        self._estimates: dict[JobId, Estimate] = {}

    def load(self, seen: Mapping[str, Seen]) -> None:
        """Take what is stored."""
        self._seen.update(seen)

    def seen(self, model: str) -> Seen:
        """Return what a model's answers taught."""
        return self._seen.get(model, _NOTHING)

    def charge(self, job: JobId, model: str, body: bytes, counting: Counting) -> Charge:
        """Return what to reserve for a job's request."""
        if len(self._estimates) >= _MOST_KEPT:
            # Of jobs that were looked up, and never answered.
            self._estimates.clear()
        estimated = self._estimates[job] = estimate(body)
        return reservation(estimated, self._seen.get(model, _NOTHING), counting)

    def learn(
        self, job: JobId, model: str, body: bytes, usage: Usage, *, now: float, is_asked: bool
    ) -> None:
        """Learn from an answer's usage; always where a limit asks for estimates, else now and then."""
        known = self._estimates.pop(job, None)
        if usage.input_tokens is None:
            return
        if not is_asked:
            if now < self._sample_at.get(model, 0.0):
                return
            self._sample_at[model] = now + _SAMPLE_MS + len(body) / _BYTES_A_MS
        self._seen[model] = self._seen.get(model, _NOTHING).after(
            _of_this(known or estimate(body), usage),
            input=usage.input_tokens,
            output=usage.output_tokens or 0,
        )
        self._changed.add(model)

    def take_changed(self) -> list[tuple[str, Seen]]:
        """Return what was learned since it was last asked for, to store."""
        changed, self._changed = self._changed, set()
        return [(model, self._seen[model]) for model in changed]


def _of_this(estimated: Estimate, usage: Usage) -> Estimate:
    """Leave an estimate that is worlds apart from its answer out of the account.

    A request that a template or a tool of the provider makes a hundred times as long says nothing of
    how a text's tokens are counted.
    """
    assert usage.input_tokens is not None
    if not estimated.input / 100 <= max(1, usage.input_tokens) <= estimated.input * 100:
        return estimated._replace(input=max(1, usage.input_tokens))
    return estimated
