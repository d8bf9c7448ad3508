"""The most that a request may take, told from its body alone: what a bound on money sets apart.

An estimate may be off either way; this may be too much, never too little. A text is no more tokens than
it has bytes in the body, whatever the model's vocabulary. What lies elsewhere (a file's id, a
document's address), and what is no text and no image, may be as long as the model reads at all: its
context window. What the provider itself adds as it answers (searches, tools that it runs), and what has
prices of its own (sound, film, another model's answer), nothing in the body bounds: :attr:`Ceiling.endless` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from batchrunner.core.prices import Price, worst
from batchrunner.core.tokens import estimate

__all__ = ["LEAST_MARGIN", "Ceiling", "Most", "ceiling", "most_of"]

#: How much larger than its estimate an input is taken to be at least, while no answer proved more.
LEAST_MARGIN: Final = 1.5

#: What providers put before a request that its body does not show: of every one, and of one that asks
#: for tools, a form or thought. Anthropic documents 804 at most for tools (Claude Opus 4.7; others 290 to 589), and of
#: those with a type of their own up to 735 each, computer use with 499 more. The rest is our allowance (docs/money.md).
_HIDDEN: Final = 200
_HIDDEN_FORM: Final = 1_000
_FORMS: Final = frozenset(
    {"tools", "functions", "response_format", "output_config", "output_format", "text", "thinking"}
)

#: The most tokens of one image, where a provider bounds it; elsewhere it may fill the window.
#: Anthropic scales it to 4,784. OpenAI: 48,169 with gpt-4o-mini (2,833, and 5,667 for each of eight tiles); what
#: counts patches stays below, 30,000 of them (more are refused) at 1.2 where an image keeps its size, else 6,144 at 2.46.
_IMAGE_MOST: Final[Mapping[str, int]] = MappingProxyType(
    {"anthropic": 5_000, "openai": 50_000, "azure": 50_000}
)
_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
#: Kinds of content whose tokens have a price of their own.
_SOUND: Final = frozenset(
    {"audio", "audio_url", "input_audio", "video", "video_url", "input_video"}
)
#: Kinds of content that is text, whatever its fields are called.
_TEXTS: Final = frozenset({"tool_use", "server_tool_use", "function_call", "text"})
#: Fields of content that are no text but what is shown to the model, or where it lies.
_SHOWN: Final = frozenset(
    {"data", "url", "image_url", "file_data", "file_url", "file_id", "file_uri", "fileUri"}
    | {"b64_json", "document_url", "encrypted_content"}
)
#: Fields of a request that a model reads.
_READ: Final = (
    "messages", "system", "input", "contents", "content", "systemInstruction", "system_instruction"
)  # fmt: skip
#: Fields of content that a model wrote, or reads, as text.
_ARGUMENTS: Final = frozenset({"args", "arguments"})
#: Fields of a request that stand for something the provider keeps.
_KEPT: Final = frozenset(
    {"previous_response_id", "conversation", "cachedContent", "cached_content", "container"}
)
#: Fields of a request that have the provider do more than answer it.
_ENDLESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mcp_servers": "has the provider run tools, and bills what they bring",
        "web_search_options": "has the provider search, and bills what it finds",
        "search_parameters": "has the provider search, and bills what it finds",
        "search_settings": "has the provider search, and bills what it finds",
        "compound_custom": "has the provider run tools, and bills what they bring",
        "plugins": "has the provider do more than answer, at prices of its own",
        "models": "lets another model answer, at a price of its own",
        "fallbacks": "lets another model answer, at a price of its own",
        "audio": "asks for sound, which has a price of its own",
    }
)
#: Parts of models' names that search, or run tools, unasked.
_ENDLESS_MODELS: Final = (
    ":online", "-search-preview", "-search-api", "deep-research", "compound", "/sonar"
)  # fmt: skip
#: Beginnings of the types of tools that the caller runs; of all others the provider does.
_OWN_TOOLS: Final = (
    "function", "custom", "bash_", "text_editor_", "computer", "memory_", "local_shell", "apply_patch"
)  # fmt: skip
#: Keys of a tool without a type that only describe a function; Gemini's others are the provider's.
_DESCRIBED: Final = frozenset(
    {
        "name",
        "description",
        "input_schema",
        "parameters",
        "cache_control",
        "strict",
        "input_examples",
    }
    | {"functionDeclarations", "function_declarations", "eager_input_streaming", "defer_loading"}
)

#: Where each provider has the bound on an answer. What another one calls it, it may pass over.
_BOUNDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "anthropic": frozenset({"max_tokens", "max_tokens_to_sample"}),
        "gemini": frozenset({"maxOutputTokens", "max_output_tokens"}),
        "mistral": frozenset({"max_tokens"}),
        "deepseek": frozenset({"max_tokens"}),
    }
)
_ANY_BOUND: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
_ANSWERS: Final = frozenset({"n", "best_of", "candidateCount", "candidate_count"})
_GEMINI: Final = ("generationConfig", "generation_config")

#: Providers where a project's setting decides how what names no tier is processed.
_TIERED: Final = frozenset({"openai", "azure"})
#: Tiers that cost no more than usual.
_USUAL: Final = frozenset({"default", "standard", "standard_only", "flex", "on_demand", "batch"})
#: Providers that write to the cache only what a request marks.
_MARKED: Final = frozenset({"anthropic"})


class Ceiling(NamedTuple):
    """The most that a request may take."""

    #: Tokens of what is in the body.
    input: int
    #: Tokens of its answers; ``None``: nothing bounds them.
    output: int | None
    #: The field whose size only the model's window bounds; empty: none.
    elsewhere: str = ""
    #: Why nothing bounds it, naming the field; empty: something does.
    endless: str = ""
    #: It may be processed at a dearer price than usual.
    is_dearer: bool = False
    #: It may write to the provider's cache.
    caches: bool = False
    #: It shows more than text, so that its size says nothing of how text is counted.
    is_shown: bool = False


class Most(NamedTuple):
    """The most that a request may cost."""

    #: In dollars; ``None``: nobody knows.
    dollars: float | None
    #: Its input by estimate, for answers to be compared with; 0: they tell nothing of others.
    estimated: int
    #: Why nobody knows, where it is not the answer that nothing bounds.
    why: str = ""


def most_of(
    prices: Sequence[Price],
    body: bytes,
    margin: float = LEAST_MARGIN,
    *,
    provider: str = "",
    model: str = "",
    is_lost: bool = False,
) -> Most:
    """Return the most that a request may cost; ``prices`` are its model's at all hours.

    ``margin`` is by how much answers of that model have passed their estimates. Where nothing bounds the
    answer nobody knows, but of one that ``is_lost``: the model's window bounds that.
    """
    most = ceiling(provider, model, body)
    if most.endless:
        return Most(None, 0, most.endless)
    window = max((price.window for price in prices if price.window), default=None)
    if most.elsewhere and window is None:
        why = (
            f"{most.elsewhere} is of unknown length, and how much {model} reads at most is unknown too: say"
            f' context_window in [prices."{model}"]'
        )
        return Most(None, 0, why)
    n_input, estimated = most.input, 0
    if most.elsewhere:
        n_input = window or 0
    else:
        guess = estimate(body).input
        estimated = 0 if most.is_shown else guess
        taught = int(guess * margin) + 1
        n_input = max(n_input, taught if window is None else min(taught, window))
    n_output = window if most.output is None and is_lost else most.output
    if n_output is None:
        return Most(None, estimated)
    dollars = worst(
        prices, n_input, n_output, is_dearer=most.is_dearer, caches=most.caches
    )  # fmt: skip
    return Most(dollars, estimated)


def ceiling(provider: str, model: str, body: bytes) -> Ceiling:
    """Return the most that a request to a model of a provider may take."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        fields = None
    if not isinstance(fields, dict):
        return Ceiling(len(body) + _HIDDEN, None)
    model = str(fields.get("model") or model).lower()
    content = _Content(_IMAGE_MOST.get(provider))
    n_input = _HIDDEN + len(body)
    if not _FORMS.isdisjoint(fields):
        n_input += _HIDDEN_FORM
    endless = next(_endless(fields, model), "")
    tools = fields.get("tools")
    for n, tool in enumerate(tools if isinstance(tools, list) else ()):
        endless = endless or _endless_tool(n, tool)
        n_input += _HIDDEN_FORM if _type_of(tool) not in ("", "function", "custom") else 0
    for name in _READ:
        if (value := fields.get(name)) is not None:
            content.look(name, value)
    kept = next((name for name in _KEPT & fields.keys() if fields[name]), "")
    if isinstance(fields.get("prompt"), dict):
        # A template that the provider keeps.
        kept = "prompt"
    return Ceiling(
        max(0, n_input - content.n_bytes) + content.n_tokens,
        _most_output(provider, model, fields),
        f"`{kept}`" if kept else content.elsewhere,
        endless or content.endless,
        is_dearer=_is_dearer(provider, fields),
        caches=provider not in _MARKED or b"cache_control" in body or b"\\u00" in body,
        is_shown=content.n_tokens > 0,
    )


