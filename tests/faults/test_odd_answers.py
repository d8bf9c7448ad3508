"""Servers that answer oddly: each oddness is its job's alone, told as what it was, and bounded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from batchrunner.app import Batchrunner
from batchrunner.options import JobFilter
from batchrunner.views import JobView
from tests.crash.judge import Judge
from tests.crash.scene import Done, Scene
from tests.faults.odd_server import ODDNESSES, OddServer, running_odd_server

#: What each job ends as: the kinds that are right for it (none: completed), and words of the message.
ENDS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "trickle": (("timeout",), "within 4 s"),
    "never_answers": (("timeout",), "waiting for the first byte"),
    "never_reads": (("timeout",), "within 4 s"),
    "large": (("bad_response",), "longer than 33554432 bytes"),
    "endless": (("bad_response",), "longer than 33554432 bytes"),
    "gzip_bomb": (("bad_response",), "longer than 33554432 bytes"),
    "zstd_bomb": (("bad_response",), ""),
    "brotli": (("bad_response",), "packed in a way that was not asked for"),
    "no_gzip": (("bad_response",), "unpacked"),
    "not_utf8": ((), ""),
    "deep": (("bad_response",), "not JSON"),
    "deep_closed": (("bad_response",), "not JSON"),
    # Who is first sees it as a break.
    "large_header": (("bad_response", "connection_reset"), ""),
    "many_headers": (("bad_response", "connection_reset"), ""),
    "empty": (("bad_response",), "not JSON"),
    "continue": ((), ""),
    "early_hints": ((), ""),
    "http10": ((), ""),
    "short": (("connection_reset",), "cut off"),
    "long_status": (("bad_response", "connection_reset"), ""),
    "two_lengths": (("bad_response",), ""),
    "no_http": (("bad_response",), "not HTTP"),
}
#: What a run of them may take; a bomb unpacked whole would be a hundred megabytes more (in KB).
MOST_MEMORY: Final = 400 * 1024
#: Runs a command and notes the most memory it had. The kernel counts for a process what its parent had
#: when it began it, and a process of tests may be large: so a small one comes between.
_WEIGHED: Final = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[2:]);"
    " most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
    " open(sys.argv[1], 'w').write(str(most)); sys.exit(code)"
)
#: Longer than the kernel takes for a reader that does not read.
LARGE: Final = 8_000_000


class Played(NamedTuple):
    """A run of all oddnesses, each followed by a job that is answered well."""

    scene: Scene
    done: Done
    memory: int

    def job(self, word: str) -> JobView:
        """Return one job as it ended."""
        (job,) = Batchrunner(self.scene.db).jobs("run", JobFilter(keys=(f"odd-{word}",)))
        return job


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    """The provider."""
    with running_odd_server() as server:
        yield server


@pytest.fixture(scope="module")
def played(odd: OddServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the run once for all tests."""
    folder = tmp_path_factory.mktemp("odd")
    scene = _scene(
        folder, odd, [word for pair in zip(ENDS, range(99), strict=False) for word in pair]
    )
    # Twice, since a job may be sent on a connection that the server is about to close.
    note = folder / "memory"
    weighed = replace(scene, program=("-c", _WEIGHED, str(note), sys.executable, *scene.program))
    done = weighed.run(*scene.submit_words("--timeout", "4", "--max-attempts", "2"))
    return Played(scene, done, int(note.read_text()))


def _scene(folder: Path, odd: OddServer, words: list[str | int]) -> Scene:
    scene = Scene(folder=folder, api=odd, n_jobs=0, prefix="odd", concurrency=6)  # type: ignore[arg-type]
    scene.keys = [f"odd-{word}" for word in words]
    with scene.file.open("w") as file:
        for key in scene.keys:
            more = "x" * LARGE if key == "odd-never_reads" else ""
            job = {"id": key, "prompt": f"ask {key} end{more}", "model": "sim-1"}
            file.write(json.dumps(job) + "\n")
    return scene


def test_every_oddness_is_tried() -> None:
    """No way of the server to be odd is left out."""
    assert {*ENDS, "html", "heavy"} == {*ODDNESSES}


@pytest.mark.parametrize("word", ENDS)
def test_an_odd_answer_is_its_jobs_alone(played: Played, word: str) -> None:
    """It fails as what it was, or is an answer like any other; it may have been executed."""
    kinds, words = ENDS[word]
    job = played.job(word)
    if not kinds:
        assert (job.status, job.error_kind) == ("completed", None)
        return
    assert job.status == "failed"
    assert job.error_kind in kinds
    assert words in (job.error_message or "")
    sends = Batchrunner(played.scene.db).show("run", job.key).sends
    assert all(send.maybe_executed or send.http_status == 200 for send in sends)


def test_odd_answers_leave_the_others_alone(played: Played) -> None:
    """Every other job completes, the run ends with 1, and the log agrees with the server's."""
    assert played.done.code == 1, played.done.err
    assert "Traceback" not in played.done.err
    rows = Batchrunner(played.scene.db).jobs("run", JobFilter())
    assert {row.status for row in rows if row.key[4:].isdigit()} == {"completed"}
    assert Judge(played.scene).judge(answered=False) == []


def test_odd_answers_take_no_more_memory_than_is_allowed(played: Played) -> None:
    """A bomb is given up where the answer becomes too long, not after it is unpacked."""
    assert played.memory < MOST_MEMORY


@pytest.mark.parametrize("format_name", ["csv", "jsonl", "anthropic", "openai"])
def test_odd_answers_are_exported(played: Played, format_name: str) -> None:
    """Every format writes a row a job, in order, whatever was answered."""
    done = played.scene.run("export", "run", "-f", format_name)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == len(played.scene.keys) + (format_name == "csv")


def test_a_page_among_answers_halts_until_it_is_looked_at(odd: OddServer, tmp_path: Path) -> None:
    """A 200 with a web page is a portal even in mid-run: exit 6, no job is charged, and resume asks again."""
    scene = _scene(tmp_path, odd, [1, 2, "html", 3, 4])
    done = scene.run(*scene.submit_words())
    assert done.code == 6, done.err
    assert "Hello" in done.err
    assert "fix: " in done.err
    (job,) = Batchrunner(scene.db).jobs("run", JobFilter(keys=("odd-html",)))
    assert (job.status, job.attempts) == ("pending", 0)
    assert scene.run("resume").code == 6
