"""Examines the way to a provider, and this machine, without sending a job.

``doctor``   every check in order, each ok, warn, fail or skip, with what mends it
``counting``  for a plan that asks for it: requests whose tokens the provider counts
``advice``   after a run that halted for a model: which models the key can use instead

What a fault means and what mends it is said by those who meet it in a run as well (transport,
credentials, rule tables); here it is only told in which check it belongs.
"""

from __future__ import annotations

from batchrunner.checkup.advice import Scene, advised
from batchrunner.checkup.doctor import examine

__all__ = ["Scene", "advised", "examine"]
