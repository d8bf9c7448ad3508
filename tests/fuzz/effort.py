"""How hard to look, and what each look is held to.

Each test here runs a parser on input that nobody thought of. In CI that is a few hundred inputs a
test, the same ones each time, and a minute for all; ``BATCHRUNNER_FUZZ=50 pytest tests/fuzz -n 2``
looks fifty times as long, at other inputs each time. What it finds becomes an ``@example``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hypothesis import HealthCheck, settings

__all__ = ["FACTOR", "fuzzed", "within"]

#: How many times as long as CI looks.
FACTOR: Final = float(os.environ.get("BATCHRUNNER_FUZZ", "1"))
#: Processor time for one input of a few thousand characters; a parser needs a hundredth of it, and
#: one that tries every way to cut its input up needs minutes.
_PATIENCE_S: Final = 1.0


def fuzzed(n: int = 250) -> settings:
    """Return the settings of a test that takes ``n`` inputs in CI."""
    return settings(
        max_examples=max(1, int(n * FACTOR)),
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def within(seconds: float = _PATIENCE_S) -> Iterator[None]:
    """Fail where the block takes more processor time."""
    begun = time.thread_time()
    yield
    took = time.thread_time() - begun
    assert took < seconds, f"took {took:.1f} s of processor time"
