"""What a key looks like: faults with their place, whose a key is, and which one is needed."""

from __future__ import annotations

import pytest

from batchrunner.core import key_forms
from batchrunner.core.key_forms import NEEDED, fault_of_form
from batchrunner.errors import RefusedError
from batchrunner.models import ExitCode
from batchrunner.providers import BUILT_IN
from batchrunner.providers.credentials import find_credential

ANTHROPIC = "sk-ant-api03-abcdefghijklmnop" + "Q7_-x" * 16

#: (provider, what stands in its variable, what is said of it).
NO_KEYS = [
    # malformed
    ("anthropic", f"{ANTHROPIC} x", "a space at character 110"),
    ("anthropic", "sk-ant-api03-ab\u00a0cd", "a space at character 16"),
    ("anthropic", "sk-ant-api03-ab\tcd", "a tab at character 16"),
    ("anthropic", "sk-ant-api03-ab\ncd", "a line break at character 16"),
    ("anthropic", "sk-ant-api03-ab\r\ncd", "a line break at character 16"),
    ("anthropic", "sk-ant-api03-ab\u2028cd", "a line break at character 16"),
    ("anthropic", "sk-ant-api03-ab\x07cd", "a control character at character 16"),
    ("anthropic", f"'{ANTHROPIC}'", "a quotation mark at character 1"),
    ("anthropic", f"{ANTHROPIC}“", "a quotation mark at character 110"),
    ("anthropic", f"{ANTHROPIC}\u201f", "a quotation mark at character 110"),
    ("anthropic", "sk-ant-api03-ab\u200bcd", "invisible character (U+200B ZERO WIDTH SPACE)"),
    (
        "anthropic",
        "\ufeffsk-ant-api03-ab",
        "invisible character (U+FEFF ZERO WIDTH NO-BREAK SPACE)",
    ),
    ("anthropic", "sk-ant-\u00adapi03-ab", "invisible character (U+00AD SOFT HYPHEN)"),
    ("anthropic", "sk-ant-\u202eapi03-ab", "invisible character (U+202E"),
    (
        "anthropic",
        "sk-\u0430nt-api03-abcd",
        "U+0430 CYRILLIC SMALL LETTER A, which looks like a, at character 4",
    ),
    ("anthropic", "sk\u2013ant-api03-abcd", "U+2013 EN DASH, which looks like -, at character 3"),
    (
        "anthropic",
        "\uff53k-ant-api03-abcd",
        "U+FF53 FULLWIDTH LATIN SMALL LETTER S, which looks like s",
    ),
    (
        "anthropic",
        "sk-ant-api03-\u039fbcd",
        "U+039F GREEK CAPITAL LETTER OMICRON, which looks like O",
    ),
    ("anthropic", "sk-ant-api03-é", "a character that no key has (U+00E9"),
    ("anthropic", "sk-ant-api03-漢", "a character that no header can carry (U+6F22"),
    ("anthropic", f"Bearer {ANTHROPIC}", "starts with the word Bearer;"),
    ("anthropic", f"Bearer Bearer {ANTHROPIC}", "starts with the word Bearer twice"),
    ("anthropic", "Basic dXNlcjpwYXNz", "starts with the word Basic"),
    ("anthropic", "$ANTHROPIC_API_KEY", "an unfilled variable"),
    ("anthropic", "${ANTHROPIC_API_KEY}", "an unfilled variable"),
    ("anthropic", "$(cat key)", "an unfilled variable"),
    ("anthropic", "`cat key`", "an unfilled variable"),
    ("anthropic", "%ANTHROPIC_API_KEY%", "an unfilled variable"),
    # something else that was pasted
    ("anthropic", "sessionKey=sk-ant-sid01-abcdefgh", "the cookie of a web login"),
    ("anthropic", "Cookie: sessionKey=abc; x=y", "the cookie of a web login"),
    ("openai", "__Secure-next-auth.session-token=abc", "the cookie of a web login"),
    ("anthropic", f"x-api-key: {ANTHROPIC}", "a whole header"),
    ("anthropic", f"ANTHROPIC_API_KEY={ANTHROPIC}", "a whole line NAME=value"),
    ("anthropic", f"export ANTHROPIC_API_KEY={ANTHROPIC}", "a whole line NAME=value"),
    ("anthropic", f'{{"key": "{ANTHROPIC}"}}', "JSON"),
    ("anthropic", "https://console.anthropic.com/settings/keys", "a URL"),
    ("anthropic", "<your key>", "the placeholder of an example"),
    ("openai", "your-api-key-here", "the placeholder of an example"),
    ("openai", "xxxxxxxxxxxx", "the placeholder of an example"),
    ("openai", "…", "the placeholder of an example"),
    ("anthropic", "sk-ant-api03-abc...xyz", "a masked copy, its middle left out at character 17"),
    ("openai", "sk-proj-****abcd", "a masked copy, its middle left out at character 9"),
    # another kind of the same house
    ("anthropic", "sk-ant-sid01-abcdefgh", "session token of a web login at claude.ai"),
    ("anthropic", "sk-ant-admin01-abcdefgh", "an Anthropic Admin key"),
    ("anthropic", "sk-ant-oat01-abcdefgh", "a subscription is not API access"),
    ("anthropic", "sk-ant-ort01-abcdefgh", "an OAuth refresh token"),
    ("openai", "sk-admin-abcdefgh", "an OpenAI admin key"),
    ("openai", "sess-abcdefgh", "session token of a web login at OpenAI"),
    ("openai", "eyJhbGciOi.eyJzdWIiOi.c2ln", "a JWT"),
    ("gemini", "ya29.abcdefgh", "a Google OAuth token"),
    # another provider's
    ("openai", ANTHROPIC, "an Anthropic API key"),
    ("openai", "sk-ant-xyz01-abcdefgh", "an Anthropic key"),
    ("anthropic", "sk-proj-abcdefgh", "an OpenAI key"),
    ("anthropic", "sk-svcacct-abcdefgh", "an OpenAI key"),
    ("anthropic", "sk-abcdT3BlbkFJefgh", "an OpenAI key"),
    ("deepseek", "sk-abcdT3BlbkFJefgh", "an OpenAI key"),
    ("openai", "sk-or-v1-0123456789abcdef", "an OpenRouter key"),
    ("anthropic", "gsk_abcdefgh", "a Groq key"),
    ("openai", "AIzaSyabcdefgh", "a Google key"),
    ("groq", "AQ.Ab8RN6abcdefgh", "a Google key"),
    ("openai", "xai-abcdefgh", "an xAI key"),
    ("openai", "pplx-abcdefgh", "a Perplexity key"),
    ("mistral", "hf_abcdefgh", "a Hugging Face token"),
    ("openai", "r8_abcdefgh", "a Replicate token"),
    ("groq", "csk-abcdefgh", "a Cerebras key"),
    ("openai", "tgp_v1_abcdefgh", "a Together key"),
    ("azure", "nvapi-abcdefgh", "an NVIDIA key"),
    ("openai", "ABSKQmVkcm9ja0FQSUtleS1h", "an Amazon Bedrock key"),
    ("openai", "AKIAIOSFODNN7EXAMPLE", "an AWS access key id"),
    ("openai", "ghp_abcdefgh", "a GitHub token"),
    ("openrouter", "sk-0123456789abcdef", "those of OpenAI, DeepSeek, Moonshot and others"),
    # twice
    ("anthropic", ANTHROPIC * 2, "is there twice, as if pasted two times; the key alone is needed"),
    ("openai", ("sk-proj-" + "a1B2" * 20) * 2, "is there twice"),
    # cut, or nothing at all
    ("anthropic", "sk-ant-api03-abc", "is 16 characters long, and keys of this form have 108"),
    ("anthropic", ANTHROPIC[:95], "is 95 characters long, and keys of this form have 108"),
    (
        "openai",
        "sk-proj-" + "a1" * 10,
        "is 28 characters long, and keys of this form have 56 or more",
    ),
    ("openai", "sk-a", "is 4 characters long, and keys of this form have 51 or more"),
    ("gemini", "AIza" + "a1" * 17, "is 38 characters long, and keys of this form have 39"),
    ("gemini", "AQ.Ab8RN6", "is 9 characters long, and keys of this form have more than 50"),
    ("groq", "gsk_" + "a1" * 10, "is 24 characters long, and keys of this form have 56"),
    ("openrouter", "sk-or-v1-0123", "is 13 characters long, and keys of this form have 73"),
    ("deepseek", "sk-0123", "is 7 characters long, and keys of this form have 35"),
    ("anthropic", "foo", "holds something that does not start with sk-ant-"),
    ("anthropic", ANTHROPIC[1:], "holds something that does not start with sk-ant-"),
    ("openai", "Ab3" * 12, "holds something that does not start with sk-"),
    ("mistral", "foo", "is 3 characters long, which no key of this provider is"),
    ("azure", "x", "is 1 character long"),
]

