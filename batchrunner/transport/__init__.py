"""The way to the provider: one HTTP session, and every way it can fail in our words.

What is named here loads aiohttp, and only when it is asked for: a view that reads a configuration
wants :mod:`batchrunner.transport.proxies` and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from batchrunner.transport.faults import fault_of
    from batchrunner.transport.session import Aborted, Transport

__all__ = ["Aborted", "Transport", "fault_of"]

_HOMES: Final = {"Aborted": "session", "Transport": "session", "fault_of": "faults"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
