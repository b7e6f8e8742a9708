"""Reading the input files of `plan` and `submit`: from text to checked launch requests, or to every problem in it.

Told apart by content, not by file name: one body as the console exports it, a JSON array of bodies, JSON lines, the
text of a `curl` command, a fleet file in YAML or JSON, or CSV. Nothing is half read: one bad entry refuses the whole input.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.bodies import describe
from tasks.curl import looks_like_curl, read_curl
from tasks.entries import Entry, identify
from tasks.errors import InputError, Problem
from tasks.intake_json import json_flaws, read_json, starts_with_whole_value
from tasks.request import BODY_FIELDS, LaunchRequest, parse_request

Form = Literal["body", "array", "lines", "curl", "fleet", "csv"]

_TAKEN = (
    "taken are one request body as the console exports it, a JSON array of bodies, JSON lines (one body a line),"
    " a curl command, a fleet file in YAML or JSON, or CSV with a header of field names"
)

_LIKE_A_FLEET = re.compile(r"^(batch|defaults|launches)[ \t]*:", re.MULTILINE)

# So many bodies are remembered, so that those that are like one of them need no second look.
_KNOWN = 1000

# So many paths of unlisted fields are named in a warning.
_PATHS_NAMED = 20


@dataclass(frozen=True)
class Intake:
    """One input, read and checked. `repr` does not show the token."""

    entries: tuple[Entry, ...]
    form: Form
    token: str | None = field(default=None, repr=False)
    """The access token of a curl command: to be used only if the user asks for it, and never stored with a job."""
    curl_url: str | None = None
    """The URL of a curl command, so that the caller can say when it is another cloud's."""
    warnings: tuple[str, ...] = ()
    batch: str | None = None
    """The batch's name that a fleet file gives."""


def read_input(text: str | bytes, *, source: str, allow_unknown: bool = False) -> Intake:
    """Read one input. `source` names it in messages; `allow_unknown` is as in `parse_request`.

    Raises InputError with the problems of all entries at once.
    """
    text = _decoded(text, source)
    start = text.lstrip()[:1]
    if not start:
        raise InputError([Problem("", "is empty", _TAKEN, source)])
    token = curl_url = None
    bodies: Iterable[tuple[str, object]]
    problems: list[Problem] = []
    form: Form
    if looks_like_curl(text):
        form = "curl"
        command = read_curl(text, where=source)
        token, curl_url = command.token, command.url
        bodies = [(source, read_json(command.body, where=f"{source}, data of the curl command"))]
    elif start not in "{[":
        return _csv_or_yaml(text, source, allow_unknown)
    elif start == "{" and _is_lines(text):
        form = "lines"
        bodies = _read_lines(text, source, problems)
    else:
        value = read_json(text, where=source)
        if isinstance(value, list):
            form = "array"
            if not value:
                raise InputError([Problem("", "is an empty array", "give at least one body", source)])
            bodies = [(f"{source}, entry {number}", item) for number, item in enumerate(value, start=1)]
        elif (fleet := _as_fleet(value)) is not None:
            return _fleet(fleet, source, allow_unknown)
        else:
            form = "body"
            bodies = [(source, value)]
    entries: list[Entry] = []
    known: dict[bytes, LaunchRequest] = {}
    for where, body in bodies:
        request = _checked(body, where, allow_unknown, problems, known)
        if request is not None:
            entries.append(Entry(where, request, request.name))
    if problems:
        raise InputError(problems)
    warnings = tuple(_warnings(entries, source, allow_unknown=allow_unknown, has_token=token is not None))
    return Intake(identify(entries), form, token, curl_url, warnings)


# What only fleet files and CSV need is loaded for them: reading bodies is quick without it.


def _as_fleet(value: object) -> dict[str, Any] | None:
    from tasks.fleet import is_fleet

    return value if isinstance(value, dict) and is_fleet(value) else None


def _csv_or_yaml(text: str, source: str, allow_unknown: bool) -> Intake:
    from tasks.intake_csv import csv_delimiter

    delimiter = csv_delimiter(text)
    if delimiter is None:
        return _fleet(_yaml(text, source), source, allow_unknown)
    return _csv(text, delimiter, source, allow_unknown)


def _fleet(value: dict[str, Any], source: str, allow_unknown: bool) -> Intake:
    from tasks.fleet import read_fleet

    batch, entries = read_fleet(value, source=source, allow_unknown=allow_unknown)
    warnings = tuple(_warnings(entries, source, allow_unknown=allow_unknown, has_token=False))
    return Intake(identify(entries), "fleet", warnings=warnings, batch=batch)


def _csv(text: str, delimiter: str, source: str, allow_unknown: bool) -> Intake:
    from tasks.fleet import read_rows
    from tasks.intake_csv import read_csv

    table = read_csv(text, delimiter, source=source, allow_unknown=allow_unknown)
    problems = table.problems
    try:
        entries = read_rows(table.rows, source=source, allow_unknown=allow_unknown)
    except InputError as error:
        told = {(one.where, one.path) for one in problems}
        found = dict.fromkeys(map(table.with_columns, error.problems))
        problems += (one for one in found if (one.where, one.path) not in told)
    if problems:
        raise InputError(problems)
    warnings = tuple(_warnings(entries, source, allow_unknown=allow_unknown, has_token=False))
    return Intake(identify(entries), "csv", warnings=warnings)


