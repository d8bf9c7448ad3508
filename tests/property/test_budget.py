"""Whatever is asked, answered and lost when: no day's bill is larger than its budget."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.budget import DAY_MS, Budget, Spending
from batchrunner.core.prices import Price, Rates
from batchrunner.engine.purse import Purse
from batchrunner.models import JobId, ModelId, RunId, ScopeId
from batchrunner.store.records import Settle
from batchrunner.store.spending import lost_rows

#: A dollar a token of the answer; what is sent costs nothing.
DEAR = Price(rates=Rates(0.0, 1e6, 0.0, 0.0, 0.0))
MODEL = ModelId(1)
BUDGETS = (Budget(day=20.0), Budget(day=20.0, month=45.0))


def settle(job: JobId, sent_at: int, **what: Any) -> Settle:
    """Return what became of a request."""
    return Settle(
        job_id=job, key="k", attempts=1, started_at=None, claim=1, run_id=RunId(1), model_id=MODEL,
        account_id=ScopeId(1), pool_id=ScopeId(2), planned_at=0, state="completed", outcome="completed",
        sent_at=sent_at, **what,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "answer", "lose", "refuse", "wait"]),
            st.integers(0, 1),
            st.integers(1, 12),
        ),
        max_size=80,
    )
)
def test_no_days_bill_is_larger_than_its_budget(story: list[tuple[str, int, int]]) -> None:
    """Two runs share a day, one of them a month besides; costs fall on the day of the send."""
    wall = 100 * DAY_MS
    spending = Spending({}, wall)
    purses = [
        Purse(inf, run="r", provider="anthropic", spent=0.0, budget=budget, spending=spending)
        for budget in BUDGETS
    ]
    for purse in purses:
        purse.prices[MODEL] = (DEAR,)
    out: list[tuple[int, JobId, int, int]] = []
    bills: defaultdict[int, float] = defaultdict(float)
    for n, (what, which, size) in enumerate(story):
        purse = purses[which]
        if what == "wait":
            wall += size * DAY_MS // 24
            spending.look(wall)
        elif what == "send":
            body = b'{"max_tokens": %d, "messages": []}' % size
            if purse.reserve(JobId(n), "k", MODEL, body):
                # It goes out a moment after it was let go: perhaps on the next day.
                out.append((which, JobId(n), wall + size * 1000, size))
        elif out:
            whose, job, sent_at, worst = out.pop(size % len(out))
            told: dict[str, Any] = {"maybe_executed": True}
            if what == "answer":
                told = {"cost_usd": float(worst), "http_status": 200}
            elif what == "refuse":
                told = {"http_status": 429}
            end = settle(job, sent_at, **told)
            purses[whose].settle(end)
            dollars = end.cost_usd or end.lost_usd or 0.0
            assert dollars == (0.0 if what == "refuse" else worst)
            spending.spend(sent_at, dollars)
            bills[sent_at // DAY_MS] += dollars
    for _, _, sent_at, worst in out:
        # Every answer that is still out may come, and cost what it can.
        bills[sent_at // DAY_MS] += worst
    assert max(bills.values(), default=0.0) <= 20.0


@given(st.permutations([(2, 1.0, None), (1, 2.0, None), (2, None, "m"), (1, None, "n")]))
def test_lost_answers_are_counted_in_one_order(
    lost: list[tuple[int, float | None, str | None]],
) -> None:
    """However they came, so that of two workers that count some of the same days none waits for ever."""
    settles = [
        settle(JobId(n), day * DAY_MS, lost_usd=dollars, uncounted=model)
        for n, (day, dollars, model) in enumerate(lost)
    ]
    keys = [key for key, _ in lost_rows(settles)]
    assert len(keys) == 4
    assert keys == sorted(keys)
