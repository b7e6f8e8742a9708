"""The JSON Schema of fleet files, made from the models that check them: editors complete and check a file with it.

It knows one launch at a time, so it cannot tell that a field is missing which neither the launch nor the defaults have, nor
whether a name's placeholders exist. `launchq plan` can.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tasks.jobs import KEY_LENGTH
from tasks.launch_keys import LaunchKeys
from tasks.request import LaunchRequest

_NAME = (
    "must be text; {index} (or {index:03}) stands for the number of the copy, {region} and the like for a value of the matrix;"
    " a brace itself is {{ or }}"
)


def fleet_schema() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12."""
    body, parts = _schema(LaunchRequest)
    keys, more = _schema(LaunchKeys)
    # A launch gives what the defaults do not, so no field must be there; an item of a list is always whole.
    for part in ("Billing", "InstanceConfiguration"):
        del parts[part]["required"]
    fields = body["properties"]
    fallback = more.pop("FallbackKeys")
    fallback_fields = {name: value for name, value in fields.items() if name != "name"}
    parts |= more
    parts["Fallback"] = {
        **fallback,
        "properties": {**fallback["properties"], **fallback_fields},
        "minProperties": 1,
        "if": {"required": ["after"]},
        "then": {"minProperties": 2},
        "additionalProperties": False,
    }
    keys["properties"]["fallbacks"]["items"] = {"$ref": "#/$defs/Fallback"}
    keys["properties"]["matrix"] = _matrix(keys["properties"]["matrix"]["description"], fields, parts)
    parts["Launch"] = {
        "description": "One launch, or several that are alike: the fields of a request body, and how to launch it.",
        "type": "object",
        "properties": {
            **fields,
            **keys["properties"],
            "name": {**fields["name"], "description": _NAME},
        },
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "launchq fleet file",
        "description": "What `launchq plan` and `launchq submit` take: many launches, and what they have in common.",
        "type": "object",
        "properties": {
            "$schema": {"description": "where this schema is, for editors", "type": "string"},
            "batch": {
                "description": "the batch's name: submitting it again launches only what is missing",
                "type": "string",
                "pattern": r"\S",
                "maxLength": KEY_LENGTH,
            },
            "defaults": {
                "description": "merged under every launch: objects key by key, everything else as a whole",
                "$ref": "#/$defs/Launch",
            },
            "launches": {
                "description": "the launches",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/Launch"},
            },
        },
        "required": ["launches"],
        "additionalProperties": False,
        "$defs": dict(sorted(parts.items())),
    }


def _schema(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's schema and those of its parts, without what only pydantic says."""
    schema: dict[str, Any] = _plain(model.model_json_schema(by_alias=True))
    parts: dict[str, Any] = schema.pop("$defs", {})
    return schema, parts


def _plain(value: Any) -> Any:
    """Without titles, and without null: a key that is not wanted is left out."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {
        key: {name: _plain(item) for name, item in one.items()}
        if key in ("properties", "$defs")
        else _plain(one)
        for key, one in value.items()
        if not (key == "title" or (key == "default" and one in (None, [])))
    }
    options = [one for one in plain.pop("anyOf", ()) if one != {"type": "null"}]
    if len(options) == 1:
        plain |= options[0]
    elif options:
        plain["type"] = [one["type"] for one in options]
    return plain


def _matrix(description: str, fields: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Every field that a matrix can have, with the list of its values."""
    axes: dict[str, Any] = {}
    for name, field in fields.items():
        axes[name] = field
        inner = parts.get(field.get("$ref", "").rpartition("/")[2], {})
        axes |= {f"{name}.{key}": one for key, one in inner.get("properties", {}).items()}
    del axes["name"]
    return {
        "description": description,
        "type": "object",
        "minProperties": 1,
        "properties": {
            axis: {"type": "array", "minItems": 1, "uniqueItems": True, "items": field}
            for axis, field in axes.items()
        },
        "additionalProperties": False,
    }
