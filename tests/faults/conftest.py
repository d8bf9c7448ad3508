"""The scene of each test: a database, a file of jobs and a provider, as the crash suite has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.scene import Scene
from tests.fakes import ApiServer, running_server

MakeScene = Callable[..., Scene]


@pytest.fixture(scope="module")
def calm() -> Iterator[ApiServer]:
    """A provider that answers everything after some 15 ms, so that requests overlap."""
    with running_server(latency_s=0.015) as server:
        yield server


@pytest.fixture
def make_scene(calm: ApiServer, tmp_path: Path) -> MakeScene:
    """Make scenes with keys of their own, so that many may share the provider."""

    def make(**fields: object) -> Scene:
        fields = {"folder": tmp_path, "api": calm, "prefix": f"k{os.urandom(4).hex()}", **fields}
        return Scene(**fields)  # type: ignore[arg-type]

    return make
