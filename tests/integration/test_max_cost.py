"""``--max-cost`` is never passed: not under concurrency, not by a crash, not by what was lost."""

from __future__ import annotations

import json
import shlex
import signal
import sqlite3
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House
from tests.integration.test_money import answer

#: A dollar for a hundred tokens of an answer; what is sent costs nothing.
PRICES = '[prices."dear-1"]\ninput = 0\noutput = 10000\n'
MOST = 100


@pytest.fixture
def dear(house: House) -> House:
    """Give a folder whose model has a price."""
    (house.folder / "batchrunner.toml").write_text(PRICES)
    return house


def submit(house: House, *args: str, model: str = "dear-1") -> tuple[str, ...]:
    """Return the call that sends the jobs to the fake provider."""
    to_api = ("--provider", "anthropic", "--base-url", house.url, "--model", model)
    return ("submit", "jobs.jsonl", *to_api, "--json", *args)


def replies(api: ApiServer, n_output: int, **rule: Any) -> None:
    """Have each answer take so many tokens."""
    used = {"input_tokens": 20, "output_tokens": n_output}
    api.script([{"body": answer(used, model="dear-1"), **rule}])


def billed(api: ApiServer, n_output: int) -> float:
    """Return what the provider would bill: every request that came, however it ended."""
    return len(api.requests()) * n_output / 100


def test_it_is_never_passed_and_little_is_left(dear: House, api: ApiServer) -> None:
    """Sixteen at once: at the end less is left than the worst case of a job; the message says how to go on."""
    replies(api, 20, delay_s=0.02)
    dear.jobs(80, max_tokens=MOST)
    done = dear.run(*submit(dear, "-c", "16", "--max-cost", "10"), code=3)
    spent = billed(api, 20)
    assert 9.0 < spent <= 10.0
    assert dear.status().cost_usd == pytest.approx(spent)
    status = dear.run("status", "--json").json
    assert status["waiting"]["reason"] == "budget"
    assert "of --max-cost $10.00 spent" in status["waiting"]["detail"]
    assert done.err.count("of --max-cost $10.00 spent by jobs") == 1
    (halted,) = done.named("run.halted")
    assert halted["waiting"]["reason"] == "budget"
    n_before = len(api.requests())
    again = dear.resume(code=3)
    assert again.named("run.halted")
    assert len(api.requests()) == n_before
    dear.resume("--max-cost", "17", code=0)
    assert dear.counts().completed == 80
    assert dear.status().cost_usd == pytest.approx(16.0)


def test_a_crash_does_not_pass_it(dear: House, api: ApiServer) -> None:
    """What was in flight when the process was killed counts at its worst case from then on."""
    replies(api, MOST, delay_s=0.1)
    dear.jobs(60, max_tokens=MOST)
    running = dear.start(*submit(dear, "-c", "16", "--max-cost", "40"))
    running.until(lambda: len(api.requests()) >= 12, "requests were sent")
    running.kill()
    at_kill = len(api.requests())
    stopped = dear.resume(code=3)
    assert len(api.requests()) >= at_kill
    assert billed(api, MOST) <= 40.0
    assert "for answers that were lost" in stopped.named("run.halted")[0]["waiting"]["detail"]
    dear.resume("--max-cost", "200", code=0)
    assert dear.counts().completed == 60


