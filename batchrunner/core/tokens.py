"""How many tokens a request will take: told from its text, corrected by what answers said.

No tokenizer: they differ from model to model and weigh megabytes. A text's tokens are told from its
characters by script (:data:`WEIGHTS`), what is no text (images, documents, sound) from its kind and
size. How far that is off for a model is learned from the usage its answers report, kept as a
:class:`Seen` in the database, and so is what its answers take and how much they differ.

Measured against two public vocabularies: prose, code and JSON are within 10 %, other scripts within
40 %; the correction takes away what a model's tokens, or a run's texts, differ by as a whole.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

__all__ = [
    "Counted",
    "Estimate",
    "Expected",
    "Seen",
    "counted",
    "estimate",
    "expect",
    "text_tokens",
]

#: Bytes of UTF-8 → tokens for each of them. Lead bytes stand for their character; those that go on
#: (0x80-0xBF) weigh nothing.
WEIGHTS: Final = (
    (string.ascii_letters.encode(), 0.205),
    (b"0123456789", 0.65),
    (b" ", 0.155),
    (b"\n\r\t", 0.39),
    # Punctuation, most of it in code and JSON.
    (string.punctuation.encode(), 0.555),
    # Latin letters with accents.
    (bytes(range(0xC3, 0xC6)), 1.0),
    # Greek, Cyrillic, Hebrew, Arabic …
    (b"\xc2" + bytes(range(0xC6, 0xE0)), 0.45),
    # Chinese, Japanese, Korean, the scripts of India …
    (bytes(range(0xE0, 0xF0)), 0.85),
    # Emoji, rare signs.
    (bytes(range(0xF0, 0xF5)), 2.3),
)

#: Fields of a request whose strings a model reads.
_READ: Final = (
    "messages",
    "system",
    "prompt",
    "input",
    "instructions",
    "contents",
    "systemInstruction",
    "system_instruction",
    "content",
)
#: Fields that a model reads as JSON.
_READ_AS_JSON: Final = ("tools", "functions", "response_format", "output_config", "text")
#: Names inside them whose values are no text for the model.
_NO_TEXT: Final = frozenset(
    {
        "type",
        "role",
        "cache_control",
        "id",
        "call_id",
        "tool_use_id",
        "tool_call_id",
        "media_type",
        "mimeType",
        "mime_type",
        "detail",
        "format",
        "signature",
    }
)
#: Names whose value is no text but an image, a document or sound, or where it lies.
_MEDIA: Final = frozenset(
    {"data", "url", "image_url", "file_data", "file_id", "file_uri", "fileUri", "b64_json"}
)
#: How a document or sound begins, as a data URL or in base64 → its base64 characters a token.
_MEDIA_KINDS: Final = (
    ("data:application/pdf", 30.0),
    ("JVBERi", 30.0),
    ("data:audio", 700.0),
    ("UklGR", 700.0),
    ("SUQz", 700.0),
    ("data:video", 700.0),
)
#: An image, whatever its size in bytes: providers scale it. Also what an unseen file counts at least.
_MEDIA_LEAST: Final = 1_500
#: What each message and each request has about it.
_PER_MESSAGE: Final = 4
_PER_REQUEST: Final = 3

#: Names of the bound on an answer's tokens, wherever a provider has it.
_MOST: Final = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens_to_sample",
        "maxOutputTokens",
    }
)
#: Names of how many answers are asked for.
_ANSWERS: Final = frozenset({"n", "best_of", "candidateCount"})
#: Where Gemini has both.
_GEMINI: Final = ("generationConfig", "generation_config")

#: How wrong an estimate is taken to be before anything was seen.
_UNSEEN_ERROR: Final = 0.3
#: Fewer counts than these say nothing of how much requests differ.
_LEAST_SAMPLE: Final = 5
#: What an answer takes where nothing was seen and nothing is said.
_UNSEEN_OUTPUT: Final = 400
_UNSEEN_MOST: Final = 4_096
#: Answers differ: the most expected is the mean and so many mean deviations.
_DEVIATIONS: Final = 3.0
#: What was seen weighs half as much once it is so many answers: later ones count more.
_FADES_AT: Final = 512.0


class Estimate(NamedTuple):
    """What a request's text tells of its tokens, uncorrected."""

    input: int
    #: What the request bounds its answers to, all of them together; ``None``: nothing.
    most_output: int | None


class Expected(NamedTuple):
    """What a request should take of a model: at least, likely, at most."""

    input_low: int
    input: int
    input_high: int
    output_low: int
    output: int
    output_high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the answers of one model taught; sums over them, the later the weightier."""

    #: Answers that reported their usage.
    n: float = 0.0
    #: Input tokens: as estimated, and as reported.
    estimated: float = 0.0
    input: float = 0.0
    #: By how much the corrected estimates were off.
    input_missed: float = 0.0
    output: float = 0.0
    #: By how much answers were off the mean of those before.
    output_missed: float = 0.0

    @property
    def factor(self) -> float:
        """What an estimate is to be multiplied by; 1 while nothing was seen."""
        return self.input / self.estimated if self.estimated and self.input else 1.0

    @property
    def error(self) -> float | None:
        """How far off the input's estimates were, as a share of what it was; ``None``: unknown."""
        return self.input_missed / self.input if self.input else None

    @property
    def mean_output(self) -> float | None:
        """What an answer took; ``None``: none was seen."""
        return self.output / self.n if self.n else None

    def after(self, estimated: Estimate, *, input: int, output: int) -> Seen:  # noqa: A002
        """Return what is known after one more answer that reported its usage."""
        faded = 0.5 if self.n >= _FADES_AT else 1.0
        # Before the first, the estimate itself is all that can have been off.
        missed = abs(estimated.input * self.factor - input)
        mean = self.mean_output
        return Seen(
            n=self.n * faded + 1,
            estimated=self.estimated * faded + estimated.input,
            input=self.input * faded + input,
            input_missed=self.input_missed * faded + missed,
            output=self.output * faded + output,
            output_missed=self.output_missed * faded
            + abs(output - (output / 2 if mean is None else mean)),
        )


