"""Bodies of `POST /instance/create` as JSON objects: compared, merged, shown, and their fields' paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

HOURLY_CHARGE_MODES: Final = frozenset({"tidePerHour", "perHour"})

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]{1,60}")


def describe(value: object) -> str:
    """Say what a value is without showing any text it holds: `text`, `a list`, `the number 3`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print very long integers, and nobody wants to read them.
        return f"the number {value}" if abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, str):
        return "text" if value else "empty text"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"a {type(value).__name__}, which JSON does not have"


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge one object over another: objects key by key, everything else as a whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def redacted(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a wire body for people to see: a non-empty init script is replaced by its length."""
    shown = dict(body)
    configuration = shown.get("instanceConfiguration")
    if isinstance(configuration, dict) and configuration.get("initScript"):
        script = configuration["initScript"]
        hidden = f"(hidden, {len(script)} characters)" if isinstance(script, str) else "(hidden)"
        shown["instanceConfiguration"] = {**configuration, "initScript": hidden}
    return shown


def request_differences(old_body: Mapping[str, Any], new_body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths at which two wire bodies differ; never a value, since one may be an init script."""
    return tuple(_differences(old_body, new_body, ""))


def child_path(path: str, key: str | int) -> str:
    """Spell the path of a field or a list item below `path`: `billing.chargeMode`, `nodePorts[1]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        # A key nobody foresaw may be long, or hold what a terminal obeys or UTF-8 cannot encode.
        key = key if len(key) <= 60 else f"{key[:60]}…"
        key = json.dumps(key, ensure_ascii=not key.isprintable())
    return f"{path}.{key}" if path else key


def _differences(old: object, new: object, path: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            below = child_path(path, key)
            if key in old and key in new:
                yield from _differences(old[key], new[key], below)
            else:
                yield below
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            below = child_path(path, index)
            if index < len(old) and index < len(new):
                yield from _differences(old[index], new[index], below)
            else:
                yield below
    # True equals 1 in Python, but not on the wire.
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path