def test_a_lost_answer_counts_at_its_worst(dear: House, api: ApiServer) -> None:
    """A connection that breaks after the request may have been paid."""
    used = {"input_tokens": 20, "output_tokens": MOST}
    body = answer(used, model="dear-1")
    api.script([{"n": 2, "fault": "cut", "body": body}, {"body": body}])
    dear.jobs(10, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1", "--max-cost", "5"), code=3)
    assert billed(api, MOST) == 5.0
    assert dear.counts().completed == 4


def test_what_a_model_lost_counts_when_none_of_its_jobs_is_left(
    dear: House, api: ApiServer
) -> None:
    """Its only job failed, its answer lost: ``resume`` counts it all the same, or wants its price."""
    other = PRICES.replace("dear-1", "dear-2")
    (dear.folder / "batchrunner.toml").write_text(PRICES + other)
    used = {"input_tokens": 20, "output_tokens": MOST}
    body = answer(used, model="dear-1")
    api.script([{"contains": "mumble", "fault": "cut", "body": body}, {"body": body}])
    lines = [{"id": f"j{i}", "prompt": "hello", "max_tokens": MOST} for i in range(10)]
    lines[1] |= {"model": "dear-2", "prompt": "mumble"}
    dear.write("jobs.jsonl", lines)
    dear.run(*submit(dear, "-c", "1", "--max-attempts", "1", "--max-cost", "4"), code=3)
    assert dear.rows()["j1"].status == "failed"
    assert billed(api, MOST) == 4.0
    stopped = dear.resume(code=3)
    assert "up to $1.0000 for answers that were lost" in stopped.error["message"]
    assert billed(api, MOST) == 4.0
    (dear.folder / "batchrunner.toml").write_text(PRICES)
    assert '[prices."dear-2"]' in dear.resume("--max-cost", "9", code=2).error["fix"]


def test_lost_answers_that_nothing_bounded_forbid_a_bound(dear: House, api: ApiServer) -> None:
    """What they may have cost is not taken for 0: the bound is refused, naming a job."""
    used = {"prompt_tokens": 20, "completion_tokens": 20}
    body = {"model": "dear-1", "usage": used, "choices": [{"message": {"content": "x"}}]}
    api.script([{"n": 2, "fault": "cut", "body": body}, {"body": body}])
    lines = [{"id": f"j{i}", "prompt": "hello", "max_tokens": MOST} for i in range(6)]
    del lines[1]["max_tokens"]
    dear.write("jobs.jsonl", lines)
    dear.environ["OPENAI_API_KEY"] = "k"
    to_api = ("--provider", "openai", "--base-url", f"{dear.url}/v1", "--model", "dear-1")
    dear.run("submit", "jobs.jsonl", *to_api, "-c", "1", "--max-attempts", "1", code=1)
    done = dear.run("retry", "--json", "--max-cost", "5", code=2)
    assert "an answer to job j1 was lost" in done.error["message"]
    dear.run("retry", "--max-cost", "none", code=0)


def test_what_earlier_answers_taught_of_inputs_counts_from_the_first_request(
    house: House, api: ApiServer
) -> None:
    """A file by its id is longer than it looks: known from another run, no request is tried on it."""
    (house.folder / "batchrunner.toml").write_text('[prices."dear-1"]\ninput = 10000\noutput = 0\n')
    api.script([{"body": answer({"input_tokens": 500, "output_tokens": 20}, model="dear-1")}])
    house.jobs(3, max_tokens=MOST)
    house.run(*submit(house), code=0)
    house.jobs(3, max_tokens=MOST, prefix="other")
    done = house.run(*submit(house, "--name", "other", "--max-cost", "4.50"), code=3)
    assert "the next job may cost $" in done.error["message"]
    assert len(api.requests()) == 3


def test_answers_of_a_time_without_a_price_count_by_their_tokens(
    house: House, api: ApiServer
) -> None:
    """Their cost was not known then; what they took was."""
    body = answer({"input_tokens": 20, "output_tokens": 20}, model="dear-1")
    api.script([{"to": 3, "body": body}, {"status": 400}])
    house.jobs(6, max_tokens=MOST)
    house.run(*submit(house, "-c", "1"), code=1)
    (house.folder / "batchrunner.toml").write_text(PRICES)
    api.script([{"body": body}])
    done = house.run("retry", "--json", "-c", "1", "--max-cost", "1.70", code=3)
    assert "up to $0.6000 for answers that were lost" in done.error["message"]
    assert house.counts().completed == 4


def test_a_model_that_comes_back_into_a_live_run_has_its_price(dear: House, api: ApiServer) -> None:
    """Its only job had failed when the run was taken up; put back, it goes like the others."""
    other = PRICES.replace("dear-1", "dear-2")
    (dear.folder / "batchrunner.toml").write_text(PRICES + other)
    body = answer({"input_tokens": 20, "output_tokens": 20}, model="dear-1")
    api.script([{"contains": "mumble", "status": 400}, {"body": body}])
    says = ["mumble", *["hello"] * 5, "wait"]
    lines = [{"id": f"j{i}", "prompt": say, "max_tokens": MOST} for i, say in enumerate(says)]
    lines[0]["model"] = "dear-2"
    dear.write("jobs.jsonl", lines)
    dear.run(*submit(dear, "--max-cost", "50", "-c", "1", "--max-failures", "1"), code=3)
    assert dear.rows()["j0"].status == "failed"
    api.script([{"contains": "wait", "fault": "hang"}, {"body": body}])
    live = dear.start("resume", "--json", "-c", "4", "--max-failures", "100%")
    live.sees("job.completed")
    dear.run("retry", "--status", "failed", "--no-wait", code=3)
    live.until(lambda: dear.rows()["j0"].status == "completed", "the job that was put back")


@pytest.mark.parametrize("before", [(), ("--max-cost", "50")], ids=["unbound", "bound higher"])
def test_a_bound_set_on_a_live_run_counts_what_is_out(
    dear: House, api: ApiServer, before: tuple[str, ...]
) -> None:
    """What is on the wire counts at its worst; what is claimed and has no room goes back unsent."""
    body = answer({"input_tokens": 20, "output_tokens": MOST}, model="dear-1")
    api.script([{"to": 6, "body": body}, {"fault": "hang"}])
    dear.jobs(30, max_tokens=MOST)
    running = dear.start(*submit(dear, "-c", "4", *before))
    running.sees("job.completed", 6)
    running.until(lambda: dear.counts().running == 8, "4 are out and 4 wait")
    dear.run("resume", "--max-cost", "11.50", "--no-wait", code=3)
    running.until(lambda: dear.counts().running == 5, "3 of the 4 go back")
    assert len(api.requests()) == 10
    running.send(signal.SIGINT)
    running.until(lambda: dear.counts().running == 4, "the one that fits goes back too")
    running.send(signal.SIGINT)
    running.ended(130)
    replies(api, MOST)
    dear.resume(code=3)
    # One after the ten: the script counts anew, the log does not.
    assert billed(api, MOST) == 11.0


def test_a_timeout_that_takes_the_last_room_ends_the_run(dear: House, api: ApiServer) -> None:
    """It waits for another job to tell whether it is an outage; where no money is left, none can."""
    used = {"input_tokens": 20, "output_tokens": 20}
    api.script([{"n": 2, "fault": "hang"}, {"body": answer(used, model="dear-1")}])
    dear.jobs(9, max_tokens=MOST)
    done = dear.run(*submit(dear, "-c", "1", "--timeout", "1", "--max-cost", "2"), code=3)
    waiting = done.named("run.halted")[0]["waiting"]
    assert waiting["reason"] == "budget"
    assert "up to $1.0000 for answers that were lost" in waiting["detail"]
    assert len(api.requests()) == 2
    dear.resume("--max-cost", "20", code=0)


def test_without_a_price_nothing_is_sent(house: House, api: ApiServer) -> None:
    """Refused beforehand, naming the model and the lines that say its price."""
    house.jobs(2, max_tokens=MOST)
    done = house.run(*submit(house, "--max-cost", "5"), code=2)
    assert '[prices."dear-1"]' in done.error["fix"]
    assert not api.requests()
    assert not house.db.exists()
    (house.folder / "batchrunner.toml").write_text(PRICES)
    replies(api, 20)
    house.run(*submit(house, "--max-cost", "5"), code=0)
    assert house.status().cost_usd == pytest.approx(0.4)


@pytest.mark.slow
def test_a_model_that_is_mended_is_submitted_anew(house: House, api: ApiServer) -> None:
    """At exit 2 nothing was stored: the name is free, beside other runs too, and retry and resume keep off."""
    house.jobs(1, "first.jsonl")
    house.submit("--no-run", file="first.jsonl")
    house.jobs(2, max_tokens=MOST)
    house.run(*submit(house, "--max-cost", "5"), code=2)
    assert [run.name for run in house.app.runs()] == ["first"]
    house.resume("--max-cost", "5", code=2)
    house.run("submit", "first.jsonl", *house.to_api, "--max-cost", "5", code=2)
    (house.folder / "batchrunner.toml").write_text(PRICES)
    replies(api, 20)
    done = house.resume("--set", "model=dear-1", code=0)
    assert done.named("run.finished"), "the bound was stored by calls that were refused"
    house.run(*submit(house, "--max-cost", "5"), code=0)


def test_more_without_a_price_is_not_taken_into_a_run(dear: House, api: ApiServer) -> None:
    """``--update`` with a model whose price nobody knows leaves the run as it was."""
    replies(api, 20)
    dear.jobs(1, max_tokens=MOST)
    dear.run(*submit(dear, "--max-cost", "5"), code=0)
    dear.jobs(3, max_tokens=MOST)
    update = (*submit(dear, "--update", model="dear-2"), "--max-cost", "6")
    refused = dear.run(*update, code=2)
    assert "no price of dear-2 is known" in refused.error["message"]
    assert dear.counts().total == 1


def test_half_a_price_is_named(house: House) -> None:
    """Whoever wrote the price of what is sent reads that the answers' is missing."""
    house.jobs(1, max_tokens=MOST)
    (house.folder / "batchrunner.toml").write_text('[prices."dear-1"]\ninput = 5\n')
    refused = house.run(*submit(house, "--max-cost", "5"), code=2)
    assert "no price of the answers of dear-1 is known" in refused.error["message"]


def test_a_field_that_cannot_be_set_stores_nothing(house: House) -> None:
    """A path that no body has is refused, and the database is as it was before."""
    house.jobs(1)
    house.submit("--set", "messages.9.content=x", code=2)
    assert not house.db.exists()


def test_answers_without_a_bound_are_not_asked_for(house: House, api: ApiServer) -> None:
    """Where nothing bounds an answer its worst case is unknown: each line is named, and the fix bounds it."""
    (house.folder / "batchrunner.toml").write_text(f"{PRICES}[budget]\nday = 500\n")
    house.write("jobs.jsonl", [{"prompt": "a"}, {"prompt": "b", "max_tokens": 9}, {"prompt": "c"}])
    house.environ["OPENAI_API_KEY"] = "k"
    to_api = ("--provider", "openai", "--base-url", f"{house.url}/v1", "--model", "dear-1")
    for bound, words in (("--max-cost", ("--max-cost", "50")), ("[budget]", ())):
        for command in ("submit", "plan"):
            done = house.run(command, "jobs.jsonl", *to_api, "--json", *words, code=2)
            told = {line["line"]: line["reason"] for line in done.error["lines"]}
            said = f"{bound} can't be kept: nothing bounds its answer"
            assert told == {1: said, 3: said}
            assert "submit it again with --max-tokens 1024" in done.error["fix"]
    assert not house.db.exists()
    for mended in (("--max-tokens", "9"), ("--set", "max_completion_tokens=9")):
        house.run("submit", "jobs.jsonl", *to_api, "--max-cost", "5", "--no-run", "--new", *mended)
    assert not api.requests()


def test_a_stored_run_stops_at_an_answer_without_a_bound(house: House, api: ApiServer) -> None:
    """A bound that comes later finds the job at its turn; the fix bounds the answers of the jobs left."""
    (house.folder / "batchrunner.toml").write_text(PRICES)
    house.jobs(2)
    house.environ["OPENAI_API_KEY"] = "k"
    to_api = ("--provider", "openai", "--base-url", f"{house.url}/v1", "--model", "dear-1")
    house.run("submit", "jobs.jsonl", *to_api, "--no-run")
    done = house.run("resume", "--max-cost", "5", code=3)
    assert "--set max_completion_tokens=1024" in done.err
    assert not api.requests()


def test_requests_without_a_model_have_no_bound(house: House, api: ApiServer) -> None:
    """Plain HTTP costs nobody knows what: refused, and the fix takes the bound away."""
    house.write("jobs.jsonl", [{"custom_id": "a", "method": "POST", "url": "/x", "body": {}}])
    api.script([{"body": {"ok": True}}])
    to_api = ("--provider", "http", "--base-url", house.url)
    done = house.run("submit", "jobs.jsonl", *to_api, "--json", "--max-cost", "5", code=2)
    assert not api.requests()
    assert done.error["fix"].endswith("--max-cost none")
    house.run("submit", "jobs.jsonl", *to_api, "--max-cost", "none", code=0)
    assert house.counts().completed == 1


def test_the_configuration_may_say_it(house: House, api: ApiServer) -> None:
    """Each run of the folder is bound by it, until one is told otherwise."""
    (house.folder / "batchrunner.toml").write_text(f"max_cost = 3\n{PRICES}")
    replies(api, MOST)
    house.jobs(5, max_tokens=MOST)
    done = house.run(*submit(house, "-c", "1"), code=3)
    assert "of --max-cost $3.00 spent" in done.error["message"]
    assert billed(api, MOST) == 3.0
    house.resume("--max-cost", "none", code=0)


@pytest.mark.parametrize("sum_", ["0", "-1", "much", "1e9", "nan"])
def test_a_sum_is_a_sum(house: House, sum_: str) -> None:
    """What is no number of dollars above 0 is refused with what to write."""
    house.jobs(1)
    done = house.run("submit", "jobs.jsonl", f"--max-cost={sum_}", code=2)
    assert "write 5 or 0.50" in done.err


#: A cent for each token that is sent; it reads so many at most.
READS = '[prices."dear-1"]\ninput = 10000\noutput = 0\n'
WINDOW = 10_000


def shows_files(house: House, n: int) -> None:
    """Write jobs about files that lie at the provider."""
    shown = [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]
    messages = [{"role": "user", "content": shown}]
    lines = [
        {"custom_id": f"j{i}", "params": {"max_tokens": 9, "messages": messages}} for i in range(n)
    ]
    house.write("jobs.jsonl", lines)


def test_a_file_of_unknown_length_does_not_pass_it(house: House, api: ApiServer) -> None:
    """It is taken to fill the model's window, whatever an answer about another file says."""
    (house.folder / "batchrunner.toml").write_text(f"{READS}context_window = {WINDOW}\n")
    short = answer({"input_tokens": 50, "output_tokens": 2}, model="dear-1")
    long = answer({"input_tokens": WINDOW, "output_tokens": 2}, model="dear-1")
    api.script([{"to": 1, "body": short}, {"body": long}])
    shows_files(house, 6)
    done = house.run(*submit(house, "-c", "6", "--max-cost", "250"), code=3)
    # A file of fifty tokens, then two that fill the window.
    assert len(api.requests()) == 3
    assert house.status().cost_usd == pytest.approx(0.5 + 200)
    assert "the next job may cost $100.00" in done.error["message"]


def test_a_file_that_nothing_bounds_is_refused(house: House, api: ApiServer) -> None:
    """Nobody knows how much the model reads: each line and field is named, and nothing is stored."""
    (house.folder / "batchrunner.toml").write_text(READS)
    shows_files(house, 2)
    done = house.run(*submit(house, "--max-cost", "250"), code=2)
    assert [line["line"] for line in done.error["lines"]] == [1, 2]
    assert "`messages[0].content[0].source.file_id`" in done.error["lines"][0]["reason"]
    assert 'context_window in [prices."dear-1"]' in done.error["lines"][0]["reason"]
    assert done.error["fix"].endswith("--max-cost none")
    assert not house.db.exists()
    plan = ("plan", *submit(house, "--max-cost", "250")[1:])
    assert "source.file_id" in house.run(*plan, code=2).error["lines"][0]["reason"]
    assert not api.requests()


def test_searches_are_refused_and_a_stored_run_stops_at_one(dear: House, api: ApiServer) -> None:
    """What the provider adds to a request nothing bounds: not at submit, and not when a bound comes later."""
    replies(api, 20)
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    line = {"custom_id": "a", "params": {"max_tokens": 9, "messages": [], "tools": tools}}
    line["params"]["messages"] = [{"role": "user", "content": "hi"}]  # type: ignore[index]
    dear.write("jobs.jsonl", [line])
    refused = dear.run(*submit(dear, "--max-cost", "5"), code=2)
    assert "`tools[0]` (web_search_20250305)" in refused.error["lines"][0]["reason"]
    (dear.folder / "batchrunner.toml").write_text(f"{PRICES}[budget]\nday = 5\n")
    refused = dear.run(*submit(dear), code=2)
    assert refused.error["lines"][0]["reason"].startswith("[budget] can't be kept")
    (dear.folder / "batchrunner.toml").write_text(PRICES)
    dear.run(*submit(dear, "--no-run"), code=0)
    stopped = dear.resume("--max-cost", "5", code=3)
    assert "nobody knows what job a may cost at most: `tools[0]`" in stopped.error["message"]
    assert not api.requests()
    dear.resume("--max-cost", "none", code=0)


def test_the_fix_of_an_event_can_be_pasted(dear: House, api: ApiServer) -> None:
    """``run.halted`` and the log name the database and the run where the call had to."""
    replies(api, MOST)
    dear.jobs(3, max_tokens=MOST)
    place = ("--db", "else where.db", "--log-file", "log")
    done = dear.run(*submit(dear, "--max-cost", "1", *place), code=3)
    fix = done.named("run.halted")[0]["waiting"]["fix"]
    assert fix.startswith("batchrunner resume --db 'else where.db' jobs --max-cost ")
    assert fix in [
        (line.get("waiting") or {}).get("fix")
        for line in map(json.loads, (dear.folder / "log").read_text().splitlines())
    ]
    dear.run(*shlex.split(fix)[1:], code=0)


@pytest.mark.parametrize("way", ["set", "update"])
def test_what_was_asked_before_counts_when_it_is_replaced(
    dear: House, api: ApiServer, way: str
) -> None:
    """A lost answer may have cost what its own request bounded it to, whatever the job asks for now."""
    used = {"input_tokens": 20, "output_tokens": MOST}
    api.script([{"n": 1, "fault": "cut", "body": answer(used, model="dear-1")}, {"status": 529}])
    dear.jobs(12, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "1", "--max-cost", "1.50"), code=3)
    assert len(api.requests()) == 1
    replies(api, 10)
    if way == "set":
        stopped = dear.resume("--set", "max_tokens=10", code=3)
    else:
        dear.jobs(12, max_tokens=10)
        stopped = dear.run(*submit(dear, "--update"), code=3)
    assert "up to $1.0000 for answers that were lost" in stopped.error["message"]
    assert dear.status().cost_usd == pytest.approx(0.5)
    dear.run("cancel", dear.status().name, "-y")
    dear.run("db", "prune", dear.status().name, "-y")
    with sqlite3.connect(dear.db) as conn:
        assert conn.execute("SELECT count(*) FROM meta WHERE key LIKE 'asked.%'").fetchone() == (0,)
