"""Words that a person types: a value within its range, or a sentence that says what would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner import values
from batchrunner.checking import check_base_url, check_options
from batchrunner.core.days import check_zone
from batchrunner.errors import UsageError
from batchrunner.formats.sets import apply_sets, parse_set
from batchrunner.options import LimitOptions, RunOptions
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import json_values, repeated, texts

WORDS: Final = (
    "90", "0", "1", ".5", "2h30m", "3d", "s", "m", "h", "d", "KB", "MB", "GiB", "none", "auto", "%", "5%", "100%", "-",
    "e", "inf", "nan", "9" * 400, "1_000", " ", "a=", "a.b=", "[", "{", '"', "@", "X-A: ", ":",
)  # fmt: skip
TYPED: Final = st.one_of(
    st.sampled_from(WORDS),
    texts(*WORDS, max_size=5, surrogates=True),
    repeated("1", "9d", "1d", "0", ".", "X:"),
    st.integers(-10, 10**20).map(str),
)
#: Reader → what it may return.
READERS: Final[dict[str, tuple[Callable[[str], Any], Callable[[Any], bool]]]] = {
    "duration": (values.read_duration, lambda s: 0 <= s <= 100 * 366 * 86_400),
    "positive duration": (values.read_positive_duration, lambda s: 0 < s <= 100 * 366 * 86_400),
    "size": (values.read_size, lambda n: type(n) is int and 1 <= n <= 1024**6),
    "limit": (values.read_limit, lambda n: n in {"none", "auto"} or 1 <= n < 10**12),
    "concurrency": (values.read_concurrency, lambda n: n == "auto" or 1 <= n < 10**12),
    "failures": (values.read_max_failures, lambda text: 0 <= float(text.rstrip("%")) < 10**12),
    "header": (values.read_header, lambda text: ":" in text and not set(text) & set("\r\n\0")),
    "field": (values.read_field, lambda pair: bool(pair[0]) and msgspec.json.decode(pair[1]) is not pair),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@fuzzed(120)
@given(TYPED)
@example("9" * 400)
@example("9" * 300 + "GB")
@example("9" * 5_000)
@example("a=" + "[" * 100_000)
@example("a=\udcff")
@example("@\0")
@example("a=@\0")
def test_a_typed_value_is_in_its_range_or_refused(name: str, text: str) -> None:
    """Each reader returns what its type can hold, or raises ``ValueError`` with a short sentence."""
    read, is_fine = READERS[name]
    try:
        with within():
            value = read(text)
    except ValueError as error:
        assert str(error)
        assert len(str(error)) <= len(text) + 100
        return
    assert is_fine(value), value
    assert not isinstance(value, float) or math.isfinite(value)


@fuzzed(100)
@given(texts("America/", "New_York", "UTC", "../", "/etc/passwd", "posix/", "Europe", "rolling"))
@example("../../etc/passwd")
@example("/etc/localtime")
@example("a\0b")
def test_a_zone_is_one_of_the_list(name: str) -> None:
    """No path is opened for a time zone: what is not in the list is refused."""
    if name not in available_timezones():
        with pytest.raises(ValueError), within():
            check_zone(name)
    with pytest.raises(UsageError):
        check_options(RunOptions(), LimitOptions(day_resets=f"../{name}"))


@fuzzed(120)
@given(
    texts("http://", "https://", "host", ":80", ":99999", "[::1]", "[", "@", "user:pw@", "/v1", "?a=", "#", "%", "xn--", " ")
)  # fmt: skip
def test_a_base_url_is_taken_or_refused(url: str) -> None:
    """An address that requests can't go to is a usage error, whatever its form."""
    try:
        with within():
            check_base_url(url, allow_insecure_http=False)
    except UsageError as refused:
        assert "user:pw@" not in refused.message


BODIES: Final = json_values("a", "b", "messages", "0").map(msgspec.json.encode)


@fuzzed(120)
@given(
    st.one_of(texts("a", "b", ".", "=", "0", "1", "[1]", "{}", "null", "messages"), TYPED), BODIES
)
@example("a=" + "[" * 5_000, b"{}")
@example("a.²=1", b'{"a":[1]}')
@example("a.٣=1", b'{"a":[1,2,3,4]}')
def test_a_field_is_set_or_refused(text: str, body: bytes) -> None:
    """``--set`` changes a body into JSON again, or says why it can't."""
    try:
        with within():
            changed = apply_sets(body, [parse_set(text)])
    except UsageError as refused:
        assert refused.message
        return
    assert isinstance(msgspec.json.decode(changed), dict)
