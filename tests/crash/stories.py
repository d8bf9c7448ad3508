"""What people do, with a death in the middle: each story passes some of the named points.

A story is played with a point (``name:n``); it tells whether anything died there, and leaves the
verdict to the judge. Whoever died is followed by the same command, or by ``resume``, as a person
would give it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from batchrunner.models import ExitCode
from tests.crash.chores import make_older, upgrade_problems
from tests.crash.judge import Judge, tokens_of
from tests.crash.pruning import MARK, add_old_run, half_pruned
from tests.crash.scene import Done, Scene, ended, looked_at

__all__ = ["STORIES", "Database", "Story", "go_on"]

#: What holds the jobs.
Database = Literal["file", "server"]
#: Points that only a file has.
_OF_FILES: Final = frozenset({"create.made", "close.before", "close.emptied", "prune.shrunk"})
#: Stories about chunks need more jobs than one chunk has.
MANY: Final = 2_600
#: The bound on an answer, and what is reserved for a job at most before anything was learned.
MOST_TOKENS: Final = 16
RESERVED: Final = 32
#: Workers that come one after the other, a second or so each, until the list is empty.
_COMING: Final = 12
#: What a database may have after a prune (bytes); the requests alone are three times that.
LARGEST: Final = 600_000


class Story(NamedTuple):
    """A sequence of commands, of which one dies."""

    points: tuple[str, ...]
    play: Callable[[Scene, Judge, str], bool]
    n_jobs: int = 24
    #: Where it can happen.
    on: frozenset[Database] = frozenset({"file", "server"})

    def points_on(self, database: Database) -> tuple[str, ...]:
        """Return the points that are passed with such a database."""
        if database == "file":
            return self.points
        return tuple(point for point in self.points if point not in _OF_FILES)


def go_on(scene: Scene, judge: Judge, *, by_resume: bool, words: tuple[str, ...] = ()) -> Done:
    """Carry a run on after a death: by ``resume``, or by submitting the same again."""
    done = scene.run("resume", *words) if by_resume and scene.is_begun else None
    if done is None or done.code == 2:
        # Nothing was stored before the death.
        done = scene.run(*scene.submit_words(*words))
    return done


def _expect(judge: Judge, done: Done, code: int = 0) -> None:
    if done.code != code:
        judge.problems.append(f"exit {done.code} instead of {code}: {done.err.strip()[-500:]}")


def _by_resume(point: str) -> bool:
    return int(point.rpartition(":")[2]) % 2 == 1


def _drain(scene: Scene, judge: Judge, point: str) -> bool:
    """Submit with ``-o``; die; go on; the output is whole."""
    output = scene.folder / "out.jsonl"
    scene.options = (*scene.options, "-o", str(output))
    done = scene.run(*scene.submit_words(), point=point)
    if done.died:
        judge.died()
        if output.exists() and len(output.read_bytes().splitlines()) != len(scene.keys):
            judge.problems.append("half an export is in its place")
        _expect(judge, go_on(scene, judge, by_resume=_by_resume(point)))
    else:
        _expect(judge, done)
    problems = judge.judge()
    if not output.exists():
        problems.append("there is no output file")
    elif [json.loads(row)["key"] for row in output.read_bytes().splitlines()] != scene.keys:
        problems.append("the output does not have the input's keys in order")
    return done.died


def _daily(scene: Scene, judge: Judge, point: str) -> bool:
    """A rolling day allows what the jobs need and no resend: not one request more goes out."""
    allowed = len(scene.keys)
    scene.limits = [(allowed, 86_400.0)]
    scene.options = (*scene.options, "--rpd", str(allowed), "--day-resets", "rolling")
    done = scene.run(*scene.submit_words("--max-wait", "1s"), point=point)
    if done.died:
        judge.died()
        again = go_on(scene, judge, by_resume=_by_resume(point), words=("--max-wait", "1s"))
        judge.judge(answered=False)
        if again.code == 3:
            # Claimed and never sent looks like sent: that much of the day is given away.
            left = allowed - len(scene.requests())
            if left > 2 * scene.concurrency:
                judge.problems.append(f"{left} of {allowed} requests of the day were wasted")
            scene.limits = ()
            again = scene.run("resume", "--rpd", "none")
        _expect(judge, again)
    else:
        _expect(judge, done)
    judge.judge()
    return done.died


def _tokens(scene: Scene, judge: Judge, point: str) -> bool:
    """A day's tokens are half of what the jobs need: no more are used, and few are wasted."""
    allowed = sum(tokens_of(f"ask {key} end") for key in scene.keys) // 2
    scene.token_limits = [(allowed, 86_400.0)]
    scene.options = (
        *scene.options, "--tpd", str(allowed), "--day-resets", "rolling",
        "--max-tokens", str(MOST_TOKENS),
    )  # fmt: skip
    done = scene.run(*scene.submit_words("--max-wait", "1s"), point=point)
    if done.died:
        judge.died()
        again = go_on(scene, judge, by_resume=_by_resume(point), words=("--max-wait", "1s"))
        _expect(judge, again, 3)
    else:
        _expect(judge, done, 3)
    judge.judge(answered=False)
    left = allowed - sum(tokens_of(seen.prompt) for seen in scene.requests())
    # What the dead had claimed keeps what was reserved for it, and the next one does not fit.
    if left > (2 * scene.concurrency * judge.crashes + 1) * RESERVED:
        judge.problems.append(f"{left} of {allowed} tokens of the day were wasted")
    scene.token_limits = ()
    _expect(judge, scene.run("resume", "--tpd", "none"))
    judge.judge()
    return done.died


