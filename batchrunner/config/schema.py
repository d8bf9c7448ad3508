"""The configuration file as a JSON Schema, made from the table of keys."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from batchrunner.config.forms import Json
from batchrunner.config.keys import BUDGET_KEYS, KEYS, PRICE_KEYS
from batchrunner.core.prices import WINDOW
from batchrunner.providers.custom import NAME, ProviderTable
from batchrunner.providers.registry import NAMES

__all__ = ["DIALECT", "config_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> Json:
    """Return the JSON Schema of ``batchrunner.toml``, as its TOML is read."""
    (provider,), components = msgspec.json.schema_components(
        [ProviderTable], ref_template="#/$defs/{name}"
    )
    for component in components.values():
        # Their docstrings are for those who read the code.
        component.pop("description", None)
    keys = {key.name: {"description": key.help, **key.form.schema} for key in KEYS.values()}
    return {
        "$schema": DIALECT,
        "title": "batchrunner.toml",
        "type": "object",
        "properties": {
            **keys,
            "profiles": _tables(
                "Keys under a name; --profile NAME has them hold.", {"$ref": "#/$defs/Profile"}
            ),
            "prices": _tables("Dollars per million tokens, by model.", _price()),
            "budget": {
                "description": "Dollars that all runs of a database may cost together.",
                "type": "object",
                "properties": {
                    name: {
                        "description": words,
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 1_000_000_000,
                    }
                    for name, words in BUDGET_KEYS.items()
                },
                "additionalProperties": False,
            },
            "providers": {
                **_tables("Providers of your own.", provider),
                "propertyNames": {"pattern": f"^{NAME.pattern}$", "not": {"enum": list(NAMES)}},
            },
        },
        "additionalProperties": False,
        "$defs": {
            "Profile": {"type": "object", "properties": keys, "additionalProperties": False},
            **components,
        },
    }


def _tables(description: str, table: Any) -> Json:
    return {"description": description, "type": "object", "additionalProperties": table}


def _price() -> Json:
    return {
        "type": "object",
        "properties": {
            name: {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
            if name == WINDOW
            else {"type": "number", "minimum": 0, "maximum": 1_000_000_000}
            for name in PRICE_KEYS
        },
        "minProperties": 1,
        "additionalProperties": False,
    }
