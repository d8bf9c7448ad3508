"""What unpacks to a thousand times its size, or to a million objects, does not take the memory."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.integration.house import House
from tests.security.raw_server import RawServer, http

#: Minutes of waiting: not a part of every run.
pytestmark = pytest.mark.slow

MB = 2**20
#: Runs a command, and tells the most memory that it had, in MB, on its last line.
MEASURED = (
    "import re, sys\n"
    "from batchrunner.cli import main\n"
    "code = main()\n"
    "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)\n"
    "sys.exit(code)\n"
)
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


def measured(house: House, *args: str) -> tuple[int, int]:
    """Return a command's exit code and its most memory, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *args],
        cwd=house.folder, env=house.environ, capture_output=True, check=False, timeout=100,
    )  # fmt: skip
    (kb,) = re.findall(rb"^(\d+)$", done.stderr, re.MULTILINE)[-1:]
    return done.returncode, int(kb) // 1024


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield 256 MB of zeros, packed each way."""
    zeros = b"\0" * (256 * MB)
    yield "gzip", gzip.compress(zeros, 1)
    yield "deflate", zlib.compress(zeros, 1)
    yield "zstd", zstandard.compress(zeros)


@linux
@pytest.mark.parametrize("how", ["gzip", "deflate", "zstd"])
def test_an_answer_that_unpacks_without_end_is_given_up(
    house: House, raw: RawServer, how: str
) -> None:
    """A packed answer is read no further than ``--max-response``: its job fails, memory stays."""
    raw.answer = http(dict(bombs())[how], headers={"content-encoding": how.encode()})
    house.jobs(1)
    code, mb = measured(
        house, "submit", "jobs.jsonl", "--provider", "anthropic", "--base-url", raw.url, "--model",
        "m", "--max-attempts", "1", "--no-wait",
    )  # fmt: skip
    assert code == 1
    assert mb < 200
    (row,) = house.csv()
    assert row["error_kind"] == "bad_response"


@linux
@pytest.mark.parametrize("name", ["bomb.gz", "bomb.zst"])
def test_a_file_that_unpacks_to_one_line_is_refused(house: House, name: str) -> None:
    """A line longer than 64 MB is a fault with its number, whatever it was packed from."""
    packed = dict(bombs())["gzip" if name.endswith(".gz") else "zstd"]
    (house.folder / name).write_bytes(packed)
    for more in ((), ("--skip-invalid",)):
        code, mb = measured(house, "submit", name, *house.to_api, "--no-run", *more)
        assert code == 2
        assert mb < 400


@linux
def test_an_answer_of_a_million_objects_is_shown(house: House, raw: RawServer) -> None:
    """An answer that is all small objects is judged, stored, shown and exported without building them."""
    raw.answer = http(b'{"type":"message","x":[' + b"{}," * (3 * MB) + b"{}]}")
    house.jobs(1)
    house.url = raw.url
    code, mb = measured(
        house, "submit", "jobs.jsonl", "--provider", "anthropic", "--base-url", raw.url, "--model", "m"
    )  # fmt: skip
    assert code == 0
    assert mb < 200
    for view in (
        ("export", "-f", "jsonl", "-o", "x.jsonl"),
        ("export", "-o", "x.csv"),
        ("show", "jobs", "j0"),
    ):
        code, mb = measured(house, *view)
        assert code == 0
        assert mb < 200, view
