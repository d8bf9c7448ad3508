"""Finds a provider's credential in the environment, or in a file that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from batchrunner.core.credentials import Credential, check_form
from batchrunner.errors import RefusedError
from batchrunner.providers.profile import Profile

__all__ = ["find_credential"]

#: No key is longer; a larger file is something else.
_FILE_BOUND = 16_384


def find_credential(
    profile: Profile, environ: Mapping[str, str], *, base_url_is_own: bool
) -> Credential | None:
    """Return the credential, ``None`` where there is none and none is needed.

    Variables are tried in the profile's order, each as itself and then as ``NAME_FILE``, a file
    that holds the key. Empty ones count as unset. Space around a key is stripped, with a notice.

    :raises RefusedError: kind ``authentication``, exit code 4: there is none at the provider's
        own address, its form can't be right, it belongs elsewhere, or its file can't be read.
    """
    for name in profile.key_envs:
        for variable, raw in ((name, environ.get(name)), _from_file(f"{name}_FILE", environ)):
            if raw is None or not raw.strip():
                continue
            value = raw.strip()
            notice = f"Stripped the space around the key in {variable}." if value != raw else ""
            if variable.endswith("_FILE") and value == raw.rstrip("\r\n"):
                notice = ""  # a file ends in a line break; that is nobody's mistake
            found = check_form(Credential(value, variable, notice), own_address=base_url_is_own)
            if base_url_is_own:
                _check_owner(found, profile)
            return found
    if base_url_is_own and profile.key_required:
        looked = ", ".join(f"{name}, {name}_FILE" for name in profile.key_envs)
        raise RefusedError(
            f"There is no key for {profile.title}: none of {looked} is set.",
            fix=f"Set {profile.key_envs[0]}, then run resume.",
        )
    return None


def _from_file(variable: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    path = environ.get(variable, "").strip()
    if not path:
        return variable, None
    fix = f"Let {variable} name a readable file that holds the key alone, then run resume."
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_FILE_BOUND + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise RefusedError(
            f"The key file {path} ({variable}) can't be read: {error.strerror}.", fix=fix
        ) from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"The key file {path} ({variable}) is not text.", fix=fix) from error
    if len(data) > _FILE_BOUND or not text.strip():
        what = "empty" if not text.strip() else "too long for a key"
        raise RefusedError(f"The key file {path} ({variable}) is {what}.", fix=fix)
    return variable, text


def _check_owner(credential: Credential, profile: Profile) -> None:
    for start, whose in profile.foreign_keys.items():
        if credential.value.startswith(start):
            raise RefusedError(
                f"{credential.source} holds {whose}.",
                fix=f"Set {profile.key_envs[0]} to a key for {profile.title}, then run resume.",
            )
