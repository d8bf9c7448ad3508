"""What can be kept of an answer that is nearly of the form that its provider promises.

Servers that speak a provider's language count in floats or leave words out. One odd field costs
itself, not the tokens and the finish reason beside it. Only for answers that the plain decoder has
refused: those that fit are read once. No more is built than the fields that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

__all__ = ["salvage"]

#: A longer list with something odd in it is left out: to go through it is to build all of it.
_LONGEST_LIST: Final = 64 * 1024

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


def salvage(body: bytes | msgspec.Raw, kind: type[_Kind]) -> _Kind:
    """Return what of an object fits ``kind``, each other field as if it were not there.

    Raises ``msgspec.DecodeError`` for what is no object.
    """
    read, types = _fields(kind)
    parts = read(body)
    found: dict[str, Any] = {}
    for name, type_ in types:
        part = getattr(parts, name)
        if part is not msgspec.UNSET and (value := _fitting(part, type_)) is not msgspec.UNSET:
            found[name] = value
    return kind(**found)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[Callable[..., Any], list[tuple[str, Any]]]:
    """Return what reads an object's fields unread, and the type that each should have."""
    fields = msgspec.structs.fields(kind)
    shell = msgspec.defstruct(
        kind.__name__,
        [(field.name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for field in fields],
        rename={field.name: field.encode_name for field in fields},
    )
    return msgspec.json.Decoder(shell).decode, [(field.name, field.type) for field in fields]


def _fitting(part: msgspec.Raw, type_: Any) -> Any:
    """Return a value as its type, or what fits of it; ``UNSET``: nothing does."""
    try:
        # Not strict: whole numbers are whole as floats and as text too.
        return msgspec.json.decode(part, type=type_, strict=False)
    except msgspec.ValidationError:
        pass
    for inner in get_args(type_) or (type_,):
        try:
            if get_origin(inner) is list and len(bytes(part)) <= _LONGEST_LIST:
                items = msgspec.json.decode(part, type=list[msgspec.Raw])
                fitting = (_fitting(item, get_args(inner)[0]) for item in items)
                return [value for value in fitting if value is not msgspec.UNSET]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                return salvage(part, inner)
        except msgspec.ValidationError:
            continue
    return msgspec.UNSET
