"""``[budget]`` is never passed over all runs of a database; what is left waits for another day."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchrunner.app import Batchrunner
from batchrunner.config import load_config
from batchrunner.views import BudgetView
from tests.fakes import ApiServer
from tests.integration.house import House, until
from tests.integration.test_max_cost import MOST, PRICES, billed, replies, submit
from tests.integration.test_money import answer

ROOT = Path(__file__).parents[2]


class Dear(House):
    """A house whose model costs a dollar for a hundred tokens of an answer."""

    def budget(self, **bounds: float) -> None:
        """Say a budget in the configuration."""
        lines = "".join(f"{unit} = {dollars}\n" for unit, dollars in bounds.items())
        (self.folder / "batchrunner.toml").write_text(f"[budget]\n{lines}{PRICES}")

    def set_clock(self, at: datetime) -> None:
        """Have the wall clock of commands show ``at`` now, and go on from there."""
        path = self.folder / "clock"
        new = path.with_suffix(".new")
        new.write_text(repr(at.timestamp() - time.time()))
        new.replace(path)
        self.environ["PYTHONPATH"] = str(ROOT)
        self.program = ("-m", "tests.faults.rigged", json.dumps({"clock": str(path)}))

    def day(self) -> BudgetView:
        """Return what is left of the day."""
        config = load_config(folder=self.folder, environ=self.environ, user=self.folder / "none")
        return Batchrunner(self.db, environ=self.environ, config=config).budget()[0]


@pytest.fixture
def dear(tmp_path: Path, api: ApiServer) -> Any:
    """Give a folder whose model has a price."""
    house = Dear(tmp_path, api.url)
    yield house
    house.clear_up()


def test_a_day_is_never_passed_and_says_until_when(dear: Dear, api: ApiServer) -> None:
    """Sixteen at once end within the budget; the wait is for midnight UTC; a larger one frees the run."""
    dear.budget(day=10)
    replies(api, 20, delay_s=0.02)
    dear.jobs(80, max_tokens=MOST)
    done = dear.run(*submit(dear, "-c", "16", "--no-wait"), code=3)
    spent = billed(api, 20)
    assert 9.0 < spent <= 10.0
    said = dear.run("status", "--json").json
    waiting = said["waiting"]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert (waiting["reason"], waiting["until"][:19]) == ("budget", f"{tomorrow}T00:00:00")
    assert "of the $10.00 that [budget] allows a day" in waiting["detail"]
    assert done.err.count("of the $10.00 that [budget] allows a day (UTC) is spent\n") == 1
    day = said["budget"]["day"]
    assert (day["amount_usd"], day["lost_usd"]) == (10, 0)
    assert (day["spent_usd"], day["left_usd"]) == (pytest.approx(spent), pytest.approx(10 - spent))
    assert "$10.0000" in dear.run("limits").out
    n_before = len(api.requests())
    dear.resume("--no-wait", code=3)
    assert len(api.requests()) == n_before, "the day is as used up for the next process"
    dear.budget(day=17)
    dear.resume("--no-wait", code=0)
    assert dear.counts().completed == 80


@pytest.mark.slow
def test_all_runs_share_it(dear: Dear, api: ApiServer) -> None:
    """What one run spent another can't; two that go at once stay within it together."""
    dear.budget(day=10)
    replies(api, 20, delay_s=0.02)
    dear.jobs(30, max_tokens=MOST)
    dear.run(*submit(dear, "--name", "one"), code=0)
    dear.jobs(30, max_tokens=MOST, prefix="k")
    dear.run(*submit(dear, "--name", "two", "--no-run"), code=0)
    dear.jobs(30, max_tokens=MOST, prefix="l")
    dear.run(*submit(dear, "--name", "three", "--no-run"), code=0)
    dear.run("resume", "--all", "--no-wait", code=3)
    # At 9.0 the next one's worst case is what is left, give or take a rounding.
    assert 9.0 <= round(billed(api, 20), 6) <= 10.0


def test_a_crash_does_not_pass_it(dear: Dear, api: ApiServer) -> None:
    """What was in flight when the process was killed counts at its worst case, for other runs too."""
    dear.budget(day=40)
    replies(api, MOST, delay_s=0.1)
    dear.jobs(60, max_tokens=MOST)
    running = dear.start(*submit(dear, "-c", "16"))
    running.until(lambda: len(api.requests()) >= 12, "requests were sent")
    running.kill()
    dear.jobs(60, max_tokens=MOST, prefix="other")
    dear.run(*submit(dear, "--name", "other", "--no-wait"), code=3)
    assert 20.0 < billed(api, MOST) <= 40.0
    day = dear.day()
    assert day.lost_usd >= 1.0
    assert "for answers that were lost" in dear.run("status", "other").out


