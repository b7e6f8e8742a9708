"""The keys that a launch of a fleet file has beside its body: how it is to be launched, and how often.

The models here check those keys, and the JSON Schema of fleet files is made from them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from tasks.bodies import child_path, describe
from tasks.errors import Problem
from tasks.policy import FOR_EVER, LONGEST, UNITS, Fallback, Policy

_COUNT = "must be a whole number from 1 to 100000: so many instances, told apart by {index} in the name"
_MATRIX = "must be an object: each field (region, billing.chargeMode) with the list of its values; every combination is launched"
_RETRY = "must be an object with maxAttempts, until or both"
_MAX_ATTEMPTS = "must be a whole number from 1: tries that may fail for a passing reason"
_LENGTH = "must be a length of time: 30m, 6h, 7d, or a number of seconds"
_UNTIL = f'must be a length of time (30m, 6h, 7d, or a number of seconds) or "{FOR_EVER}"'
_FLAG = "must be true or false"
_FALLBACKS = "must be a list of objects, tried in order when there is no capacity: the fields to change, and after which time"
_FALLBACK = "must be an object with the fields to change, and `after`"
_SCHEDULE = "must be an object with at"
_AT = "must be text: the time of the launch, such as 2026-12-01T02:00"

_TIME = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d)?\s*")
_AXIS = re.compile(r"[A-Za-z0-9_$-]{1,60}(\.[A-Za-z0-9_$-]{1,60})*")
_VALUES = "must be a list of at least one value"


def _refusal(wrong: str, right: str) -> PydanticCustomError:
    return PydanticCustomError("launch_policy", "{wrong}; {right}", {"wrong": wrong, "right": right})


T = TypeVar("T")


def _must(fits: Callable[[Any], bool], right: str) -> BeforeValidator:
    def check(value: T) -> T:
        if not fits(value):
            raise _refusal(f"is {describe(value)}", right)
        return value

    return BeforeValidator(check)


def _is_whole(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and value == value // 1
    )


def _whole(right: str, most: int = 10**6) -> BeforeValidator:
    def check(value: object) -> int:
        if not _is_whole(value) or not isinstance(value, int | float) or value > most:
            raise _refusal(f"is {describe(value)}", right)
        return int(value)

    return BeforeValidator(check)


def _length(right: str, *, for_ever: bool) -> BeforeValidator:
    def check(given: object) -> float:
        value: Any = given
        if for_ever and value == FOR_EVER:
            return math.inf
        if isinstance(value, str):
            match = _TIME.fullmatch(value)
            value = float(match[1]) * UNITS[match[2] or "s"] if match else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # What is tried for no time at all is a slip.
        if number and 0 <= value <= LONGEST and (value > 0 or not for_ever):
            return float(value)
        raise _refusal(f"is {describe(given)}", right)

    return BeforeValidator(check)


def _matrix(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise _refusal("is empty" if value == {} else f"is {describe(value)}", _MATRIX)
    flaws = [InitErrorDetails(type=_refusal(*what), loc=loc, input=None) for loc, what in _axis_flaws(value)]
    if flaws:
        raise ValidationError.from_exception_data("matrix", flaws)
    return value


def _axis_flaws(axes: dict[Any, Any]) -> Iterator[tuple[tuple[str | int, ...], tuple[str, str]]]:
    """Where a matrix is wrong, and how."""
    for axis, values in axes.items():
        if not isinstance(axis, str) or not _AXIS.fullmatch(axis):
            loc = (axis,) if isinstance(axis, str) else ()
            yield loc, ("is no path of a field", "such as region, or billing.chargeMode")
            continue
        if axis == "name":
            yield (axis,), ("is made of the other values", "write {region} and the like into the name")
        outer = next((other for other in axes if axis.startswith(f"{other}.")), None)
        if outer is not None:
            yield (axis,), (f"is a part of {outer}, which the matrix has too", "name each field once")
        if not isinstance(values, list) or not values:
            yield (axis,), ("is an empty list" if values == [] else f"is {describe(values)}", _VALUES)
            continue
        first_at: dict[str, int] = {}
        for at, one in enumerate(values):
            first = first_at.setdefault(as_text(one), at)
            if first != at:
                yield (axis, at), (f"repeats the value of [{first}]", "give each value once")


def as_text(value: object) -> str:
    """A value of a matrix as JSON: equal values give equal text."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )


class Retry(_Part):
    """How long, and how often, a launch is tried again."""

    max_attempts: Annotated[
        int | None, _whole(_MAX_ATTEMPTS), Field(description=_MAX_ATTEMPTS, json_schema_extra={"minimum": 1})
    ] = None
    until: Annotated[
        float | str | None,
        _length(_UNTIL, for_ever=True),
        Field(
            description=_UNTIL, json_schema_extra={"pattern": f"^({_TIME.pattern}|{FOR_EVER})$", "minimum": 0}
        ),
    ] = None


