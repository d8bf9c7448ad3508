"""Small programs, one a peer: the shortest that each tool's own documents lead to.

Each is run as ``python -m bench.peers.tools.NAME PLAN`` by the Python of that tool's environment,
imports nothing of batchrunner, and is run again in the same way after it was killed.
"""

from __future__ import annotations
