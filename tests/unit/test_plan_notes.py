"""Notes below a plan stay a few, however many models its files name."""

from __future__ import annotations

import pytest

from batchrunner.core.tokens import Seen
from batchrunner.plan_notes import of_prices, of_tokens

NO = "no price"


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ([(NO, "a", 1)], ["no price of a is known: its job is not in the cost"]),
        ([(NO, "a", 2)], ["no price of a is known: its 2 jobs are not in the cost"]),
        (
            [(NO, "a", 1), ("no output price", "b", 1), (NO, "c", 1)],
            [
                "no price of a, c is known: their 2 jobs are not in the cost",
                "no output price of b is known: its job is not in the cost",
            ],
        ),
        (
            [(NO, f"m{n}", 1_000) for n in range(10)],
            [
                "no price of m0, m1, m2, m3, m4 and 5 more is known: their 10,000 jobs are not in the cost"
            ],
        ),
    ],
    ids=["one", "two jobs", "halves", "many"],
)
def test_models_without_a_price_share_a_sentence(
    lacking: list[tuple[str, str, int]], told: list[str]
) -> None:
    """Each thing that is not known is told once, with the first of the models and how many jobs."""
    assert list(of_prices(lacking)) == told


def test_corrections_of_many_models_are_counted() -> None:
    """The first models have a sentence each, the rest one, seen or not."""
    seen = {
        f"m{n}": Seen(n=2.0, estimated=10.0, input=11.0, input_missed=1.0, output=18.0)
        for n in range(40)
    }
    told = list(of_tokens(dict.fromkeys(seen, 2), seen, {}))
    assert len(told) == 6
    assert told[-1] == "tokens of 35 more models are corrected likewise"
    (unseen,) = of_tokens(dict.fromkeys(seen, 2), {}, {})
    assert "m0, m1, m2, m3, m4 and 35 more was seen" in unseen
