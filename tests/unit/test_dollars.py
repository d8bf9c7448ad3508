"""Sums of money in words."""

from __future__ import annotations

import pytest

from batchrunner.core.dollars import as_bound, as_dollars


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "$0.0000"),
        (0.000017, "$0.000017"),
        (0.0000999, "$0.000100"),
        (1e-9, "$0.0000000010"),
        (1e-300, f"$0.{'0' * 20}"),
        (0.0022, "$0.0022"),
        (1234.5, "$1,234.5000"),
    ],
)
def test_what_is_not_nothing_is_not_shown_as_nothing(value: float, shown: str) -> None:
    """A hundredth of a cent, or the first two digits of what is less."""
    assert as_dollars(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(5, "$5.00"), (0.5, "$0.50"), (0.003, "$0.0030"), (2.345, "$2.3450")]
)
def test_a_bound_is_shown_as_it_was_written(value: float, shown: str) -> None:
    """In cents, unless that would be another sum."""
    assert as_bound(value) == shown
