"""The first job with a start goes alone, the others once it was answered, while the cache is warm."""

from __future__ import annotations

from batchrunner.core.caching import FAMILY_SHIFT, KEPT_MS
from batchrunner.core.warmth import Warmth
from batchrunner.models import JobId

NOW = 1_790_000_000_000.0
#: Two starts of one family, and one of another.
A, A2, B = (1 << FAMILY_SHIFT) + 1, (1 << FAMILY_SHIFT) + 2, (2 << FAMILY_SHIFT) + 1
ONE, TWO, THREE = JobId(1), JobId(2), JobId(3)


def warm(*starts: int, at: float = NOW) -> Warmth:
    """Return a cache in which these starts are."""
    warmth = Warmth()
    for n, start in enumerate(starts, 100):
        warmth.goes(JobId(n), start, at)
        warmth.back(JobId(n), sent_at=at, kept_ms=KEPT_MS)
    return warmth


def test_a_cold_start_has_one_lead() -> None:
    """The second waits; another start may begin, and what has none never waits."""
    warmth = Warmth()
    assert warmth.may_go(A, NOW)
    warmth.goes(ONE, A, NOW)
    assert not warmth.may_go(A, NOW)
    assert warmth.may_go(B, NOW)
    assert warmth.may_go(0, NOW)
    assert warmth.order(NOW).waiting == (A,)


def test_once_answered_all_go() -> None:
    """As long as the start is kept, counted from the last that read it."""
    warmth = warm(A)
    assert warmth.order(NOW).warm == (A,)
    assert warmth.may_go(A, NOW)
    warmth.goes(ONE, A, NOW)
    warmth.goes(TWO, A, NOW)
    assert warmth.may_go(A, NOW)
    assert warmth.n_leads == 0
    warmth.back(TWO, sent_at=NOW + 200_000, kept_ms=KEPT_MS)
    assert warmth.may_go(A, NOW + 400_000)
    assert warmth.order(NOW + 400_000).warm == (A,)


def test_what_has_cooled_down_has_a_lead_again() -> None:
    """Nobody is sent on the strength of what is no longer there."""
    warmth, later = warm(A), NOW + KEPT_MS
    assert warmth.order(later).warm == ()
    warmth.goes(ONE, A, later)
    assert warmth.n_leads == 1
    assert not warmth.may_go(A, later)


def test_a_lead_that_was_not_answered_leaves_the_place_to_the_next() -> None:
    """A 429, an error, or a job that was not sent after all."""
    warmth = Warmth()
    warmth.goes(ONE, A, NOW)
    warmth.is_stalled = True
    warmth.back(ONE, sent_at=NOW, kept_ms=None)
    assert not warmth.is_stalled
    assert warmth.order(NOW) == ((), (), ())
    assert warmth.may_go(A, NOW)


def test_a_family_has_one_lead_until_its_beginning_is_kept() -> None:
    """Then each of its starts may have one."""
    warmth = Warmth()
    warmth.goes(ONE, A, NOW)
    assert not warmth.may_go(A2, NOW)
    assert warmth.order(NOW).waiting_families == (1,)
    warmth.back(ONE, sent_at=NOW, kept_ms=KEPT_MS)
    assert warmth.may_go(A2, NOW)
    warmth.goes(TWO, A2, NOW)
    assert warmth.order(NOW) == ((A,), (A2,), ())
    assert not warmth.may_go(A2, NOW)


def test_what_cools_down_soon_comes_first() -> None:
    """Else those that were begun first are finished first."""
    warmth = warm(A, B)
    assert warmth.order(NOW).warm == (A, B)
    warmth.goes(ONE, A, NOW)
    warmth.back(ONE, sent_at=NOW + 0.6 * KEPT_MS, kept_ms=KEPT_MS)
    assert warmth.order(NOW + 0.4 * KEPT_MS).warm == (A, B)
    assert warmth.order(NOW + 0.6 * KEPT_MS).warm == (B, A)


def test_a_start_without_jobs_is_forgotten() -> None:
    """An answer to its last job does not bring it back; one that comes again is its lead."""
    warmth = warm(A)
    warmth.goes(ONE, A, NOW)
    warmth.forget(A)
    warmth.back(ONE, sent_at=NOW, kept_ms=KEPT_MS)
    assert warmth.order(NOW).warm == ()
    warmth.goes(TWO, A, NOW)
    assert warmth.n_leads == 1


def test_a_job_that_is_back_twice_changes_nothing() -> None:
    """Nor does one that nobody knows."""
    warmth = Warmth()
    warmth.goes(ONE, A, NOW)
    warmth.back(THREE, sent_at=NOW, kept_ms=KEPT_MS)
    assert warmth.n_leads == 1
    warmth.back(ONE, sent_at=NOW, kept_ms=None)
    warmth.back(ONE, sent_at=NOW, kept_ms=KEPT_MS)
    assert warmth.order(NOW).warm == ()
