"""``--expect-json``: whether an answer is the JSON that was asked for.

A schema is JSON Schema, of the draft that it names, else 2020-12; ``true`` is one that any JSON
meets. Nothing is fetched: what a schema refers to has to be in it. The library that reads schemas is
imported where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import msgspec

from batchrunner.core.credentials import one_line
from batchrunner.core.jsontext import json_of

__all__ = ["ANY", "CUT_SAYS", "UNMET_SAYS", "Expected"]

#: The schema of any JSON, as text.
ANY: Final = "true"

#: How the messages of answers begin that are not what was asked for.
UNMET_SAYS: Final = "The answer is not the JSON that was expected"
CUT_SAYS: Final = "The answer was cut at max_tokens, and so is not the JSON that was expected"

#: Providers' words for an answer that was cut.
_CUT: Final = frozenset(("max_tokens", "length", "MAX_TOKENS", "max_output_tokens"))
#: What tells a schema from another JSON object, of which it would demand nothing.
_KEYWORDS: Final = frozenset(
    (
        "$schema", "$ref", "$defs", "definitions", "type", "properties", "required", "items",
        "prefixItems", "enum", "const", "anyOf", "allOf", "oneOf", "not", "if", "pattern", "format",
        "additionalProperties", "patternProperties", "minimum", "maximum", "minLength", "maxLength",
        "minItems", "maxItems", "uniqueItems", "contains", "multipleOf", "$dynamicRef", "$recursiveRef",
    )
)  # fmt: skip
#: The words with which a schema refers to a schema; each draft knows some of them.
_REFERRING: Final = ("$ref", "$dynamicRef", "$recursiveRef")
#: The words whose schemas are asked of the same value, not of a part of it.
_OF_THE_SAME: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
#: What the library raises besides its own where a pointer leads through what is no schema.
_ASTRAY: Final = (AttributeError, LookupError, TypeError, ValueError)


class Expected:
    """What answers have to be; one schema, read once."""

    def __init__(self, text: str) -> None:
        """Read a schema; ``ValueError`` says why it is none."""
        self.text = text
        try:
            schema = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ValueError(f"it is not JSON: {error}") from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(schema, bool) and not (
            isinstance(schema, dict) and not _KEYWORDS.isdisjoint(schema)
        ):
            raise ValueError("it has none of a schema's words, such as `type` or `properties`")
        self._check = None if schema is True else _validator(schema)

    def unmet(self, text: str | None, finish_reason: str | None = None) -> str | None:
        """Return why an answer is not what was expected; ``None``: it is."""
        why = self._why(text)
        if why is None:
            return None
        return one_line(f"{CUT_SAYS if finish_reason in _CUT else UNMET_SAYS}: {why}", bound=400)

    def _why(self, text: str | None) -> str | None:
        if text is None or not text.strip():
            return "it has no text"
        try:
            value = json_of(text)
        except ValueError as error:
            return str(error)
        if self._check is None:
            return None
        try:
            fault = next(_faults(self._check, value), None)
        except RecursionError:
            return "it is nested too deeply"
        except Exception as error:
            # The answer was paid for: it is judged and kept, whatever the library trips over.
            return f"checking it failed: {type(error).__name__}: {error}"
        return fault


def _validator(schema: Any) -> Any:
    """Return what checks values; ``ValueError`` where it can't be made."""
    import jsonschema  # noqa: PLC0415 (heavy, and only for a schema)
    from referencing import Registry  # noqa: PLC0415

    if isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str):
        raise ValueError("it is no JSON Schema: its `$schema` is no text")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    # A registry of its own: without one the library would fetch what a schema refers to.
    registry: Any = Registry()
    try:
        _look_at(schema, kind)
        _follow(schema, kind, registry)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return kind(schema, registry=registry)


def _look_at(schema: Any, kind: Any) -> None:
    """Raise ``ValueError`` for what is no schema of its kind."""
    import jsonschema  # noqa: PLC0415

    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the top"
        raise ValueError(f"it is no JSON Schema: at {where}: {one_line(error.message)}") from None


def _follow(schema: Any, kind: Any, registry: Any) -> None:
    """Raise ``ValueError`` where a schema refers to what is not in it, or is none."""
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import specification_with  # noqa: PLC0415

    resource_of = specification_with(kind.META_SCHEMA["$schema"]).create_resource
    words = [word for word in _REFERRING if word in kind.VALIDATORS]
    root = resource_of(schema)
    # Only where schemas stand: the same words in a `const` or `default` are data.
    waiting = [(root, registry.resolver_with_root(root))]
    seen: set[int] = set()
    #: Which schemas each one asks of the same value.
    asks: dict[int, list[int]] = {}
    looked_at = {id(schema)}
    while waiting:
        resource, resolver = waiting.pop()
        part = resource.contents
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        asked = asks[id(part)] = [
            id(inner)
            for word in _OF_THE_SAME
            if word in part
            for inner in (part[word] if isinstance(part[word], list) else [part[word]])
        ]
        for reference in [part[word] for word in words if word in part]:
            try:
                target = resolver.lookup(reference)
            except (Unresolvable, *_ASTRAY):
                raise ValueError(
                    f"it refers to {one_line(reference, bound=80)!r}, which is not in it;"
                    " put that under `$defs`"
                ) from None
            if id(target.contents) not in looked_at:
                # It may stand where no draft looks for a schema.
                looked_at.add(id(target.contents))
                _look_at(target.contents, kind)
            asked.append(id(target.contents))
            waiting.append((resource_of(target.contents), target.resolver))
        waiting += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
    try:
        TopologicalSorter(asks).prepare()
    except CycleError:
        raise ValueError(
            "it asks of a value what it asks of that value, and so on: no answer can be checked; a schema may"
            " refer to itself only under `properties`, `items` and the like"
        ) from None


def _faults(check: Any, value: Any) -> Iterator[str]:
    for error in check.iter_errors(value):
        where = "".join(f".{step}" for step in error.absolute_path).lstrip(".")
        # The library's sentence begins with the whole value, however long.
        said = error.message
        said = said if len(said) <= 200 else f"…{said[-200:]}"
        yield f"{where}: {said}" if where else said
