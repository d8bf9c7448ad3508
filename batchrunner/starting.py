"""The files that ``init`` writes: jobs to try, and a configuration that says what can be changed.

They run as they are, against the built-in simulator. Nothing that is there is ever overwritten: all
of them are written, or none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from batchrunner.errors import UsageError

__all__ = ["CONFIG", "JOBS", "write_starter"]

CONFIG: Final = "batchrunner.toml"
JOBS: Final = "jobs.jsonl"

_CONFIG_TEXT: Final = """\
# What would be typed each time "batchrunner" is called in this folder. What you type comes before
# what stands here. "batchrunner config show" says what is in force, and which line says so.

# Who answers. The simulator is built in: it needs no key and no network, and costs nothing.
provider = "simulator"
model = "sim-1"

# For Claude put a # before the two lines above, and take it from these two. The key is not written
# here: set ANTHROPIC_API_KEY, keep it with "batchrunner key set anthropic", or name a file.
# provider = "anthropic"
# model = "claude-haiku-4-5"
# key_file = "~/.config/anthropic-key"

# Filled in where a job's line leaves it out.
max_tokens = 500
# system = "Answer in one sentence."

# What your plan allows. It holds over all runs in this folder, also over a crash and a restart.
# Without a limit here it is learned from the provider's answers.
rpm = 600
# rpd = 1000
# day_resets = "UTC"
# min_interval = 0.5

# The longest single wait (a day's limit, a provider's pause) before it stops with work left.
# max_wait = "26h"

# The way there. A password is never written here as it is: "http://me:${PROXY_PASSWORD}@host:8080".
# proxy = "socks5h://127.0.0.1:1080"
# timeout = "10m"
# connect_timeout = "30s"

# Stop when so many jobs have failed, or such a share of them.
# max_failures = "10%"

# Keep requests and answers compressed in the database.
# compress = true

# Send jobs that begin alike one after the other, so that the provider's prompt cache is read.
# cache_order = true

# What all runs in this folder may cost in a day (of UTC), in dollars; what is used up waits for the next.
# [budget]
# day = 5

# "batchrunner submit jobs.jsonl --profile fast" takes these before those above.
# [profiles.fast]
# rpm = 4000
"""

_TICKETS: Final = (
    ("Where is my parcel? The tracking page has not moved since Tuesday.", "shipping"),
    ("I was charged twice in October. Please refund one of the two.", "billing"),
    ("The app crashes as soon as I open the photo book on my tablet.", "bug"),
    ("I can't log in any more since I changed my email.", "account"),
    ("It would help me a lot if the calendar had a dark mode.", "feature"),
    ("Just wanted to say thanks, the boots arrived early.", "praise"),
)
_TASK: Final = (
    "Sort the support ticket into one of: billing, shipping, bug, account, feature, praise."
    " Answer with the label alone.\n\n"
)


def _jobs() -> bytes:
    """Return the jobs, one JSON object a line; ``metadata`` is not sent, and comes back."""
    lines = (
        {"id": f"ticket-{n}", "prompt": _TASK + text, "metadata": {"expected": label}}
        for n, (text, label) in enumerate(_TICKETS, start=1)
    )
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def write_starter(folder: Path) -> list[Path]:
    """Write the files into a folder and return them.

    Raises :class:`UsageError` where one of them is there already, or can't be written.
    """
    contents = {folder / JOBS: _jobs(), folder / CONFIG: _CONFIG_TEXT.encode()}
    written: list[Path] = []
    try:
        for path, content in contents.items():
            with path.open("xb") as file:
                written.append(path)
                file.write(content)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, FileExistsError):
            raise UsageError(
                f"{error.filename} is there already; nothing was written.",
                fix="Make an empty folder and go there: mkdir my-jobs && cd my-jobs &&"
                " batchrunner init",
            ) from error
        raise UsageError(
            f"{error.filename or folder} can't be written: {error.strerror or error}.",
            fix="Go to a folder that you may write in, on a disk with room.",
        ) from error
    return written
