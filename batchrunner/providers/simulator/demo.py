"""The demo: 200 support tickets to sort, and a provider with a bad day that still lets all through.

Which ticket meets which fault follows from the texts and the seed, so every demo shows the same:
answers, a pause after a 429, and retries after overloads, server errors, resets and cut answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from batchrunner.providers.simulator.config import SimulatorConfig

DEMO_MODEL: Final = "sim-1"
N_DEMO_JOBS: Final = 200

_TASK: Final = (
    "Sort the support ticket into one of: billing, shipping, bug, account, feature, praise, other. "
    "Answer with the label alone.\n\n"
)

#: (kind of ticket, text); ``{}`` takes what follows in ``_THINGS`` and ``_NAMES``.
_TICKETS: Final = (
    "I was charged twice for {thing} in October. Please refund one of the two. {name}",
    "Where is my parcel? The tracking page for {thing} has not moved since Tuesday. {name}",
    "The app crashes as soon as I open {thing} on my tablet. {name}",
    "I can't log in any more since I changed my email, and I need {thing} today. {name}",
    "It would help me a lot if {thing} had a dark mode. {name}",
    "Just wanted to say thanks, {thing} is great and arrived early. {name}",
    "Do you have a shop in Lisbon where I can look at {thing}? {name}",
    "The invoice for {thing} has the wrong VAT number, our accountant sent it back. {name}",
    "The courier left {thing} in the rain and the package is soaked. {name}",
    "Export of {thing} fails with error 500 whenever the name has an umlaut. {name}",
)
_THINGS: Final = (
    "the espresso machine",
    "the annual plan",
    "the hiking boots",
    "the photo book",
    "the standing desk",
)
_NAMES: Final = ("Amina, Leeds", "Jörg, Köln", "Chloé, Lyon", "陈伟, 上海")


def demo_config() -> SimulatorConfig:
    """Return the demo's provider: 200 jobs take some fifteen seconds, of which two are a pause."""
    return SimulatorConfig(
        rpm=1200,
        latency_s=0.25,
        latency_sigma=0.5,
        seed=7,
        rate_529=0.02,
        rate_500=0.02,
        rate_reset=0.015,
        rate_cut=0.015,
        max_faults=1,
        retry_after_s=2,
        throttle_at=(90,),
        models=(DEMO_MODEL,),
    )


def demo_jobs() -> Iterator[bytes]:
    """Yield the demo's jobs as JSONL lines, each with its line feed."""
    for index in range(N_DEMO_JOBS):
        ticket = _TICKETS[index % len(_TICKETS)]
        place = index // len(_TICKETS)
        thing, name = _THINGS[place % len(_THINGS)], _NAMES[place // len(_THINGS)]
        line = {
            "id": f"ticket-{index + 1:03d}",
            "prompt": _TASK + ticket.format(thing=thing, name=name),
            "model": DEMO_MODEL,
            "max_tokens": 64,
            "metadata": {"customer": name.partition(",")[0], "received": _received(index)},
        }
        yield msgspec.json.encode(line) + b"\n"


def _received(index: int) -> str:
    """Return a minute of one working day, later for later tickets."""
    minutes = 8 * 60 + index * 3
    return f"2026-11-02T{minutes // 60:02d}:{minutes % 60:02d}:00Z"
