"""Finds a provider's credential: environment, a file that it names, key file, keyring.

The first place that has one counts. What is found is checked in its form before anything is sent;
no message ever shows it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from batchrunner.core.credentials import Credential
from batchrunner.core.key_forms import NEEDED, fault_of_form, looks_like_key
from batchrunner.errors import RefusedError, UsageError
from batchrunner.providers import keyring
from batchrunner.providers.profile import Profile

__all__ = ["KEYRING", "MissingKeyError", "find_credential", "forget_key", "keep_key"]

#: The source of a credential that the keyring keeps.
KEYRING: Final = "the keyring"
_RESUME: Final = "batchrunner resume"
#: No key is longer; a larger file is something else.
_FILE_BOUND: Final = 16_384
#: Orchestrators put secrets there, readable by all of a container of one user.
_MOUNTED: Final = (Path("/run/secrets"), Path("/var/run/secrets"))


class MissingKeyError(RefusedError):
    """A key is needed and is in none of the places that were looked at."""


class _Place(NamedTuple):
    """One place that was looked at."""

    #: As a message names it.
    name: str
    #: What is there, as it is; ``None`` or blank: no key.
    raw: str | None
    #: How a key is put there, to be pasted.
    mend: str
    #: Why there is none.
    why: str = "not set"
    is_file: bool = False
    notice: str = ""


def find_credential(
    profile: Profile,
    environ: Mapping[str, str],
    *,
    base_url_is_own: bool,
    key_file: Path | None = None,
    look: keyring.Look = keyring.look,
) -> Credential | None:
    """Return the credential, ``None`` where there is none and none is needed.

    Variables are tried in the profile's order, each as itself and then as ``NAME_FILE``, a file
    that holds the key; then ``key_file``, then the keyring, by ``look``. Empty ones count as unset. Space
    around a key is stripped, with a notice.

    :raises RefusedError: kind ``authentication``, exit code 4: there is none at the provider's
        own address, its form can't be right, it belongs elsewhere, or its file can't be read.
    """
    if not profile.key_envs:
        return None
    looked = []
    for place in _places(profile, environ, key_file, look):
        if place.raw is None or not place.raw.strip():
            looked.append(place)
            continue
        found = _check_form(_read(place), profile, base_url_is_own=base_url_is_own, mend=place.mend)
        others = _other_variables(place.name, found.value, profile, environ)
        return Credential(found.value, found.source, f"{found.notice} {others}".strip())
    if base_url_is_own and profile.key_required:
        raise _missing(profile, looked)
    return None


def keep_key(profile: Profile, value: str, *, is_any_form: bool = False) -> Credential:
    """Keep a key in the system's keyring, and return it as it is kept.

    Its form is checked as at the provider's own address, unless ``is_any_form``: a gateway's.

    :raises RefusedError: it can't be the provider's key.
    :raises UsageError: there is no keyring, or it can't be used.
    """
    if not value.strip():
        raise UsageError("No key was given.", fix=f"batchrunner key set {profile.name}")
    given = _read(_Place("the input", value, "", is_file=True))
    mend = f"batchrunner key set {profile.name}"
    found = _check_form(given, profile, base_url_is_own=not is_any_form, mend=mend)
    keyring.store(profile.name, found.value)
    return found


def forget_key(profile: Profile) -> bool:
    """Take a provider's key out of the system's keyring; return whether there was one."""
    return keyring.remove(profile.name)


def _check_form(
    credential: Credential, profile: Profile, *, base_url_is_own: bool, mend: str
) -> Credential:
    """Return ``credential`` if it can be the provider's, else raise naming its place and fault.

    ``mend`` is how a better one is put in its place. Elsewhere than at the provider's own address
    any value may be wanted; only what no header can carry is refused there.

    :raises RefusedError: kind ``authentication``; the message never shows the value.
    """
    source = credential.source
    fault = fault_of_form(
        credential.value,
        provider=profile.name,
        is_own_address=base_url_is_own,
        is_bearer=source.startswith("ANTHROPIC_AUTH_TOKEN"),
    )
    if not fault:
        return credential
    verb = fault.partition(" ")[0]
    what = source if verb == "holds" else f"The key in {source}"
    what = what[0].upper() + what[1:]
    needs = f" {profile.title} needs {_needed(profile)}." if verb == "holds" else ""
    raise RefusedError(f"{what} {fault}.{needs}", fix=mend)


def _needed(profile: Profile) -> str:
    """Return which key a provider takes and where one is made."""
    needed = NEEDED.get(profile.name)
    if needed is None:
        return "an API key of its own"
    start = f" that starts with {needed.start}" if needed.start else ""
    return f"an API key of its own{start}, made at {needed.page}"


def _export(variable: str) -> str:
    return f"export {variable}='…' && {_RESUME}"


def _places(
    profile: Profile, environ: Mapping[str, str], key_file: Path | None, look: keyring.Look
) -> Iterator[_Place]:
    """Yield the places in order, each looked at only when it is its turn."""
    for name in profile.key_envs:
        raw = environ.get(name)
        why = "not set" if raw is None else "empty"
        yield _Place(name, raw, _export(name), why)
        variable = f"{name}_FILE"
        path = environ.get(variable, "").strip()
        if path:
            yield _from_file(variable, Path(path).expanduser())
        else:
            yield _Place(variable, None, "", "not set" if variable not in environ else "empty")
    if key_file is not None:
        yield _from_file("key_file", key_file.expanduser())
    else:
        yield _Place("key_file in the configuration", None, "", "none")
    kept = look(profile.name)
    mend = f"batchrunner key set {profile.name} && {_RESUME}"
    yield _Place(KEYRING, kept.value, mend, kept.why)


def _from_file(named_by: str, path: Path) -> _Place:
    """Read a key file. Raises :class:`RefusedError` where it can't be read or holds no key."""
    what = f"The key file {path} ({named_by})"
    mend = f"put the key alone into {path}, then: {_RESUME}"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_FILE_BOUND + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        if looks_like_key(path.name):
            # Named as a path it would be shown.
            what = f"What {named_by} names, which looks like a key itself,"
        fix = f"let {named_by} name a readable file that holds the key alone, then: {_RESUME}"
        raise RefusedError(f"{what} can't be read: {error.strerror}.", fix=fix) from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{what} is not text.", fix=mend) from error
    except ValueError as error:
        # A zero byte in its name, as a configuration may have it.
        fix = f"let {named_by} name a file that holds the key alone, then: {_RESUME}"
        raise RefusedError(f"{what} can't be read: no file has such a name.", fix=fix) from error
    if len(data) > _FILE_BOUND or not text.strip():
        fault = "empty" if not text.strip() else "too long for a key"
        raise RefusedError(f"{what} is {fault}.", fix=mend)
    notice = ""
    if mode & 0o077 and not any(path.is_relative_to(mounted) for mounted in _MOUNTED):
        notice = f"{what} can be read by other users (chmod 600 {path})."
    return _Place(named_by, text, mend, is_file=True, notice=notice)


