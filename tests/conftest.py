"""Fixtures that every suite may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fakes import ApiServer, running_server

#: The keyring of whoever runs the tests is none of theirs.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A fake provider in its own process that answers everything; ``api.script(…)`` changes that."""
    with running_server() as server:
        yield server
