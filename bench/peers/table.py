"""Who takes part: what each needs installed, what it is called, and what it cannot do.

Versions are pinned here; what pip chose beneath them is written to ``freeze.txt`` in each
environment. Raise a pin, run the benchmark, commit the table it prints.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.peers import results
from bench.peers.answers import Dialect
from bench.peers.results import Kept
from bench.peers.tools.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One tool."""

    #: What ``--only`` takes.
    name: str
    title: str
    #: The package whose version the table shows.
    package: str
    #: Pinned requirements; empty: runs in the environment that batchrunner is in.
    requires: tuple[str, ...] = ()
    #: Module in ``bench.peers.tools``; ``None``: batchrunner's own command line.
    module: str | None
    dialect: Dialect = Dialect.OPENAI
    #: Whether it can be told requests a minute.
    paces: bool = False
    #: Reads what it has on the disk.
    kept: Callable[[Plan], Kept] = results.in_lines
    #: What a reader must know, as footnotes.
    notes: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The package and its version: the pinned one, else the one installed here."""
        for requirement in self.requires:
            name, _, version = requirement.partition("==")
            if name.partition("[")[0] == self.package:
                return f"{self.package} {version}"
        return f"{self.package} {importlib.metadata.version(self.package)}"


_IN_MEMORY: Final = "Keeps its results in memory until the end; run again, it sends everything."
_NO_LIMIT: Final = "Cannot be told a limit."
_SDK: Final = (
    f"{_NO_LIMIT} The SDK tries again twice after a 429 and waits as `retry-after` says; then the job"
    " is given up."
)

PEERS: Final[tuple[Peer, ...]] = (
    Peer(
        name="batchrunner",
        title="batchrunner",
        package="batchrunner",
        module=None,
        paces=True,
        kept=results.in_export,
        notes=("`submit`: the file is checked and stored, then sent, in one process.",),
    ),
    Peer(
        name="bare",
        title="aiohttp, bare loop",
        package="aiohttp",
        module="bare",
        notes=(_IN_MEMORY, f"{_NO_LIMIT} A 429 is the end of a job."),
    ),
    Peer(
        name="httpx",
        title="httpx, gather loop",
        package="httpx",
        requires=("httpx==0.28.1",),
        module="httpx_loop",
        notes=(_IN_MEMORY, f"{_NO_LIMIT} A 429 is the end of a job."),
    ),
    Peer(
        name="openai",
        title="OpenAI SDK, gather loop",
        package="openai",
        requires=("openai==3.54.0",),
        module="openai_sdk",
        notes=(_IN_MEMORY, _SDK),
    ),
    Peer(
        name="anthropic",
        title="Anthropic SDK, gather loop",
        package="anthropic",
        requires=("anthropic==2.12.0",),
        module="anthropic_sdk",
        dialect=Dialect.ANTHROPIC,
        notes=(_IN_MEMORY, _SDK),
    ),
    Peer(
        name="litellm",
        title="litellm `batch_completion`",
        package="litellm",
        requires=("litellm==1.106.2",),
        module="litellm_batch",
        notes=(_IN_MEMORY, f"{_NO_LIMIT} (Its router can, which `batch_completion` does not use.)"),
    ),
    Peer(
        name="async-batch-llm",
        title="async-batch-llm, SQLite store",
        package="async-batch-llm",
        requires=("async-batch-llm[openai]==0.28.0", "openai==3.54.0"),
        module="async_batch_llm",
        paces=True,
        kept=results.in_artifacts,
        notes=("Its store as it comes: one commit for up to 100 results or 10 ms, balanced.",),
    ),
    Peer(
        name="curator",
        title="bespokelabs-curator",
        package="bespokelabs-curator",
        requires=("bespokelabs-curator==0.1.31",),
        module="curator",
        paces=True,
        kept=results.in_cache,
        notes=(
            "Asks once for the limits before it starts; that request is not counted.",
            "The tables of its token count are those that litellm carries, not from the network.",
        ),
    ),
    Peer(
        name="cookbook",
        title="OpenAI cookbook's pacing",
        package="aiohttp",
        requires=("aiohttp==3.14.5",),
        module="cookbook",
        paces=True,
        notes=(
            "Written anew in its way: a pause of 1 ms after each request, any number in flight.",
            "Appends each result to a file, which a second run does not read: it sends everything.",
        ),
    ),
    Peer(
        name="sqlalchemy",
        title="SQLAlchemy, a commit a step",
        package="sqlalchemy",
        requires=("sqlalchemy[asyncio]==2.1.9", "aiosqlite==0.22.1", "aiohttp==3.14.5"),
        module="sqlalchemy_steps",
        kept=results.in_queue,
        notes=(f"{_NO_LIMIT} A 429 is the end of a job.",),
    ),
)
