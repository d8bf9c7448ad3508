"""What every peer's program is told, and where it leaves what it has.

A program reads its jobs from ``Plan.bodies`` and leaves results in ``Plan.folder``. What it has
there after a ``kill -9`` is what it would have kept for its user.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import API_KEY

KEY = API_KEY
#: A line for each result, by those tools that keep none themselves.
RESULTS = "results.jsonl"
#: A line for each job that was given up.
FAILED = "failed.jsonl"

_UNLIMITED = 1_000_000_000


class Plan(NamedTuple):
    """One run of one tool."""

    jobs: Path
    #: Without ``/v1``.
    url: str
    concurrency: int
    folder: Path
    #: Requests a minute, for tools that can be told; ``None``: no limit.
    rpm: int | None

    @property
    def openai_url(self) -> str:
        """The base URL as OpenAI's clients want it."""
        return f"{self.url}/v1"

    @property
    def rpm_number(self) -> int:
        """The limit for tools that want a number."""
        return self.rpm or _UNLIMITED

    def bodies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the jobs' keys and bodies."""
        with self.jobs.open("rb") as lines:
            for line in lines:
                job = json.loads(line)
                yield job["custom_id"], job["body"]

    def save(self, results: Mapping[str, Any]) -> None:
        """Write all results at the end, as a script does whose loop collects them."""
        with (self.folder / RESULTS).open("w") as out:
            out.writelines(_lines(results.items()))

    def keep(self, key: str, answer: Any) -> None:
        """Append one result now."""
        with (self.folder / RESULTS).open("a") as out:
            out.writelines(_lines([(key, answer)]))

    def give_up(self, key: str, error: object) -> None:
        """Note a job that ended without an answer."""
        with (self.folder / FAILED).open("a") as out:
            out.writelines(_lines([(key, str(error))]))


def _lines(pairs: Iterable[tuple[str, Any]]) -> Iterator[str]:
    return (json.dumps({"key": key, "answer": answer}) + "\n" for key, answer in pairs)


def write_plan(plan: Plan) -> Path:
    """Write a plan into its folder; return the file."""
    path = plan.folder / "plan.json"
    path.write_text(json.dumps([*map(str, plan[:4]), plan.rpm]))
    return path


def told() -> Plan:
    """Read the plan that the command line names."""
    jobs, url, concurrency, folder, rpm = json.loads(Path(sys.argv[1]).read_text())
    return Plan(Path(jobs), url, int(concurrency), Path(folder), rpm)
