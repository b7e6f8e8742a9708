"""The corpus of bad inputs: what must be refused wherever input comes in, and the fields that the refusal must name.

The inputs stand in `bad_inputs/corpus.yaml`, where its head explains how they are written.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CORPUS = Path(__file__).parent / "bad_inputs" / "corpus.yaml"

_RAW = "@RAW:{}@"

_CELLS = {
    "name": "trainer",
    "imageId": "7a81788c-0000-0000-0000-2409e3c8150c",
    "instanceTypeId": "dc25f5be-0000-0000-0000-5030e3358c41",
    "region": "fce31a0c-0000-0000-0000-41caa1bdd251",
    "billing.chargeMode": "perHour",
    "billing.duration": "1",
    "isSpotInstance": "FALSE",
    "instanceConfiguration.enableCommonData": "false",
    "instanceConfiguration.enableDocker": "true",
    "instanceConfiguration.dockerStorageSize": "50",
    "instanceConfiguration.extraDataDiskSizeDB": "0",
    "instanceConfiguration.initScript": "",
    "nodePorts": "7891;7892",
    "remoteStorages": "",
}
"""The good body in CSV, without its storages."""


class BadInput(NamedTuple):
    """One input that must be refused."""

    id: str
    text: bytes
    expected_paths: tuple[str, ...]
    """Field paths that the error text must hold; empty where no single field is wrong."""
    says: str
    """A part of the error text of `read_input`."""


def good_body() -> dict[str, Any]:
    """Return the body that the corpus spoils; it is accepted as it stands."""
    body: dict[str, Any] = copy.deepcopy(_document()["good_body"])
    return body


def bad_inputs() -> Iterator[BadInput]:
    """Yield every input of the corpus."""
    document = _document()
    for row in document["bad_inputs"]:
        spoilt = _spoilt(document["good_body"], row)
        yield BadInput(row["id"], spoilt, tuple(row.get("paths", ())), row["says"])


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CORPUS.read_text(encoding="utf-8"))
    return document


def _spoilt(good: dict[str, Any], row: dict[str, Any]) -> bytes:
    if "hex" in row:
        return bytes.fromhex(row["hex"])
    if "text" in row:
        text: str = row["text"]
        compact = json.dumps(good, separators=(",", ":"))
        text = text.replace("@COLUMNS@", ",".join(_CELLS)).replace("@CELLS@", ",".join(_CELLS.values()))
        text = text.replace("@BODY@", compact).replace("@INSIDE@", compact[1:-1])
        return text.replace("@DEEP@", "[" * 100_000).replace("@DIGITS@", "9" * 5_000).encode()
    body = copy.deepcopy(good)
    for path in _listed(row.get("without", ())):
        holder, key = _holder(body, path)
        del holder[key]
    for path, value in row.get("set", {}).items():
        holder, key = _holder(body, path)
        holder[key] = value
    for path, name in row.get("rename", {}).items():
        holder, key = _holder(body, path)
        holder[name] = holder.pop(key)
    for path in row.get("raw", {}):
        holder, key = _holder(body, path)
        holder[key] = _RAW.format(path)
    text = json.dumps(body, ensure_ascii=False, indent=row.get("indent"))
    for path, source in row.get("raw", {}).items():
        text = text.replace(json.dumps(_RAW.format(path)), source)
    return text.encode()


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _holder(body: Any, path: str) -> tuple[Any, Any]:
    """Return the object or list that holds `path` (`remoteStorages.0.type`) and the key in it."""
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    for step in steps:
        body = body[step]
    return body, last