@pytest.mark.slow
def test_processes_that_die_and_follow_stay_within_it(dear: Dear, api: ApiServer) -> None:
    """Two runs by two processes at once, killed again and again: the bill is never larger."""
    dear.budget(day=60)
    replies(api, MOST, delay_s=0.05)
    for name in ("one", "two"):
        dear.jobs(80, max_tokens=MOST, prefix=name)
        dear.run(*submit(dear, "--name", name, "--no-run"), code=0)
    for n in range(1, 6):
        both = [dear.start("resume", name, "--json", "-c", "5") for name in ("one", "two")]
        # The bill is bounded, so that a death late in the story may find nothing more to be sent.
        until(
            lambda n=n, both=both: (
                len(api.requests()) >= 9 * n or all(one.process.poll() is not None for one in both)
            ),
            "requests were sent",
        )
        for one in both[:: -1 if n % 2 else 1]:
            one.kill()
    dear.run("resume", "--all", "--no-wait", code=3)
    assert billed(api, MOST) <= 60.0
    # What was claimed and not sent yet counts as lost as well: nobody can tell.
    assert dear.day().left_usd < 1.0


def test_a_lost_answer_counts_at_its_worst(dear: Dear, api: ApiServer) -> None:
    """Connections that break after the request may have been paid; that outlives the process."""
    dear.budget(day=5)
    used = {"input_tokens": 20, "output_tokens": MOST}
    body = {
        "usage": used,
        "model": "dear-1",
        "content": [{"type": "text", "text": "x"}],
        "type": "message",
    }
    api.script([{"n": 2, "fault": "cut", "body": body}, {"body": body}])
    dear.jobs(10, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1", "--no-wait"), code=3)
    assert billed(api, MOST) == 5.0
    day = dear.day()
    assert (day.spent_usd, day.lost_usd, day.left_usd) == (4, 1, 0)
    dear.resume("--no-wait", code=3)
    assert billed(api, MOST) == 5.0


def test_a_timeout_that_takes_the_last_room_waits(dear: Dear, api: ApiServer) -> None:
    """Where no money is left for a job that could tell an outage, the timeout counts as its own."""
    dear.budget(day=2)
    used = {"input_tokens": 20, "output_tokens": 20}
    body = {"usage": used, "model": "dear-1", "content": [], "type": "message"}
    api.script([{"n": 2, "fault": "hang"}, {"body": body}])
    dear.jobs(9, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1", "--timeout", "1", "--no-wait"), code=3)
    assert (dear.day().lost_usd, len(api.requests())) == (1, 2)


def test_a_run_waits_for_the_next_day(dear: Dear, api: ApiServer) -> None:
    """At midnight UTC it goes on by itself, and each day stays within its budget."""
    dear.budget(day=4)
    dear.set_clock(datetime(2026, 5, 14, 23, 0, tzinfo=UTC))
    replies(api, 50)
    dear.jobs(12, max_tokens=MOST)
    running = dear.start(*submit(dear, "-c", "4"))
    running.sees("limit.waiting")
    first = billed(api, 50)
    assert 3.0 <= first <= 4.0
    (waiting,) = running.so_far.named("limit.waiting")
    assert (waiting["waiting"]["reason"], waiting["waiting"]["until"]) == (
        "budget", "2026-05-15T00:00:00.000Z",
    )  # fmt: skip
    dear.set_clock(datetime(2026, 5, 15, 0, 0, 1, tzinfo=UTC))
    until(lambda: billed(api, 50) > first, "requests of the next day")
    running.ended(0)
    assert dear.counts().completed == 12
    assert billed(api, 50) - first <= 4.0


@pytest.mark.slow
def test_a_month_is_longer_than_a_call_waits(dear: Dear, api: ApiServer) -> None:
    """A month that is used up stops the run with its end; a later month has its own."""
    dear.budget(day=4, month=5)
    dear.set_clock(datetime(2026, 2, 10, 12, 0, tzinfo=UTC))
    replies(api, MOST)
    dear.jobs(12, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1", "--no-wait"), code=3)
    assert billed(api, MOST) == 4.0
    dear.set_clock(datetime(2026, 2, 11, 12, 0, tzinfo=UTC))
    done = dear.resume(code=3)
    assert billed(api, MOST) == 5.0
    waiting = done.named("run.halted")[0]["waiting"]
    assert (waiting["reason"], waiting["until"]) == ("budget", "2026-03-01T00:00:00.000Z")
    assert done.error["fix"].endswith("--wait")
    dear.set_clock(datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC))
    dear.resume("--no-wait", code=3)
    assert billed(api, MOST) == 9.0


def test_a_job_that_may_cost_more_than_a_day_is_not_waited_with(dear: Dear, api: ApiServer) -> None:
    """No day will have room for it: the run stops, and the fix bounds its answer."""
    dear.budget(day=0.5)
    dear.jobs(1, max_tokens=MOST)
    done = dear.run(*submit(dear), code=3)
    assert "[budget] allows $0.50 a day" in done.error["message"]
    assert "--set max_tokens=" in done.error["fix"]
    assert not api.requests()
    replies(api, 20)
    dear.resume("--set", "max_tokens=40", code=0)


@pytest.mark.slow
def test_without_a_price_nothing_is_sent(dear: Dear, api: ApiServer) -> None:
    """A budget can't be kept for a model without a price; what nobody pays goes all the same."""
    (dear.folder / "batchrunner.toml").write_text("[budget]\nday = 5\n")
    dear.jobs(2, max_tokens=MOST)
    done = dear.run(*submit(dear), code=2)
    assert done.error["message"].startswith("[budget] can't be kept")
    assert '[prices."dear-1"]' in done.error["fix"]
    assert not api.requests()
    free = ("--provider", "simulator", "--base-url", f"{dear.url}/v1", "--name", "free")
    dear.run("submit", "jobs.jsonl", *free, "--model", "sim-1", code=0)


def killed_in_flight(dear: Dear, api: ApiServer) -> int:
    """Kill a run whose requests hang, and return how many it had claimed."""
    api.script([{"to": 1, "body": answer({"input_tokens": 1, "output_tokens": 1}, model="dear-1")}, {"fault": "hang"}])  # fmt: skip
    dear.jobs(9, max_tokens=MOST)
    running = dear.start(*submit(dear, "-c", "2"))
    running.until(lambda: len(api.requests()) >= 3, "two requests hang")
    running.kill()
    return dear.counts().running


def test_what_another_configuration_priced_counts(dear: Dear, api: ApiServer) -> None:
    """Whoever finds a dead process's requests knows what they may have cost where they were sent."""
    (dear.folder / "batchrunner.toml").write_text(PRICES)
    n = killed_in_flight(dear, api)
    assert n >= 2
    (dear.folder / "batchrunner.toml").write_text("[budget]\nday = 50\n")
    dear.jobs(1, "other.jsonl")
    dear.run("submit", "other.jsonl", "--provider", "simulator", "--model", "sim-1")
    assert dear.day().lost_usd == pytest.approx(n * MOST / 100)


def test_what_nobody_can_price_is_said(dear: Dear, api: ApiServer) -> None:
    """A lost answer of a model without a price is not 0 in silence: a budget tells that it leaves it out."""
    n = killed_in_flight(dear, api)
    (dear.folder / "batchrunner.toml").write_text("[budget]\nday = 50\n")
    dear.jobs(1, "other.jsonl")
    done = dear.run("submit", "other.jsonl", "--provider", "simulator", "--model", "sim-1")
    assert f"{n} answers of dear-1 may have been paid this month" in done.err
    assert '[prices."dear-1"]' in done.err
    assert dear.day().lost_usd == 0


def test_what_a_run_without_bounds_lost_counts(dear: Dear, api: ApiServer) -> None:
    """A broken connection may have been paid, whoever had it: a budget that comes later knows of it."""
    (dear.folder / "batchrunner.toml").write_text(PRICES)
    body = answer({"input_tokens": 1, "output_tokens": MOST}, model="dear-1")
    api.script([{"n": 1, "fault": "cut", "body": body}, {"n": 2, "body": body}, {"n": 3, "fault": "cut", "body": body}, {"body": body}])  # fmt: skip
    dear.jobs(2, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1"), code=0)
    n_lost = len(api.requests()) - 2
    assert n_lost >= 1
    dear.budget(day=50)
    day = dear.day()
    assert (day.spent_usd, day.lost_usd) == (pytest.approx(2.0), pytest.approx(float(n_lost)))