_NOTHING_SEEN: Final = Seen()


class Counted(NamedTuple):
    """What a provider's own count of some of a model's requests says of all of them."""

    #: So many were counted.
    n: int
    #: What an estimate is to be multiplied by.
    factor: float
    #: The sum over all requests is that share off at most, in 19 of 20 samples.
    error: float


def counted(pairs: Sequence[tuple[int, int]], n_all: int) -> Counted:
    """Return what (estimated, counted) input tokens of a sample say of ``n_all`` requests.

    The ratio of the sums, with its standard error for a sample that is drawn at random.
    """
    n = len(pairs)
    guessed, total = (sum(values) for values in zip(*pairs, strict=True))
    factor = total / guessed if guessed else 1.0
    if n >= n_all:
        return Counted(n, factor, 0.0)
    if n < _LEAST_SAMPLE or not total:
        return Counted(n, factor, _UNSEEN_ERROR)
    squares = sum((each - factor * guess) ** 2 for guess, each in pairs)
    share = 1 - n / n_all
    return Counted(n, factor, min(1.0, 2 * (share * squares * n / (n - 1)) ** 0.5 / total))


def expect(
    estimated: Estimate, seen: Seen = _NOTHING_SEEN, count: Counted | None = None
) -> Expected:
    """Return what a request should take, by its estimate and what its model's answers taught.

    A ``count`` of the provider's own comes before what the answers taught of the input.
    """
    if count is not None:
        likely, error = estimated.input * count.factor, count.error
    else:
        likely = estimated.input * seen.factor
        # One answer that fitted well proves little: what is unknown wears off with the answers.
        error = (
            _UNSEEN_ERROR if seen.error is None else 2 * seen.error + _UNSEEN_ERROR / (seen.n + 1)
        )
    # What other requests taught may not fit this one: small ones are mostly what comes with each request.
    # So it has a say of its own size in what is reserved, and wild corrections an end.
    own = estimated.input
    unlike = own * (seen.input + own) / (seen.estimated + own) if count is None else 0.0
    input_high = max(min(likely * (1 + error), 2 * max(likely, own)), unlike)
    most = estimated.most_output
    mean = seen.mean_output
    if mean is None:
        low, output, high = 0.0, float(_UNSEEN_OUTPUT), float(most or _UNSEEN_MOST)
    else:
        off = _DEVIATIONS * seen.output_missed / seen.n
        low, output, high = max(0.0, mean - off), mean, mean + off
    if most is not None:
        low, output, high = min(low, most), min(output, most), min(high, most)
    return Expected(
        round(likely * max(0.0, 1 - error)),
        round(likely),
        round(input_high),
        round(low),
        round(output),
        round(high),
    )


def estimate(body: bytes) -> Estimate:
    """Return what a request body tells of its tokens; one that is no JSON object is all text."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    if not isinstance(decoded, dict):
        return Estimate(text_tokens(body), None)
    fields: dict[str, Any] = decoded
    tokens = float(_PER_REQUEST)
    for name in _READ:
        if (value := fields.get(name)) is not None:
            tokens += _read(value)
    for name in _READ_AS_JSON:
        if value := fields.get(name):
            tokens += text_tokens(msgspec.json.encode(value))
    return Estimate(max(1, round(tokens)), _most_output(fields))


def text_tokens(text: bytes) -> int:
    """Return about how many tokens a text in UTF-8 is."""
    return round(_weight(text))


def _weight(text: bytes) -> float:
    weight, size = 0.0, len(text)
    for chars, each in WEIGHTS:
        # Deleting them runs at memory speed: a kilobyte takes a few microseconds.
        rest = text.translate(None, chars)
        weight += (size - len(rest)) * each
        text, size = rest, len(rest)
        if not size:
            break
    return weight


def _read(value: object) -> float:
    """Sum up what a model reads of a value, however deep it lies."""
    tokens = 0.0
    rest: list[tuple[str, object]] = [("", value)]
    while rest:
        name, value = rest.pop()
        if isinstance(value, str):
            tokens += _media(value) if name in _MEDIA else _weight(value.encode(errors="replace"))
        elif isinstance(value, list):
            rest.extend((name, item) for item in value)
        elif isinstance(value, dict):
            tokens += _PER_MESSAGE if "role" in value else 0
            rest.extend(item for item in value.items() if item[0] not in _NO_TEXT)
        elif isinstance(value, int) and not isinstance(value, bool):
            # A text that is tokens already, as embeddings take it.
            tokens += 1
    return tokens


def _media(value: str) -> float:
    for begin, chars in _MEDIA_KINDS:
        if value.startswith(begin):
            return max(_MEDIA_LEAST, len(value) / chars)
    return _MEDIA_LEAST


def _most_output(fields: dict[str, Any]) -> int | None:
    if "input" in fields and "embed" in str(fields.get("model", "")).lower():
        return 0  # vectors are no tokens
    places = [fields, *(fields[name] for name in _GEMINI if isinstance(fields.get(name), dict))]
    most = answers = 0
    for place in places:
        # By what is there: most requests have one of all these names.
        for name in _MOST & place.keys():
            most = max(most, _count(place[name]))
        for name in _ANSWERS & place.keys():
            answers = max(answers, _count(place[name]))
    return most * max(1, answers) if most else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
