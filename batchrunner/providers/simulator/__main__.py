"""The simulator as a process of its own: prints its base URL, then serves until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from batchrunner.providers.simulator.config import SimulatorConfig, WindowKind
from batchrunner.providers.simulator.demo import demo_config
from batchrunner.providers.simulator.server import Simulator


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--port", default=0, help="Port on the loopback; 0 takes a free one.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a JSON line for each request.",
)
@click.option("--demo", is_flag=True, help="Start from the demo's limits and faults.")
@click.option("--rpm", type=click.IntRange(1), help="Requests a minute.")
@click.option("--rpd", type=click.IntRange(1), help="Requests a day.")
@click.option(
    "--window",
    # Their values: of members, click takes the names.
    type=click.Choice([kind.value for kind in WindowKind]),
    help="How the minute is counted.",
)
@click.option("--minute", "minute_s", type=float, help="Seconds in a minute of the limit.")
@click.option("--day-resets", help="An IANA zone, or rolling.")
@click.option("--day", "day_s", type=float, help="Seconds in a day of the limit.")
@click.option("--latency", "latency_s", type=float, help="Median seconds to an answer.")
@click.option("--seed", type=int, help="What faults and latencies are drawn from.")
@click.option(
    "--rate-429", type=float, help="Share of sends that get 429 though the limit was kept."
)
@click.option("--rate-529", type=float, help="Share of sends that get 529.")
@click.option("--rate-500", type=float, help="Share of sends that get 500.")
@click.option("--rate-reset", type=float, help="Share of sends whose connection is reset.")
@click.option("--rate-cut", type=float, help="Share of sends whose answer is cut.")
@click.option("--retry-after", "retry_after_s", type=int, help="Seconds that such a 429 asks for.")
@click.option("--unauthorized-after", type=int, help="Refuse every key after so many answers.")
@click.option(
    "--cache-s", type=float, help="Seconds that the prompt cache keeps what it was given."
)
@click.option("--api-key", help="Refuse every other key.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model that exists; repeatable. Default: all but no-such-….",
)
def main(port: int, log: Path | None, demo: bool, **given: Any) -> None:
    """Serve a simulated provider on the loopback until SIGINT or SIGTERM."""
    changes = {name: value for name, value in given.items() if value not in {None, ()}}
    try:
        config = replace(demo_config() if demo else SimulatorConfig(), **changes)
        asyncio.run(serve(Simulator(config, log=log), port))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


async def serve(simulator: Simulator, port: int) -> None:
    """Run a simulator until a signal, with its base URL as the only line on stdout."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        click.echo(await simulator.start(port))
        await stop.wait()
    finally:
        await simulator.stop()


if __name__ == "__main__":
    main(prog_name="python -m batchrunner.providers.simulator")
