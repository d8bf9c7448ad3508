"""A request's tokens are told from its text near enough, and what answers teach makes it nearer."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
import pytest

from batchrunner.core.tokens import (
    Counted,
    Estimate,
    Seen,
    counted,
    estimate,
    expect,
    text_tokens,
)

#: Texts with what two public vocabularies (cl100k, o200k) make of them.
COUNTED = {
    "english": (
        (
            "Classify the sentiment of the following review as positive, negative or neutral, and"
            " answer with one word only. The battery lasts two days, but the screen scratches easily."
        ),
        34,
        34,
    ),
    "german": (
        (
            "Fasse den folgenden Absatz in einem Satz zusammen. Die Größe der Übertragung hängt davon"
            " ab, welche Aufträge noch nicht abgeschlossen sind."
        ),
        37,
        27,
    ),
    "russian": (
        "Программа отправляет запросы к серверу и записывает ответы в базу данных.",
        22,
        18,
    ),
    "chinese": ("我们希望程序能够在限制之内尽快完成所有请求。请把下面的文章总结成三句话。", 41, 26),
    "japanese": (
        "プログラムは制限を守りながら、すべてのリクエストをできるだけ早く完了します。",
        37,
        30,
    ),
    "korean": ("프로그램은 제한을 지키면서 모든 요청을 가능한 한 빨리 완료합니다.", 32, 18),
    "python": (
        (
            "def total(prices: list[float], rate: float = 0.19) -> float:\n"
            "    return sum(p * (1 + rate) for p in prices if p > 0)\n"
        ),
        40,
        41,
    ),
    "json": (
        '{"id": 4711, "name": "Ada", "tags": ["a", "b"], "price": 12.50, "active": true}',
        35,
        35,
    ),
    "digits": ("4021 1833.20 99120 2024-11-03 17:45:12 0.0031 88 128 77123", 35, 35),
    "emoji": ("Great job 😀🎉🚀 see you ✨", 13, 11),
}


@pytest.mark.parametrize(("text", "most", "least"), COUNTED.values(), ids=COUNTED.keys())
def test_text_is_counted_near_what_vocabularies_make_of_it(
    text: str, most: int, least: int
) -> None:
    """In each script an estimate lies within 40 % of the range that real vocabularies give."""
    told = text_tokens(text.encode())
    assert min(most, least) * 0.6 <= told <= max(most, least) * 1.4


def body(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


TEXT = "Tell me what a token is, in one sentence. " * 10
IN_TEXT = text_tokens(TEXT.encode())


@pytest.mark.parametrize(
    ("request_body", "most"),
    [
        (body(model="m", max_tokens=64, messages=[{"role": "user", "content": TEXT}]), 64),
        (
            body(
                model="m",
                max_tokens=64,
                system=[{"type": "text", "text": TEXT[: len(TEXT) // 2]}],
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": TEXT[len(TEXT) // 2 :]}],
                    }
                ],
            ),
            64,
        ),
        (body(model="m", input=TEXT, max_output_tokens=32), 32),
        (body(model="m", messages=[{"role": "user", "content": TEXT}], max_tokens=10, n=3), 30),
        (body(model="m", messages=[{"role": "user", "content": TEXT}]), None),
        (body(model="text-embedding-3-small", input=[TEXT]), 0),
        (
            body(
                contents=[{"role": "user", "parts": [{"text": TEXT}]}],
                generationConfig={"maxOutputTokens": 128, "candidateCount": 2},
            ),
            256,
        ),
        (body(prompt=TEXT, max_tokens=5), 5),
        (TEXT.encode(), None),
    ],
    ids=[
        "chat", "anthropic", "responses", "several answers", "unbounded", "vectors", "gemini",
        "completions", "no JSON",
    ],
)  # fmt: skip
def test_every_form_of_request_tells_its_text_and_its_bound(
    request_body: bytes, most: int | None
) -> None:
    """Whatever a provider calls them, the same text counts alike and the answer's bound is found."""
    told = estimate(request_body)
    assert IN_TEXT <= told.input <= IN_TEXT + 12
    assert told.most_output == most


def test_what_is_no_text_counts_by_its_kind_not_its_length() -> None:
    """A megabyte of an image counts as an image, one of a document as pages, never as text."""
    blob = "A" * 1_000_000

    def told(block: Mapping[str, object]) -> int:
        return estimate(body(messages=[{"role": "user", "content": [block]}])).input

    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": blob}}
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + blob}}
    pdf = {"type": "document", "source": {"type": "base64", "data": "JVBERi" + blob}}
    assert told(image) == told(url)
    assert 1_000 < told(image) < 3_000
    assert 20_000 < told(pdf) < 60_000