class Schedule(_Part):
    """When the launch is made."""

    at: Annotated[
        str,
        _must(lambda value: isinstance(value, str) and bool(value.strip()) and value.isprintable(), _AT),
        Field(description=_AT, json_schema_extra={"minLength": 1}),
    ]


class FallbackKeys(_Part):
    """The fields to change when there is no capacity, as in a launch."""

    model_config = ConfigDict(extra="allow")

    after: Annotated[
        float | str,
        _length(_LENGTH, for_ever=False),
        Field(description=_LENGTH, json_schema_extra={"pattern": f"^{_TIME.pattern}$", "minimum": 0}),
    ] = 0.0
    """Seconds from the launch's start; then, if it is sold out, the change may be made."""


class LaunchKeys(_Part):
    """The keys that a launch has beside the fields of its body."""

    count: Annotated[
        int | None,
        _whole(_COUNT, 100_000),
        Field(description=_COUNT, json_schema_extra={"minimum": 1, "maximum": 100_000}),
    ] = None
    matrix: Annotated[dict[str, list[Any]] | None, BeforeValidator(_matrix), Field(description=_MATRIX)] = (
        None
    )
    retry: Annotated[
        Retry | None, _must(lambda value: isinstance(value, dict), _RETRY), Field(description=_RETRY)
    ] = None
    unique_names: Annotated[
        bool,
        _must(lambda value: isinstance(value, bool), _FLAG),
        Field(description=f"{_FLAG}: the name sent gets - and 8 characters of the job's id"),
    ] = False
    wait_for_capacity: Annotated[
        bool | None,
        _must(lambda value: isinstance(value, bool), _FLAG),
        Field(
            description=f"{_FLAG}: whether to ask again while there is no capacity; spot instances do so by default"
        ),
    ] = None
    fallbacks: Annotated[
        list[Annotated[FallbackKeys, _must(lambda value: isinstance(value, dict), _FALLBACK)]],
        _must(lambda value: isinstance(value, list), _FALLBACKS),
        Field(description=_FALLBACKS),
    ] = []
    schedule: Annotated[
        Schedule | None, _must(lambda value: isinstance(value, dict), _SCHEDULE), Field(description=_SCHEDULE)
    ] = None


POLICY_KEYS = frozenset(field.alias or name for name, field in LaunchKeys.model_fields.items())
"""The keys of a launch that are not of its body."""


_MODELS: dict[str, type[_Part]] = {"": LaunchKeys, "retry": Retry, "schedule": Schedule}
_FIELDS = {
    path: {field.alias or name: field for name, field in model.model_fields.items()}
    for path, model in _MODELS.items()
}


def read_keys(data: Mapping[str, Any], problems: list[Problem]) -> LaunchKeys:
    """The keys of one launch, checked. What is wrong goes into `problems`, and such a key counts as not given."""
    try:
        return LaunchKeys.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems += map(_problem, found)
        wrong = {one["loc"][0] for one in found}
        return read_keys({key: value for key, value in data.items() if key not in wrong}, problems)


def policy_of(keys: LaunchKeys) -> Policy:
    """The policy that a launch's keys ask for. Its fallbacks' bodies are not checked here."""
    retry = keys.retry or Retry()
    return Policy(
        max_attempts=retry.max_attempts,
        unique_names=keys.unique_names,
        until=retry.until if isinstance(retry.until, float) else None,
        wait_for_capacity=keys.wait_for_capacity,
        not_before=keys.schedule.at if keys.schedule else None,
        fallbacks=tuple(Fallback(one.model_extra or {}, float(one.after)) for one in keys.fallbacks),
    )


def misspelt_key(key: str) -> str:
    """The key of a launch that `key` most likely means; empty where there is none."""
    likely = difflib.get_close_matches(key[:60], POLICY_KEYS, n=1, cutoff=0.65)
    return likely[0] if likely else ""


def _problem(error: ErrorDetails) -> Problem:
    path, steps = "", error["loc"]
    for step in steps:
        path = child_path(path, step)
    fields = _FIELDS.get(str(steps[0]) if len(steps) > 1 else "", {})
    field = fields.get(str(steps[-1])) if steps else None
    if refusal := error.get("ctx"):
        return Problem(path, refusal.get("wrong", "is not valid"), refusal.get("right", ""))
    if error["type"] == "missing":
        return Problem(path, "required key is missing", field.description or "" if field else "")
    if error["type"] == "extra_forbidden":
        likely = difflib.get_close_matches(str(steps[-1])[:60], fields, n=1, cutoff=0.6)
        known = f"the keys here are {', '.join(fields)}"
        return Problem(path, "unknown key", f'did you mean "{likely[0]}"?' if likely else known)
    return Problem(path, f"is {describe(error['input'])}", field.description or "" if field else "")
