"""A keyring that is a file: ``PYTHON_KEYRING_BACKEND=tests.fakes.keyring_file.FileKeyring``.

``KEYRING_PROPERTY_PATH`` names the file; the package ``keyring`` sets it on the backend.
"""

from __future__ import annotations

import json
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class FileKeyring(KeyringBackend):
    """Keeps passwords as JSON; nothing for real secrets."""

    priority = 1.0
    path = ""

    def _all(self) -> dict[str, str]:
        file = Path(self.path)
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        """Return what is kept."""
        return self._all().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        kept = {**self._all(), f"{service}/{username}": password}
        Path(self.path).write_text(json.dumps(kept))

    def delete_password(self, service: str, username: str) -> None:
        """Forget it."""
        kept = self._all()
        if f"{service}/{username}" not in kept:
            raise PasswordDeleteError(username)
        del kept[f"{service}/{username}"]
        Path(self.path).write_text(json.dumps(kept))


class CountedKeyring(FileKeyring):
    """Notes each question for a password in a file beside its own."""

    priority = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        """Note the question, and answer."""
        with Path(f"{self.path}.asked").open("a") as file:
            file.write(f"{service}/{username}\n")
        return super().get_password(service, username)


class LockedKeyring(FileKeyring):
    """Can't be opened."""

    priority = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        """Refuse."""
        raise KeyringLocked(f"locked: {service}")


class ForgetfulKeyring(FileKeyring):
    """Takes what it is given and keeps nothing, like the null backend."""

    priority = 1.0

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep nothing."""
