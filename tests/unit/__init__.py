"""The unit suite."""

from __future__ import annotations
