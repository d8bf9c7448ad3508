"""``--cache-order``: jobs that begin alike follow one another, and the provider's cache is read.

Over real sockets, against the simulator, whose prompt cache behaves like Anthropic's and shares no code
with what it judges. How often something was written is told by the tokens that answers report.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.house import House, until

MODEL = "claude-sonnet-4-5"
#: 1,500 tokens, as the simulator counts.
LONG = "on and on " * 600
PREFIX = 1_503


class Provider:
    """A simulator as a process of its own, and what it saw."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.log = folder / "seen.jsonl"
        command = [sys.executable, "-m", "batchrunner.providers.simulator", "--log", str(self.log)]
        self.process = subprocess.Popen([*command, *args], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    @property
    def order(self) -> list[str]:
        """The documents that were asked about, in the order of their arrival."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line)["prompt"].split()[0] for line in lines]

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path, "--latency", "0.05")
    yield made
    made.stop()


def question(
    document: str, n: int, *, key: str = "", words: str = LONG, mark: bool = True
) -> dict[str, Any]:
    """Return the n-th question about a document."""
    system: dict[str, Any] = {"type": "text", "text": f"{document} {words}"}
    if mark:
        system["cache_control"] = {"type": "ephemeral"}
    return {
        "custom_id": key or f"{document}-{n}",
        "params": {
            "model": MODEL,
            "max_tokens": 20,
            "system": [system],
            "messages": [{"role": "user", "content": f"{document} question {n}"}],
        },
    }


def questions(documents: str, n: int, **how: Any) -> list[dict[str, Any]]:
    """Return n questions about each document, in turn."""
    return [question(document, k, **how) for k in range(n) for document in documents]


def command(provider: Provider, *args: str) -> tuple[str, ...]:
    to = ("--provider", "anthropic", "--base-url", provider.url, "--rpm", "none")
    return ("submit", "jobs.jsonl", *to, *args)


def cached(house: House) -> tuple[int, int]:
    """Return the tokens read from the cache and written to it."""
    (day,) = house.run("usage", "--json").json["usage"]
    return day["cache_read_tokens"], day["cache_write_tokens"]


def test_each_start_is_written_once_and_read_by_the_rest(house: House, provider: Provider) -> None:
    """Though all come in turn and eight go at once; the export keeps the input's order."""
    jobs = questions("abcd", 12)
    house.write("jobs.jsonl", jobs)
    done = house.run(*command(provider, "-c", "8", "--cache-order"))
    assert "48 of 48 jobs share 4 starts" in done.err
    assert cached(house) == (44 * PREFIX, 4 * PREFIX)
    order = provider.order
    last_of_first = max(n for n, document in enumerate(order[8:], 8) if document == order[8])
    assert len(set(order[8:last_of_first])) <= 2, "one start after the other"
    assert [row["key"] for row in house.csv()] == [job["custom_id"] for job in jobs]
    told = house.run("usage").out
    assert f"{44 * PREFIX:,}" in told
    assert "that saved about $" in told


def test_without_it_a_start_is_written_by_all_that_go_at_once(
    house: House, provider: Provider
) -> None:
    """What the option saves is no accident of the cache: off, the input's order is kept."""
    house.write("jobs.jsonl", questions("abcd", 12))
    house.run(*command(provider, "-c", "8"))
    assert cached(house)[1] > 4 * PREFIX
    assert provider.order[:4] == ["a", "b", "c", "d"]


@pytest.mark.slow
def test_no_job_waits_for_a_start_of_its_own(house: House, provider: Provider) -> None:
    """Jobs that share nothing go as many at once as ever, and jobs without a start fill in."""
    lines = [question(f"own{n}", 0) for n in range(20)]
    lines += [question("none", n, words="short") for n in range(20)]
    house.write("jobs.jsonl", lines)
    done = house.run(*command(provider, "-c", "8", "--cache-order"))
    assert "no two of 40 jobs begin alike" in done.err
    assert house.counts().completed == 40
    assert cached(house)[0] == 0


def test_a_killed_run_goes_on_in_the_same_order(house: House, provider: Provider) -> None:
    """Nothing is lost, and no more is written anew than one request of each start."""
    house.write("jobs.jsonl", questions("abcd", 20))
    running = house.start(*command(provider, "-c", "4", "--cache-order"))
    until(lambda: len(provider.order) >= 25, "25 requests")
    running.kill()
    assert 0 < house.counts().completed < 80
    house.run("resume", "-q")
    assert house.counts().completed == 80
    assert {row["status"] for row in house.csv()} == {"completed"}
    assert house.run("db", "check").code == 0
    assert cached(house)[1] <= 2 * 4 * PREFIX


@pytest.mark.slow
def test_refused_and_failing_leads_hold_nobody_up(tmp_path: Path, house: House) -> None:
    """With 429s, errors, resets and cut answers all is answered all the same."""
    provider = Provider(
        tmp_path, "--latency", "0.02", "--rate-429", "0.05", "--rate-500", "0.1",
        "--rate-reset", "0.1", "--rate-cut", "0.05", "--retry-after", "1",
    )  # fmt: skip
    try:
        house.write("jobs.jsonl", questions("abcdef", 8))
        house.run(*command(provider, "-c", "6", "--cache-order", "-q"))
        assert house.counts().completed == 48
    finally:
        provider.stop()


@pytest.mark.slow
def test_it_is_turned_on_and_off_by_any_call(house: House, provider: Provider) -> None:
    """Stored with the run; off again the jobs go in the input's order."""
    house.write("jobs.jsonl", questions("abcd", 5))
    house.run(*command(provider, "--no-run"))
    done = house.run("resume", "--cache-order", "--no-run")
    assert "20 of 20 jobs share 4 starts" in done.err
    assert "share" not in house.run("resume", "--no-run").err, "they are known by now"
    house.run("resume", "--no-cache-order", "-c", "1", "-q")
    assert provider.order == [*"abcd"] * 5


def test_the_configuration_turns_it_on(house: House, provider: Provider) -> None:
    """`cache_order = true`, under what was typed."""
    (house.folder / "batchrunner.toml").write_text("cache_order = true\n")
    house.write("jobs.jsonl", questions("abcd", 5))
    assert "share 4 starts" in house.run(*command(provider, "-c", "4")).err
    assert cached(house)[1] == 4 * PREFIX


@pytest.mark.slow
def test_a_sample_and_then_the_rest(house: House, provider: Provider) -> None:
    """A sample goes first as ever; the rest keeps to the cache."""
    house.write("jobs.jsonl", questions("abcd", 6))
    house.run(*command(provider, "-c", "4", "--cache-order", "--sample", "4", "-q"), code=3)
    assert house.counts().completed == 4
    house.run("resume", "-q")
    assert house.counts().completed == 24
    assert cached(house)[1] <= 2 * 4 * PREFIX


@pytest.mark.slow
def test_new_and_changed_jobs_find_their_start(house: House, provider: Provider) -> None:
    """`--update` and `--set` change requests, and so whom they go with."""
    house.write("jobs.jsonl", questions("ab", 5))
    house.run(*command(provider, "--cache-order", "--no-run"))
    changed = [question("c", n, key=f"a-{n}") for n in range(5)]
    house.write("jobs.jsonl", [*changed, *questions("b", 5), *questions("d", 5)])
    done = house.run(*command(provider, "--update", "--no-run"))
    assert "15 of 15 jobs share 3 starts" in done.err
    tools = json.dumps([{"name": "t", "input_schema": {"type": "object"}}])
    done = house.run("resume", "--set", f"tools={tools}", "-c", "4")
    assert "15 of 15 jobs share 3 starts" in done.err
    read, written = cached(house)
    assert written % 3 == 0
    assert read == 4 * written


def test_token_limits_are_kept_beside_it(house: House, provider: Provider) -> None:
    """Permission is for the job that goes, whichever order it goes in."""
    house.write("jobs.jsonl", questions("abcd", 6))
    house.run(*command(provider, "-c", "4", "--cache-order", "--itpm", "1000000", "-q"))
    assert house.counts().completed == 24
    assert cached(house)[1] == 4 * PREFIX
    (limit,) = [one for one in house.status().limits if one.limit == "itpm"]
    assert limit.used == 24 * 5 + 4 * PREFIX, "what was read does not count"


def test_who_marks_nothing_is_told(house: House, provider: Provider) -> None:
    """Requests are never altered: the message says where the mark goes, and how to take it in."""
    house.write("jobs.jsonl", questions("ab", 3, mark=False))
    done = house.run(*command(provider, "--cache-order"))
    assert "6 of 6 jobs have no cache_control" in done.err
    assert '"cache_control": {"type": "ephemeral"}' in done.err
    assert "--name jobs --update" in done.err
    assert house.counts().completed == 6


def test_who_has_no_cache_is_told(house: House, provider: Provider) -> None:
    """Plain HTTP goes in the input's order."""
    house.write(
        "jobs.jsonl",
        [{"custom_id": f"k{n}", "method": "GET", "url": f"/geocode?q=p{n}"} for n in range(2)],
    )
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "http", "--base-url", provider.url, "--cache-order"
    )
    assert "not known to keep a prompt cache" in done.err
    assert house.counts().completed == 2
