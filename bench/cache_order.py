"""What ``--cache-order`` saves: the same jobs with and without it, over sockets, at a simulated provider.

    python -m bench.cache_order [--documents N] [--questions N] [--latency S]

Questions about a few documents of some 5,300 tokens, in turn, as a loop over questions and documents
writes them. The simulator's prompt cache behaves like Anthropic's: what is marked is kept once the
first answer to it begins. Prices are Claude Sonnet 4.5's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_WORDS = "the quick brown fox jumps over the lazy dog and runs through the field again and again; "


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--latency", type=float, default=1.0)
    given = parser.parse_args()
    print(
        "| order | in flight | read, share of input | written, times each document | cost | seconds |"
    )
    print("|---|---|---|---|---|---|")
    for concurrency in (8, 64):
        for option in ("--no-cache-order", "--cache-order"):
            print(_row(given, concurrency, option), flush=True)


def _row(given: argparse.Namespace, concurrency: int, option: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobs.jsonl").write_text("".join(_lines(given)))
        simulator = [sys.executable, "-m", "batchrunner.providers.simulator"]
        with subprocess.Popen(
            [*simulator, "--latency", str(given.latency)], stdout=subprocess.PIPE, text=True
        ) as provider:
            try:
                assert provider.stdout is not None
                url = provider.stdout.readline().strip()
                began = time.monotonic()
                to = ("--provider", "anthropic", "--base-url", url, "--rpm", "none")
                _run(folder, "submit", "jobs.jsonl", *to, "-c", str(concurrency), option, "-q")
                took = time.monotonic() - began
            finally:
                provider.terminate()
        (used,) = json.loads(_run(folder, "usage", "--json"))["usage"]
    document = used["input_tokens"] / (given.documents * given.questions)
    read = used["cache_read_tokens"] / used["input_tokens"]
    written = used["cache_write_tokens"] / document / given.documents
    return (
        f"| {'cache' if option == '--cache-order' else 'input'} | {concurrency} | {read:.1%} |"
        f" {written:.1f} | ${used['cost_usd']:.2f} | {took:.0f} |"
    )


def _run(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "batchrunner", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _lines(given: argparse.Namespace) -> list[str]:
    return [
        json.dumps(_line(document, question)) + "\n"
        for question in range(given.questions)
        for document in range(given.documents)
    ]


def _line(document: int, question: int) -> dict[str, Any]:
    text = f"Document {document}. " + _WORDS * 240
    mark = {"cache_control": {"type": "ephemeral"}}
    return {
        "custom_id": f"{document}-{question}",
        "params": {
            "model": "claude-sonnet-4-5",
            "max_tokens": 50,
            "system": [{"type": "text", "text": text, **mark}],
            "messages": [{"role": "user", "content": f"Question {question} on {document}?"}],
        },
    }


if __name__ == "__main__":
    main()
