"""Foreign bytes and texts: what breaks parsers, mixed with what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

__all__ = ["ODD", "bytes_like", "json_values", "mutated", "repeated", "texts"]

#: Signs that mean something to somebody: terminals, JSON, SQL, spreadsheets, Unicode.
ODD: Final = (
    *"\x00\x01\t\n\r\x1b\x7f\x85\x9b\xa0\xad\u0300\u200b\u200d\u202e\u2066\u2028\ufeff\ufffd\uffff",
    "\U0001f600", "²", "٣", "µ", "ß", "İ", "=1+1", "@a", "+1", "-1", "${HOME}", "{x}", "%00", "../", "\\u0000",
    "'", '"', "\\", ";", ",", "[", "]", "{", "}", "<", ">", "&", "://", "\x1b]8;;http://x\x07", "\x1b[2J",
)  # fmt: skip


def texts(*expected: str, max_size: int = 12, surrogates: bool = False) -> st.SearchStrategy[str]:
    """Return texts of expected words, odd signs and anything else."""
    anything = st.characters() if surrogates else st.characters(exclude_categories=["Cs"])
    parts = [st.sampled_from(ODD), anything]
    if expected:
        parts += [st.sampled_from(expected)] * 4
    return st.lists(st.one_of(parts), max_size=max_size).map("".join)


def repeated(*words: str) -> st.SearchStrategy[str]:
    """Return a word some thousand times, and an end that does not fit: what makes patterns slow."""
    return st.builds(
        lambda before, word, n, end: before + word * n + end,
        st.sampled_from(["", "a", "a,", '"']),
        st.sampled_from([*words, *ODD, " ", "a", "1", "a1", "1 ", ": "]),
        st.integers(0, 3000),
        st.sampled_from(["", "!", "=", "\x00", '"', "1", "z"]),
    )


#: Numbers at the edges of what a column, a float or an instant holds.
NUMBERS: Final = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1e308, -0.0]),
)  # fmt: skip


def json_values(*names: str) -> st.SearchStrategy[Any]:
    """Return JSON values whose objects tend to have these names."""
    keys = st.sampled_from(names) if names else texts(max_size=4)
    return st.recursive(
        st.one_of(st.none(), st.booleans(), NUMBERS, texts(*names, max_size=4)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(keys, texts(max_size=3)), inner, max_size=5),
        ),
        max_leaves=12,
    )


def mutated(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return samples with parts cut out, doubled, and put in place of others."""

    @st.composite
    def change(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(samples))
        for _ in range(draw(st.integers(1, 4))):
            at, to = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
            data = (
                data[:at]
                + draw(st.one_of(st.just(b""), _SCRAPS, st.binary(max_size=6)))
                + data[to:]
            )
        return data

    return change()


#: What turns up in a file or on a wire that should not be there.
_SCRAPS: Final = st.sampled_from(
    [b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\r", b"\n", b"\r\n",
     b'"', b"{", b"[", b"]" , b"}", b"," , b":", b"null", b"1e400", b"-", b"9" * 400, b"9" * 5000, b"[" * 3000,
     b'{"a":' * 3000, b"[" * 3000 + b"]" * 3000, b'"a":1,"a":2,', b"NaN", b"Infinity", b"0x1", b"\x1b[2J"]
)  # fmt: skip


def bytes_like(*samples: object) -> st.SearchStrategy[bytes]:
    """Return JSON samples changed, any JSON, and bytes that are none."""
    encoded = [each if isinstance(each, bytes) else msgspec.json.encode(each) for each in samples]
    return st.one_of(mutated(encoded), mutated(encoded), st.binary(max_size=200), st.just(b""))
