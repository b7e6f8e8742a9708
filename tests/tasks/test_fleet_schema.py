"""The JSON Schema of fleet files: a schema, and of one mind with the reader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tasks.entries import Entry
from tasks.errors import InputError
from tasks.fleet_schema import fleet_schema
from tasks.intake import read_input
from tasks.intake_yaml import read_yaml
from tasks.launch_keys import POLICY_KEYS
from tasks.request import BODY_FIELDS
from tests.tasks.bad_input_corpus import bad_inputs, good_body

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/fleet.yaml"
SCHEMA = fleet_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

BEYOND_A_SCHEMA = {
    "fleet-head-twice", "fleet-json-head-twice", "fleet-key-twice", "fleet-key-twice-below",  # the value holds the last of them
    "fleet-launch-missing-field",  # the defaults may have it
    "fleet-matrix-field-within-field", "fleet-matrix-too-large", "fleet-fallback-wrong-value",
}  # fmt: skip
"""Wrong files whose values a schema cannot tell from right ones."""


def wrong_files() -> list[Any]:
    """The fleet files of the corpus that can be read at all. Names are templates, which a schema does not read."""
    found = []
    for bad in bad_inputs():
        if not bad.id.startswith("fleet-") or bad.id in BEYOND_A_SCHEMA or bad.id.startswith("fleet-name-"):
            continue
        try:
            value = read_yaml(bad.text.decode(), where="f")
        except InputError:
            continue
        found.append(pytest.param(value, id=bad.id))
    return found


def test_it_is_a_schema_and_knows_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["Launch"]["properties"].keys() == BODY_FIELDS | POLICY_KEYS
    assert "null" not in json.dumps(SCHEMA)
    for part in ("Launch", "Billing", "InstanceConfiguration", "RemoteStorage", "Retry", "Fallback"):
        for name, field in SCHEMA["$defs"][part]["properties"].items():
            assert field["description"], (part, name)


def test_the_example_fits_and_so_does_a_file_with_every_key() -> None:
    VALIDATOR.validate(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    everything = {
        "$schema": "fleet.schema.json",
        "batch": "b",
        "defaults": good_body(),
        "launches": [
            {},
            {
                "count": 3,
                "matrix": {"region": ["a", "b"], "billing.duration": [1], "nodePorts": [[], [1]]},
                "retry": {"maxAttempts": 3, "until": "6h"},
                "uniqueNames": True,
                "waitForCapacity": False,
                "schedule": {"at": "2026-12-01T02:00"},
                "fallbacks": [
                    {"region": "x"},
                    {"billing": {"duration": 1}, "after": "30m"},
                    {"isSpotInstance": True, "after": 5},
                ],
            },
            {"retry": {"until": "forever"}},
            {"retry": {"until": 60}},
        ],
    }
    VALIDATOR.validate(everything)
    entries: tuple[Entry, ...] = read_input(json.dumps(everything), source="f").entries
    assert len(entries) == 1 + 12 + 1 + 1


@pytest.mark.parametrize("value", wrong_files())
def test_what_the_reader_refuses_does_not_fit(value: Any) -> None:
    assert not VALIDATOR.is_valid(value)


def test_the_corpus_of_wrong_files_is_large() -> None:
    assert len(wrong_files()) >= 45


@pytest.mark.parametrize(
    "path", [["name"], ["billing", "duration"], ["instanceConfiguration", "enableDocker"], ["nodePorts"]]
)
def test_reader_and_schema_agree_on_values_of_every_kind(path: list[str]) -> None:
    for value in (None, True, 0, 1, -1, 1.5, "", " ", "a", [], [1], [1, 1], [0], {}, {"a": 1}):
        body = copy.deepcopy(good_body())
        holder: Any = body
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = value
        data = {"launches": [body]}
        try:
            read_input(json.dumps(data), source="f")
        except InputError:
            taken = False
        else:
            taken = True
        assert VALIDATOR.is_valid(data) == taken, value
