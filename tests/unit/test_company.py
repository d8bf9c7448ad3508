"""What the other workers on a run mean for how much of it one may send."""

from __future__ import annotations

from batchrunner.engine.company import AFTERMATH_MS, PATIENCE_MS, Company
from batchrunner.models import JobCounts


def look(company: Company, now: float, *, proved: bool = False, out: int = 0, **counts: int) -> int:
    """Let it look, and return how many of a hundred more may be claimed."""
    company.look(JobCounts(**counts), outstanding=out, is_proved=proved, now=now)
    return company.room(100, now)


def test_who_comes_second_waits_for_the_first_answer() -> None:
    """While others' first request is out, and a moment longer if it comes back without an answer."""
    company = Company()
    assert look(company, 0, pending=50, completed=7) == 100
    assert look(company, 100, pending=49, running=1, completed=7) == 0
    assert look(company, 200, pending=50, completed=7) == 0
    assert look(company, 200 + AFTERMATH_MS, pending=50, completed=7) == 100
    assert look(company, 9_000, pending=49, running=1, completed=7) == 0
    assert look(company, 9_100, pending=48, running=1, completed=8) == 100


def test_who_comes_to_a_run_that_another_has_waits_a_moment_in_any_case() -> None:
    """That one's request may have come back just now; an answer, or its own, tells sooner."""
    company = Company(is_led=True)
    assert look(company, 0, pending=50, completed=7) == 0
    assert look(company, 100, pending=49, completed=8) == 100
    company = Company(is_led=True)
    assert look(company, 0, pending=50) == 0
    assert look(company, AFTERMATH_MS, pending=50) == 10


def test_who_was_answered_and_who_has_waited_long_does_not() -> None:
    """Its own answer is enough; and nobody waits for ever for one that does not come."""
    company = Company()
    assert look(company, 0, proved=True, pending=5, running=1, completed=1) == 100
    company = Company()
    assert look(company, 0, pending=5, running=1, completed=1) == 0
    assert look(company, PATIENCE_MS + 1, pending=5, running=1, completed=1) == 100


def test_its_own_first_job_holds_nobody_here_back() -> None:
    """What is in flight from here says nothing of others."""
    assert look(Company(), 0, out=1, pending=5, running=1, completed=1) == 100


def test_until_one_completes_no_more_go_than_show_that_all_fail() -> None:
    """All workers together; from the first success on, and after ten failures, as many as there may be."""
    company = Company()
    assert look(company, 0, proved=True, pending=90, running=4, failed=2) == 4
    assert look(company, 1, proved=True, pending=90, running=9, failed=2) == 0
    assert look(company, 2, proved=True, pending=90, running=4, failed=2, completed=1) == 100
    assert look(company, 3, proved=True, pending=90, failed=10) == 100


def test_whether_all_failed_alike_is_asked_once() -> None:
    """At ten that came since the first look, as long as nothing has completed; again where some were put back."""
    company = Company()
    look(company, 0, pending=90, failed=3)
    assert not company.is_to_ask(JobCounts(failed=12))
    assert company.is_to_ask(JobCounts(failed=13))
    company.asked(JobCounts(failed=13))
    assert not company.is_to_ask(JobCounts(failed=13))
    assert not company.is_to_ask(JobCounts(failed=14))
    assert not company.is_to_ask(JobCounts(failed=5_000))
    company.asked(JobCounts(failed=40))
    assert company.is_to_ask(JobCounts(failed=39))
    assert not company.is_to_ask(JobCounts(failed=15, completed=1))
