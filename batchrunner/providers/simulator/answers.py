"""What the simulated model says: small rules, so that the same prompt always gets the same answer.

It sorts into the labels a prompt offers (``… one of: a, b, c.``), picks fields out of a text for a
prompt that asks for JSON (``… the fields a, b, c.``), and says everything else back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

#: About what the real ones need for European languages.
_CHARS_PER_TOKEN: Final = 4
_ECHO_CHARS: Final = 240
_VECTOR_SIZE: Final = 8

#: Words that speak for a label; a label that is not listed is told by its own name only.
_HINTS: Final[dict[str, tuple[str, ...]]] = {
    "billing": (
        "invoice",
        "charge",
        "charged",
        "refund",
        "card",
        "price",
        "vat",
        "receipt",
        "paid",
    ),
    "shipping": ("parcel", "deliver", "delivery", "courier", "tracking", "package", "shipped"),
    "bug": ("crash", "crashes", "error", "broken", "freezes", "blank", "fails", "500"),
    "account": ("password", "log", "login", "locked", "email", "username", "two-factor", "delete"),
    "feature": ("wish", "would", "could", "add", "support", "dark", "export", "idea"),
    "praise": ("thank", "thanks", "love", "great", "wonderful", "excellent"),
}
_LABELS: Final = re.compile(r"one of:? ([\w /-]+(?:, [\w /-]+)+)")
_FIELDS: Final = re.compile(r"the fields ([\w]+(?:,? (?:and )?[\w]+)*)")
_WORD: Final = re.compile(r"[\w-]+")


class Answer(NamedTuple):
    """What the model said, and why it stopped (in Anthropic's words)."""

    text: str
    stop_reason: str
    input_tokens: int
    output_tokens: int


def count_tokens(text: str) -> int:
    """Estimate how many tokens a text has; at least 1."""
    return max(1, -(-len(text) // _CHARS_PER_TOKEN))


def answer(prompt: str, system: str = "", max_tokens: int | None = None) -> Answer:
    """Answer a prompt; cut where ``max_tokens`` says, refused where it is marked ``[[refuse]]``."""
    n_input = count_tokens(system) * bool(system) + count_tokens(prompt)
    if "[[refuse]]" in prompt:
        return Answer("", "refusal", n_input, 1)
    text = _say(prompt, system)
    n_output = count_tokens(text)
    if max_tokens is not None and n_output > max_tokens:
        return Answer(text[: max_tokens * _CHARS_PER_TOKEN], "max_tokens", n_input, max_tokens)
    return Answer(text, "end_turn", n_input, n_output)


def vector(text: str) -> list[float]:
    """Return a small embedding that is always the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [round(byte / 127.5 - 1, 6) for byte in digest[:_VECTOR_SIZE]]


def coordinates(place: str) -> tuple[float, float]:
    """Return a latitude and a longitude that are always the same for the same place."""
    digest = hashlib.sha256(place.encode()).digest()
    latitude = int.from_bytes(digest[:4]) / 2**32 * 180 - 90
    longitude = int.from_bytes(digest[4:8]) / 2**32 * 360 - 180
    return round(latitude, 5), round(longitude, 5)


def _say(prompt: str, system: str) -> str:
    for pattern, rule in _RULES:
        if match := pattern.search(prompt) or pattern.search(system):
            return rule(match.group(1), prompt)
    return f"You said: {prompt[:_ECHO_CHARS]}"


def _classify(labels: str, prompt: str) -> str:
    """Choose the label with the most words in the text's last paragraph."""
    words = [word.lower() for word in _WORD.findall(prompt.rpartition("\n\n")[2])]
    choices = [label.strip() for label in labels.split(",")]

    def score(label: str) -> int:
        hints = (label.lower(), *_HINTS.get(label.lower(), ()))
        return sum(word in hints for word in words)

    best = max(choices, key=score)
    return best if score(best) else choices[-1]


def _extract(names: str, prompt: str) -> str:
    """Take each field from the line that starts with its name."""
    fields: dict[str, str | None] = {}
    for name in re.split(r",? and |, ", names):
        label = re.escape(name).replace("_", "[ _]")
        found = re.search(rf"(?im)^\W*{label}\b[^:\n]*:\s*(.+?)\s*$", prompt)
        fields[name] = found.group(1) if found else None
    return msgspec.json.encode(fields).decode()


_RULES: Final[tuple[tuple[re.Pattern[str], Callable[[str, str], str]], ...]] = (
    (_LABELS, _classify),
    (_FIELDS, _extract),
)
