"""Token limits over real sockets: a server that counts by its own code refuses nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.fakes import ApiServer
from tests.fakes.token_server import TokenServer, Way, running
from tests.integration.house import House

#: Long enough that the text's own estimate is near the tokens that the server counts.
TEXT = "Tell in one sentence what the following words are about, please. "


def prompts(
    house: House, sizes: list[tuple[int, int]], *, cached: int = 0, **fields: object
) -> Path:
    """Write prompts that take about so many tokens, and say so to the server."""
    lines = []
    for i, (n_in, n_out) in enumerate(sizes):
        # The text is about 15 tokens long.
        text = TEXT * max(1, n_in // 15)
        said = f"in={n_in} out={n_out}" + (f" cached={cached}" if cached else "")
        lines.append({"id": f"j{i}", "prompt": f"{text} {said}", **fields})
    return house.write("jobs.jsonl", lines)


def submit(house: House, server: TokenServer, *args: str, code: int = 3) -> object:
    """Send to the server until it would have to wait for tokens."""
    return house.run(
        "submit", "jobs.jsonl", "--provider", "anthropic", "--base-url", server.url,
        "--model", "m-1", "--json", "--max-wait", "2", *args, code=code,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "way"),
    [
        ({"itpm": 12_000}, "anthropic"),
        ({"otpm": 3_000}, "anthropic"),
        ({"tpm": 14_000}, "used"),
        ({"tpd": 14_000}, "used"),
    ],
    ids=["itpm", "otpm", "tpm", "tpd"],
)
def test_a_told_limit_is_kept_and_used(house: House, limits: dict[str, int], way: Way) -> None:
    """With the limit told, nothing is refused, and little of it is left when the run has to wait."""
    (name, n), = limits.items()  # fmt: skip
    prompts(house, [(300, 100)] * 80, max_tokens=120)
    with running(TokenServer(limits, way, latency_s=0.02)) as server:
        submit(house, server, f"--{name}", str(n), "-c", "8", "--day-resets", "rolling")
        assert not server.refused
        used = sum(taken.counts.get(name, 0) for taken in server.served)
    assert 0.9 * n <= used <= n
    (limit,) = (limit for limit in house.status().limits if limit.limit == name)
    assert limit.used == used
    waiting = house.status().waiting
    assert waiting is not None
    assert "leaves no room for the next request" in waiting.detail


@pytest.mark.parametrize(("way", "counts"), [("azure", "sum"), ("openai", "larger")])
def test_what_is_charged_up_front_is_reserved_so(house: House, way: Way, counts: str) -> None:
    """A gateway that charges ``max_tokens`` when a request arrives refuses nothing, once that is said."""
    prompts(house, [(300, 20)] * 60, max_tokens=400)
    with running(TokenServer({"tpm": 14_000}, way)) as server:
        house.folder.joinpath("batchrunner.toml").write_text(
            f'[providers.acme]\nlike = "openai"\nbase_url = "{server.url}/v1"\n'
            f'counts_tokens = "{counts}"\n'
        )
        house.run(
            "submit", "jobs.jsonl", "--provider", "acme", "--model", "m-1", "--tpm", "14000",
            "--max-wait", "2", "-c", "8", code=3,
        )  # fmt: skip
        assert not server.refused
        used = sum(taken.counts["tpm"] for taken in server.served)
    assert 0.75 * 14_000 <= used <= 14_000


@pytest.mark.parametrize(
    ("provider", "model", "way", "name", "n", "each"),
    [
        ("anthropic", "claude-sonnet-4-5", "anthropic", "itpm", 6_000, 60),
        ("anthropic", "claude-3-5-haiku-20241022", "haiku", "itpm", 6_000, 300),
        ("gemini", "gemini-2.5-flash", "gemini", "tpm", 9_000, 300),
    ],
    ids=["what was read counts nothing", "of Haiku 3.5 it does", "Gemini counts input alone"],
)
def test_what_a_provider_leaves_out_is_used(
    house: House, provider: str, model: str, way: Way, name: str, n: int, each: int
) -> None:
    """What does not count is no allowance lost: nearly all is used, by the provider's own way, and no more."""
    cached = 240 if provider == "anthropic" else 0
    prompts(house, [(300, 100)] * 130, cached=cached, max_tokens=120)
    with running(TokenServer({name: n}, way, latency_s=0.02)) as server:
        base = server.url + ("" if provider == "anthropic" else "/v1beta")
        house.run(
            "submit", "jobs.jsonl", "--provider", provider, "--base-url", base, "--model", model,
            f"--{name}", str(n), "--max-wait", "2", "-c", "8", code=3,
            environ={"GEMINI_API_KEY": "a-gateways-key"},
        )  # fmt: skip
        assert not server.refused
        used = sum(taken.counts[name] for taken in server.served)
        assert used == each * len(server.served)
    assert 0.9 * n <= used <= n


