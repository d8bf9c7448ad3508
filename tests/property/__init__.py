"""The property suite."""

from __future__ import annotations
