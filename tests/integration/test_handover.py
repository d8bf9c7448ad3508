"""The lock goes to a process that can send, and stays where it is while nobody can."""

from __future__ import annotations

from tests.fakes import ApiServer
from tests.integration.house import House, Running


def start(house: House, name: str) -> Running:
    """Submit a run whose credential only its own process has."""
    house.jobs(3, f"{name}.jsonl", prefix=name)
    return house.start_submit(
        "--account", name, "--wait", "-H", f"x-team: ${{KEY_{name}}}", file=f"{name}.jsonl",
        environ={f"KEY_{name}": "value"},
    )  # fmt: skip


def test_two_that_wait_do_not_pass_the_lock_to_and_fro(house: House, api: ApiServer) -> None:
    """A holder that waits gives way to a process with another key; once both wait the lock stays, and each has sent one request."""
    api.script([{"status": 429, "headers": {"retry-after": "3600"}}])
    both = [start(house, "a"), start(house, "b")]
    for running in both:
        running.sees("limit.waiting")
    for running in both:
        assert len(running.so_far.named("run.started")) == 1
    assert len(api.requests()) == 2
