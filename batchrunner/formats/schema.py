"""A line of a job file as a JSON Schema: the four shapes, told apart as :mod:`.lines` does.

What depends on the provider, on ``--model`` or on the other lines (unique keys) is not in it: a line
that the schema refuses is refused by ``submit``, and ``submit`` may refuse more.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["jobs_schema"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]

_KEY: Final[Json] = {
    "description": "The job's key, unique within the run; a number counts as its text.",
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}],
}
_METADATA: Final[Json] = {
    "description": "Comes back in the export; never sent.",
    "type": ["object", "null"],
}
_MODEL: Final[Json] = {
    "description": "Filled in from --model where it is missing.",
    "type": ["string", "null"],
    "minLength": 1,
}
_OWN: Final[Json] = {"custom_id": _KEY, "id": _KEY, "metadata": _METADATA}
_BODY: Final[Json] = {"type": "object", "properties": {"model": _MODEL}}
_TELLING: Final = ("params", "url", "prompt", "messages", "input", "contents")

_PARAMS: Final[Json] = {
    "title": "Anthropic Message Batches line",
    "properties": {**_OWN, "params": {**_BODY, "description": "The body of POST /v1/messages."}},
    "not": {"anyOf": [{"required": [name]} for name in _TELLING if name != "params"]},
}
_URL: Final[Json] = {
    "title": "OpenAI Batch line; with --provider http any HTTP request",
    "properties": {
        **_OWN,
        "method": {"type": ["string", "null"], "pattern": "^[A-Za-z]{1,20}$"},
        "url": {"type": "string", "minLength": 1},
        "headers": {
            "description": "With --provider http. ${VAR} is filled in at the send.",
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        },
        "body": {"description": "An object; with --provider http any JSON."},
    },
    "not": {"anyOf": [{"required": [name]} for name in _TELLING if name != "url"]},
}
_PROMPT: Final[Json] = {
    "title": "One user message",
    "properties": {
        "prompt": {"type": "string"},
        "id": _KEY,
        "system": {"type": ["string", "null"]},
        "model": _MODEL,
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "metadata": _METADATA,
    },
    "additionalProperties": False,
}
_BARE: Final[Json] = {
    "title": "A request body for the provider's default endpoint",
    "properties": {**_OWN, "model": _MODEL},
    "anyOf": [{"required": [name]} for name in ("messages", "input", "contents")],
}
#: Field that tells a shape → the shape, in the order in which they are looked for.
_SHAPES: Final = (("params", _PARAMS), ("url", _URL), ("prompt", _PROMPT))


def jobs_schema() -> Json:
    """Return the JSON Schema of one line."""
    shape: Json = _BARE
    for field, properties in reversed(_SHAPES):
        shape = {"if": {"required": [field]}, "then": properties, "else": shape}
    return {
        "$schema": _DIALECT,
        "title": "A line of a job file",
        "description": "JSON lines: each line of the file is one such object.",
        "type": "object",
        **shape,
    }
