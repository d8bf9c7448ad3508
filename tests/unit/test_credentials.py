"""Credentials: found, checked in their form, never shown; secrets out of texts."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from batchrunner.core.credentials import Credential, Secrets, one_line, redact, secrets_of
from batchrunner.errors import RefusedError
from batchrunner.models import ExitCode
from batchrunner.providers import profile
from batchrunner.providers.credentials import find_credential

ANTHROPIC = profile("anthropic")
OPENAI = profile("openai")
KEY = "sk-ant-api03-abcdefghijklmnop" + "Q7_-x" * 16


def test_a_credential_does_not_show_itself() -> None:
    """Neither repr, str nor the fingerprint give the value away."""
    credential = Credential(KEY, "ANTHROPIC_API_KEY")
    for shown in (repr(credential), str(credential), f"{credential}", credential.fingerprint()):
        assert "abcdefgh" not in shown


def test_fingerprints_tell_keys_apart_and_last() -> None:
    """The same key gives the same fingerprint wherever it came from; another key another."""
    one = Credential(KEY, "A").fingerprint()
    assert one == Credential(KEY, "B").fingerprint()
    assert one != Credential(f"{KEY}x", "A").fingerprint()


def test_variables_are_tried_in_order() -> None:
    """The key wins over the token, and empty counts as unset."""
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": "token-token"}
    found = find_credential(ANTHROPIC, environ, base_url_is_own=True)
    assert found is not None
    assert (found.value, found.source) == (KEY, "ANTHROPIC_API_KEY")
    assert found.notice == "ANTHROPIC_API_KEY is used; ANTHROPIC_AUTH_TOKEN is set too."
    environ["ANTHROPIC_API_KEY"] = " "
    found = find_credential(ANTHROPIC, environ, base_url_is_own=True)
    assert found == Credential("token-token", "ANTHROPIC_AUTH_TOKEN")


def test_a_file_can_hold_the_key(tmp_path: Path) -> None:
    """NAME_FILE is read, its line break and BOM are nobody's mistake."""
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    file.chmod(0o600)
    environ = {"ANTHROPIC_API_KEY_FILE": str(file)}
    found = find_credential(ANTHROPIC, environ, base_url_is_own=True)
    assert found == Credential(KEY, "ANTHROPIC_API_KEY_FILE")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\x00", b"x" * 20_000])
def test_an_unusable_key_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, binary and huge files exit 4 naming the variable and the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RefusedError) as caught:
        find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY_FILE": str(file)}, base_url_is_own=False)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert str(file) in caught.value.message
    assert "ANTHROPIC_API_KEY_FILE" in caught.value.message


@pytest.mark.parametrize("key", [KEY, "Ab3" * 10 + "xy", KEY + "x" * 300])
def test_a_key_in_the_place_of_its_file_is_refused_unshown(key: str) -> None:
    """A key put where a file's name belongs is told as that, by its variable, and not repeated."""
    with pytest.raises(RefusedError) as caught:
        find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY_FILE": key}, base_url_is_own=False)
    assert caught.value.message.startswith(
        "What ANTHROPIC_API_KEY_FILE names, which looks like a key itself, can't"
    )
    assert key not in caught.value.message + caught.value.fix
    with pytest.raises(RefusedError) as caught:
        find_credential(ANTHROPIC, {}, base_url_is_own=False, key_file=Path("/x") / key)
    assert "which looks like a key itself" in caught.value.message
    assert key not in caught.value.message + caught.value.fix


def test_space_around_a_key_is_stripped_with_a_notice() -> None:
    """A pasted line break or blank is mended, and the person hears of it."""
    found = find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY": f" {KEY}\n"}, base_url_is_own=True)
    assert found is not None
    assert found.value == KEY
    assert "ANTHROPIC_API_KEY" in found.notice


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f'"{KEY}"', "a quotation mark at character 1"),
        (f"{KEY}”", f"a quotation mark at character {len(KEY) + 1}"),
        ("sk-ant-a b", "a space at character 9"),
        ("sk-ant-a\nb", "a line break at character 9"),
        ("sk-ant-a\x00b", "a control character at character 9"),
        ("sk-ant-ключ", "U+043A"),
        ("sk-ant-é", "U+00E9"),
        ("$ANTHROPIC_API_KEY", "an unfilled variable"),
        (f"Bearer {KEY}", "the word Bearer"),
        ("sk-ant-admin01-abcdefgh", "Admin key"),
        ("sk-proj-abcdefghijk", "an OpenAI key"),
    ],
)
def test_a_malformed_key_is_refused_at_the_own_address(value: str, words: str) -> None:
    """Exit 4 names the variable, the fault and its place, and never the key."""
    with pytest.raises(RefusedError) as caught:
        find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY": value}, base_url_is_own=True)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert caught.value.kind == "authentication"
    assert "ANTHROPIC_API_KEY" in caught.value.message
    assert words in caught.value.message
    assert value not in caught.value.message


