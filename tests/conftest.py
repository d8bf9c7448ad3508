"""Fixtures that every suite may use."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import ApiServer, running_server

#: The keyring of whoever runs the tests is none of theirs.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

_HERE = Path(__file__).parent
#: Suites of minutes that look for what nobody has thought of: beside the others only when asked for.
_LONG = ("faults", "limits")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long suites to ``-m slow``."""
    for item in items:
        if item.path.relative_to(_HERE).parts[0] in _LONG:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _cells() -> Iterator[None]:
    """How long a cell may be is Python's, for the whole process: a test's own bound ends with it."""
    usual = csv.field_size_limit()
    yield
    csv.field_size_limit(usual)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A fake provider in its own process that answers everything; ``api.script(…)`` changes that."""
    with running_server() as server:
        yield server