def _type_of(tool: object) -> str:
    return str(tool.get("type") or "") if isinstance(tool, dict) else ""


def _endless_tool(n: int, tool: object) -> str:
    """Return why nothing bounds what one tool brings; empty: the caller runs it."""
    if not isinstance(tool, dict):
        return ""
    kind = _type_of(tool)
    if kind.startswith(_OWN_TOOLS) or (not kind and _DESCRIBED.issuperset(tool)):
        return ""
    name = kind or next(iter(tool.keys() - _DESCRIBED))
    return f"`tools[{n}]` ({name}) runs at the provider, which bills what it brings"


def _endless(fields: Mapping[str, Any], model: str) -> Iterator[str]:
    """Yield why nothing bounds a request, field by field."""
    for name in fields.keys() & _ENDLESS.keys():
        if fields[name]:
            yield f"`{name}` {_ENDLESS[name]}"
    if any(part in model for part in _ENDLESS_MODELS):
        yield f"{model} searches or runs tools by itself, and bills what they bring"
    if fields.get("inference_geo") not in (None, "global"):
        yield "`inference_geo` has it processed at a price of its own"
    for place, names in ((fields, ("modalities",)), *((c, _RESPONSE) for c in _configs(fields))):
        for name in names:
            kinds = place.get(name)
            wanted = kinds if isinstance(kinds, list) else ()
            if any(str(kind).lower() != "text" for kind in wanted):
                yield f"`{name}` asks for more than text, which has a price of its own"