def _rescue(scene: Scene, judge: Judge, point: str) -> bool:
    """Die with jobs in flight, and die again while they are put back."""
    first = scene.run(*scene.submit_words(), point="claim.committed:3")
    assert first.died, first.err
    judge.died()
    done = scene.run("resume", point=point)
    if done.died:
        judge.died()
        if point.startswith("rescue."):
            # Nothing new was claimed: the same sends are marked, once.
            judge.crashes -= 1
        done = scene.run("resume")
        _expect(judge, done)
        judge.judge()
        return True
    _expect(judge, done)
    judge.judge()
    return False


def _merge(scene: Scene, judge: Judge, point: str) -> bool:
    """Take a changed and longer file into a run; die; give the same command again."""
    stored = scene.run(*scene.submit_words(), point="settle.committed:6")
    assert stored.died, stored.err
    judge.died()
    scene.write_jobs(range(1, len(scene.keys) + 101), word="changed")
    done = scene.run(*scene.submit_words("--update", "--no-run"), point=point)
    if done.died:
        judge.died()
        judge.crashes -= 1  # it sent nothing
        _expect(judge, scene.run(*scene.submit_words("--update", "--no-run")))
    else:
        _expect(judge, done)
    _expect(judge, scene.run("resume"))
    judge.judge()
    return done.died


def _cancel(scene: Scene, judge: Judge, point: str) -> bool:
    """Cancel many jobs; die; cancel again; put them back and answer them all."""
    _expect(judge, scene.run(*scene.submit_words("--no-run")))
    done = scene.run("cancel", scene.name, "-y", point=point)
    if done.died:
        judge.died()
        _expect(judge, scene.run("cancel", scene.name, "-y"))
    else:
        _expect(judge, done)
    _expect_states(scene, judge, "cancelled")
    _expect(judge, scene.run("retry", scene.name))
    judge.judge()
    return done.died


def _retry(scene: Scene, judge: Judge, point: str) -> bool:
    """Put many cancelled jobs back; die; do it again; answer them all."""
    _expect(judge, scene.run(*scene.submit_words("--no-run")))
    _expect(judge, scene.run("cancel", scene.name, "-y"))
    done = scene.run("retry", scene.name, "--no-run", point=point)
    if done.died:
        judge.died()
        _expect(judge, scene.run("retry", scene.name, "--no-run"))
    else:
        _expect(judge, done)
    _expect_states(scene, judge, "pending")
    _expect(judge, scene.run("resume"))
    judge.judge()
    return done.died


