"""Finds the configuration files of a call, and makes one configuration of them.

Looked for are the project's file in the folder of the call (or the one named with ``--config``),
then the user's in the place that the system has for such files. Neither has to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from batchrunner.config.decode import ConfigFile, Setting, decode
from batchrunner.config.resolve import Config, Layer, LookedAt
from batchrunner.core.credentials import redact
from batchrunner.errors import InputError, UsageError
from batchrunner.models import LineFault
from batchrunner.providers.registry import Providers

__all__ = ["FILE_NAME", "PROFILE_VARIABLE", "load_config", "user_file"]

FILE_NAME: Final = "batchrunner.toml"
PROFILE_VARIABLE: Final = "BATCHRUNNER_PROFILE"
#: No configuration is longer; a larger file is something else.
_BOUND: Final = 256 * 1024


def load_config(
    *,
    file: Path | None = None,
    profile: str | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str],
    user: Path | None = None,
) -> Config:
    """Return the configuration in force.

    Args:
        file: takes the place of the project's file, and must be there (``--config``).
        profile: the profile asked for (``--profile``); else the variable's.
        folder: where the project's file is looked for; ``None``: the working directory.
        environ: names the profile where nobody asks for one.
        user: the user's file; ``None``: where the system has it.

    Raises:
        InputError: with every fault of the files, by line.
        UsageError: a file can't be read, or no file has the profile.
    """
    project = file if file is not None else (folder or Path()) / FILE_NAME
    roles = {project.absolute(): "project" if file is None else "--config"}
    roles.setdefault((user or user_file()).absolute(), "user")
    looked: list[LookedAt] = []
    found: list[ConfigFile] = []
    faults: list[LineFault] = []
    for path, role in roles.items():
        text = _text(path, role)
        looked.append(LookedAt(path, role, text is not None))
        if text is not None:
            read, wrong = decode(path, text, shown=_shown(path))
            found.append(read)
            faults += wrong
    described = {name: said for file in reversed(found) for name, said in file.providers.items()}
    providers = Providers({name: said.profile for name, said in described.items()})
    # What is wrong with those is said already.
    faulty = frozenset[str]().union(*(file.faulty_providers for file in found))
    faults += [fault for file in found for fault in _unknown_providers(file, providers, faulty)]
    if faults:
        raise _faulty(faults)
    asked, by = (
        (profile, "--profile")
        if profile
        else (environ.get(PROFILE_VARIABLE, "").strip(), PROFILE_VARIABLE)
    )
    if asked and not any(asked in file.profiles for file in found):
        raise _no_profile(asked, by, found, looked)
    return Config(
        layers=[layer for file in found for layer in _layers(file, asked)],
        files=looked,
        profile=asked or None,
        profile_said_by=by if asked else "",
        prices={model: price for file in reversed(found) for model, price in file.prices.items()},
        bounds={unit: bound for file in reversed(found) for unit, bound in file.budget.items()},
        described=described,
        providers=providers,
    )


def user_file() -> Path:
    """Return where the user's own file is, or would be."""
    import platformdirs  # noqa: PLC0415 (only a call that looks for files needs it)

    return platformdirs.user_config_path("batchrunner", appauthor=False) / FILE_NAME


def _text(path: Path, role: str) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_BOUND + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if role == "--config":
            raise UsageError(
                f"There is no configuration {path}.",
                fix="Name one that is there with --config FILE.",
            ) from error
        return None
    except OSError as error:
        if role == "user" and _is_closed(path):
            return None
        raise UsageError(
            f"The configuration {path} can't be read: {error.strerror}.",
            fix="Let it be a file that you may read, or remove it.",
        ) from error
    if len(data) > _BOUND:
        raise UsageError(
            f"The configuration {path} is larger than {_BOUND // 1024} KB.",
            fix="Name another one with --config FILE.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        fault = LineFault(file=_shown(path), line=line, reason="this is not UTF-8")
        raise _faulty([fault]) from error


def _is_closed(path: Path) -> bool:
    """Whether nobody may even see if a file is there: it is in somebody else's home, as for services."""
    try:
        path.lstat()
    except PermissionError:
        return True
    return False


def _shown(path: Path) -> str:
    """Return how messages call a file: by its name alone where it is in the working directory."""
    return path.name if path.parent == Path.cwd() else str(path)


def _layers(file: ConfigFile, profile: str) -> Iterable[Layer]:
    top = _provider(file.top)
    if profile in file.profiles:
        chosen = file.profiles[profile]
        yield Layer(chosen, _provider(chosen) or top)
    yield Layer(file.top, top)


def _unknown_providers(
    file: ConfigFile, providers: Providers, faulty: frozenset[str]
) -> Iterator[LineFault]:
    for settings in (file.top, *file.profiles.values()):
        said = settings.get("provider")
        if said is not None and str(said.value).lower() in faulty:
            continue
        try:
            if said is not None:
                providers.profile(said.value)
        except UsageError as error:
            # Whoever put a key there must not find it in a message.
            reason = redact(f"provider: {error.message} {error.fix}")
            yield LineFault(file=_shown(file.path), line=said.line if said else 1, reason=reason)


def _provider(settings: Mapping[str, Setting]) -> str | None:
    found = settings.get("provider")
    return None if found is None else str(found.value).lower()


def _faulty(faults: list[LineFault]) -> InputError:
    plural = "s are" if len(faults) > 1 else " is"
    return InputError(
        f"{len(faults)} line{plural} wrong in the configuration. Nothing was done.",
        faults=faults[:20],
        n_faults=len(faults),
        fix="mend what is named; every key and what it may be: batchrunner schema config",
        kind="config",
    )


def _no_profile(asked: str, by: str, found: list[ConfigFile], looked: list[LookedAt]) -> UsageError:
    names = list(dict.fromkeys(name for file in found for name in file.profiles))
    near = get_close_matches(asked, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    where = " and ".join(str(at.path) for at in looked)
    return UsageError(
        f"There is no profile {asked!r} ({by}) in {where}.{hint}",
        fix=f"Use one of: {', '.join(names)}."
        if names
        else f"Write a table [profiles.{asked}] there.",
        kind="config",
    )
