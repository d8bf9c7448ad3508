"""--sample N: a few jobs go first, and only a person sends the rest."""

from __future__ import annotations

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House


def keys(api: ApiServer) -> list[str]:
    """Return the keys of the jobs that were asked, in order, each once."""
    return list(dict.fromkeys(request.prompt[4:-1] for request in api.requests()))


def test_a_sample_goes_first_and_the_rest_after_resume(house: House, api: ApiServer) -> None:
    """N jobs spread over the input are sent and exported, the run is paused; resume sends the rest."""
    house.jobs(50)
    done = house.submit("--sample", "5", "-o", "out.csv", code=3)
    assert sorted(keys(api), key=lambda key: int(key[1:])) == ["j5", "j15", "j25", "j35", "j45"]
    assert (house.folder / "out.csv").read_text().count(",completed,") == 5
    view = house.status()
    assert (view.state, view.jobs.completed, view.jobs.pending) == ("paused", 5, 45)
    said = house.run("status").out
    assert "the sample is done (5 completed, 0 failed); 45 jobs are left" in said
    assert "batchrunner resume jobs" in said
    assert "a sample of 5 jobs goes first" in done.err
    house.run("resume", "--all")
    assert len(api.requests()) == 5, "cron leaves it to a person"
    house.resume()
    assert house.counts().completed == 50
    assert len(api.requests()) == 50


def test_a_sample_of_all_jobs_is_the_run(house: House, api: ApiServer) -> None:
    """Where no job is left out, nobody is told of a pause that does not come."""
    house.jobs(2)
    done = house.submit("--sample", "100", code=0)
    assert "a sample of 2 jobs goes first; that is all there are" in done.err
    assert house.status().state == "finished"


def test_what_comes_back_stays_in_the_sample(house: House, api: ApiServer) -> None:
    """Retries, 429s and failures of the sample are settled before the pause; no other job goes."""
    api.script([
        {"n": 2, "status": 500}, {"n": 3, "status": 429, "headers": {"retry-after": "1"}},
        {"contains": "j15;", "status": 400, "body": "no"},
    ])  # fmt: skip
    house.jobs(20)
    house.submit("--sample", "2", "-c", "1", code=3)
    assert sorted(keys(api)) == ["j15", "j5"]
    assert (house.counts().completed, house.counts().failed) == (1, 1)


def test_a_sample_that_was_broken_off_goes_on(house: House, api: ApiServer) -> None:
    """After kill -9 in its middle, resume ends the sample first, with what was in flight."""
    api.script([{"to": 1}, {"fault": "hang"}])
    house.jobs(30)
    running = house.start_submit("--sample", "3", "-c", "3")
    running.sees("job.completed", 1)
    running.until(lambda: len(api.requests()) == 3, "all three are sent")
    running.kill()
    api.script([])
    house.resume(code=3)
    assert len(keys(api)) == 3
    assert house.counts().completed == 3
    house.resume()
    assert house.counts().completed == 30


@pytest.mark.slow
def test_another_sample_and_one_larger_than_what_is_left(house: House, api: ApiServer) -> None:
    """resume takes a sample of its own; one that has room for all finishes the run."""
    house.jobs(10)
    house.submit("--sample", "2", "--no-run")
    assert house.counts().pending == 10
    assert [house.show(f"j{n}").not_before for n in range(10)] == [None] * 10
    house.resume(code=3)
    house.resume("--sample", "3", code=3)
    assert house.counts().completed == 5
    house.resume("--sample", "99")
    assert house.counts().completed == 10
    house.jobs(12)
    house.submit("--update")
    assert house.counts().completed == 12, "nothing of the sample is left behind"


def test_models_take_part_in_a_sample(house: House, api: ApiServer) -> None:
    """Jobs of several models are sampled like those of one; a model that is held does not hide the rest."""
    house.write(
        "jobs.jsonl",
        [{"id": f"j{n}", "prompt": f"say j{n};", "model": f"m{n % 2}"} for n in range(16)],
    )
    house.submit("--sample", "4", code=3)
    assert len(keys(api)) == 4
    assert house.counts().pending == 12


def test_a_sample_that_another_process_sends(house: House, api: ApiServer) -> None:
    """A follower's sample is sent by the process that holds the lock, and ends the follower alike."""
    api.script([{"contains": "say a", "fault": "hang"}])
    house.jobs(2, "a.jsonl", prefix="a")
    house.jobs(20, "b.jsonl", prefix="b")
    running = house.start_submit("-c", "8", file="a.jsonl")
    running.until(api.requests, "the first is on its way")
    done = house.submit("--sample", "2", file="b.jsonl", code=3)
    assert house.status("b").state == "paused"
    assert house.counts("b").completed == 2
    assert "the sample is done" in done.error["message"]
    running.kill()


def test_the_same_file_again_sends_no_more_than_the_sample(house: House, api: ApiServer) -> None:
    """What is paused, by a sample or by hand, stays so when its file is submitted again: exit 3, and the fix."""
    house.jobs(10)
    house.submit("--sample", "2", code=3)
    done = house.submit(code=3)
    assert done.error["kind"] == "paused"
    assert done.error["fix"].endswith("batchrunner resume jobs")
    assert "as run jobs; it is paused, and stays so" in done.err
    assert [event["event"] for event in done.events] == ["run.stored", "run.halted"]
    house.jobs(12)
    house.submit("--update", "--sample", "1", code=3)
    assert (house.status().state, house.counts().pending) == ("paused", 10)
    house.app.pause("jobs")
    house.submit("--no-run")
    assert house.status().state == "paused"
    assert len(api.requests()) == 2
    house.resume()
    assert house.counts().completed == 12
