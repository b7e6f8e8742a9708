"""The body of `POST /instance/create`: what a launch request must hold, checked before anything is enqueued.

The create call costs money and cannot be taken back, so every rule of the API's document is held here and nothing
is repaired: a body is sent as it was given, plus the documented defaults, or it is refused with every problem at once.

In Python fields are snake_case, on the wire camelCase exactly as the document spells them:

    LaunchRequest(name="a", image_id="...", ...)        built by producers; raises pydantic's ValidationError
    parse_request({"name": "a", "imageId": "...", ...}) read from outside; raises InputError
"""

from __future__ import annotations

import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from tasks.bodies import HOURLY_CHARGE_MODES, child_path, describe
from tasks.errors import InputError, Problem

ChargeMode = Literal["tidePerHour", "perHour", "perDay", "perWeek", "perMonth"]
CHARGE_MODES: tuple[str, ...] = get_args(ChargeMode)

# A field of a later API version is data, not a data structure: deeper than this is a mistake or an attack.
MAX_UNKNOWN_DEPTH = 64

# How alike two names must be before one is taken for a misspelling of the other; "hint" only words a question.
_MISSPELT = 0.85
_HINT = 0.6

_TEXT = "must be text that is not blank, without control characters"
_SCRIPT = 'must be text ("" for none)'
_FLAG = "must be true or false"
_SIZE = "must be a number of GB, 0 or more"
_CHARGE_MODE = f"must be one of {', '.join(CHARGE_MODES)}"
_DURATION = (
    "must be 1 for perHour and tidePerHour, and a whole number from 1 (days, weeks or months) for the others"
)
_PORT = "must be a whole number from 1 to 65535"
_PORTS = "must be a list of different port numbers ([] for none)"
_STORAGES = "must be a list of remote storages ([] for none)"
_STORAGE = "must be an object with mountPath, remoteStorageName, remoteStorageId and type"
_BILLING = "must be an object with chargeMode and duration"
_CONFIGURATION = "must be an object with enableCommonData, enableDocker and initScript"

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNFIT_IN_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS = re.compile(r"[A-Za-z _-]{1,20}")


def _refusal(wrong: str, right: str) -> PydanticCustomError:
    return PydanticCustomError("launch_request", "{wrong}; {right}", {"wrong": wrong, "right": right})


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _refusal(f"is {describe(value)}", _TEXT)
    if unfit := _UNFIT_IN_TEXT.search(value):
        raise _refusal(f"holds {_unfit_character(unfit[0])}", _TEXT)
    if not value.strip():
        raise _refusal("is blank", _TEXT)
    return value


def _unfit_character(character: str) -> str:
    code = f"U+{ord(character):04X}"
    if _SURROGATE.match(character):
        return f"half of a surrogate pair ({code}), which UTF-8 cannot encode"
    return f"the control character {code}"


def _script(value: object) -> str:
    if not isinstance(value, str):
        raise _refusal(f"is {describe(value)}", _SCRIPT)
    if unfit := _SURROGATE.search(value):
        raise _refusal(f"holds {_unfit_character(unfit[0])}", _SCRIPT)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _refusal(f"is {describe(value)}", _FLAG)
    return value


def _number_flaw(value: float) -> str:
    """What keeps a number from being sent as JSON, or nothing."""
    try:
        finite = math.isfinite(value)
    except OverflowError:
        return "is too large a number"
    return "" if finite else "is not a finite number"


