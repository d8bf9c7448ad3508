"""What all runs spent, by day and month of UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from batchrunner.core.budget import DAY_MS, Budget, Spending, span


def at(*date: int) -> float:
    """Return an instant of UTC in ms."""
    return datetime(*date, tzinfo=UTC).timestamp() * 1000  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("now", "first", "after"),
    [
        (at(2026, 1, 31, 23, 59, 59), at(2026, 1, 1), at(2026, 2, 1)),
        (at(2026, 2, 1), at(2026, 2, 1), at(2026, 3, 1)),
        (at(2028, 2, 29, 12), at(2028, 2, 1), at(2028, 3, 1)),
        (at(2026, 12, 31, 23), at(2026, 12, 1), at(2027, 1, 1)),
    ],
)
def test_months_begin_and_end(now: float, first: float, after: float) -> None:
    """A month is the calendar's, whatever its length."""
    assert span("month", now) == (first, after)


def test_a_day_begins_with_nothing_spent() -> None:
    """The month goes on, and so does what is in flight."""
    noon = at(2026, 5, 14, 12)
    spending = Spending({int(noon // DAY_MS): 3.0, int(noon // DAY_MS) - 1: 2.0}, noon)
    assert (spending.spent("day"), spending.spent("month")) == (3.0, 5.0)
    spending.reserve(1.0)
    spending.look(noon + DAY_MS)
    assert (spending.spent("day"), spending.spent("month")) == (0.0, 5.0)
    assert spending.passed(Budget(day=1.5), 1.0) == ["day"]
    assert spending.passed(Budget(day=1.5), 1.0, in_flight=False) == []
    assert spending.passed(Budget(month=6.5), 1.0) == ["month"]


def test_a_cost_belongs_to_the_day_of_its_send() -> None:
    """What was sent yesterday and answered today takes nothing of today."""
    noon = at(2026, 5, 14, 12)
    spending = Spending({}, noon)
    spending.spend(noon - DAY_MS, 4.0)
    spending.spend(noon, 1.0)
    assert (spending.spent("day"), spending.spent("month")) == (1.0, 5.0)
    spending.look(at(2026, 6, 1))
    spending.spend(noon, 1.0)
    assert (spending.spent("day"), spending.spent("month")) == (0.0, 0.0)
    spending.look(noon)
    assert (spending.spent("day"), spending.spent("month")) == (2.0, 6.0)


def test_what_others_spend_and_set_apart_counts_beside_what_is_not_stored_yet() -> None:
    """Of many workers each takes what is stored as it is; its own that is not yet comes on top, once."""
    now = at(2026, 3, 2, 12)
    today = int(now // DAY_MS)
    spending = Spending({today - 1: 4.0, today: 1.0}, now)
    spending.spend(now, 0.5)
    spending.adopt({today: 3.0}, others=2.0)
    assert (spending.spent("day"), spending.spent("month")) == (3.5, 7.5)
    assert spending.passed(Budget(day=6), 1.0) == ["day"]
    assert not spending.passed(Budget(day=6), 0.5)
    assert not spending.passed(Budget(day=6), 1.0, in_flight=False)
    spending.stored()
    spending.adopt({today: 3.5}, others=0.0)
    assert (spending.spent("day"), spending.spent("month")) == (3.5, 7.5)
