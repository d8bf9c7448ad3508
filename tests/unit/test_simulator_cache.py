"""The simulator's prompt cache keeps, reads and forgets as Anthropic's does."""

from __future__ import annotations

from typing import Any

from batchrunner.providers.simulator.cache import CacheUse, PromptCache

NOW = 1_790_000_000.0
#: 1,500 tokens, with the words before it.
LONG = "on and on " * 600
SIZE = 1_502


def body(system: str, question: str = "why?", *, ttl: str = "", **fields: Any) -> dict[str, Any]:
    mark = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    return {
        "system": [{"type": "text", "text": system, "cache_control": mark}],
        "messages": [{"role": "user", "content": question}],
        **fields,
    }


def cache() -> PromptCache:
    return PromptCache(least=1_024, kept_s=300.0)


def use(kept: PromptCache, what: dict[str, Any], at: float, model: str = "m") -> CacheUse | None:
    return kept.use(model, what, now=at, ready_at=at + 2)


def test_what_is_marked_is_written_then_read() -> None:
    """From when the first answer begins, and by the same model only."""
    kept = cache()
    assert use(kept, body(LONG), NOW) == CacheUse(3, 0, SIZE, 0)
    assert use(kept, body(LONG, "and?"), NOW + 1) == CacheUse(3, 0, SIZE, 0)
    assert use(kept, body(LONG, "when?"), NOW + 4) == CacheUse(3, SIZE, 0, 0)
    assert use(kept, body(LONG), NOW + 4, "other") == CacheUse(3, 0, SIZE, 0)
    assert use(kept, body("x" + LONG), NOW + 4) == CacheUse(3, 0, SIZE + 1, 0)


def test_reading_keeps_it_and_time_takes_it() -> None:
    """Five minutes from the last read, an hour where that is asked for."""
    kept = cache()
    use(kept, body(LONG), NOW)
    for n in range(1, 4):
        assert use(kept, body(LONG), NOW + n * 290) == CacheUse(3, SIZE, 0, 0)
    assert use(kept, body(LONG), NOW + 3 * 290 + 300) == CacheUse(3, 0, SIZE, 0)
    use(kept, body(LONG, ttl="1h"), NOW, "long")
    assert use(kept, body(LONG), NOW + 3_500, "long") == CacheUse(3, SIZE, 0, 0)


def test_an_hour_is_told_apart() -> None:
    """Since it is charged apart."""
    assert use(cache(), body(LONG, ttl="1h"), NOW) == CacheUse(3, 0, 0, SIZE)


def test_what_is_short_or_not_marked_is_not_kept() -> None:
    """Without a word, as at the provider."""
    kept = cache()
    assert use(kept, body("brief"), NOW) == CacheUse(7, 0, 0, 0)
    assert use(kept, {"system": LONG, "messages": [{"role": "user", "content": "hi"}]}, NOW) is None


def test_of_two_marks_the_longest_prefix_is_read_and_the_rest_written() -> None:
    """Another document under the same system prompt writes only itself."""
    kept = cache()

    def about(document: str) -> dict[str, Any]:
        part = {"type": "text", "text": document, "cache_control": {"type": "ephemeral"}}
        return body(LONG, [part, {"type": "text", "text": "why?"}])  # type: ignore[arg-type]

    first = use(kept, about("one " * 2_000), NOW)
    assert first == CacheUse(3, 0, SIZE + 2_002, 0)
    second = use(kept, about("two " * 2_000), NOW + 5)
    assert second == CacheUse(3, SIZE, 2_002, 0)
