"""The tests; a package so that suites can import each other's fakes."""

from __future__ import annotations
