"""The store: everything that speaks SQL, and the locks beside the database."""

from __future__ import annotations