@pytest.mark.parametrize("value", ["any thing", '"quoted"', "$x", "sk-proj-abcdefghijk", "é"])
def test_a_gateway_may_want_any_key(value: str) -> None:
    """Elsewhere only what can't stand in a header is refused."""
    found = find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY": value}, base_url_is_own=False)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize("value", ["a\nb", "a\x07b", "a€b"])
def test_what_no_header_can_carry_is_refused_everywhere(value: str) -> None:
    """Line breaks, control characters and characters beyond Latin-1 can't be sent."""
    with pytest.raises(RefusedError):
        find_credential(ANTHROPIC, {"ANTHROPIC_API_KEY": value}, base_url_is_own=False)


def test_a_missing_key_names_what_was_looked_at() -> None:
    """Without a key at the own address exit 4 lists the variables; elsewhere none is needed."""
    with pytest.raises(RefusedError) as caught:
        find_credential(OPENAI, {}, base_url_is_own=True)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "OPENAI_API_KEY" in caught.value.message
    assert "OPENAI_API_KEY_FILE" in caught.value.message
    assert find_credential(OPENAI, {}, base_url_is_own=False) is None
    assert find_credential(profile("simulator"), {}, base_url_is_own=True) is None
    assert find_credential(profile("http"), {}, base_url_is_own=True) is None


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-Ab_cdefgh-ijk",
        "sk-ant-oat01-abcdefgh",
        "sk-proj-abcDEF_123456",
        "sk-or-v1-0123456789abcdef",
        "sk-0123456789abcdef0123",
        "sk-XG6GW****wlmi",
        "AIza" + "a1-_" * 8 + "xyz",
        "AQ.Ab8RN6Ij_kLmNoPqRsTuVw",
        "gsk_" + "a1" * 15,
        "xai-" + "a1" * 15,
        "pplx-" + "a1" * 15,
        "hf_" + "a1" * 15,
        "r8_" + "a1" * 15,
        "csk-" + "a1" * 15,
        "tgp_v1_" + "a1" * 15,
        "nvapi-" + "a1" * 15,
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOi.eyJzdWIiOi.c2ln-_",
    ],
)
@pytest.mark.parametrize("around", ["{}", "key provided: {}.", '{{"key":"{}"}}', "x={}&y", "({})"])
def test_keys_of_every_known_form_are_redacted(secret: str, around: str) -> None:
    """Nothing of a key is left, wherever it stands in a text."""
    shown = redact(around.format(secret))
    assert "[redacted]" in shown
    for start in range(len(secret) - 7):
        assert secret[start : start + 8] not in shown


@pytest.mark.parametrize(
    ("text", "gone", "kept"),
    [
        ("Authorization: Bearer abc.def", "abc.def", "Authorization: "),
        ("x-api-key: hunter22", "hunter22", "x-api-key: "),
        ('"x-api-key": "hunter22"', "hunter22", "x-api-key"),
        ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "Basic "),
        ("GET /x?a=1&key=hunter22&b=2", "hunter22", "&b=2"),
        ("via http://user:hunter22@proxy:3128/", "hunter22", "@proxy:3128/"),
        ("Set-Cookie: sid=hunter22", "hunter22", "Set-Cookie: "),
    ],
)
def test_credentials_in_their_places_are_redacted(text: str, gone: str, kept: str) -> None:
    """Headers, queries and addresses lose the secret and keep the rest."""
    assert gone not in redact(text)
    assert kept in redact(text)


