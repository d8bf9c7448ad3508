"""How Groq, Mistral and DeepSeek limit, over real sockets: each counts its own way, by code of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.fakes.kin_servers import DeepSeekServer, GroqServer, MistralServer
from tests.fakes.token_server import TokenServer, running
from tests.integration.house import House

TEXT = "Tell in one sentence what the following words are about, please. "


def jobs(house: House, n: int, n_in: int, n_out: int, *, cached: int = 0) -> None:
    """Write prompts that take about so many tokens, and say so to the server."""
    # The text is about 15 tokens long.
    prompt = f"{TEXT * max(1, n_in // 15)} in={n_in} out={n_out} cached={cached}"
    house.write(
        "jobs.jsonl",
        [{"id": f"j{i}", "prompt": prompt, "max_tokens": n_out + 10} for i in range(n)],
    )


def submit(house: House, server: TokenServer, provider: str, *args: str, code: int = 3) -> None:
    """Send until it would have to wait for tokens, with nothing said of limits but what ``args`` say."""
    house.run(
        "submit", "jobs.jsonl", "--provider", provider, "--base-url", server.url + "/v1",
        "--model", "m-1", "--max-wait", "6", *args, code=code,
    )  # fmt: skip


@pytest.mark.slow
def test_groqs_minute_is_used_to_its_end_and_never_passed(house: House) -> None:
    """Its headers' tokens are the minute's and its requests the day's; what was read from its cache is no allowance lost."""
    n = 60_000
    jobs(house, 400, 300, 100, cached=200)
    with running(GroqServer(n, 14_400, latency_s=0.02)) as server:
        submit(house, server, "groq", "-c", "8")
        assert not server.refused
        used = sum(taken.counts["tpm"] for taken in server.served)
    assert 0.985 * n <= used <= n
    shown = {limit.limit: limit for limit in house.status().limits}
    assert (shown["tpm"].value, shown["tpm"].source, shown["tpm"].used) == (n, "header", used)
    assert (shown["rpd"].value, shown["rpd"].used) == (14_400, len(server.served))


@pytest.mark.slow
def test_mistrals_minute_is_used_to_its_end_within_its_second(house: House) -> None:
    """Its minute's headers are learned; the second, of which no header tells, is kept by --min-interval."""
    n = 8_000
    jobs(house, 140, 60, 20, cached=30)
    with running(MistralServer(n, 6_000, 36, latency_s=0.02)) as server:
        submit(house, server, "mistral", "-c", "8", "--min-interval", "0.03")
        assert not server.refused
        used = sum(taken.counts["tpm"] for taken in server.served)
    assert 0.985 * n <= used <= n, "what was cached counts"
    shown = {limit.limit: limit for limit in house.status().limits}
    assert (shown["tpm"].value, shown["rpm"].value) == (n, 6_000)


@pytest.mark.slow
def test_deepseeks_429_means_fewer_at_once(house: House) -> None:
    """It takes so many at once and tells nothing: the first refusals teach that, and nearly as many go from then on."""
    jobs(house, 150, 60, 20, cached=40)
    with running(DeepSeekServer(6, latency_s=0.1)) as server:
        submit(house, server, "deepseek", code=0)
        first = next(i for i, taken in enumerate(server.log) if taken.status == 429)
        later = [taken for taken in server.log if taken.at > server.log[first].at + 1.0]
    assert all(taken.status == 200 for taken in later), "after one pause none is refused"
    assert len(server.refused) <= 4
    assert max(server.here[-60:]) + 1 >= 5, "most of what it takes is used"
    counts = house.counts()
    assert (counts.completed, counts.failed) == (150, 0)
    with closing(sqlite3.connect(house.db)) as connection:
        (n_paid,) = connection.execute("SELECT max(attempts) FROM job").fetchone()
    assert n_paid == 1, "waiting is not failing"


def test_deepseeks_own_word_for_its_cache_is_read(house: House) -> None:
    """What it read from its cache is in usage, though it says so in a form of its own."""
    jobs(house, 3, 60, 20, cached=40)
    with running(DeepSeekServer(6, latency_s=0.0)) as server:
        submit(house, server, "deepseek", code=0)
    (day,) = house.run("usage", "--json").json["usage"]
    assert day["cache_read_tokens"] == 120
