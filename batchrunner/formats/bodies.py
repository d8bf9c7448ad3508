"""The request bodies of the endpoints we know: what to check, and where fill-ins go.

One row an endpoint. A body for an endpoint that has no row is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from batchrunner.formats.faults import RefusedLineError
from batchrunner.options import DEFAULT_MAX_TOKENS

__all__ = [
    "Endpoint",
    "Fill",
    "check_and_fill",
    "check_max_tokens",
    "default_max_tokens",
    "endpoint_of",
    "prompt_of_body",
    "prompt_to_body",
]

Body = dict[str, Any]

#: Models that refuse ``max_tokens`` and want ``max_completion_tokens``. The others take the former
#: everywhere, while some compatible servers pass over the latter without a word.
_REASONING_MODEL: Final = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d))")
#: Fields that carry a credential in the body; they would be stored.
_SECRET_FIELDS: Final = frozenset(["api_key", "apikey", "api-key", "authorization", "x-api-key"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """What a person gave to fill gaps; ``None`` fills nothing."""

    model: str | None = None
    max_tokens: int | None = None
    system: str | None = None


def _system_field(body: Body, text: str) -> None:
    if body.get("system") is None:
        body["system"] = text


def _system_message(body: Body, text: str) -> None:
    roles = ("system", "developer")
    if not any(isinstance(m, dict) and m.get("role") in roles for m in body["messages"]):
        body["messages"] = [{"role": "system", "content": text}, *body["messages"]]


def _instructions(body: Body, text: str) -> None:
    if body.get("instructions") is None:
        body["instructions"] = text


def _system_instruction(body: Body, text: str) -> None:
    if body.get("systemInstruction") is None and body.get("system_instruction") is None:
        body["systemInstruction"] = {"parts": [{"text": text}]}


def _as_messages(prompt: str) -> list[Any]:
    return [{"role": "user", "content": prompt}]


def _as_contents(prompt: str) -> list[Any]:
    return [{"role": "user", "parts": [{"text": prompt}]}]


def _text_of_parts(content: Any) -> Any:
    """Return the text of Gemini's content that is one text, else ``None``."""
    try:
        return content["parts"][0]["text"]
    except (KeyError, IndexError, TypeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one endpoint's body looks like."""

    #: Must be there, as one of ``types``.
    required: str | None = None
    types: tuple[type, ...] = ()
    types_word: str = ""
    #: Where the most output tokens stand; the first is written.
    max_tokens: tuple[str, ...] = ()
    #: Names of the object that these stand in; the first is written. Empty: the body itself.
    within: tuple[str, ...] = ()
    #: A prompt → the list of one message.
    to_messages: Callable[[str], list[Any]] = _as_messages
    set_system: Callable[[Body, str], None] | None = None


#: Endpoint by path, without a leading ``/v1``.
ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/messages": Endpoint(
        required="messages",
        types=(list,),
        types_word="a list",
        max_tokens=("max_tokens",),
        set_system=_system_field,
    ),
    "/chat/completions": Endpoint(
        required="messages",
        types=(list,),
        types_word="a list",
        max_tokens=("max_tokens", "max_completion_tokens"),
        set_system=_system_message,
    ),
    "/responses": Endpoint(max_tokens=("max_output_tokens",), set_system=_instructions),
    "/models/{model}:generateContent": Endpoint(
        required="contents",
        types=(list,),
        types_word="a list",
        max_tokens=("maxOutputTokens", "max_output_tokens"),
        within=("generationConfig", "generation_config"),
        to_messages=_as_contents,
        set_system=_system_instruction,
    ),
    "/embeddings": Endpoint(required="input", types=(str, list), types_word="a string or a list"),
}
_UNKNOWN: Final = Endpoint()


def endpoint_of(path: str) -> Endpoint:
    """Return the row of ``path``; one that asks for nothing where we know none."""
    return ENDPOINTS.get(path.partition("?")[0].removeprefix("/v1"), _UNKNOWN)