def _export(scene: Scene, judge: Judge, point: str) -> bool:
    """Export over an earlier file; die; the earlier one is whole, or the new one is."""
    _expect(judge, scene.run(*scene.submit_words()))
    output = scene.folder / "mine.csv"
    output.write_text("earlier\n")
    words = ("export", scene.name, "-o", str(output), "--force")
    done = scene.run(*words, point=point)
    if done.died:
        judge.died()
        found = output.read_text()
        if found != "earlier\n" and len(found.splitlines()) != len(scene.keys) + 1:
            judge.problems.append("the export is neither the earlier one nor the new one")
        _expect(judge, scene.run(*words))
    else:
        _expect(judge, done)
    if len(output.read_text().splitlines()) != len(scene.keys) + 1:
        judge.problems.append("the export is not whole")
    # A reader that was killed leaves the log's files; the next command that ends removes them.
    judge.judge()
    return done.died


def _backup(scene: Scene, judge: Judge, point: str) -> bool:
    """Back up; die; nothing that looks like a backup is there; again, and it is whole."""
    _expect(judge, scene.run(*scene.submit_words()))
    copy = scene.folder / "kept.db"
    done = scene.run("db", "backup", str(copy), point=point)
    if done.died:
        judge.died()
        if copy.exists():
            judge.problems.append("a backup that was not finished has its name already")
        _expect(judge, scene.run("db", "backup", str(copy)))
    else:
        _expect(judge, done)
    with looked_at(copy) as connection:
        (n,) = connection.execute("SELECT count(*) FROM response").fetchone()
    if n != len(scene.keys):
        judge.problems.append(f"the backup has {n} answers of {len(scene.keys)}")
    judge.judge()
    return done.died


def _copy(scene: Scene, judge: Judge, point: str) -> bool:
    """Die with jobs in flight; copy; die; no half copy is there; again, and go on with the copy in its place."""
    first = scene.run(*scene.submit_words(), point="settle.committed:4")
    assert first.died, first.err
    judge.died()
    copy = scene.folder / "copy.db"
    words = ("db", "copy", str(scene.db), str(copy))
    done = scene.run(*words, point=point)
    if done.died:
        judge.died()
        judge.crashes -= 1  # it sent nothing
        if copy.exists():
            judge.problems.append("a copy that was not finished has its name already")
        if point.startswith("copy.marked"):
            if scene.run("resume").code != ExitCode.DATABASE:
                judge.problems.append("what is about to be copied is sent from")
            _expect(judge, scene.run("db", "reopen"))
        _expect(judge, scene.run(*words))
    else:
        _expect(judge, done)
    if list(scene.folder.glob("copy.db.*")):
        judge.problems.append("a copy that died has left something")
    for ending in ("-wal", "-shm", ""):
        scene.db.with_name(f"{scene.db.name}{ending}").unlink(missing_ok=True)
    copy.rename(scene.db)
    _expect(judge, scene.run("resume"))
    judge.judge()
    return done.died


def _upgrade(scene: Scene, judge: Judge, point: str) -> bool:
    """Die with jobs in flight; let it be a database of the first version; die while it is upgraded."""
    first = scene.run(*scene.submit_words(), point="settle.committed:4")
    assert first.died, first.err
    judge.died()
    make_older(scene.db)
    words = ("resume", "--compress") if _by_resume(point) else ("db", "upgrade")
    done = scene.run(*words, point=point)
    if done.died:
        judge.died()
        judge.crashes -= 1  # it sent nothing
        judge.problems += upgrade_problems(scene)
        _expect(judge, scene.run(*words))
    else:
        _expect(judge, done)
    judge.problems += upgrade_problems(scene)
    if not list(scene.folder.glob(f"{scene.db.name}.before-*")):
        judge.problems.append("no copy of the old database was kept")
    _expect(judge, scene.run("resume", "--compress"))
    judge.judge()
    return done.died


def _prune(scene: Scene, judge: Judge, point: str) -> bool:
    """Prune a run, or its bodies; die; prune again: nothing was by half, and no word is left."""
    _expect(judge, scene.run(*scene.submit_words()))
    add_old_run(scene, MANY)
    bodies = () if _by_resume(point) else ("--bodies",)
    words = ("db", "prune", "old", *bodies, "-y")
    done = scene.run(*words, point=point)
    if done.died:
        judge.died()
        judge.crashes -= 1  # it sent nothing
        judge.problems += half_pruned(scene)
        # The first command that stores something sweeps what is out of sight.
        _expect(judge, scene.run("resume", scene.name))
        _expect(judge, scene.run(*words))
    else:
        _expect(judge, done)
    judge.problems += half_pruned(scene)
    judge.problems += scene.unswept(MARK, LARGEST)
    judge.judge()
    return done.died


