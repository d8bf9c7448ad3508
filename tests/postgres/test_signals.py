"""What the program promises with a file, on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.integration.test_signals import *

pytestmark = pytest.mark.slow
