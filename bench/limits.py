"""Share of a limit that is used, and requests that servers refuse, on a fake clock.

    python -m bench.limits [minutes]

prints a Markdown table: for each limit the share used while work always waits, the most sends in any
minute, and what three servers that count differently refuse. Sends are up to 25 ms late; in the
second half one in fifty stalls for up to 3 s.
"""

from __future__ import annotations

import random
import sys
import time

from batchrunner.core.admission import Cap, Ledger, ScopeLedger
from batchrunner.models import ScopeId
from tests.fakes.limit_servers import ACCOUNT, MINUTE, SERVERS, drive, most_in_a_window

LIMITS = (3, 60, 600, 6000)
START = 1_700_000_000_000.0
POOL = ScopeId(2)


def measure(n: int, minutes: int, stalls: float) -> str:
    """Return one row of the table."""
    rand = random.Random(n)
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=[Cap("rpm", n, None, "flag")]), ScopeLedger(POOL)])
    began = time.perf_counter()
    sends = drive(
        ledger,
        [POOL],
        start=START,
        end=START + minutes * MINUTE,
        lateness=lambda: rand.uniform(70, 3000) if rand.random() < stalls else rand.uniform(0, 25),
    )
    cost = (time.perf_counter() - began) / len(sends) * 1e6
    refused = " | ".join(str(server(sends, n)) for server in SERVERS.values())
    share = len(sends) / (n * minutes)
    return (
        f"| {n} | {stalls:.0%} | {share:.1%} | {most_in_a_window(sends, MINUTE)} | {refused} "
        f"| {cost:.0f} |"
    )


def main() -> None:
    """Print the table."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    servers = " | ".join(f"429 {name}" for name in SERVERS)
    print(f"| a minute | stalls | used | most in 60 s | {servers} | µs a send |")
    print("|--:|--:|--:|--:" + "|--:" * len(SERVERS) + "|--:|")
    for stalls in (0.0, 0.02):
        for n in LIMITS:
            print(measure(n, minutes, stalls))


if __name__ == "__main__":
    main()
