"""The schema: what the migrations build, and how a database gets from one to the next."""

from __future__ import annotations
