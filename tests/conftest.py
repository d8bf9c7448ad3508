"""Fixtures that every suite may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import ApiServer, running_server


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A fake provider in its own process that answers everything; ``api.script(…)`` changes that."""
    with running_server() as server:
        yield server
