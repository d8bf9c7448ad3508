"""A simulated provider: a local server with limits, latencies and faults, for trials and tests.

    async with Simulator(SimulatorConfig(rpm=600)) as base_url:
        ...

Or as a process of its own: ``python -m batchrunner.providers.simulator --rpm 600 --log seen.jsonl``.
It shares no code with the engine, so that it can judge it.
"""

from __future__ import annotations

from batchrunner.providers.simulator.config import (
    Fault,
    SimulatorConfig,
    SimulatorStats,
    WindowKind,
)
from batchrunner.providers.simulator.demo import DEMO_MODEL, demo_config, demo_jobs
from batchrunner.providers.simulator.exchange import Incoming, Plan
from batchrunner.providers.simulator.server import Simulator

__all__ = [
    "DEMO_MODEL",
    "Fault",
    "Incoming",
    "Plan",
    "Simulator",
    "SimulatorConfig",
    "SimulatorStats",
    "WindowKind",
    "demo_config",
    "demo_jobs",
]