def _read(place: _Place) -> Credential:
    """Return what a place holds without the space around it, and say so where that is odd."""
    assert place.raw is not None
    value = place.raw.strip()
    # A file ends in a line break; that is nobody's mistake.
    expected = place.raw.rstrip("\r\n") if place.is_file else place.raw
    notices = [place.notice] if place.notice else []
    if value != expected:
        notices.append(f"Stripped the space around the key in {place.name}.")
    if place.name.startswith("ANTHROPIC_AUTH_TOKEN") and value.startswith("sk-ant-oat"):
        notices.append(
            f"{place.name} holds an OAuth token. One of a Claude subscription (Pro, Max, Claude"
            " Code) is not API access and is refused; one of workload federation is taken."
        )
    return Credential(value, place.name, " ".join(notices))


def _other_variables(taken: str, value: str, profile: Profile, environ: Mapping[str, str]) -> str:
    """Return what to say where another variable holds another key."""
    others = [
        name
        for name in profile.key_envs
        if name != taken and environ.get(name, "").strip() not in {"", value}
    ]
    return f"{taken} is used; {' and '.join(others)} is set too." if others else ""


def _missing(profile: Profile, looked: list[_Place]) -> MissingKeyError:
    places = ", ".join(f"{place.name} ({place.why})" for place in looked)
    return MissingKeyError(
        f"There is no key for {profile.title}. Looked at: {places}. It needs {_needed(profile)}.",
        fix=f"{_export(profile.key_envs[0])}; or, to keep it for later calls too:"
        f" batchrunner key set {profile.name}",
    )
