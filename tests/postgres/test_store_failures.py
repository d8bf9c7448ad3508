"""What the store promises of a file, on PostgreSQL."""

from __future__ import annotations

from tests.unit.test_store_failures import *
