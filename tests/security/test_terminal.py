"""Foreign text on a terminal: no command shows a sign that a terminal would obey.

The words come from everywhere: names of runs, keys, models, files, folders and databases, metadata,
addresses, the configuration, and all that a server says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from batchrunner.cli import main
from batchrunner.cli.text import printable
from tests.integration.house import Done, House
from tests.security.raw_server import RawServer, http

#: Clears the screen, sets the title, copies to the clipboard, hides a link, turns text around.
EVIL: Final = (
    "e\x1b[2J\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil.example\x1b\\x"
    "\x07\x08\x0d\x7f\x9b31m\x90q\x9c\u202evil\u2066\u200b\u2028\u061c\ufff9\U000e0041"
)
#: What a terminal obeys, or what shows nothing and hides in a name; an own line end is none.
OBEYED: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
NAME: Final = EVIL.replace("/", "|")


def harmless(done: Done) -> None:
    """Fail where anything shown would be obeyed."""
    for text in (done.out, done.err):
        found = OBEYED.search(text)
        assert found is None, (found, text[max(0, found.start() - 80) :][:200])


def answers() -> Iterator[tuple[str, bytes]]:
    """Yield answers with the text wherever a server can put it."""
    raw = EVIL.replace("\x00", "").replace("\r", "").encode()
    error = {"type": EVIL, "code": EVIL, "message": EVIL, "param": EVIL}
    fine = {
        "type": "message", "model": EVIL, "stop_reason": EVIL, "content": [{"type": "text", "text": EVIL}],
        "usage": {"input_tokens": 1}, "data": [{"id": EVIL, "deprecated_at": EVIL}], EVIL: EVIL,
    }  # fmt: skip
    named = {
        "request-id": raw, "anthropic-organization-id": raw, "retry-after": raw,
        "anthropic-ratelimit-requests-limit": raw, "anthropic-ratelimit-requests-remaining": raw,
        "anthropic-ratelimit-requests-reset": raw, "location": b"http://x/" + raw, "date": raw,
    }  # fmt: skip
    named = {
        name: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value) for name, value in named.items()
    }
    yield "fine", http(json.dumps(fine, ensure_ascii=False).encode(), headers=named)
    yield "text", http(EVIL.encode(), headers=named)
    yield "page", http(f"<html><title>{EVIL}</title>".encode(), status=b"503 " + named["date"])
    yield "redirect", http(b"", status=b"302 Found", headers=named)
    yield "garbage", b"HTTP/1.1 \x1b[2J\x1b]0;x\x07\r\n\r\n"
    for status in (400, 401, 403, 404, 500):
        body = json.dumps({"type": "error", "error": error, "request_id": EVIL})
        yield str(status), http(body.encode(), status=b"%d X" % status, headers=named)


ANSWERS: Final = dict(answers())
VIEWS: Final = (
    ("status",), ("runs",), ("jobs",), ("errors",), ("usage",), ("usage", "--by", "model"), ("limits",), ("db", "check"),
    ("config", "show"), ("key", "list"), ("explain",), ("usage", "--by", "run", "--by", "account", "--chart"),
)  # fmt: skip


@pytest.mark.parametrize("how", ANSWERS)
def test_no_view_shows_what_a_terminal_obeys(
    house: House,
    raw: RawServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Submit, resume, retry, doctor, export and each view show names and a server's words harmless."""
    raw.answer = ANSWERS[how]
    house.folder = house.folder / NAME
    house.folder.mkdir()
    house.write(NAME, [{"id": EVIL, "prompt": EVIL, "model": EVIL, "metadata": {EVIL: EVIL}}])
    (house.folder / "batchrunner.toml").write_text(
        f"account = {json.dumps(EVIL)}\n[prices.{json.dumps(EVIL)}]\ninput = 1\n"
    )
    to = ("--provider", "anthropic", "--base-url", raw.url, "--max-attempts", "1", "--no-wait")
    db = ("--db", f"{NAME}.db")
    harmless(
        house.run("submit", NAME, "--name", NAME, *to, *db, "-v", "-o", f"{NAME}.csv", code=None)
    )
    harmless(house.run("resume", NAME, "--no-wait", "-v", *db, code=None))
    monkeypatch.chdir(house.folder)
    for view in (
        *VIEWS,
        ("show", NAME, EVIL),
        ("explain", NAME, EVIL),
        ("doctor", *to[:4], "--model", EVIL),
        ("export", NAME, "-o", f"{NAME}2.csv"),
    ):
        code = main([*view, *db])
        captured = capsys.readouterr()
        assert code != 70, captured.err
        harmless(Done(code, captured.out, captured.err))