def check_and_fill(body: Body, endpoint: Endpoint, fill: Fill, *, demands_max_tokens: bool) -> None:
    """Refuse what can't be sent and fill the gaps of ``body``, in place; the model is done before.

    Raises :class:`RefusedLineError` with the reason.
    """
    if not _SECRET_FIELDS.isdisjoint(body):
        raise RefusedLineError("the body holds a credential; keys come from the environment")
    if body.get("stream") is True:
        raise RefusedLineError("`stream` is on; a stored answer can't be streamed, leave it out")
    if (name := endpoint.required) is not None:
        if name not in body:
            raise RefusedLineError(f"the body has no `{name}`")
        if not isinstance(body[name], endpoint.types):
            raise RefusedLineError(f"`{name}` is not {endpoint.types_word}")
    if endpoint.max_tokens:
        _fill_max_tokens(body, endpoint, fill, demands_max_tokens)
    if fill.system is not None and endpoint.set_system is not None:
        endpoint.set_system(body, fill.system)


def default_max_tokens(endpoint: Endpoint, fill: Fill, *, demanded: bool) -> int | None:
    """Return what stands in for a missing ``max_tokens``; ``None``: leave it out."""
    if not endpoint.max_tokens:
        return None
    return fill.max_tokens or (DEFAULT_MAX_TOKENS if demanded else None)


def _fill_max_tokens(body: Body, endpoint: Endpoint, fill: Fill, demanded: bool) -> None:
    missing = True
    holder = _holder(body, endpoint)
    for name in endpoint.max_tokens:
        value = holder.get(name)
        if value is not None:
            missing = False
            check_max_tokens(name, value)
    if missing:
        value = default_max_tokens(endpoint, fill, demanded=demanded)
        if value is not None:
            _set_max_tokens(body, endpoint, value)


def _holder(body: Body, endpoint: Endpoint) -> Body:
    """Return the object that holds the most output tokens; an empty one where it is not there."""
    if not endpoint.within:
        return body
    for name in endpoint.within:
        found = body.get(name)
        if found is not None:
            if not isinstance(found, dict):
                raise RefusedLineError(f"`{name}` is not an object")
            return found
    return {}


def _set_max_tokens(body: Body, endpoint: Endpoint, value: int) -> None:
    holder = _holder(body, endpoint)
    holder[_max_tokens_field(endpoint, body)] = value
    if endpoint.within and not any(name in body for name in endpoint.within):
        body[endpoint.within[0]] = holder


def _max_tokens_field(endpoint: Endpoint, body: Body) -> str:
    *_, last = endpoint.max_tokens
    model = body.get("model")
    if not endpoint.within and isinstance(model, str) and _REASONING_MODEL.match(model):
        return last
    return endpoint.max_tokens[0]


def check_max_tokens(name: str, value: object) -> None:
    """Refuse a number of tokens that is none."""
    if type(value) is not int or value < 1:
        raise RefusedLineError(f"`{name}` is not a whole number of at least 1")


def prompt_to_body(
    endpoint: Endpoint,
    *,
    prompt: str,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
) -> Body:
    """Return the body of one user message; ``check_and_fill`` is still to come."""
    body: Body = {} if model is None else {"model": model}
    body[endpoint.required or "messages"] = endpoint.to_messages(prompt)
    if max_tokens is not None:
        _set_max_tokens(body, endpoint, max_tokens)
    if system is not None and endpoint.set_system is not None:
        endpoint.set_system(body, system)
    return body


def prompt_of_body(endpoint: Endpoint, body: Body) -> Body | None:
    """Return the fields of a prompt line that makes exactly this body; ``None`` where none does."""
    fields = (_native_fields if endpoint.within else _message_fields)(endpoint, body)
    if not isinstance(fields["prompt"], str):
        return None
    made = prompt_to_body(endpoint, **fields)
    # The identity of a job is that of its bytes.
    if msgspec.json.encode(made) != msgspec.json.encode(body):
        return None
    return {name: value for name, value in fields.items() if value is not None}


def _message_fields(endpoint: Endpoint, body: Body) -> Body:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return {"prompt": None}
    system = body.get("system")
    if system is None and isinstance(messages[0], dict) and messages[0].get("role") == "system":
        system = messages[0].get("content")
    return {
        "prompt": messages[-1].get("content"),
        "model": body.get("model"),
        "system": system,
        "max_tokens": body.get(_max_tokens_field(endpoint, body)) if endpoint.max_tokens else None,
    }


def _native_fields(endpoint: Endpoint, body: Body) -> Body:
    contents, settings = body.get("contents"), body.get(endpoint.within[0])
    return {
        "prompt": _text_of_parts(contents[-1]) if isinstance(contents, list) and contents else None,
        "model": body.get("model"),
        "system": _text_of_parts(body.get("systemInstruction")),
        "max_tokens": settings.get(endpoint.max_tokens[0]) if isinstance(settings, dict) else None,
    }
