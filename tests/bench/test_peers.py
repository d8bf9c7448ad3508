"""The comparison with peers: the command, what its judge counts, and what becomes of failures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.common import write_jobs
from bench.peers import measures, table
from bench.peers.bench import Bench, Outcome, Sizes
from bench.peers.chart import draw
from bench.peers.judge import ANSWERED, RECEIVED, REFUSED
from bench.peers.judging import judge
from bench.peers.measures import Limited, Speed
from bench.peers.processes import RunError, running
from bench.peers.report import better, print_report
from bench.peers.table import PEERS, Peer
from bench.peers.tools.plan import Plan

_ROOT = Path(__file__).parents[2]
_HERE = Path(sys.executable)
_PEERS = {peer.name: peer for peer in PEERS}
_SIZES = Sizes(n=50, rounds=1, n_killed=50, rpm=600, minutes=0, limit_s=60)
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark from the root of the repository."""
    return subprocess.run(
        [sys.executable, "-m", "bench.peers", *arguments],
        cwd=_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def ask(url: str, number: int) -> tuple[int, str | None]:
    """Send one job; return the status and ``retry-after``."""
    body = {"messages": [{"role": "user", "content": f"{number}: hello"}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    try:
        with _OPENER.open(request, timeout=10) as response:
            return response.status, response.headers["retry-after"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["retry-after"]


@pytest.mark.slow
def test_command_measures_and_draws_what_is_chosen(tmp_path: Path) -> None:
    """Without a network it prints a whole row for each chosen tool, and draws both."""
    if shutil.which("nginx") is None:
        pytest.skip("The benchmark's canned server is nginx, which is not in PATH.")
    chart = tmp_path / "chart.svg"
    ran = command(
        "--only", "batchrunner,bare", "--jobs", "50", "--rounds", "1", "--minutes", "0",
        "--cache", str(tmp_path / "cache"), "--chart", str(chart),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip().split(" [")[0] for row in rows] == [
        "tool",
        "batchrunner",
        "aiohttp, bare loop",
    ]
    for row in rows[1:]:
        assert [cell.strip() == "—" for cell in row[2:]] == [False] * 6 + [True] * 3
    texts = [text.text for text in ElementTree.fromstring(chart.read_text()).iter() if text.text]
    assert {"batchrunner", "aiohttp, bare loop"} <= set(texts)
    assert not (tmp_path / "cache").exists()


def test_command_refuses_an_unknown_tool() -> None:
    """A tool that takes no part is named, with those that do, before anything runs."""
    ran = command("--only", "bare,nobody")
    assert ran.returncode == 2
    assert "no nobody; there are batchrunner, bare, httpx" in ran.stderr


def test_judge_counts_any_minute(tmp_path: Path) -> None:
    """What goes over the limit gets 429 and how long to wait, and all of it is in the log."""
    with judge(tmp_path / "judge", latency_s=0, tell=2, rpm=2) as server:
        answers = [ask(server.url, number) for number in range(3)]
        seen = [(line.event, line.job) for line in server.log()]
    assert answers[:2] == [(200, None), (200, None)]
    status, retry_after = answers[2]
    assert status == 429
    assert retry_after in {"59", "60"}
    assert [event for event, _ in seen if event != RECEIVED].count(ANSWERED) == 2
    assert (RECEIVED, 2) in seen
    assert (REFUSED, 2) in seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batchrunner", "bare"])
def test_kill_counts_what_is_lost_and_repeated(tmp_path: Path, name: str) -> None:
    """A loop loses all that was answered; batchrunner at most what was in flight; both end whole."""
    n = 200
    killed = measures.kill(_PEERS[name], _HERE, tmp_path / "kill", n, 0.5, 60)
    assert killed.missing == 0
    assert killed.lost <= killed.repeated
    if name == "bare":
        assert killed.lost >= n // 2
    else:
        assert killed.repeated <= 2 * measures.KILL_CONCURRENCY


@pytest.mark.slow
def test_run_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """A tool that hangs costs its time limit and no more, and the reason says so."""
    with judge(tmp_path / "judge", latency_s=600, tell=1) as server:
        plan = Plan(write_jobs(tmp_path / "jobs.jsonl", 1), server.url, 1, tmp_path / "run", None)
        with (
            running(_PEERS["bare"], _HERE, plan) as run,
            pytest.raises(RunError, match="after 1 s"),
        ):
            run.finish(1)
    assert run.process.returncode == -9


@pytest.mark.slow
def test_tool_that_fails_has_dashes_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tool whose installation fails takes no part, the table says why, the others go on."""
    broken = Peer(
        name="broken",
        title="broken",
        package="no-such-package",
        requires=("./no-such-package", "no-such-package==1"),
        module="bare",
    )
    bench = Bench(tmp_path, _SIZES, [broken])
    bench.install(tmp_path / "cache")
    bench.measure()
    print_report(bench.outcomes, _SIZES)
    printed = capsys.readouterr().out
    assert "| broken [1] | no-such-package 1 | — | — | — | — | — | — | — | — | — |" in printed
    assert "1. Installation: not installed: ERROR" in printed
    assert draw(bench.outcomes).count(">—<") == 6


def test_table_says_where_a_peer_is_better() -> None:
    """Each column names the peers whose median is better, and what a share of the limit cost."""
    ours = Outcome(_PEERS["batchrunner"])
    ours.speeds = [Speed(100, 1, 50, 2)] * 3
    ours.limited = Limited(0.99, 0, 0)
    bare = Outcome(_PEERS["bare"])
    bare.speeds = [Speed(90, 2, 60, 3), Speed(200, 2, 40, 3), Speed(300, 2, 30, 3)]
    bare.limited = Limited(1.0, 900, 7)
    price = "aiohttp, bare loop (1.000 for 900 429s and 7 jobs given up)"
    assert better([ours, bare])[0].splitlines() == [
        "Better than batchrunner:",
        "",
        "- jobs a second (batchrunner: 100): aiohttp, bare loop (200)",
        "- memory (batchrunner: 50): aiohttp, bare loop (40)",
        f"- share of the limit used (batchrunner: 0.990): {price}",
    ]
    assert better([bare]) == []


def test_every_peer_is_pinned_and_has_a_program() -> None:
    """What is installed is named with its version, and each tool's program is there."""
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        assert all("==" in requirement for requirement in peer.requires)
        tools = Path(table.__file__).parent / "tools"
        assert peer.module is None or (tools / f"{peer.module}.py").is_file()
