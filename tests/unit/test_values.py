"""What a person may type as a value, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.values import (
    read_concurrency,
    read_count,
    read_duration,
    read_field,
    read_header,
    read_limit,
    read_max_failures,
    read_positive_duration,
    read_priority,
    read_size,
    read_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("2h30m", 9000),
        ("3d", 259_200),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.5h", 5400),
        ("1d2h3m4s", 93_784),
        (" 5M ", 300),
        ("0", 0),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    """Every form of the contract's DURATION is seconds."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "abc", "-5", "5x", "30m2h", "1h 30", "inf", "nan", "1e3", "٣s"]
)
def test_duration_is_refused(text: str) -> None:
    """Anything else is refused, with what would do."""
    with pytest.raises(ValueError, match="2h30m"):
        read_duration(text)


def test_zero_timeout_is_refused() -> None:
    """A time-out of nothing is refused."""
    with pytest.raises(ValueError, match="more than 0"):
        read_positive_duration("0s")


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("32MB", 32 * 1024**2),
        ("500kb", 512_000),
        ("1GiB", 1024**3),
        ("10", 10),
        ("1.5m", 1_572_864),
    ],
)
def test_size_is_read(text: str, n_bytes: int) -> None:
    """Sizes take the usual units, in powers of 1024."""
    assert read_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1", "0", "1TB", "32 megs"])
def test_size_is_refused(text: str) -> None:
    """Anything else is no size."""
    with pytest.raises(ValueError, match="32MB"):
        read_size(text)


def test_limit_is_a_number_or_a_word() -> None:
    """A limit is a number from 1, none or auto."""
    assert [read_limit(text) for text in ("50", "NONE", "auto")] == [50, "none", "auto"]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²"])
def test_limit_is_refused(text: str) -> None:
    """0 is no limit, since it would wait for ever."""
    with pytest.raises(ValueError, match="none or auto"):
        read_limit(text)


@pytest.mark.parametrize("text", ["9" * 20, "-" + "9" * 20, "9" * 5000, "1.5", "", "high", "²"])
def test_priority_is_refused(text: str) -> None:
    """A priority is a whole number that the database can hold, negative ones too."""
    assert [read_priority(text) for text in ("-7", "0", "+12")] == [-7, 0, 12]
    with pytest.raises(ValueError, match="from -999,999,999,999 to 999,999,999,999"):
        read_priority(text)


@pytest.mark.parametrize("text", ["0", "-1", "9" * 20, "1.5", ""])
def test_count_is_refused(text: str) -> None:
    """A count is a whole number from 1 that is not beyond all use."""
    assert read_count("7") == 7
    with pytest.raises(ValueError, match="from 1 to 999,999,999,999"):
        read_count(text)


def test_concurrency_is_a_number_or_auto() -> None:
    """Concurrency is a number from 1 or auto; none is nothing it knows."""
    assert [read_concurrency(text) for text in ("8", "auto")] == [8, "auto"]
    with pytest.raises(ValueError, match="or auto"):
        read_concurrency("none")


@pytest.mark.parametrize("text", ["20", "0", "5%", "0.5%", "100%"])
def test_max_failures_is_kept_as_typed(text: str) -> None:
    """A number of jobs or a share stays in its words."""
    assert read_max_failures(text) == text


@pytest.mark.parametrize("text", ["", "%", "101%", "-1", "5 %", "x"])
def test_max_failures_is_refused(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="share"):
        read_max_failures(text)


def test_header_keeps_its_variables() -> None:
    """``${VAR}`` is not filled in by the command line."""
    assert read_header("X-Team: ${TEAM}") == "X-Team: ${TEAM}"


@pytest.mark.parametrize("text", ["X-Team", ": x", "a b: c", "A: b\r\nC: d", "A: b\0"])
def test_header_is_refused(text: str) -> None:
    """A header that could smuggle another is refused."""
    with pytest.raises(ValueError, match="NAME: VALUE"):
        read_header(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("temperature=0", ("temperature", "0")),
        ("model=claude-haiku-4-5", ("model", '"claude-haiku-4-5"')),
        ('a.b={"c": 1}', ("a.b", '{"c": 1}')),
        ("system=a=b", ("system", '"a=b"')),
        ("stop=", ("stop", '""')),
        ("x=NaN", ("x", '"NaN"')),
    ],
)
def test_set_is_a_field_and_json(text: str, pair: tuple[str, str]) -> None:
    """A value that is no JSON is a string."""
    assert read_field(text) == pair


@pytest.mark.parametrize("text", ["temperature", "=1", "a..b=1", ".a=1"])
def test_set_without_a_field_is_refused(text: str) -> None:
    """A --set that names no field is refused."""
    with pytest.raises(ValueError, match="sets nothing"):
        read_field(text)


def test_file_is_read_for_text_and_field(tmp_path: Path) -> None:
    """``@FILE`` stands for what the file holds, without its byte-order mark."""
    file = tmp_path / "prompt.txt"
    file.write_bytes("\ufeffBe brief.\n".encode())
    assert read_text(f"@{file}") == "Be brief.\n"
    assert read_field(f"system=@{file}") == ("system", '"Be brief.\\n"')


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and one that is no text are refused by name."""
    with pytest.raises(ValueError, match=r"nothing\.txt: No such file"):
        read_text(f"@{tmp_path / 'nothing.txt'}")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(ValueError, match="latin: it is not UTF-8"):
        read_text(f"@{tmp_path / 'latin'}")
