"""A server that sends what no server should: the run goes on, and nothing of it is a defect."""

from __future__ import annotations

import pytest

from batchrunner.cli import main
from tests.integration.house import House
from tests.security.raw_server import MESSAGE, RawServer, http

VIEWS = (
    ("status",), ("jobs",), ("errors",), ("show", "jobs", "j0"), ("usage",), ("limits",), ("export",),
    ("export", "-f", "jsonl"), ("export", "-f", "openai"), ("export", "-f", "anthropic"), ("show", "jobs", "j0", "--json"),
)  # fmt: skip
DEEP = b"[" * 50_000 + b"]" * 50_000


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http(headers={"request-id": b"a\xff\xfeb"}), 0),
        (http(headers={"anthropic-organization-id": b"\xff"}), 0),
        (http(headers={"anthropic-ratelimit-requests-limit": b"\xff\xfe"}), 0),
        (http(headers={"ratelimit-policy": b"a," + b" " * 6_000 + b"="}), 0),
        (http(MESSAGE.replace(b":1,", b":" + b"9" * 30 + b",")), 0),
        (http(MESSAGE.replace(b":1,", b":-1,")), 0),
        (http(b'{"error":{"code":"\xc2\xb2"}}', status=b"400 Bad"), 1),
        (http(b'{"error":{"code":"\xc2\xb2"}}'), 1),
        (http(b" " * 300_000 + b"x", status=b"400 Bad"), 1),
        (http(b'{"error":' + DEEP + b"}", status=b"400 Bad"), 1),
        (http(b'{"type":"message","x":' + DEEP + b"}"), 1),
        (http(b"{}", status=b"999 What"), 1),
        (http(b'{"error":{"message":"a\\u0000b \xff"}}', status=b"400 Bad"), 1),
    ],
    ids=[
        "request id that is no UTF-8", "organization that is no UTF-8", "limit that is no UTF-8", "policy of blanks",
        "tokens that fit no column", "tokens below zero", "a code of superscript", "a code within a 200",
        "blanks before text", "a deep error", "a deep answer", "a status of its own", "zero bytes",
    ],
)  # fmt: skip
def test_no_answer_ends_a_run(
    house: House, raw: RawServer, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int
) -> None:
    """Whatever a server answers, its job is done or failed, and every view and export of it works."""
    raw.answer = answer
    house.url = raw.url
    house.jobs(1)
    house.submit("--max-attempts", "1", "--no-wait", code=code)
    monkeypatch.chdir(house.folder)
    for view in VIEWS:
        assert main(list(view)) == 0, view


def test_counts_that_can_not_be_are_unknown(house: House, raw: RawServer) -> None:
    """Tokens beyond any context are not taken for a price, and the answer itself stays as it came."""
    body = MESSAGE.replace(b":1,", b":" + b"9" * 30 + b",")
    raw.answer = http(body)
    house.url = raw.url
    house.jobs(1)
    house.submit(code=0)
    (row,) = house.csv()
    assert (row["input_tokens"], row["output_tokens"], row["output_text"]) == ("", "1", "hi")
    assert house.show("j0").response == body
