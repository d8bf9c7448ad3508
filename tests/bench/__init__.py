"""The benchmarks' own promises: what they count, and that their commands work."""

from __future__ import annotations
