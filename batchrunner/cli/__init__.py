"""The command line: parse, call :mod:`batchrunner.app`, print, return an exit code.

stdout carries data, stderr messages and progress. Nothing here decides anything about jobs,
limits or runs. Modules are imported when their command runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

from batchrunner.cli.entry import main

__all__ = ["main"]