KEYS = [
    ("anthropic", ANTHROPIC),
    ("anthropic", "sk-ant-api04-abc"),
    ("openai", "sk-proj-" + "abcDEF_123-x" * 4),
    ("openai", "sk-" + "a1" * 10 + "T3BlbkFJ" + "b2" * 10),
    ("openai", "sk-0123456789abcdef0123456789abcdef"),
    ("deepseek", "sk-0123456789abcdef0123456789abcdef"),
    ("gemini", "AIza" + "a1-_" * 8 + "xyz"),
    ("gemini", "AQ.Ab8RN6Ij_kLmNoPqRsTuVw"),
    ("groq", "gsk_" + "a1" * 26),
    ("openrouter", "sk-or-v1-" + "0123456789abcdef" * 4),
    ("mistral", "Ab3" * 10 + "xy"),
    ("azure", "0123456789abcdef" * 2),
    ("azure", "eyJhbGciOi.eyJzdWIiOi.c2ln"),
]


def fault(provider: str, value: str) -> str:
    """Return what is wrong with a value at the provider's own address."""
    return fault_of_form(value, provider=provider, is_own_address=True, is_bearer=False)


@pytest.mark.parametrize(("provider", "value", "words"), NO_KEYS)
def test_what_is_no_key_is_told_by_its_form(provider: str, value: str, words: str) -> None:
    """Each fault, kind and owner is named, with its place, and never the value."""
    said = fault(provider, value)
    assert words in said
    assert value not in said
    assert "abcdefgh" not in said