@pytest.mark.parametrize(
    "typed",
    [
        (EVIL,), (f"--{EVIL}",), ("submit", EVIL), ("status", EVIL), ("show", EVIL, EVIL), ("status", "--db", EVIL),
        ("submit", "-", "--provider", EVIL), ("submit", "-", "--rpm", EVIL), ("submit", "-", "--set", EVIL),
        ("submit", "-", "-H", EVIL), ("submit", "-", "--base-url", EVIL), ("submit", "-", "--day-resets", EVIL),
        ("submit", "-", "--proxy", EVIL), ("submit", "-", "--ca-file", EVIL), ("submit", "-", "--timeout", EVIL),
        ("jobs", "--status", EVIL), ("retry", "--error", EVIL), ("export", "-f", EVIL), ("export", "-o", EVIL),
        ("status", "--config", EVIL), ("status", "--profile", EVIL), ("db", "backup", EVIL), ("pause", EVIL),
        ("cancel", EVIL, "-y"), ("limits", "set", EVIL), ("config", "show", "--provider", EVIL), ("key", "set", EVIL),
        ("doctor", "--provider", EVIL), ("doctor", "--base-url", EVIL), ("completion", EVIL), ("schema", EVIL),
        ("explain", EVIL), ("explain", EVIL, EVIL), ("usage", "--run", EVIL), ("usage", "--model", EVIL),
        ("usage", "--since", EVIL), ("usage", "--chart", EVIL),
        ("status", "--log-file", EVIL),
    ],
    ids=lambda typed: " ".join(typed).replace(EVIL, "EVIL"),
)  # fmt: skip
def test_what_was_typed_comes_back_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...]
) -> None:  # fmt: skip
    """A refusal that repeats what was typed, or a file's name, shows nothing that is obeyed."""
    monkeypatch.chdir(tmp_path)
    Path("batchrunner.db").touch()
    with stdin_of(b'{"prompt":"x"}\n', monkeypatch):
        code = main([*typed])
    captured = capsys.readouterr()
    assert code in {0, 2, 4, 5}
    harmless(Done(code, captured.out, captured.err))


@contextmanager
def stdin_of(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard input be these bytes."""
    Path("stdin").write_bytes(data)
    with Path("stdin").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        yield


def test_lines_of_files_come_back_harmless(house: House) -> None:
    """Refused lines, warnings and faults of a configuration are shown without what is obeyed."""
    path = house.folder / "bad.jsonl"
    path.write_bytes(b"\n".join([EVIL.encode(), json.dumps({EVIL: EVIL}).encode(),
                                 json.dumps({"prompt": "x", EVIL: 1}, ensure_ascii=False).encode()]))  # fmt: skip
    harmless(house.run("submit", "bad.jsonl", *house.to_api, code=2))
    harmless(house.run("submit", "bad.jsonl", *house.to_api, "--skip-invalid", code=2))
    toml = house.folder / "batchrunner.toml"
    for text in (
        f"x = '{EVIL}'",
        f'"{EVIL}" = 1',
        f"[{EVIL}]",
        'rpm = "\\u001b[2J"',
        '["\\u001b[2J"]\n"\\u009b" = 1',
    ):
        toml.write_text(text)
        harmless(house.run("config", "show", code=2))


def test_printable_keeps_what_is_written() -> None:
    """Letters of every script, and the joiners that some need, stay as they are."""
    for text in ("naïve", "日本語", "العربية", "नमस्ते", "👩\u200d👩\u200d👧", "e\u0301"):
        assert printable(text) == text
