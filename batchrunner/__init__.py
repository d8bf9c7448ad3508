"""batchrunner finishes a file of API requests: across 429s, daily caps, crashes and days.

The command line and Python callers share one set of verbs; see :mod:`batchrunner.app`.
"""

from __future__ import annotations

__version__ = "0.1.0"