@pytest.mark.parametrize(("provider", "value"), KEYS)
def test_a_key_of_the_provider_is_taken(provider: str, value: str) -> None:
    """No true form is refused; where a form can't be told from another's, nothing is claimed."""
    assert fault(provider, value) == ""


def test_every_form_is_tried() -> None:
    """No row of the tables is without an example above."""
    said = {fault(provider, value) for provider, value, _ in NO_KEYS}
    assert {form.what for form in key_forms._PASTED} - said == set()
    assert {f"holds {form.what}" for form in key_forms._FORMS} - said == set()


def test_every_look_alike_is_no_plain_letter() -> None:
    """The table of look-alikes maps strange characters to plain ones."""
    for strange, plain in key_forms._LOOKALIKES.items():
        assert not strange.isascii()
        assert plain.isascii()


def test_every_provider_with_a_key_says_which_it_needs() -> None:
    """Each built-in provider that takes a key has its row."""
    with_key = {name for name in BUILT_IN.names if BUILT_IN.profile(name).key_envs}
    assert with_key - set(NEEDED) == set()


def test_a_token_of_a_workload_is_taken_with_a_warning() -> None:
    """An OAuth token in ANTHROPIC_AUTH_TOKEN may be a workload's: sent, and said what a subscription's is."""
    anthropic = BUILT_IN.profile("anthropic")
    environ = {"ANTHROPIC_AUTH_TOKEN": "sk-ant-oat01-abcdefgh"}
    found = find_credential(anthropic, environ, base_url_is_own=True)
    assert found is not None
    assert "subscription" in found.notice
    assert anthropic.headers(found)["authorization"] == "Bearer sk-ant-oat01-abcdefgh"


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_a_refusal_says_what_is_needed_and_how_to_set_it(provider: str) -> None:
    """Exit 4 names the variable, whose key it holds, which is needed, where it is made, and a command."""
    profile = BUILT_IN.profile(provider)
    variable = profile.key_envs[0]
    with pytest.raises(RefusedError) as caught:
        find_credential(profile, {variable: "gsk_abcdefgh"}, base_url_is_own=True)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert caught.value.message.startswith(f"{variable} holds a Groq key. {profile.title} needs")
    assert NEEDED[provider].page in caught.value.message
    assert caught.value.fix == f"export {variable}='…' && batchrunner resume"


def test_a_provider_of_ones_own_may_have_any_form() -> None:
    """Whose key it is, is asked only of providers whose forms are known."""
    assert fault("acme", "gsk_abcdefgh") == ""
    assert "space" in fault("acme", "a b")


def test_a_gateway_may_want_a_short_key() -> None:
    """Elsewhere than at the provider's own address no length and no start is asked for."""
    for value in ("foo", "sk-ant-api03-abc"):
        said = fault_of_form(value, provider="anthropic", is_own_address=False, is_bearer=False)
        assert said == ""


def test_a_token_may_have_any_start_but_a_cut_key_is_told() -> None:
    """Tokens have no promised form; an API key in their variable is checked like one."""

    def said(value: str) -> str:
        return fault_of_form(value, provider="anthropic", is_own_address=True, is_bearer=True)

    assert said("token-token") == ""
    assert "it was cut" in said("sk-ant-api03-abc")


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        (ANTHROPIC, True),
        ("Ab3" * 10 + "xy", True),
        ("0123456789abcdef" * 2, True),
        ("0b5e3c1a-89ab-4def-8123-456789abcdef", True),
        ("Ab3dEf6hIj9lMn2p_-Ab3dEf6", True),
        ("anthropic.key", False),
        ("secrets/anthropic", False),
        ("anthropic_production_key_2026", False),
        ("my-keys-2026-for-the-batch", False),
        ("key", False),
    ],
)
def test_a_key_in_the_place_of_a_files_name_is_known(text: str, is_key: bool) -> None:
    """A long word of letters and digits is taken for a key; a name that people give is not."""
    assert key_forms.looks_like_key(text) is is_key
