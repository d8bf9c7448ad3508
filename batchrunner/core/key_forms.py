"""What a key looks like: what can't be one, whose it is by its form, and which is needed.

Pure tables, and one function that walks them. Nothing here shows a value: faults are told by
their place, and a form by whose it is. Where a form can't be told from another provider's
(``sk-…`` of OpenAI, DeepSeek, Moonshot), nothing is claimed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple

from batchrunner.core.key_lengths import fault_of_length

__all__ = ["NEEDED", "Needed", "fault_of_form", "looks_like_key"]


class Needed(NamedTuple):
    """Which key a provider takes."""

    #: How its keys begin; empty where they have no telling start.
    start: str
    #: Where one is made.
    page: str


#: Provider → the key it needs. A provider that is not here may take any form.
NEEDED: Final[Mapping[str, Needed]] = {
    "anthropic": Needed("sk-ant-api", "console.anthropic.com/settings/keys"),
    "openai": Needed("sk-", "platform.openai.com/api-keys"),
    "gemini": Needed("AIza or AQ.", "aistudio.google.com/apikey"),
    "groq": Needed("gsk_", "console.groq.com/keys"),
    "openrouter": Needed("sk-or-v1-", "openrouter.ai/keys"),
    "mistral": Needed("", "console.mistral.ai/api-keys"),
    "deepseek": Needed("sk-", "platform.deepseek.com/api_keys"),
    "azure": Needed("", "the resource's page Keys and Endpoint in portal.azure.com"),
}


class _Form(NamedTuple):
    """How the keys of one kind begin, and what they are."""

    start: re.Pattern[str]
    what: str
    #: The providers that take it.
    of: tuple[str, ...] = ()


def _form(start: str, what: str, *of: str) -> _Form:
    return _Form(re.compile(start), what, of)


#: What is pasted in a key's place, by its beginning. No provider has keys like these.
_PASTED: Final = (
    _form(
        r"\$\{?\w|\$\(|%\w+%|`",
        "starts with an unfilled variable instead of the key (single quotes keep a shell from"
        " filling it in)",
    ),
    _form(r"(?i)bearer\s+bearer\b", "starts with the word Bearer twice; the key alone is needed"),
    _form(r"(?i)bearer\b[\s:]", "starts with the word Bearer; the key alone is needed"),
    _form(r"(?i)basic\s", "starts with the word Basic; the key alone is needed"),
    _form(
        r"(?i)(?:(?:set-)?cookie:\s*)?[\"']?(?:sessionKey|__Secure-[\w.-]+|\w*session[_-]?\w*)\s*=",
        "holds the cookie of a web login, which is no API key",
    ),
    _form(
        r"(?i)(?:x-api-key|api-key|x-goog-api-key|authorization|cookie)\s*:",
        "holds a whole header; the key alone is needed",
    ),
    _form(
        r"(?:export\s+|set\s+|setx\s+|\$env:)?[A-Za-z_]\w{2,60}\s*=\s*[^\s=]",
        "holds a whole line NAME=value; the key alone is needed",
    ),
    _form(r"[{\[]", "holds JSON; the key alone is needed"),
    _form(r"[A-Za-z][\w+.-]*://", "holds a URL, which is no key"),
    _form(
        r"(?i)<|[.…]+$|your[-_ ]|(?:insert|paste|put|enter|replace)[-_ ]|change_?me|x{6,}$|todo\b"
        r"|sk-(?:ant-)?(?:your|xxx)",
        "holds the placeholder of an example",
    ),
)

#: The middle of a key as lists of keys mask it.
_MASK: Final = re.compile(r"\*{2,}|\.{3,}|…|•{2,}")

#: Whose key it is, the longest start first.
_FORMS: Final = (
    _form("sk-ant-api", "an Anthropic API key", "anthropic"),
    _form(
        "sk-ant-admin",
        "an Anthropic Admin key, which manages an organization and can't send requests",
    ),
    _form("sk-ant-sid", "the session token of a web login at claude.ai, which is no API key"),
    _form(
        "sk-ant-oat",
        "an OAuth token, as a Claude subscription (Pro, Max, Claude Code) has; a subscription is"
        " not API access",
    ),
    _form("sk-ant-ort", "an OAuth refresh token, which can't send requests"),
    _form("sk-ant-", "an Anthropic key", "anthropic"),
    _form(
        "sk-admin-", "an OpenAI admin key, which manages an organization and can't send requests"
    ),
    _form("sk-(?:proj|svcacct|None)-|sk-.*T3BlbkFJ", "an OpenAI key", "openai"),
    _form("sess-", "the session token of a web login at OpenAI, which is no API key"),
    _form("sk-or-", "an OpenRouter key", "openrouter"),
    _form("gsk_", "a Groq key", "groq"),
    _form(r"AIza|AQ\.", "a Google key", "gemini"),
    _form(r"ya29\.", "a Google OAuth token, which is no API key"),
    _form("xai-", "an xAI key"),
    _form("pplx-", "a Perplexity key"),
    _form("hf_", "a Hugging Face token"),
    _form("r8_", "a Replicate token"),
    _form("csk-", "a Cerebras key"),
    _form("tgp_v1_", "a Together key"),
    _form("nvapi-", "an NVIDIA key"),
    _form("ABSK|bedrock-api-key-", "an Amazon Bedrock key"),
    _form("(?:AKIA|ASIA)[A-Z0-9]{12}", "an AWS access key id"),
    _form("gh[opsu]_|github_pat_", "a GitHub token"),
    # Entra's tokens, which Azure takes, are JWTs too.
    _form(
        r"eyJ[\w-]+\.[\w-]+\.",
        "a JWT, as web logins have for their session, which is no API key",
        "azure",
    ),
    # OpenAI, DeepSeek, Moonshot and many gateways: nobody can tell whose.
    _form(
        "sk-",
        "a key that starts with sk-, as those of OpenAI, DeepSeek, Moonshot and others do",
        "openai",
        "deepseek",
        "mistral",
        "azure",
    ),
)

#: Keys without a telling start: one long word of letters and digits, or such in groups.
_FORMLESS: Final = re.compile(
    r"(?=[^.]*\d)(?=[^.]*[A-Za-z])(?:[A-Za-z0-9+=]{20,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|(?=.*[A-Za-z0-9]{16})[\w-]{24,})"
)

#: Typographic quotes that editors and chat programs put into pasted keys.
_QUOTES: Final = frozenset("\"'`´‘’‚‛“”„‟«»‹›＂＇")  # noqa: RUF001

#: Letters and signs that look like one of a key's, and which; what NFKD tells is not listed.
_LOOKALIKES: Final[Mapping[str, str]] = dict(
    zip(
        "аеорсухіјѕһԁԛԝнкмтгвАВЕКМНОРСТУХІЈЅԌԚԜЗО"  # Cyrillic
        "αβεικνορτυχγωΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"  # Greek
        "ıɩɡɑʏ‐‑‒–—―−⁃－﹣⸺˗․ꓸ·∕⁄",  # noqa: RUF001  # Latin, dashes, dots, slashes
        "aeopcyxijshdqwnkmtrbABEKMHOPCTYXIJSGQW3OabeikvoptuxywABEZHIKMNOPTYXiigay------------...//",
        strict=True,
    )
)


def fault_of_form(value: str, *, provider: str, is_own_address: bool, is_bearer: bool) -> str:
    """Return what makes ``value`` no key for a provider, as the end of a sentence; empty: nothing.

    At the provider's own address whatever is no key, or another's, is a fault. Elsewhere any value
    may be wanted, and only what can't stand in a header is one. ``is_bearer``: it came from a
    variable for tokens, where an OAuth token may be one of a workload.
    """
    if is_own_address and (fault := _not_a_key(value)):
        return fault
    for position, char in enumerate(value, 1):
        if fault := _fault_of_char(char, is_own_address=is_own_address):
            return f"has {fault} at character {position}"
    if is_own_address and provider in NEEDED:
        found = next((form for form in _FORMS if form.start.match(value)), None)
        is_workload = is_bearer and value.startswith("sk-ant-oat")
        if found is not None and provider not in found.of and not is_workload:
            return f"holds {found.what}"
        return fault_of_length(value, provider, is_bearer=is_bearer)
    return ""


def looks_like_key(text: str) -> bool:
    """Return whether a text without a telling start may be a key that stands in another's place.

    A name that a person would give a file is none: it has an ending, or words.
    """
    return any(form.start.match(text) for form in _FORMS) or _FORMLESS.fullmatch(text) is not None


def _not_a_key(value: str) -> str:
    """Return what was pasted in a key's place; empty where it may be one."""
    for form in _PASTED:
        if form.start.match(value):
            return form.what
    half = value[: len(value) // 2]
    if value == half * 2 and any(form.start.match(half) for form in _FORMS):
        return "is there twice, as if pasted two times; the key alone is needed"
    if mask := _MASK.search(value):
        return (
            f"is a masked copy, its middle left out at character {mask.start() + 1}; the whole key"
            " is shown only when it is made"
        )
    return ""


def _fault_of_char(char: str, *, is_own_address: bool) -> str:
    code = ord(char)
    # A header can't carry it, whatever a gateway may want.
    is_beyond = code > 255
    is_strange = is_own_address or is_beyond
    faults = (
        ("a line break", code in {10, 11, 12, 13, 0x2028, 0x2029}),
        ("a tab", is_own_address and code == 9),
        ("a control character", code < 32 or code == 127),
        ("a quotation mark", is_strange and char in _QUOTES),
        ("a space", is_strange and char.isspace()),
        (
            f"an invisible character ({_name(char)})",
            is_strange and unicodedata.category(char) in {"Cf", "Mn", "Cc"},
        ),
        (f"{_name(char)}, which looks like {_like(char)},", is_strange and bool(_like(char))),
        (f"a character that no header can carry ({_name(char)})", is_beyond),
        (f"a character that no key has ({_name(char)})", is_strange and code > 126),
    )
    return next((words for words, holds in faults if holds), "")


def _like(char: str) -> str:
    """Return the plain letter or sign that another character looks like; empty for none."""
    if char.isascii():
        return ""
    plain = unicodedata.normalize("NFKD", char)
    if len(plain) == 1 and plain.isascii() and plain != " ":
        return plain
    return _LOOKALIKES.get(char, "")


def _name(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()
