"""The house of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House


@pytest.fixture
def house(tmp_path: Path, api: ApiServer) -> Iterator[House]:
    """Give a folder to work in; what a test leaves running is killed."""
    house = House(tmp_path, api.url)
    yield house
    house.clear_up()
