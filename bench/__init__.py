"""Benchmarks; each is run as a module and prints Markdown."""

from __future__ import annotations
