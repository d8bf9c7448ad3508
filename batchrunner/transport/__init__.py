"""The way to the provider: one HTTP session, and every way it can fail in our words."""

from __future__ import annotations

from batchrunner.transport.faults import fault_of
from batchrunner.transport.session import Aborted, Transport

__all__ = ["Aborted", "Transport", "fault_of"]