def _yaml(text: str, source: str) -> dict[str, Any]:
    """The fleet file that a YAML text is. InputError where it is none."""
    from tasks.fleet import FLEET_KEYS
    from tasks.intake_yaml import read_yaml

    try:
        value = read_yaml(text, where=source)
    except InputError:
        # What is no YAML may be anything; it is called YAML where it looks like a fleet file.
        if _LIKE_A_FLEET.search(text):
            raise
        raise InputError([_unknown_form(text, source)]) from None
    if (fleet := _as_fleet(value)) is not None:
        return fleet
    if isinstance(value, dict) and FLEET_KEYS[0] in value:
        return value
    if isinstance(value, list) or (isinstance(value, dict) and BODY_FIELDS & value.keys()):
        right = "write the bodies into a fleet file, as the list `launches`; outside of one they are taken as JSON"
        raise InputError([Problem("", "is YAML without `launches`", right, source)])
    raise InputError([_unknown_form(text, source)])


def _decoded(text: str | bytes, source: str) -> str:
    if isinstance(text, str):
        decoded = text
        if not decoded.isascii() and re.search("[\ud800-\udfff]", decoded):
            raise InputError([Problem("", "is not UTF-8 text", "save it as UTF-8", source)])
    elif text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError([Problem("", "is UTF-16 text", "save it as UTF-8", source)])
    else:
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            wrong = f"is not UTF-8 text: the byte 0x{text[error.start]:02x} in line {line}"
            # `from None`: the error carries the whole input.
            raise InputError([Problem("", wrong, "save it as UTF-8", source)]) from None
    return decoded.removeprefix("\ufeff")


def _unknown_form(text: str, source: str) -> Problem:
    try:
        value = read_json(text, where=source)
    except InputError:
        return Problem("", "is neither JSON nor a curl command, a fleet file or CSV", _TAKEN, source)
    return Problem("", f"is {describe(value)}, not a request body", _TAKEN, source)


def _filled_lines(text: str) -> Iterator[tuple[int, str]]:
    # Only \n ends a line: JSON text may hold the other characters at which `splitlines` would break it.
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _is_lines(text: str) -> bool:
    """Whether a text that begins with `{` is JSON lines rather than one object, well-formed or not."""
    lines = _filled_lines(text)
    _, first = next(lines)
    if next(lines, None) is None:
        return False
    # The second half keeps the line numbers right where the first line is the broken one.
    return starts_with_whole_value(first) or all(
        line.lstrip().startswith("{") for _, line in _filled_lines(text)
    )


def _read_lines(text: str, source: str, problems: list[Problem]) -> Iterator[tuple[str, object]]:
    for number, line in _filled_lines(text):
        where = f"{source}, line {number}"
        try:
            value = read_json(line, where=where, first_line=number)
        except InputError as error:
            problems.extend(error.problems)
            continue
        yield where, value


def _checked(
    body: object,
    where: str,
    allow_unknown: bool,
    problems: list[Problem],
    known: dict[bytes, LaunchRequest],
) -> LaunchRequest | None:
    """Return the body as a request, or add everything that is wrong with it to the problems.

    `known` are those found right before, by all but their names: what differs from one of them in nothing else is right too.
    """
    mark = _all_but_name(body)
    if mark in known:
        assert isinstance(body, dict)
        # Where the name is no good, what is wrong with it is said below, as of any other body.
        with suppress(InputError):
            return known[mark].renamed(body["name"])
    flaws = json_flaws(body, where=where)
    problems.extend(flaws)
    if misfit := _misfit(body, where):
        problems.append(misfit)
        return None
    try:
        request = parse_request(body, allow_unknown=allow_unknown, where=where)
    except InputError as error:
        told = {flaw.path for flaw in flaws}
        problems.extend(problem for problem in error.problems if problem.path not in told)
        return None
    if mark and not flaws and len(known) < _KNOWN and not (allow_unknown and request.unknown_paths()):
        known[mark] = request
    return request


def _all_but_name(body: object) -> bytes:
    """What tells a body with a name from all that differ in more than that; empty where there is no telling.

    Not the values themselves: to Python, 1 and true and 1.0 are equal.
    """
    if type(body) is not dict or not isinstance(body.get("name"), str):  # not one in which keys repeat
        return b""
    try:
        # Version 2: what is written depends on the values alone. It refuses what only `json_flaws` can say something of.
        return marshal.dumps({key: value for key, value in body.items() if key != "name"}, 2)
    except ValueError:
        return b""


def _misfit(body: object, where: str) -> Problem | None:
    """The problem of an object that is something else than a body, which would drown in one problem a field."""
    if not isinstance(body, dict) or len(BODY_FIELDS & body.keys()) >= 3:
        return None
    if "launches" in body:
        return Problem("launches", "this is a fleet file, not a request body", _TAKEN, where)
    for key, value in body.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and len(BODY_FIELDS & inner.keys()) >= 3:
            what = "request bodies" if isinstance(value, list) else "the request body"
            return Problem(key, f"{what} inside another object", "give what is inside it alone", where)
    return None


def _warnings(
    entries: Sequence[Entry], source: str, *, allow_unknown: bool, has_token: bool
) -> Iterator[str]:
    if has_token:
        yield f"{source}: the access token of the curl command is not used; --use-token uses it"
    if allow_unknown:
        paths = list(dict.fromkeys(path for entry in entries for path in entry.request.unknown_paths()))
        if paths:
            more = f" and {len(paths) - _PATHS_NAMED} more" if len(paths) > _PATHS_NAMED else ""
            named = ", ".join(paths[:_PATHS_NAMED])
            yield f"{source}: sent although the API's document does not list them: {named}{more}"
