"""The fixtures of whoever is attacked: a house to work in, and a server that answers anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import house
from tests.security.raw_server import RawServer

__all__ = ["house", "raw"]


@pytest.fixture
def raw() -> Iterator[RawServer]:
    """A server that sends the bytes it is given."""
    with RawServer() as server:
        yield server