_RESPONSE: Final = ("responseModalities", "response_modalities")


def _configs(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield where Gemini has its bounds."""
    for name in _GEMINI:
        if isinstance(found := fields.get(name), dict):
            yield found


class _Content:
    """What a request shows to the model besides text."""

    def __init__(self, image_most: int | None) -> None:
        """Take the most that one image takes; ``None``: as much as fits."""
        self._image_most = image_most
        #: Bytes of the body that are no text, and the most tokens that they are.
        self.n_bytes = 0
        self.n_tokens = 0
        self.elsewhere = ""
        self.endless = ""

    def look(self, name: str, value: object) -> None:
        """Look through one field of a request, however deep it is."""
        rest: list[tuple[str, object, bool]] = [(name, value, False)]
        while rest:
            path, value, is_image = rest.pop()
            if isinstance(value, list):
                rest.extend((f"{path}[{n}]", item, is_image) for n, item in enumerate(value))
            elif isinstance(value, dict):
                kind = str(value.get("type") or "")
                if kind in _TEXTS:
                    continue
                if kind in _SOUND or _is_sound(value):
                    self.endless = (
                        self.endless or f"`{path}` is sound or film, which has a price of its own"
                    )
                if kind in _IMAGES and not is_image:
                    is_image = True
                    self._image(path)
                is_image = is_image or self._is_inline_image(path, value)
                for key, item in value.items():
                    if key == "audio" and isinstance(item, dict):
                        self.endless = (
                            self.endless or f"`{path}.audio` is sound, which has a price of its own"
                        )
                    if key in _SHOWN and isinstance(item, str):
                        self._shown(f"{path}.{key}", item, is_image=is_image)
                    elif isinstance(item, dict | list) and key not in _ARGUMENTS:
                        rest.append((f"{path}.{key}", item, is_image))

    def _image(self, path: str) -> None:
        if self._image_most is None:
            self.elsewhere = self.elsewhere or f"`{path}`"
        else:
            self.n_tokens += self._image_most

    def _is_inline_image(self, path: str, value: Mapping[str, Any]) -> bool:
        """Whether this is Gemini's way to show an image."""
        kind = str(value.get("mimeType") or value.get("mime_type") or "")
        if not kind.startswith("image/"):
            return False
        self._image(path)
        return True

    def _shown(self, path: str, item: str, *, is_image: bool) -> None:
        if is_image:
            # Counted as an image; as bytes it is no text.
            self.n_bytes += len(item) if item.isascii() else 0
        else:
            self.elsewhere = self.elsewhere or f"`{path}`"


def _is_sound(value: Mapping[str, Any]) -> bool:
    """Whether Gemini's data is sound or film; of what is elsewhere and says no kind, it may be."""
    kind = value.get("mimeType") or value.get("mime_type")
    if kind is None:
        return "fileUri" in value or "file_uri" in value
    return str(kind).startswith(("audio/", "video/"))


def _is_dearer(provider: str, fields: Mapping[str, Any]) -> bool:
    tier = fields.get("service_tier") or fields.get("serviceTier")
    if fields.get("speed") not in (None, "standard"):
        return True
    return provider in _TIERED if tier is None else str(tier).lower() not in _USUAL


def _most_output(provider: str, model: str, fields: Mapping[str, Any]) -> int | None:
    """Return the most tokens of all answers together; ``None``: nothing bounds them."""
    if "embed" in model and not {"messages", "contents"} & fields.keys():
        return 0  # vectors are no tokens
    names = _BOUNDS.get(provider, _ANY_BOUND | {"max_tokens_to_sample", "maxOutputTokens"})
    configs = list(_configs(fields))
    places = configs if provider == "gemini" else [fields, *configs]
    most, answers, thought = 0, 1, 0
    for place in places:
        most = max([most, *(_count(place[name]) for name in names & place.keys())])
        answers = max([answers, *(_count(place[name]) for name in _ANSWERS & place.keys())])
    if not most:
        return None
    for place, name, key in (
        (fields, "thinking", "budget_tokens"),
        *((config, "thinkingConfig", "thinkingBudget") for config in configs),
    ):
        if isinstance(said := place.get(name), dict):
            thought = max(thought, _count(said.get(key)))
    # Between calls of tools a model may think for longer than the answer's own bound.
    most += thought if thought >= most or provider == "gemini" else 0
    if (guess := fields.get("prediction")) is not None:
        # What was guessed wrong is billed as if it were answered.
        most += len(msgspec.json.encode(guess))
    return most * answers


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        return 0
    return ceil(value)
