"""An environment of its own for every peer, made once by pip and kept in a cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.peers.table import Peer

#: Seconds that the installation of one tool may take.
LIMIT_S = 900
_DONE = "freeze.txt"


class InstallError(Exception):
    """A tool that could not be installed; the text is pip's reason."""


def cache_folder() -> Path:
    """Return where the environments live unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "batchrunner-peers"


def python_for(peer: Peer, cache: Path) -> Path:
    """Return the Python that runs a peer, after installing what it needs.

    An environment counts as made once its list of versions is written, which comes last; one of
    other pins, or cut off in the middle, is made anew. Raises :class:`InstallError`.
    """
    if not peer.requires:
        return Path(sys.executable)
    folder = cache / f"{peer.name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    wanted = "# " + " ".join(peer.requires)
    done = folder / _DONE
    if done.exists() and done.read_text().partition("\n")[0] == wanted:
        return python
    print(f"installing {' '.join(peer.requires)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    _pip(python, "install", "--quiet", *peer.requires)
    done.write_text(f"{wanted}\n{_pip(python, 'freeze')}")
    return python


def _pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise InstallError(f"not installed: pip took more than {LIMIT_S} s") from None
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(f"not installed: {(errors or ran.stderr.splitlines() or ['?'])[-1]}")
    return ran.stdout