def test_another_run_and_another_process_go_on_with_what_is_left(house: House) -> None:
    """What one call used of the minute, the next one lacks: usage is stored."""
    prompts(house, [(300, 10)] * 60)
    with running(TokenServer({"itpm": 10_000}, "anthropic")) as server:
        submit(house, server, "--itpm", "10000", "-c", "4")
        n_first = len(server.served)
        house.run("resume", "--json", "--max-wait", "2", code=3)
        assert not server.refused
        assert len(server.served) - n_first <= 1
        # A limit that is lifted frees it at once.
        server.limits.clear()
        house.run("resume", "--json", "--max-wait", "2", "--itpm", "none", code=0)
        assert len(server.served) == 60


def test_a_crash_keeps_what_was_reserved(house: House) -> None:
    """Killed with requests in flight, the next process counts what was reserved for them."""
    prompts(house, [(300, 100)] * 40, max_tokens=100)
    with running(TokenServer({}, latency_s=0.0)) as server:
        server.latency_s = 0.0
        running_call = house.start(
            "submit", "jobs.jsonl", "--provider", "anthropic", "--base-url", server.url,
            "--model", "m-1", "--json", "--tpm", "20000", "-c", "8",
        )  # fmt: skip
        running_call.sees("job.completed", 2)
        server.latency_s = 20.0
        running_call.until(
            lambda: sum(1 for taken in server.log if not taken.counts) >= 4, "four in flight"
        )
        done = len(running_call.so_far.named("job.completed"))
        running_call.process.send_signal(signal.SIGKILL)
        running_call.process.wait(10)
    (limit,) = (limit for limit in house.status().limits if limit.limit == "tpm")
    assert limit.used is not None
    assert limit.used > done * 400 + 4 * 300


def test_a_limit_is_learned_and_others_on_the_key_are_allowed_for(house: House) -> None:
    """With nothing typed the headers' token limits hold, less what another program has used."""
    prompts(house, [(300, 10)] * 60, max_tokens=20)
    server = TokenServer({"itpm": 12_000, "otpm": 50_000}, "anthropic", tells=True)
    server.foreign = 6_000
    with running(server):
        submit(house, server, "-c", "4")
        assert not server.refused
        ours = sum(taken.counts["itpm"] for taken in server.served)
    assert 0.7 * 6_000 <= ours <= 6_000
    shown = {limit.limit: limit for limit in house.status().limits}
    assert (shown["itpm"].value, shown["itpm"].source) == (12_000, "header")
    assert (shown["otpm"].value, shown["otpm"].source) == (50_000, "header")


def test_a_giant_goes_alone_and_is_answered(house: House) -> None:
    """A request that is more than the whole limit goes when nothing else counts; so it need not fail."""
    prompts(house, [(9_000, 10)])
    with running(TokenServer({})) as server:
        submit(house, server, "--itpm", "5000", code=0)
        assert len(server.served) == 1


def test_a_giant_that_is_refused_alone_fails_and_says_why(house: House) -> None:
    """Refused twice though nothing else counted, it fails as too large: it never waits for ever."""
    prompts(house, [(9_000, 10)])
    with running(TokenServer({"itpm": 5_000}, "anthropic")) as server:
        submit(house, server, "--itpm", "5000", code=1)
        assert len(server.refused) == 2
    row = house.rows()["j0"]
    assert (row.status, row.error_kind) == ("failed", "request_too_large")
    assert "more than the limit of 5,000 input tokens a minute" in (row.error_message or "")


def test_a_429_names_the_tokens_that_ran_out(house: House, api: ApiServer) -> None:
    """A refusal whose words leave open what ran out is told with what its headers say."""
    headers = {
        "retry-after": "30",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-requests-remaining": "49",
    }
    api.script([{"n": 2, "status": 429, "headers": headers}])
    house.jobs(4)
    done = house.submit("-c", "1", "--max-wait", "2", code=3)
    assert "(used up: input tokens)" in done.error["message"]


@pytest.mark.parametrize("option", ["--tpm", "--itpm", "--otpm", "--tpd"])
def test_limits_shows_and_sets_token_limits(house: House, api: ApiServer, option: str) -> None:
    """What is typed once holds, is shown with what is used of it, and is changed by ``limits set``."""
    house.jobs(3)
    house.submit(option, "100000")
    name = option.removeprefix("--")
    shown = {row["limit"]: row for row in house.run("limits", "--json").json["limits"]}
    assert shown[name]["value"] == 100_000
    assert shown[name]["source"] == "flag"
    assert 0 < shown[name]["used"] < 100_000
    assert shown[name]["remaining"] == 100_000 - shown[name]["used"]
    said = house.run("limits", "set", f"{name}=50").out
    assert "100000 → 50" in said.replace(",", "")
    house.write("more.jsonl", [{"id": "a", "prompt": "and one more " * 50}])
    assert len(api.requests()) == 3
