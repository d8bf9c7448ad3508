"""A job's life on a file, on a server and in the model at once: all must return and hold the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchrunner.places import Place, place_of
from tests.fakes.postgres_server import PostgresServer
from tests.property.test_life import Life, every_transition


@pytest.fixture
def machine(server: PostgresServer) -> type[Life]:
    """A machine whose databases are a file and one of the server's."""
    numbers = count(1)

    class Lives(Life):
        @contextmanager
        def some_places(self) -> Iterator[Sequence[Place]]:
            name = f"life_{next(numbers)}"
            server.execute(f"CREATE DATABASE {name} TEMPLATE ready")
            with tempfile.TemporaryDirectory(prefix="life-") as folder:
                yield Path(folder) / "jobs.db", place_of(server.url("jobs", name))
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return Lives


def test_a_life_is_the_same_on_a_file_a_server_and_in_the_model(machine: type[Life]) -> None:
    """Whatever happens in whatever order is returned, stored, counted and booked alike."""
    few = settings(
        max_examples=2,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        # Making what was found smaller takes minutes: the long one does that.
        phases=[Phase.generate],
    )
    run_state_machine_as_test(machine, settings=few)


def test_every_transition_is_the_same(machine: type[Life]) -> None:
    """Each row of the table of transitions, on both databases."""
    every_transition(machine)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_long_lives_are_the_same(machine: type[Life]) -> None:
    """Many more of them."""
    many = settings(max_examples=60, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(machine, settings=many)