def test_tools_are_read_too() -> None:
    """The descriptions of tools are part of what a model reads."""
    tools = [{"name": "look_up", "description": TEXT, "input_schema": {"type": "object"}}]
    asked = [{"role": "user", "content": "hi"}]
    plain = estimate(body(messages=asked)).input
    assert estimate(body(messages=asked, tools=tools)).input > plain + IN_TEXT


def test_what_was_seen_corrects_estimates_and_their_error() -> None:
    """A model that counts half as much again is told from its answers, and the error shrinks."""
    seen = Seen()
    assert seen.error is None
    assert seen.factor == 1.0
    for _ in range(30):
        seen = seen.after(Estimate(100, 1000), input=150, output=80)
    told = expect(Estimate(200, 1000), seen)
    assert told.input == 300
    assert seen.error is not None
    assert seen.error < 0.02
    assert told.input_high < 330
    assert told.output == 80
    assert 80 <= told.output_high < 100


def test_what_small_requests_taught_reserves_no_less_than_large_ones_tell() -> None:
    """Answers to a few words, which are mostly what comes with each request, leave a long one its own estimate."""
    seen = Seen()
    for _ in range(5):
        seen = seen.after(Estimate(8, 100), input=1, output=5)
    assert seen.factor < 0.2
    assert 950 < expect(Estimate(1_000, 100), seen).input_high <= 2_000
    assert expect(Estimate(8, 100), seen).input_high < 8


def test_wild_corrections_have_an_end() -> None:
    """However far answers were off, twice the likely input is reserved at most, or twice the estimate."""
    seen = Seen()
    for i in range(40):
        seen = seen.after(Estimate(100, 1000), input=1 if i % 2 else 900, output=10)
    told = expect(Estimate(100, 1000), seen)
    assert seen.error is not None
    assert seen.error > 0.6
    assert told.input_high <= 2 * told.input + 1


def test_answers_that_differ_widen_what_is_expected() -> None:
    """Where answers take 10 or 190 tokens, the most that is expected covers both."""
    seen = Seen()
    for i in range(100):
        seen = seen.after(Estimate(100, 1000), input=100, output=190 if i % 2 else 10)
    told = expect(Estimate(100, 1000), seen)
    assert 80 < told.output < 120
    assert told.output_high >= 190
    assert told.output_low <= 10


def test_no_answer_is_expected_to_pass_its_bound() -> None:
    """However long answers were, a request that allows 20 tokens takes 20 at most."""
    seen = Seen().after(Estimate(10, 1000), input=10, output=900)
    told = expect(Estimate(10, 20), seen)
    assert told.output == told.output_high == 20
    assert expect(Estimate(10, 0), seen)[3:] == (0, 0, 0)


def test_later_answers_count_more() -> None:
    """A model whose counting changes is followed, though thousands were seen before."""
    seen = Seen()
    for _ in range(3000):
        seen = seen.after(Estimate(100, None), input=100, output=10)
    for _ in range(2000):
        seen = seen.after(Estimate(100, None), input=200, output=10)
    assert 1.9 < seen.factor < 2.01


def test_a_count_comes_before_what_answers_taught() -> None:
    """The input is the provider's own; what answers take is still theirs."""
    seen = Seen().after(Estimate(100, None), input=300, output=80)
    told = expect(Estimate(100, 1000), seen, Counted(9, 1.5, 0.1))
    assert told[:3] == (135, 150, 165)
    assert told[3:] == expect(Estimate(100, 1000), seen)[3:]


def test_the_error_of_a_count_holds_19_of_20_times() -> None:
    """Drawn again and again, the scaled sum is off by more than was said about one time in twenty."""
    dice = random.Random(7)
    pairs = [
        (guess, round(guess * dice.uniform(0.6, 1.8)))
        for guess in dice.choices(range(20, 400), k=600)
    ]
    total = sum(each for _, each in pairs)
    guessed = sum(guess for guess, _ in pairs)
    n_off = 0
    for _ in range(400):
        count = counted(dice.sample(pairs, 40), len(pairs))
        n_off += abs(guessed * count.factor - total) > count.error * guessed * count.factor
    assert 4 <= n_off <= 40
    assert counted(pairs, len(pairs)) == Counted(600, total / guessed, 0.0)
    assert counted(pairs[:2], 600).error == 0.3