def _beside(scene: Scene, judge: Judge, point: str) -> bool:
    """Two workers share a queue; one dies; the other ends the work, and whoever comes last clears up."""
    scene.n_senders = 2
    scene.options = (*scene.options, "--rpm", "2400")
    _expect(judge, scene.run(*scene.submit_words("--no-run")))
    armed = scene.start("worker", "--until-done", point=point)
    other = scene.start("worker", "--until-done")
    first = ended(armed)
    if first.died:
        judge.died()
    else:
        _expect(judge, first)
    _expect(judge, ended(other))
    _clear_up(scene, judge)
    judge.judge()
    return first.died


def _clear_up(scene: Scene, judge: Judge) -> None:
    """Have workers come until none is in the list: who died is, until it was not heard of for seconds."""
    for _ in range(_COMING):
        _expect(judge, scene.run("worker", "--until-done"))
        with scene.look() as connection:
            if connection.execute("SELECT 1 FROM process").fetchone() is None:
                return


def _takes_over(scene: Scene, judge: Judge, point: str) -> bool:
    """A worker dies with jobs in flight, the next one while it puts them back; a third ends the work."""
    scene.options = (*scene.options, "--rpm", "2400")
    _expect(judge, scene.run(*scene.submit_words("--no-run")))
    first = scene.run("worker", "--until-done", point="claim.committed:3")
    assert first.died, first.err
    judge.died()
    second = scene.run("worker", "--until-done", point=point)
    if second.died:
        judge.died()
        if point.startswith("rescue."):
            judge.crashes -= 1  # it sent nothing
    else:
        _expect(judge, second)
    _clear_up(scene, judge)
    judge.judge()
    return second.died


def _expect_states(scene: Scene, judge: Judge, state: str) -> None:
    with scene.look() as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state"))
    if states != {state: len(scene.keys)}:
        judge.problems.append(f"not all jobs are {state}: {states}")


_SENDING: Final = (
    "claim.begin", "claim.inside", "claim.committed", "send.before", "send.answered",
    "settle.inside", "settle.committed",
)  # fmt: skip

_FILE: Final[frozenset[Database]] = frozenset({"file"})
_SERVER: Final[frozenset[Database]] = frozenset({"server"})

STORIES: Final[Mapping[str, Story]] = {
    "drain": Story(
        (
            "create.made", "create.migrated", "submit.chunk", "submit.finish", "submit.finished",
            *_SENDING, "end.before", "end.committed", "close.before", "close.emptied",
            "export.rows", "export.rename", "export.renamed",
        ),
        _drain,
    ),
    "daily": Story(_SENDING, _daily),
    "tokens": Story(_SENDING, _tokens, 60),
    "rescue": Story(("rescue.inside", "rescue.committed", *_SENDING), _rescue),
    "merge": Story(("submit.chunk", "merge.chunk", "merge.finish"), _merge, MANY),
    "cancel": Story(("cancel.chunk",), _cancel, MANY),
    "retry": Story(("retry.chunk",), _retry, MANY),
    "export": Story(("export.rows", "export.rename", "export.renamed"), _export),
    "backup": Story(("backup.copied",), _backup, on=_FILE),
    "copy": Story(("copy.page", "copy.copied", "copy.marked"), _copy, on=_FILE),
    "upgrade": Story(("upgrade.copied", "upgrade.migrated"), _upgrade, on=_FILE),
    "prune": Story(("prune.begun", "prune.chunk", "prune.taken", "prune.shrunk"), _prune),
    "beside": Story(("turn.begun", *_SENDING, "end.before", "end.committed", "leave.before"), _beside, 60, _SERVER),
    "takes over": Story(("rescue.inside", "rescue.committed", "turn.begun", *_SENDING), _takes_over, 24, _SERVER),
}  # fmt: skip
