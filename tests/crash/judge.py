"""What must hold whatever died when: judged from the server's log and the database, in sentences.

The server's log is the truth about what was sent; a copy of the database right after each death is
the truth about what was stored by then.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

from batchrunner.app import Batchrunner
from batchrunner.options import ExportOptions
from tests.crash.scene import Looked, Scene, now_ms

__all__ = ["Judge", "tokens_of"]

#: What the network and a busy machine may add between a send and its arrival (seconds).
ALLOWANCE_S = 0.25
#: Between the instants of a run and the sums of its time (ms).
ROUNDING_MS = 250
#: What is broken for one job is often broken for all: so many sentences tell enough.
MOST_SAID = 12

_ANSWERS = """
    SELECT j.key, j.finished_at, j.claims, r.http_status, r.request_id, r.body
    FROM job j JOIN run ON run.id = j.run_id LEFT JOIN response r ON r.job_id = j.id
    WHERE j.state = 'completed' AND run.state != 'loading' AND j.key LIKE ?"""
_SENDS = """
    SELECT j.key, count(*), sum(s.maybe_executed), count(*) FILTER (WHERE s.outcome IS NULL),
           count(*) FILTER (WHERE s.http_status IS NOT NULL AND s.maybe_executed = 0),
           count(*) FILTER (WHERE s.maybe_executed = 1 AND s.kind = 'interrupted')
    FROM send s JOIN job j ON j.id = s.job_id WHERE j.key LIKE ? GROUP BY j.key"""


def tokens_of(prompt: str) -> int:
    """Return what the server says a request took: four characters a token, each way."""
    return -(-len(prompt) // 4) + -(-len(f"You said: {prompt}") // 4)


@dataclass(slots=True)
class Judge:
    """Watches one scene from death to death and judges it at the end."""

    scene: Scene
    crashes: int = 0
    #: By how much the wall clock was set while a process sent (ms): of that no time is made. ``None``:
    #: a process began after it, and what of it nobody ran the run is not known.
    stepped_ms: float | None = 0.0
    problems: list[str] = field(default_factory=list)
    #: Committed answers, and how often the server had been asked for each by then.
    _answers: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    #: Stored pauses that a death must not shorten: seen at, until (epoch ms).
    _pauses: list[tuple[int, int]] = field(default_factory=list)

    def died(self) -> None:
        """Note what is stored right after a process was killed."""
        self.crashes += 1
        scene = self.scene
        if not scene.is_begun:
            return
        stored: list[str] = []
        with scene.look() as connection:
            self._integrity(connection)
            if not scene.has_tables(connection):
                return
            self._kept(connection)
            for key, *answer in connection.execute(_ANSWERS, (self._mine,)):
                if key not in self._answers:
                    self._answers[key] = tuple(answer)
                    stored.append(key)
            (running,) = connection.execute(
                "SELECT count(*) FROM job WHERE state = 'running'"
            ).fetchone()
            if running > 2 * scene.concurrency * scene.n_senders:
                self._say(f"a crash left {running} jobs in flight at -c {scene.concurrency}")
            self._pauses += [
                (now_ms(), until)
                for (until,) in connection.execute(
                    "SELECT pause_until FROM scope WHERE pause_until IS NOT NULL"
                )
            ]
        # Others may go on sending meanwhile, but never what is answered.
        arrivals = scene.arrivals()
        self._asked |= {key: arrivals.get(key, 0) for key in stored}

    def judge(self, *, answered: bool = True, clean: bool = True) -> list[str]:
        """Return everything that is wrong at the end; ``answered``: all jobs should be."""
        if clean and (left := self.scene.left_behind()):
            self._say(f"a clean end left {left}")
        with self.scene.look() as connection:
            self._integrity(connection)
            if not self.scene.has_tables(connection):
                self._say("there are no tables in the database")
                return self.problems
            self._kept(connection)
            self._sends(connection)
            self._days(connection)
            self._time(connection)
            if clean:
                self._nobody_there(connection)
        self._not_asked_again()
        self._limits()
        self._token_limits()
        self._pauses_kept()
        app = Batchrunner(self.scene.place)
        self.problems += app.db_check()
        if answered:
            self._export(app)
            self._status(app)
        return self.problems

    @property
    def _mine(self) -> str:
        """What the keys of the scene's jobs are like."""
        return f"{self.scene.prefix}-%"

    # --- one method a promise

    def _integrity(self, connection: Looked) -> None:
        for problem in self.scene.broken(connection):
            self._say(problem)

    def _kept(self, connection: Looked) -> None:
        """No stored answer is lost or replaced."""
        now = {key: tuple(answer) for key, *answer in connection.execute(_ANSWERS, (self._mine,))}
        for key, answer in self._answers.items():
            if now.get(key) != answer:
                self._say(f"the stored answer of {key} was {answer}, is {now.get(key)}")

    def _not_asked_again(self) -> None:
        arrivals = self.scene.arrivals()
        for key, n in self._asked.items():
            if arrivals.get(key, 0) != n:
                self._say(f"{key} was answered, and asked for again ({n} → {arrivals.get(key)})")

    def _sends(self, connection: Looked) -> None:
        """Every arrival is a row of the send log; what may be double is marked, and bounded."""
        arrivals = self.scene.arrivals()
        log = {row[0]: row[1:] for row in connection.execute(_SENDS, (self._mine,))}
        crashed = 0
        for key in sorted(arrivals | log):
            n_rows, n_marked, n_open, n_answered, n_crashed = log.get(key, (0, 0, 0, 0, 0))
            crashed += n_crashed
            seen = arrivals.get(key, 0)
            if seen > n_rows:
                self._say(f"{key} arrived {seen} times and has {n_rows} rows in the send log")
            elif seen > n_answered + n_marked:
                self._say(f"{key} arrived {seen} times: {n_answered} answered, {n_marked} marked")
            if seen < n_answered:
                self._say(f"{key} arrived {seen} times, and {n_answered} sends were answered")
            if n_open:
                self._say(f"{n_open} sends of {key} have no outcome")
        bound = 2 * self.scene.concurrency * self.crashes
        if crashed > bound:
            self._say(
                f"{crashed} sends marked after {self.crashes} crashes, at most {bound} may be"
            )

    def _days(self, connection: Looked) -> None:
        """The day's counts are the send log's, and the ledger never knows of less than arrived."""
        # A try that found no way to the server is a row too, and no request.
        (rows,) = connection.execute(
            "SELECT count(*) FROM send WHERE sent_at IS NOT NULL OR maybe_executed = 1"
        ).fetchone()
        rows += self.scene.n_forgotten
        (days,) = connection.execute("SELECT coalesce(sum(requests), 0) FROM usage_day").fetchone()
        (runs,) = connection.execute("SELECT coalesce(sum(n_sent), 0) FROM run").fetchone()
        runs += self.scene.n_forgotten
        if not rows == days == runs:
            self._say(f"{rows} rows in the send log, {days} in the days, {runs} counted by runs")
        (used,) = connection.execute(
            "SELECT coalesce(sum(n), 0) FROM usage_slot u JOIN scope s ON s.id = u.scope_id"
            " WHERE s.kind = 'account' AND unit = 'requests' AND grain = 60000"
        ).fetchone()
        arrived = len(self.scene.requests())
        # A booking that was given back right before a crash may still stand: an allowance lost, never
        # one passed.
        given_back = 2 * self.scene.concurrency * self.crashes
        if not arrived <= used <= rows + given_back:
            self._say(f"{arrived} arrived, the ledger has {used}, the send log {rows}")

    def _time(self, connection: Looked) -> None:
        """Each run's time is accounted for from its begin to its end, whatever died in between."""
        for name, took, parts, n_open in connection.execute(
            "SELECT name, finished_at - started_at,"
            " (SELECT coalesce(sum(ms), 0) FROM time_day t WHERE t.run_id = r.id),"
            " (SELECT count(*) FROM wait w WHERE w.run_id = r.id AND open_at IS NOT NULL"
            "  AND cause NOT LIKE 'stopped.%' AND cause != 'unrecorded')"
            " FROM run r WHERE state = 'finished' AND finished_at - started_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM wait w"
            "  WHERE w.run_id = r.id AND cause = 'unrecorded' AND open_at IS NOT NULL)"
        ):
            if self.stepped_ms is not None and abs(took - self.stepped_ms - parts) > ROUNDING_MS:
                self._say(f"{name} took {took} ms, of which {parts:.0f} are accounted for")
            if n_open:
                self._say(f"{name} is finished, and {n_open} of its waits go on")

    def _nobody_there(self, connection: Looked) -> None:
        for table in ("process", "ask"):
            (n,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if n:
                self._say(f"a clean end left {n} rows in {table}")
        (n,) = connection.execute(
            "SELECT count(*) FROM run WHERE runner_id IS NOT NULL OR state = 'loading'"
        ).fetchone()
        if n:
            self._say(f"{n} runs are held by nobody, or still loading")

    def _limits(self) -> None:
        times = sorted(seen.mono for seen in self.scene.requests())
        for n, seconds in self.scene.limits:
            for first, last in zip(times, times[n:], strict=False):
                if last - first < seconds - ALLOWANCE_S:
                    self._say(f"{n + 1} sends in {last - first:.3f} s; {n} in {seconds} s allowed")
                    break

    def _token_limits(self) -> None:
        """No window holds more tokens than the limit, by the server's count of each that arrived."""
        took = sorted((seen.mono, tokens_of(seen.prompt)) for seen in self.scene.requests())
        for n, seconds in self.scene.token_limits:
            used, first = 0, 0
            for at, tokens in took:
                used += tokens
                while took[first][0] <= at - seconds + ALLOWANCE_S:
                    used -= took[first][1]
                    first += 1
                if used > n:
                    self._say(f"{used} tokens in {seconds} s; {n} allowed")
                    break

    def _pauses_kept(self) -> None:
        for since, until in self._pauses:
            for seen in self.scene.requests():
                if since < seen.t * 1000.0 < until - ALLOWANCE_S * 1000.0:
                    late = (until - seen.t * 1000.0) / 1000.0
                    self._say(f"a request {late:.2f} s before a stored pause was over")
                    break

    def _export(self, app: Batchrunner) -> None:
        """One row in, one row out, in input order, each with the answer to its own question."""
        out = io.BytesIO()
        app.export(self.scene.name, ExportOptions(format="jsonl"), out)
        rows = [json.loads(line) for line in out.getvalue().splitlines()]
        if [row["key"] for row in rows] != self.scene.keys:
            self._say("the export's keys are not the input's, in order")
        for row in rows:
            if row["status"] != "completed":
                self._say(f"{row['key']} is {row['status']}: {row['error_message']}")
            elif f" {row['key']} " not in row["output_text"]:
                self._say(f"{row['key']} has the answer {row['output_text']!r}")

    def _status(self, app: Batchrunner) -> None:
        view = app.status(self.scene.name)
        n = len(self.scene.keys)
        if (view.state, view.jobs.completed, view.jobs.total) != ("finished", n, n):
            self._say(f"status: {view.state}, {view.jobs}")

    def _say(self, problem: str) -> None:
        if problem in self.problems:
            return
        if len(self.problems) < MOST_SAID:
            self.problems.append(problem)
        elif len(self.problems) == MOST_SAID:
            self.problems.append("… and more")
