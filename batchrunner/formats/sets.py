"""``--set FIELD=VALUE``: replace one field in the bodies of jobs that are still to be sent.

FIELD is dotted (``output_config.effort``; a number steps into a list), VALUE is JSON where it
parses as such and a string where it does not; ``@FILE`` reads either from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchrunner.errors import UsageError

__all__ = ["apply_sets", "model_of", "parse_set"]


def parse_set(text: str) -> tuple[str, str]:
    """Return the dotted field and its value as JSON text.

    Raises :class:`~batchrunner.errors.UsageError` where there is no field or no such file.
    """
    field, equals, value = text.partition("=")
    if not equals or not all(field.split(".")):
        raise UsageError(
            f"--set {text!r} is not FIELD=VALUE", fix="for example --set max_tokens=8192"
        )
    if value.startswith("@"):
        value = _read(value[1:])
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        decoded = value
    if field == "stream" and decoded:
        raise UsageError("a stored answer can't be streamed", fix="leave --set stream out")
    try:
        return field, msgspec.json.encode(decoded).decode()
    except UnicodeError:
        raise UsageError(
            f"--set {field}: the value is not UTF-8", fix="check its encoding"
        ) from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--set @{path} can't be read: {reason}", fix="check the path") from error


def apply_sets(body: bytes, sets: Sequence[tuple[str, str]]) -> bytes:
    """Return a request body with every field replaced, in turn; missing objects are made.

    Raises :class:`~batchrunner.errors.UsageError` where a path can't be gone in this body.
    """
    if not sets:
        return body
    root = msgspec.json.decode(body) if body else None
    if not isinstance(root, dict):
        raise UsageError(
            "--set needs requests whose body is a JSON object",
            fix="leave --set out, or choose jobs",
        )
    for field, value in sets:
        _put(root, field, msgspec.json.decode(value))
    return msgspec.json.encode(root)


def _put(root: dict[str, Any], field: str, value: Any) -> None:
    at: Any = root
    *way, last = field.split(".")
    for name in way:
        at = at.setdefault(name, {}) if isinstance(at, dict) else _item(at, name, field)
    if isinstance(at, dict):
        at[last] = value
    else:
        _item(at, last, field)
        at[int(last)] = value


def _item(at: Any, name: str, field: str) -> Any:
    if isinstance(at, list) and name.isdecimal() and int(name) < len(at):
        return at[int(name)]
    raise UsageError(
        f"--set {field}: there is no `{name}` in a body",
        fix="check the path with: batchrunner show",
    )


def model_of(body: bytes) -> str | None:
    """Return the model a request body names; ``None`` for none."""
    try:
        model = msgspec.json.decode(body, type=_Model).model
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return model if isinstance(model, str) and model else None


class _Model(msgspec.Struct):
    model: Any = None
