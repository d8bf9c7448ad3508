"""A fix that tries a call again has what was typed for the call."""

from __future__ import annotations

import click
import pytest

from batchrunner.cli.again import Word, again, typed_words
from batchrunner.cli.doctor import doctor_command

TYPED = [
    Word("--provider", "anthropic"),
    Word("--base-url", "https://g.example/a b"),
    Word("--proxy", "socks5://h:1"),
    Word("-H", "X-A: 1"),
    Word("--live", ""),
]
AT = " --base-url 'https://g.example/a b'"
ALL = f"--provider anthropic{AT} --proxy socks5://h:1 -H 'X-A: 1' --live"


@pytest.mark.parametrize(
    ("fix", "told"),
    [
        ("Then: batchrunner doctor", f"Then: batchrunner doctor {ALL}"),
        ("export K='…' && batchrunner doctor.", f"export K='…' && batchrunner doctor {ALL}."),
        (
            "batchrunner doctor --proxy URL; or batchrunner doctor --base-url URL",
            (
                f"batchrunner doctor {ALL.replace(' --proxy socks5://h:1', '')} --proxy URL; or"
                f" batchrunner doctor {ALL.replace(AT, '')} --base-url URL"
            ),
        ),
        (
            "batchrunner doctor -H 'authorization: Bearer ${K}'",
            f"batchrunner doctor {ALL} -H 'authorization: Bearer ${{K}}'",
        ),
        ("batchrunner doctor --help", "batchrunner doctor --help"),
        ("Run doctor again.", "Run doctor again."),
    ],
    ids=["end", "sentence", "its own", "a header more", "help", "words"],
)
def test_a_command_keeps_what_was_typed_and_what_the_fix_gives(fix: str, told: str) -> None:
    """The fix's own option takes the place of the typed one; a header is added to the others."""
    assert again(fix, TYPED) == told


def test_only_what_was_typed_is_repeated_and_no_secret() -> None:
    """Defaults are not repeated, durations stay, and a password becomes its variable."""
    context = doctor_command.make_context(
        "doctor",
        [
            "--base-url", "http://127.0.0.1:1", "--base-url", "http://127.0.0.1:2",
            "--proxy", "http://amina:sesame-open@127.0.0.1:3", "--connect-timeout", "1m",
            "--allow-insecure-http", "-H", "X-Key: sk-ant-api03-" + "k" * 95,
        ],
        parent=click.Context(click.Group("batchrunner")),
    )  # fmt: skip
    assert typed_words(context) == [
        ("--base-url", "http://127.0.0.1:1"),
        ("--base-url", "http://127.0.0.1:2"),
        ("--proxy", "http://amina:${PROXY_PASSWORD}@127.0.0.1:3"),
        ("--allow-insecure-http", ""),
        ("--connect-timeout", "60"),
    ]
