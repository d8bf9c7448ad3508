"""JSON that a model wrote as its answer: the whole text, or the whole of one fenced block.

Nothing is dug out of prose: an answer that says more than JSON is not what was asked for.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

__all__ = ["json_of"]

_FENCED: Final = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```", re.DOTALL)


def json_of(text: str) -> Any:
    """Return the JSON value that a text is; ``ValueError`` says why it is none."""
    text = text.strip()
    if text.startswith("```") and (fenced := _FENCED.fullmatch(text)):
        text = fenced[1]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    except UnicodeError:
        raise ValueError("it has half a surrogate pair") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
