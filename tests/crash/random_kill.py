"""SIGKILL at random times, over and over: ``python -m tests.crash.random_kill --rounds N --seed S``.

Each round is one database that is killed again and again, in one of these situations, and then
left in peace until its run is finished and judged:

    submit   a long file is being read        drain   requests go out as fast as they can
    pace     --rpm holds the sends back       pause   the provider said 429, retry-after
    wait     the day's allowance is used up   follow  a second process waits to take over
    tokens   --tpm holds the sends back
    export   over an earlier file             backup  to a new file
    upgrade  of a database of the first version
    prune    of a run, or of its requests and answers, and the rewriting of the file

What is killed is the process, its whole process group, or only the shell that started it (the
process then goes on alone, and whoever comes next follows it). The same seed gives the same rounds,
but for the machine's timing. ``--db-server`` has the databases on a PostgreSQL of its own, for what
is not about files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.crash.chores import CHORES, Chore
from tests.crash.judge import Judge
from tests.crash.scene import LONGEST_S, Done, Scene, ended
from tests.crash.served import a_server, served
from tests.fakes import running_server
from tests.fakes.postgres_server import PostgresServer

__all__ = ["SITUATIONS", "play_round"]

#: A process needs about so long before it does anything of its own (seconds).
_STARTING_S: Final = 0.35


class Situation(NamedTuple):
    """What a round is like."""

    n_jobs: int
    #: How long a process may live (seconds): killed at a random time up to this. A chore's is
    #: counted from when it first touches anything.
    longest_s: float
    deaths: int
    server: Mapping[str, Any]
    options: tuple[str, ...] = ()
    limits: tuple[tuple[int, float], ...] = ()
    #: Given to the last command, which runs in peace.
    last: tuple[str, ...] = ()
    token_limits: tuple[tuple[int, float], ...] = ()
    followed: bool = False
    #: What is killed in the place of what sends.
    chore: Chore | None = None


SITUATIONS: Final[Mapping[str, Situation]] = {
    "submit": Situation(
        20_000, 1.2, 4, {"latency_s": 0.002}, ("--no-run",), last=("-c", "16")
    ),
    "drain": Situation(600, 1.5, 4, {"latency_s": 0.03, "rate_500": 0.02, "rate_reset": 0.02}),
    "pace": Situation(
        40, 4.0, 4, {"latency_s": 0.05}, ("--rpm", "40"), ((40, 60.0),), ("--rpm", "40")
    ),
    "pause": Situation(
        60, 2.5, 4, {"latency_s": 0.03, "throttle_at": (5, 30, 50), "retry_after_s": 3}
    ),
    "wait": Situation(
        60, 2.0, 4, {"latency_s": 0.03}, ("--rpd", "40", "--day-resets", "rolling"),
        ((40, 86_400.0),), ("--rpd", "none"),
    ),
    "tokens": Situation(
        80, 2.5, 4, {"latency_s": 0.05}, ("--tpm", "400", "--max-tokens", "16"),
        last=("--tpm", "none"), token_limits=((400, 60.0),),
    ),
    "follow": Situation(600, 2.0, 3, {"latency_s": 0.03}, followed=True),
    **{
        name: Situation(
            3_000, chore.longest_s, 8, {"latency_s": 0.002}, ("--no-run",), last=("-c", "16"),
            chore=chore,
        )
        for name, chore in CHORES.items()
    },
}  # fmt: skip


#: Situations that only a file has.
_OF_FILES: Final = ("backup", "upgrade")


def play_round(
    situation: str,
    seed: int,
    folder: Path,
    *,
    deaths: int | None = None,
    on: PostgresServer | None = None,
) -> list[str]:
    """Kill one database over and over, in a file or ``on`` a server; return what is wrong at the end."""
    told = SITUATIONS[situation]
    rand = random.Random(f"{situation} {seed}")
    with contextlib.ExitStack() as stack:
        fields: dict[str, Any] = {
            "folder": folder,
            "api": stack.enter_context(running_server(seed=seed, **told.server)),
            "n_jobs": told.n_jobs,
            "concurrency": rand.choice((1, 4, 16)),
            "options": told.options,
            "limits": told.limits,
            "token_limits": told.token_limits,
        }
        scene = Scene(**fields) if on is None else stack.enter_context(served(on, **fields))
        judge = Judge(scene)
        if told.chore is not None:
            done = scene.run(*scene.submit_words("-c", "16"))
            if done.code != 0:
                judge.problems.append(f"exit {done.code} at first: {done.err.strip()[-400:]}")
        for n in range(told.deaths if deaths is None else deaths):
            if told.chore is None:
                _one_life(scene, judge, told, rand)
            else:
                _one_chore(scene, judge, told.longest_s, told.chore, rand, n)
        if told.chore is not None:
            judge.problems += told.chore.last(scene)
        _in_peace(scene, judge, told)
        return judge.problems


def _one_life(scene: Scene, judge: Judge, told: Situation, rand: random.Random) -> None:
    """Start a command, wait a random time, kill in a random way, and look."""
    how = rand.choice(("process", "group", "shell"))
    process = scene.start(*_words(scene), shell=how != "process")
    second = scene.start("resume") if told.followed and scene.is_begun else None
    _killed_within(process, how, _STARTING_S + rand.random() * told.longest_s)
    if how == "shell":
        # The pipes stay open in the process that goes on: they are closed here, not read.
        process.wait(LONGEST_S)
        _kill_group_later(process, rand)
        done = Done(-signal.SIGKILL, "", "")
    else:
        done = ended(process)
    if second is not None:
        _wait_for_some(scene)
        second.kill()
        ended(second)
    if done.died or second is not None:
        judge.died()
        # With a second process two may have died in the middle of their sends.
        judge.crashes += second is not None
    elif done.code not in (0, 3):
        judge.problems.append(f"exit {done.code}: {done.err.strip()[-400:]}")


def _one_chore(
    scene: Scene, judge: Judge, longest_s: float, chore: Chore, rand: random.Random, n: int
) -> None:
    """Start the chore, kill it at a random time, and see whether the old or the new is whole."""
    chore.prepare(scene)
    names = set(scene.folder.iterdir())
    process = scene.start(*chore.words(scene, n))
    while process.poll() is None and set(scene.folder.iterdir()) == names:
        # Nothing is worth dying in before it has touched anything.
        time.sleep(0.001)
    _killed_within(process, "process", rand.random() * longest_s)
    done = ended(process)
    if done.died:
        judge.died()
    elif done.code != 0:
        judge.problems.append(f"exit {done.code}: {done.err.strip()[-400:]}")
    else:
        judge.problems += chore.done(scene)
    judge.problems += chore.problems(scene)


def _killed_within(process: subprocess.Popen[str], how: str, seconds: float) -> None:
    # The one wait of these tests that is for nothing but time: dying at any of it is the point.
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        if how == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _kill_group_later(process: subprocess.Popen[str], rand: random.Random) -> None:
    """The process whose shell died goes on alone for a while, then dies too."""
    time.sleep(rand.random() * 0.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            # Ends when the last of the group is gone.
            pipe.read()
            pipe.close()


def _wait_for_some(scene: Scene) -> None:
    """Wait until whoever took over has sent something, or nothing is left."""
    before = len(scene.requests())
    give_up_at = time.monotonic() + 3.0
    while len(scene.requests()) == before and time.monotonic() < give_up_at:
        time.sleep(0.02)


def _words(scene: Scene) -> list[str]:
    """Return what a person would give now: submit first, and again; resume where there is a run."""
    if scene.is_begun:
        with scene.look() as connection:
            is_there = scene.has_tables(connection)
            if (
                is_there
                and connection.execute("SELECT 1 FROM run WHERE state = 'ready'").fetchone()
            ):
                return ["resume"]
    return scene.submit_words()


def _in_peace(scene: Scene, judge: Judge, told: Situation) -> None:
    done = scene.run(*scene.submit_words("--max-wait", "20s"))
    if done.code not in (0, 3):
        judge.problems.append(f"exit {done.code} in peace: {done.err.strip()[-400:]}")
    if "--no-run" not in told.options:
        # What only stores leaves the dead's locks and sends to whoever drains next.
        judge.judge(answered=False)
    if told.last[1:2] == ("none",):
        scene.limits = scene.token_limits = ()
    done = scene.run("resume", scene.name, *told.last)
    if done.code != 0:
        judge.problems.append(f"exit {done.code} at the end: {done.err.strip()[-400:]}")
    judge.judge()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6, help="databases [6]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--situation", action="append", choices=SITUATIONS, help="only these")
    parser.add_argument(
        "--db-server", action="store_true", help="databases on a PostgreSQL, not in files"
    )
    args = parser.parse_args()
    with a_server() if args.db_server else contextlib.nullcontext() as on:
        return _rounds(args, on)


def _rounds(args: argparse.Namespace, on: PostgresServer | None) -> int:
    n_bad = 0
    situations = args.situation or [
        name for name, told in SITUATIONS.items() if on is None or name not in _OF_FILES
    ]
    for number in range(args.rounds):
        situation = situations[number % len(situations)]
        seed = args.seed + number
        folder = Path(tempfile.mkdtemp(prefix="kill-"))
        began = time.monotonic()
        problems = play_round(situation, seed, folder, on=on)
        took = time.monotonic() - began
        print(f"{situation:7} seed {seed}: {'BAD' if problems else 'good'}, {took:.0f} s")
        for problem in problems:
            print(f"    {problem}")
        sys.stdout.flush()
        if problems:
            n_bad += 1
            print(f"    kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{args.rounds} rounds, {n_bad} with problems")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