def test_exact_values_are_redacted_plain_and_encoded() -> None:
    """Keys without a telling form go by their value, URL-encoded too; short ones are left."""
    secret = "p@ss/word+1"
    shown = redact(f"a {secret} b {quote(secret, safe='')} c", [secret, "a"])
    assert "word" not in shown
    assert shown.startswith("a ")


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4o` does not exist",
        "max_tokens: 100000 > 8192, which is the maximum",
        "task-force risk-assessment desk-1234567890123456",
        "see https://host:8080/v1/messages?limit=5",
        "Limit 30000, Used 29123, Requested 1800.",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    """A message without a secret stays as it is."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\n\tb   c", "a b c"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("a\u202eb\u200bc\x00d", "abcd"),
        ("a\u2028b\u00a0c", "a b c"),
        ("ünï 漢字", "ünï 漢字"),
    ],
)
def test_messages_are_one_harmless_line(text: str, shown: str) -> None:
    """Terminal escapes, control and direction characters don't reach a screen."""
    assert one_line(text) == shown


def test_messages_are_bounded_after_redaction() -> None:
    """At most 500 characters, and no half of a secret at the cut."""
    shown = one_line("word " * 98 + KEY + " " + "x " * 10_000)
    assert len(shown) <= 500
    assert "sk-ant" not in shown


SECRET = "pä/s+w'o\"r<d>&7"
#: Form → what a text carries, with a secret at {}.
FORMS = {
    "plain": ("{}", SECRET),
    "url": ("?a={}&b", quote(SECRET, safe="")),
    "lower-url": ("{}", re.sub("%..", lambda m: m[0].lower(), quote(SECRET, safe=""))),
    "form": ("{}", quote_plus(SECRET)),
    "json": ('{"echo": "{}"}', json.dumps(SECRET)[1:-1]),
    "raw-json": ('{"echo": "{}"}', json.dumps(SECRET, ensure_ascii=False)[1:-1]),
    "json-in-json": (r'{"body": "{\"echo\": \"{}\"}"}', json.dumps(json.dumps(SECRET)[1:-1])[1:-1]),
    "slashes": ("{}", json.dumps(SECRET)[1:-1].replace("/", "\\/")),
    "html": ("<p>{}</p>", html.escape(SECRET)),
    "repr": ("{'header': '{}'}", repr(SECRET)[1:-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_every_form(form: str) -> None:
    """Plain, URL-encoded, in JSON, HTML and tracebacks: all of it goes, and nothing else."""
    around, encoded = FORMS[form]
    secrets = Secrets([SECRET])
    text, expected = (around.replace("{}", what) for what in (encoded, "[redacted]"))
    assert secrets.hide(text) == expected
    assert secrets.hide_bytes(text.encode()) == expected.encode()


@pytest.mark.parametrize("before", ["", "u", "me:", "user:", "someone:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_hidden_in_base64(before: str, encode: Callable[[bytes], bytes]) -> None:
    """Whatever stands before it in what was encoded, no more than the edges are left."""
    text = encode(f"{before}{SECRET}".encode()).decode()
    hidden = Secrets([SECRET]).hide(text)
    assert "[redacted]" in hidden
    left = hidden.replace("[redacted]", "")
    assert len(left) <= (len(before) * 4 + 2) // 3 + 6


def test_a_latin_header_is_hidden_in_bytes() -> None:
    """A value with an umlaut that comes back in Latin-1 is found too."""
    assert Secrets([SECRET]).hide_bytes(SECRET.encode("latin-1")) == b"[redacted]"


def test_what_holds_no_secret_is_the_same_object() -> None:
    """A body without a secret is not copied."""
    body = b'{"text": "nothing here"}'
    assert Secrets([SECRET]).hide_bytes(body) is body


def test_secrets_do_not_show_themselves() -> None:
    """repr tells how many there are; adding one again changes nothing."""
    secrets = Secrets([SECRET, "short"])
    secrets.add(SECRET)
    assert (repr(secrets), len(secrets)) == ("<1 secrets>", 1)


def test_a_value_within_another_does_not_split_it() -> None:
    """The longest goes first."""
    assert Secrets(["abcdef", "abcdefghij"]).hide("x abcdefghij y") == "x [redacted] y"


@pytest.mark.parametrize("n", range(5, 30))
def test_half_a_secret_at_a_cut_is_hidden(n: int) -> None:
    """A text that was cut in the middle of a key without a telling form does not end in half of it."""
    secret = "q7w8e9r0t1y2u3i4o5p6a7s8d9f0"
    text = " " * (8_192 - n) + secret
    assert secret[:4] not in one_line(text, [secret])


def test_an_environment_tells_its_likely_secrets() -> None:
    """Keys, tokens and the passwords of proxies are likely secrets; short values and other names are not."""
    environ = {
        "MY_API_KEY": " abcdefgh12 ", "X_TOKEN": "short", "HOME": "/home/someone",
        "https_proxy": "http://user:p%40ss@proxy:3128", "ALL_PROXY": "socks5://proxy:1080",
        "DB_PASSWORD": "long enough",
    }  # fmt: skip
    assert set(secrets_of(environ)) == {"abcdefgh12", "p%40ss", "p@ss", "long enough"}


@pytest.mark.parametrize(
    "text",
    [
        "-H 'Authorization: Bearer ${VAR}'",
        "it takes Authorization: Bearer, not x-api-key",
        "export ANTHROPIC_API_KEY='…' && batchrunner resume",
        "mail to someone@example.com or see https://host/a@b",
    ],
)
def test_advice_about_keys_is_left_alone(text: str) -> None:
    """What our own fixes say of headers and variables can be pasted as it stands."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Cookie: a=b; sid=hunter22; c=d and more", "hunter22"),
        ("sessionKey=hunter22", "hunter22"),
        (r"{\"x-api-key\": \"hunter22\"}", "hunter22"),
        ("https://hunter22token@host/path", "hunter22token"),
        ("https://user:p@hunter22@host/path", "hunter22"),
        ("Authorization: Bearer Bearer hunter22", "hunter22"),
    ],
)
def test_more_places_of_credentials_are_redacted(text: str, gone: str) -> None:
    """Later cookies, tokens as user names, doubled words, JSON within JSON."""
    assert gone not in redact(text)


@pytest.mark.parametrize("filler", ["\\", "%25", "&amp;", "\\u00", "#0"])
def test_a_hostile_answer_costs_no_time(filler: str) -> None:
    """A large answer of what may stand within a secret is searched at once, even for one of signs only."""
    body = filler * (300_000 // len(filler))
    secrets = Secrets(["\\/\\/&%\\/\\/", SECRET])
    began = time.process_time()
    secrets.hide_bytes(body.encode())
    secrets.hide(body + SECRET[:8])
    assert time.process_time() - began < 10