def _size(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(f"is {describe(value)}", _SIZE)
    if flaw := _number_flaw(value):
        raise _refusal(flaw, _SIZE)
    if value < 0:
        raise _refusal(f"is {describe(value)}", _SIZE)
    return value


def _whole(value: object, right: str) -> int:
    """The value as a whole number; JSON does not tell 1 from 1.0, and many writers emit the second."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(f"is {describe(value)}", right)
    if flaw := _number_flaw(value):
        raise _refusal(flaw, right)
    if value != int(value):
        raise _refusal(f"is {describe(value)}", right)
    return int(value)


def _duration(value: object) -> int:
    number = _whole(value, _DURATION)
    if number < 1:
        raise _refusal(f"is {describe(number)}", _DURATION)
    return number


def _charge_mode(value: object) -> str:
    if not isinstance(value, str):
        raise _refusal(f"is {describe(value)}", _CHARGE_MODE)
    if value in CHARGE_MODES:
        return value
    # A few letters help to find the typo; anything else may be a secret in the wrong place.
    found = f'is "{value}"' if _WORDS.fullmatch(value) else f"is {describe(value)}"
    closest = _closest(value, CHARGE_MODES, _HINT)
    raise _refusal(found, f'{_CHARGE_MODE}; did you mean "{closest}"?' if closest else _CHARGE_MODE)


def _ports(value: object) -> tuple[int, ...]:
    # The whole list in one go, so that a port out of range does not hide a repeated one.
    if not isinstance(value, list | tuple):
        raise _refusal(f"is {describe(value)}", _PORTS)
    first_at: dict[int, int] = {}
    flaws: list[InitErrorDetails] = []
    for index, item in enumerate(value):
        try:
            port = _whole(item, _PORT)
            if not 1 <= port <= 65535:
                raise _refusal(f"is {describe(port)}", _PORT)
            if port in first_at:
                raise _refusal(
                    f"repeats the port {port} of nodePorts[{first_at[port]}]", "name each port once"
                )
            first_at[port] = index
        except PydanticCustomError as flaw:
            flaws.append(InitErrorDetails(type=flaw, loc=(index,), input=item))
    if flaws:
        raise ValidationError.from_exception_data("nodePorts", flaws)
    return tuple(first_at)


def _storages(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise _refusal(f"is {describe(value)}", _STORAGES)
    return tuple(value)


def _object(right: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, dict | _Part):
            raise _refusal(f"is {describe(value)}", right)
        return value

    return check


# A description says what is right; it is shown when the field is missing. The extras say it once more for the JSON Schema.
_Text = Annotated[
    str,
    BeforeValidator(_text),
    Field(description=_TEXT, json_schema_extra={"minLength": 1, "pattern": r"\S"}),
]
_Script = Annotated[str, BeforeValidator(_script), Field(description=_SCRIPT)]
_Flag = Annotated[bool, BeforeValidator(_flag), Field(description=_FLAG)]
_Size = Annotated[
    int | float, BeforeValidator(_size), Field(description=_SIZE, json_schema_extra={"minimum": 0})
]
_Port = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": 65535})]


class _Part(BaseModel):
    """One JSON object of the body."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        # In Python by field names; `parse_request` asks for the wire names when it validates.
        validate_by_name=True,
        validate_by_alias=False,
        # An init script may hold secrets, and so may anything that was put into a wrong field.
        hide_input_in_errors=True,
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Fields that the document does not list stay out: nobody knows what they hold.
        extra = self.model_extra or {}
        return ((name, value) for name, value in super().__repr_args__() if name not in extra)


_HOURLY_IS_ONE: dict[str, Any] = {
    "if": {"properties": {"chargeMode": {"enum": sorted(HOURLY_CHARGE_MODES)}}, "required": ["chargeMode"]},
    "then": {"properties": {"duration": {"const": 1}}},
}


class Billing(_Part):
    """How the instance is paid for."""

    model_config = ConfigDict(json_schema_extra=_HOURLY_IS_ONE)

    charge_mode: Annotated[ChargeMode, BeforeValidator(_charge_mode), Field(description=_CHARGE_MODE)]
    duration: Annotated[
        int, BeforeValidator(_duration), Field(description=_DURATION, json_schema_extra={"minimum": 1})
    ]
    """Days, weeks or months; always 1 where the charge mode is by the hour."""

    @field_validator("duration")
    @classmethod
    def _hourly_is_one(cls, duration: int, info: ValidationInfo) -> int:
        mode = info.data.get("charge_mode")  # absent when it was refused itself
        if mode in HOURLY_CHARGE_MODES and duration != 1:
            raise _refusal(f"is {describe(duration)} with the charge mode {mode}", _DURATION)
        return duration


class RemoteStorage(_Part):
    """One remote storage to mount into the instance."""

    mount_path: _Text
    remote_storage_name: _Text
    remote_storage_id: _Text
    type: _Text
    """Such as `highspeedstorage` or `filesystem`; the document's list is open."""


class InstanceConfiguration(_Part):
    """The rest of the instance's set-up."""

    # The API says DB although the unit is GB; the wire name is theirs.
    extra_data_disk_size_db: _Size = Field(default=0, alias="extraDataDiskSizeDB")
    """GB."""
    enable_common_data: _Flag
    enable_docker: _Flag
    docker_storage_size: _Size = 0
    """GB."""
    init_script: _Script = Field(repr=False)


class LaunchRequest(_Part):
    """A valid body of `POST /instance/create`. `repr` shows neither the init script nor unlisted fields.

    Its sequences may be given as lists and are kept as tuples.
    """

    name: _Text
    image_id: _Text
    instance_type_id: _Text
    region: _Text
    billing: Annotated[Billing, BeforeValidator(_object(_BILLING)), Field(description=_BILLING)]
    remote_storages: Annotated[
        Sequence[Annotated[RemoteStorage, BeforeValidator(_object(_STORAGE))]],
        BeforeValidator(_storages),
        Field(description=_STORAGES),
    ]
    instance_configuration: Annotated[
        InstanceConfiguration, BeforeValidator(_object(_CONFIGURATION)), Field(description=_CONFIGURATION)
    ]
    is_spot_instance: _Flag = False
    node_ports: Annotated[
        Sequence[_Port],
        BeforeValidator(_ports),
        Field(description=_PORTS, json_schema_extra={"uniqueItems": True}),
    ]

    def wire(self) -> dict[str, Any]:
        """Return a new body as it is sent: all that was given, plus the documented defaults."""
        return _wire(self)

    def wire_json(self) -> str:
        """Return the body as compact JSON; equal requests give equal text."""
        return f'{{"name":{_ENCODER.encode(self.name)},{_json_behind_name(self)}'

    def unknown_paths(self) -> tuple[str, ...]:
        """Return the paths of the fields that the API's document does not list, sent because they were allowed."""
        return tuple(_unknown_paths(self, ""))

    def renamed(self, name: str) -> Self:
        """Return the same request with another instance name. Raises InputError for a name that cannot be sent."""
        try:
            _text(name)
        except PydanticCustomError as flaw:
            raise InputError([_problem_of_refusal(flaw, "name", "")]) from None
        return self.model_copy(update={"name": name})


# Every object of the body by the field that holds it; the body itself is "".
_PARTS: dict[str, type[_Part]] = {
    "": LaunchRequest,
    "billing": Billing,
    "remoteStorages": RemoteStorage,
    "instanceConfiguration": InstanceConfiguration,
}
_FIELDS: dict[type[_Part], dict[str, FieldInfo]] = {
    part: {field.alias or name: field for name, field in part.model_fields.items()}
    for part in _PARTS.values()
}
_WIRE_NAMES: dict[type[_Part], tuple[tuple[str, str], ...]] = {
    part: tuple((name, field.alias or name) for name, field in part.model_fields.items())
    for part in _PARTS.values()
}

_PLAIN = frozenset({str, int, float, bool})
# One encoder for all: making one costs as much as writing a small body.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

BODY_FIELDS = _FIELDS[LaunchRequest].keys()
"""The wire names of the body's own fields, in the document's order."""


def parse_request(data: object, *, allow_unknown: bool = False, where: str = "") -> LaunchRequest:
    """Check a body in the API's own spelling and return it as a request.

    `allow_unknown` sends fields that the API's document does not list as they are, at every level; what looks like a
    misspelling of a listed field is refused even then. `where` names the file and entry in the problems.

    Raises InputError with every problem at once.
    """
    if not isinstance(data, dict):
        wrong = f"is {describe(data)}, not a request body"
        raise InputError([Problem("", wrong, f"must be an object with {', '.join(BODY_FIELDS)}", where)])
    unknown = tuple(_unknown_fields(data))
    problems = [
        problem
        for path, part, key, value in unknown
        for problem in _unknown_field_problems(path, part, key, value, allow_unknown=allow_unknown)
    ]
    if problems:
        # Pydantic stops at a key that is no text; what it thinks of the listed fields is wanted all the same.
        data = _listed_only(data)
    try:
        request = LaunchRequest.model_validate(
            data, by_alias=True, by_name=False, extra="allow" if allow_unknown else "forbid"
        )
    except ValidationError as error:
        problems = [*map(_problem, error.errors(include_url=False)), *problems]
    if problems:
        # `from None`: pydantic's error carries the values, and a traceback may be logged.
        raise InputError(replace(problem, where=where) for problem in problems) from None
    # A request does not change: what the caller does to its own lists afterwards must not reach unlisted fields.
    return request.model_copy(deep=True) if unknown else request


def _wire(part: _Part) -> dict[str, Any]:
    # Not `model_dump`: it leaves out the fields that were allowed only when the body was read.
    body: dict[str, Any] = {}
    for name, wire_name in _WIRE_NAMES[type(part)]:
        value = getattr(part, name)
        if type(value) not in _PLAIN:
            if isinstance(value, _Part):
                value = _wire(value)
            elif isinstance(value, tuple):
                value = [_wire(item) if isinstance(item, _Part) else item for item in value]
        body[wire_name] = value
    if part.__pydantic_extra__:
        body |= _in_order(part.__pydantic_extra__)
    return body


_written: tuple[tuple[object, ...], str] = (), ""
"""The request that was written last: its parts without its name, and its JSON from there on."""


def _json_behind_name(request: LaunchRequest) -> str:
    """Copies of one request under other names share their parts, which do not change, and so are written once."""
    global _written  # noqa: PLW0603 (nothing but time depends on it)
    parts = tuple(value for name, value in request.__dict__.items() if name != "name")
    known, text = _written
    if request.__pydantic_extra__ or len(known) != len(parts) or any(map(operator.is_not, known, parts)):
        body = _wire(request)
        del body["name"]
        text = _ENCODER.encode(body)[1:]
        # Unlisted fields, and lists in the place of tuples, could change after all.
        fixed = not (request.unknown_paths() or any(isinstance(part, list) for part in parts))
        _written = (parts if fixed else ()), text
    return text


def _in_order(value: Any) -> Any:
    """Copy a JSON value with its keys in order, so that equal requests are written alike."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_in_order(item) for item in value]
    return value


def _unknown_paths(part: _Part, path: str) -> Iterator[str]:
    for key in part.model_extra or ():
        yield child_path(path, key)
    for name, wire_name in _WIRE_NAMES[type(part)]:
        value = getattr(part, name)
        below = child_path(path, wire_name)
        if isinstance(value, _Part):
            yield from _unknown_paths(value, below)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, _Part):
                    yield from _unknown_paths(item, child_path(below, index))


def _objects(data: dict[Any, Any]) -> Iterator[tuple[str, type[_Part], dict[Any, Any]]]:
    """Every object of a body that the document describes: its path, its part, and the object."""
    yield "", LaunchRequest, data
    for key, part in _PARTS.items():
        value = data.get(key) if key else None
        if isinstance(value, dict):
            yield key, part, value
        elif part is RemoteStorage and isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield child_path(key, index), part, item


def _unknown_fields(data: dict[Any, Any]) -> Iterator[tuple[str, type[_Part], object, object]]:
    for path, part, found in _objects(data):
        fields = _FIELDS[part]
        for key, value in found.items():
            if key not in fields:
                yield path, part, key, value


def _listed_only(data: dict[Any, Any]) -> dict[str, Any]:
    """Copy a body without the fields that the document does not list."""

    def listed(part: type[_Part], value: object) -> object:
        return {k: v for k, v in value.items() if k in _FIELDS[part]} if isinstance(value, dict) else value

    body = {
        key: listed(_PARTS[key], value) if key in _PARTS else value
        for key, value in data.items()
        if key in BODY_FIELDS
    }
    storages = body.get("remoteStorages")
    if isinstance(storages, list | tuple):
        body["remoteStorages"] = [listed(RemoteStorage, item) for item in storages]
    return body


def _unknown_field_problems(
    path: str, part: type[_Part], key: object, value: object, *, allow_unknown: bool
) -> Iterator[Problem]:
    if not isinstance(key, str):
        yield Problem(path, f"has a key that is {describe(key)}", "keys must be text")
        return
    here = child_path(path, key)
    if _SURROGATE.search(key):
        yield Problem(here, "the field's name cannot be encoded as UTF-8", "leave it out")
        return
    likely = _closest(key, _FIELDS[part], _MISSPELT)
    if allow_unknown and likely:
        yield Problem(
            here, "unknown field, too close to a listed one to be sent as it is", f'did you mean "{likely}"?'
        )
    elif allow_unknown:
        yield from _json_problems(value, here, MAX_UNKNOWN_DEPTH)
    else:
        intended = likely or _closest_elsewhere(key, part) or _closest(key, _FIELDS[part], _HINT)
        known = f"the fields here are {', '.join(_FIELDS[part])}"
        yield Problem(here, "unknown field", f'did you mean "{intended}"?' if intended else known)


def _json_problems(value: object, path: str, depth: int) -> Iterator[Problem]:
    """What keeps the value of an unlisted field from being sent as JSON."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int | float):
        if flaw := _number_flaw(value):
            yield Problem(path, flaw, "must be a number that JSON can hold")
    elif isinstance(value, str):
        if unfit := _SURROGATE.search(value):
            yield Problem(path, f"holds {_unfit_character(unfit[0])}", "must be text that UTF-8 can encode")
    elif isinstance(value, list | dict) and depth == 0:
        yield Problem(path, "is nested too deeply", f"no deeper than {MAX_UNKNOWN_DEPTH} levels")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _json_problems(item, child_path(path, index), depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and not _SURROGATE.search(key):
                yield from _json_problems(item, child_path(path, key), depth - 1)
            else:
                yield Problem(path, "has a key that is no text that UTF-8 can encode", "keys must be text")
    else:
        yield Problem(path, f"is {describe(value)}", "must be a JSON value")


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _closest(name: str, known: Iterable[str], at_least: float) -> str:
    """The known name that is most like `name`, ignoring case, `_` and `-`; empty when none is like enough."""
    by_folded = {_folded(candidate): candidate for candidate in known}
    # A name of thousands of characters is no misspelling, and comparing it would take long.
    matches = difflib.get_close_matches(_folded(name[:60]), by_folded, n=1, cutoff=at_least)
    return by_folded[matches[0]] if matches else ""


def _closest_elsewhere(name: str, part: type[_Part]) -> str:
    """The path of the field of another object that `name` most likely means; empty when there is none."""
    paths = {
        field: child_path(f"{holder}[0]" if other is RemoteStorage else holder, field)
        for holder, other in _PARTS.items()
        if other is not part
        for field in _FIELDS[other]
    }
    field = _closest(name, paths, _MISSPELT)
    return paths[field] if field else ""


def _problem(error: ErrorDetails) -> Problem:
    """Say one of pydantic's findings in the API's spelling and plain English."""
    path = ""
    for step in error["loc"]:
        path = child_path(path, step)
    field = _field_at(error["loc"])
    if error["type"] == "missing":
        return Problem(path, "required field is missing", field.description or "" if field else "")
    if field and error["input"] is None and not field.is_required():
        return Problem(path, "is null", f"leave it out for the default, {json.dumps(field.default)}")
    if refusal := error.get("ctx"):
        return Problem(path, refusal.get("wrong", "is not valid"), refusal.get("right", ""))
    return Problem(path, f"is {describe(error['input'])}", field.description or "" if field else "")


def _problem_of_refusal(refusal: PydanticCustomError, path: str, where: str) -> Problem:
    context = refusal.context or {}
    return Problem(path, context["wrong"], context["right"], where)


def _field_at(loc: tuple[int | str, ...]) -> FieldInfo | None:
    names = [step for step in loc if isinstance(step, str)]
    part = _PARTS.get(names[0]) if len(names) > 1 else LaunchRequest
    # An item of a list has no description of its own.
    return _FIELDS[part].get(names[-1]) if part and names and isinstance(loc[-1], str) else None
