"""The system's keyring as a place for keys: one entry a provider, under the service *batchrunner*.

The package ``keyring`` is an extra. It is loaded when a key is looked for there or put there, and
what it raises becomes a sentence here. A keyring that asks the person to unlock it may take its
time; one that gives no answer at all is left after half a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple

from batchrunner.errors import UsageError

__all__ = ["INSTALL", "SERVICE", "Look", "Looked", "Ring", "look", "remove", "store"]

SERVICE: Final = "batchrunner"
INSTALL: Final = "pip install 'batchrunner[keyring]'"
_PATIENCE_S: Final = 30.0


class Looked(NamedTuple):
    """What the keyring said when it was asked for a key."""

    value: str | None
    #: Why there is none, for a list of the places that were looked at.
    why: str = ""


#: Provider → what the keyring has for it.
Look = Callable[[str], Looked]


class _KeyringFaultError(Exception):
    """The keyring can't be used; the text says why, without anything of its content."""


class _NotInstalledError(_KeyringFaultError):
    """The extra is not there."""


def look(provider: str) -> Looked:
    """Return the key that is kept for a provider, or why there is none; raises nothing."""
    try:
        value = _ask(lambda keyring: keyring.get_password(SERVICE, provider))
    except _KeyringFaultError as fault:
        return Looked(None, str(fault))
    if value is not None and not isinstance(value, str):
        return Looked(None, "what it has is no text")
    return Looked(value, "" if value else "it has none")


class Ring:
    """The keyring as one call sees it: asked once for each provider.

    A locked one asks the person for its password, and one that hangs costs half a minute.
    """

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._looked: dict[str, Looked] = {}

    def look(self, provider: str) -> Looked:
        """Return what :func:`look` returned for the provider first."""
        if provider not in self._looked:
            self._looked[provider] = look(provider)
        return self._looked[provider]


def store(provider: str, value: str) -> None:
    """Keep a key for a provider, in place of another one.

    Raises :class:`UsageError` where there is no keyring, or where it does not keep it.
    """

    def put(keyring: ModuleType) -> bool:
        keyring.set_password(SERVICE, provider, value)
        return bool(keyring.get_password(SERVICE, provider) == value)

    try:
        is_kept = _ask(put)
    except _KeyringFaultError as fault:
        raise _unusable(fault) from fault
    if not is_kept:
        raise _unusable(_KeyringFaultError("it does not keep what it is given"))


def remove(provider: str) -> bool:
    """Forget a provider's key; return whether there was one. Raises like :func:`store`."""

    def drop(keyring: ModuleType) -> bool:
        if keyring.get_password(SERVICE, provider) is None:
            return False
        keyring.delete_password(SERVICE, provider)
        return True

    try:
        return bool(_ask(drop))
    except _KeyringFaultError as fault:
        raise _unusable(fault) from fault


def _ask(question: Callable[[ModuleType], Any]) -> Any:
    """Ask the keyring, in a thread of its own so that one that hangs does not hang the program."""
    answers: list[Any] = []
    faults: list[_KeyringFaultError] = []

    def work() -> None:
        try:
            answers.append(question(import_module("keyring")))
        except ModuleNotFoundError:
            faults.append(_NotInstalledError(f"not installed: {INSTALL}"))
        except (Exception, SystemExit) as error:  # a backend is anybody's code
            faults.append(_KeyringFaultError(_why(error)))

    thread = threading.Thread(target=work, name="keyring", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if faults:
        raise faults[0]
    if not answers:
        raise _KeyringFaultError(f"no answer in {_PATIENCE_S:g} seconds")
    return answers[0]


def _why(error: BaseException) -> str:
    """Return what went wrong by the exception's kind; its text is not ours to show."""
    name = type(error).__name__
    return {
        "NoKeyringError": "this machine has none",
        "KeyringLocked": "it is locked",
        "InitError": "it can't be opened",
    }.get(name, f"it can't be used ({name})")


def _unusable(fault: _KeyringFaultError) -> UsageError:
    if isinstance(fault, _NotInstalledError):
        return UsageError(
            "Keys are kept in the system's keyring by an extra that is not installed.",
            fix=f"Install it: {INSTALL}",
        )
    return UsageError(
        f"The system's keyring can't be used: {fault}.",
        fix="Set the provider's variable instead, or let its …_FILE variable name a file with the"
        " key (chmod 600).",
    )
