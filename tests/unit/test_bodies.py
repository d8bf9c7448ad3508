"""Compressed bodies: what goes in comes out, and nothing that is damaged does."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.bodies import FEWEST, DamagedError, compressed, dictionary_of, restored

#: Requests as they are: alike at both ends, of their own in the middle.
BODIES = [
    b'{"model":"m-1","messages":[{"role":"user","content":"Is review %d kind? %s"}],'
    b'"system":"Answer with one word, and say nothing else."}' % (n, b"well " * n)
    for n in range(40)
]
DICTIONARY = dictionary_of(BODIES)


@given(st.binary(max_size=3000), st.lists(st.binary(max_size=200), max_size=12))
def test_any_body_comes_back(body: bytes, others: list[bytes]) -> None:
    """Whatever a dictionary was made of, a body is what it was, or stays plain."""
    dictionary = dictionary_of(others)
    small = compressed(body, dictionary)
    if small is not None:
        assert len(small) < len(body)
        assert restored(small, dictionary) == body


def test_bodies_alike_become_small() -> None:
    """What bodies have in common is kept in the dictionary alone."""
    body = BODIES[5].replace(b"kind", b"unkind")
    small = compressed(body, DICTIONARY)
    alone = compressed(body, b"")
    assert small is not None
    assert alone is not None
    assert len(small) < len(alone) / 2
    assert restored(small, DICTIONARY) == body


def test_long_common_ends_are_taken_whole() -> None:
    """A system prompt of many kilobytes costs each request some bytes, wherever it stands."""
    prompt = "".join(f"Rule {n * n} of {n}. " for n in range(400)).encode()
    for form in (b'{"s":"%s","p":"%d"}', b'{"p":"%d","s":"%s"}'):
        bodies = [
            form % ((prompt, n) if form.index(b"%s") < form.index(b"%d") else (n, prompt))
            for n in range(1000, 1020)
        ]
        small = compressed(bodies[0], dictionary_of(bodies))
        assert small is not None
        assert len(small) < len(prompt) / 50


def test_few_bodies_make_no_dictionary() -> None:
    """A dictionary that is larger than what it saves is not made."""
    assert dictionary_of(BODIES[: FEWEST - 1]) == b""
    assert len(dictionary_of(BODIES)) < 32 * 1024


def test_body_that_would_not_shrink_stays_plain() -> None:
    """Nothing is ever stored longer than it is."""
    assert compressed(b"", DICTIONARY) is None
    assert compressed(b"{}", b"") is None


SMALL = compressed(BODIES[7], DICTIONARY) or b""


@pytest.mark.parametrize("place", range(len(SMALL)))
def test_damage_is_told(place: int) -> None:
    """A byte that changed, wherever it is, is never read as another answer."""
    damaged = SMALL[:place] + bytes([SMALL[place] ^ 0x10]) + SMALL[place + 1 :]
    with suppress(DamagedError):
        # It may copy the same words from another place.
        assert restored(damaged, DICTIONARY) == BODIES[7]


@pytest.mark.parametrize(
    "small",
    [b"", SMALL[:3], SMALL[:4], SMALL[:-1], SMALL + b"more", b"\xff\xff\xff\xff" + SMALL[4:]],
    ids=["empty", "no length", "no stream", "cut", "longer", "huge"],
)
def test_what_is_cut_or_added_is_told(small: bytes) -> None:
    """A body is read back whole or not at all."""
    with pytest.raises(DamagedError):
        restored(small, DICTIONARY)


def test_other_dictionary_is_told() -> None:
    """A body is not read with a dictionary that it was not written with."""
    with pytest.raises(DamagedError):
        restored(SMALL, dictionary_of(BODIES[1:]))


def test_reading_takes_no_more_than_the_length_says() -> None:
    """A stream that would grow to a gigabyte is left where it passes its length."""
    bomb = (100).to_bytes(4) + zlib.compress(bytes(50_000_000))
    with pytest.raises(DamagedError, match="100 bytes"):
        restored(bomb, b"")
