"""Fleet files: from launches with defaults, counts and matrices to entries, one an instance.

A launch is a request body and the keys of `tasks/policy.py` beside it. Over the file's `defaults` it is merged deeply:
objects key by key, everything else as a whole. For each combination of its `matrix`, the values are merged over that;
`{index}` counts the copies of `count` from 1 in each combination. So a larger count, another value in the matrix
and another launch leave the entries that were there, their names and their identities as they are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.bodies import child_path, describe, merge
from tasks.entries import MAX_ENTRIES, Entry, Launch, copy_part, copy_suffix
from tasks.errors import InputError, Problem
from tasks.intake_json import Repeating, json_flaws
from tasks.jobs import KEY_LENGTH
from tasks.launch_keys import POLICY_KEYS, LaunchKeys, as_text, misspelt_key, policy_of, read_keys
from tasks.policy import Policy
from tasks.request import BODY_FIELDS, LaunchRequest, parse_request

FLEET_KEYS = ("batch", "defaults", "launches", "$schema")

_LAUNCHES = "must be a list with at least one launch"
_LAUNCH = "must be an object with the fields of a request body, and count, matrix and the like"
_BATCH = f"must be text: 1 to {KEY_LENGTH} printable characters"
_STEP = re.compile(r'\.?("(?:[^"\\]|\\.)*"|[^.\[\]"]+)|\[([0-9]+)\]')
_WIDTH = re.compile(r"0?([1-9][0-9]?)?d?")
_SHOWN = 60
"""Characters of a matrix value that an identity shows; a longer one is told by its hash."""


def is_fleet(value: object) -> bool:
    """Whether a value that was read is a fleet file, rather than a body."""
    if not isinstance(value, dict) or len(BODY_FIELDS & value.keys()) >= 3:
        return False
    return "launches" in value or "defaults" in value


def read_fleet(
    data: Mapping[str, Any], *, source: str, allow_unknown: bool = False
) -> tuple[str | None, tuple[Entry, ...]]:
    """Read a fleet file that is parsed already: the batch's name, and the entries, not yet identified.

    Raises InputError with every problem at once.
    """
    reading = _Reading(source, allow_unknown)
    reading.head(data)
    batch = data.get("batch")
    if "batch" in data and not (
        isinstance(batch, str) and batch.strip() and batch.isprintable() and len(batch) <= KEY_LENGTH
    ):
        reading.tell(Problem("batch", f"is {describe(batch)}", _BATCH, reading.at(data, "batch")))
    defaults = data.get("defaults", {})
    if not isinstance(defaults, dict):
        wrong = f"is {describe(defaults)}"
        reading.tell(Problem("defaults", wrong, _LAUNCH, reading.at(data, "defaults")))
        defaults = {}
    launches = data.get("launches")
    if not isinstance(launches, list) or not launches:
        wrong = "is an empty list" if launches == [] else f"is {describe(launches)}"
        wrong = wrong if "launches" in data else "required key is missing"
        reading.tell(
            Problem("launches", f"{wrong} in this fleet file", _LAUNCHES, reading.at(data, "launches"))
        )
        launches = []
    reading.defaults = defaults
    reading.told = reading.flaws(defaults, f"{source}, defaults")
    lines = getattr(launches, "lines", None)
    for number, launch in enumerate(launches, start=1):
        where = f"{source}, launch {number}"
        reading.launch(launch, where, lines[number - 1] if lines else None)
    return batch, reading.done()


def read_rows(
    rows: Sequence[tuple[str, Mapping[str, Any]]], *, source: str, allow_unknown: bool = False
) -> tuple[Entry, ...]:
    """Read launches that stand for themselves, each with its place. Raises InputError with every problem at once."""
    reading = _Reading(source, allow_unknown)
    for where, row in rows:
        reading.launch(row, where, None)
    return reading.done()


@dataclass
class _Reading:
    """One file on its way: the entries so far, and every problem, told once."""

    source: str
    allow_unknown: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    """Paths in the defaults of which something was told already."""
    entries: list[Entry] = field(default_factory=list)
    problems: dict[tuple[str, str, str], Problem] = field(default_factory=dict)
    total: int = 0

    def tell(self, problem: Problem) -> None:
        self.problems.setdefault((problem.where, problem.path, problem.wrong), problem)

    def at(self, data: Mapping[str, Any], key: str) -> str:
        line = getattr(data, "lines", {}).get(key)
        return f"{self.source}, line {line}" if line else self.source

    def done(self) -> tuple[Entry, ...]:
        if self.problems:
            raise InputError(self.problems.values())
        return tuple(self.entries)

    def head(self, data: Mapping[str, Any]) -> None:
        for key in data.repeated if isinstance(data, Repeating) else ():
            wrong = "appears more than once in this fleet file"
            self.tell(Problem(child_path("", key), wrong, "keep one", self.at(data, key)))
        for key in data:
            if key not in FLEET_KEYS:
                known = f"the keys here are {', '.join(FLEET_KEYS[:3])}"
                if key in BODY_FIELDS or key in POLICY_KEYS:
                    known = "write it into `defaults`, or into a launch"
                self.tell(
                    Problem(child_path("", key), "unknown key of a fleet file", known, self.at(data, key))
                )

    def flaws(self, value: object, where: str) -> set[str]:
        """Tell what makes a value ambiguous in its file; the paths where it does."""
        found = json_flaws(value, where=where)
        for flaw in found:
            _, line = _find(value, flaw.path)
            self.tell(replace(flaw, where=f"{where}, line {line}" if line else where))
        return {flaw.path for flaw in found}

    def launch(self, own: object, where: str, line: int | None) -> None:
        """Read one launch, and add its entries or its problems."""
        place = f"{where}, line {line}" if line else where
        if not isinstance(own, dict):
            self.tell(Problem("", f"is {describe(own)}", _LAUNCH, place))
            return
        told = self.flaws(own, where)
        merged = merge(self.defaults, own)
        reading = _LaunchReading(self, own, where, place, self.told | told)
        body = {key: value for key, value in merged.items() if key not in POLICY_KEYS}
        for key in [key for key in body if key not in BODY_FIELDS]:
            likely = misspelt_key(key) if isinstance(key, str) else ""
            if likely:
                reading.tell(Problem(child_path("", key), "unknown key", f'did you mean "{likely}"?'))
                del body[key]
        reading.expand(body, {key: value for key, value in merged.items() if key in POLICY_KEYS})


@dataclass
class _LaunchReading:
    """One launch on its way."""

    file: _Reading
    own: Mapping[str, Any]
    where: str
    place: str
    told: set[str]
    axes: Mapping[str, list[Any]] = field(default_factory=dict)
    cell: tuple[int, ...] = ()

    def tell(self, problem: Problem) -> None:
        """Tell a problem where a person has to look for it: in the matrix, in the launch, or in the defaults."""
        path = problem.path
        if path in self.told:
            return
        for axis, at in zip(self.axes, self.cell, strict=False):
            if path == axis or path.startswith((f"{axis}.", f"{axis}[")):
                path = child_path(child_path("matrix", axis), at) + path[len(axis) :]
                break
        where = self.where
        found, line = _find(self.own, path)
        if not found and _find(self.file.defaults, path)[0]:
            where = f"{self.file.source}, defaults"
            _, line = _find(self.file.defaults, path)
        self.file.tell(replace(problem, path=path, where=f"{where}, line {line}" if line else where))

    def expand(self, body: dict[str, Any], keys_data: dict[str, Any]) -> None:
        problems: list[Problem] = []
        keys = read_keys(keys_data, problems) if keys_data else _NO_KEYS
        for problem in problems:
            self.tell(problem)
        if keys.matrix is None and keys_data.get("matrix"):
            # A matrix that is told to be wrong: what it would have filled in cannot be checked.
            return
        self.axes = keys.matrix or {}
        given = body.get("name")
        launch = Launch(given if isinstance(given, str) else "", self.place)
        count = keys.count or 1
        cells = 1
        for values in self.axes.values():
            cells *= len(values)
        self.file.total += cells * count
        if self.file.total > MAX_ENTRIES:
            wrong = f"with this launch, the file makes {self.file.total} instances"
            self.tell(
                Problem("count" if keys.count else "matrix", wrong, f"at most {MAX_ENTRIES} in one file")
            )
            self.file.total -= cells * count
            return
        policy = policy_of(keys)
        template = _Template.of(given, tuple(self.axes), count, self.tell)
        for cell in itertools.product(*(range(len(values)) for values in self.axes.values())):
            self.cell = cell
            values = [values[at] for values, at in zip(self.axes.values(), cell, strict=True)]
            self.entries_of_cell(body, values, launch, count, policy, template)

    def entries_of_cell(
        self,
        body: dict[str, Any],
        values: list[Any],
        launch: Launch,
        count: int,
        policy: Policy,
        template: _Template | None,
    ) -> None:
        part = ""
        for axis, value in zip(self.axes, values, strict=True):
            body = merge(body, _nested(axis, value))
        if self.axes:
            known = sorted(zip(self.axes, values, strict=True))
            part = f"({','.join(f'{axis}={_identity_of(axis, value)}' for axis, value in known)})"
        filled = template.fill(values, self.tell) if template else None
        first = filled(1) if filled else _any_name(body.get("name"))
        request = self.request(body | {"name": first} if "name" in body else body)
        self.fallbacks(body | {"name": first}, policy, valid=request is not None)
        if request is None or filled is None:
            return
        where = self.place + (f", {part[1:-1]}" if part else "")
        for number in range(1, count + 1):
            self.file.entries.append(
                Entry(
                    f"{where}, copy {number}" if count > 1 else where,
                    request if number == 1 else request.renamed(filled(number)),
                    "",
                    policy,
                    launch,
                    part + copy_part(number),
                )
            )

    def request(self, body: dict[str, Any]) -> LaunchRequest | None:
        try:
            return parse_request(body, allow_unknown=self.file.allow_unknown)
        except InputError as error:
            for problem in error.problems:
                self.tell(problem)
            return None

    def fallbacks(self, body: dict[str, Any], policy: Policy, *, valid: bool) -> None:
        """Check that the body is one with each fallback too."""
        for at, fallback in enumerate(policy.fallbacks):
            path = child_path("fallbacks", at)
            if not fallback.overrides:
                self.tell(Problem(path, "changes nothing", "name the fields to change: {region: ...}"))
            if "name" in fallback.overrides:
                self.tell(Problem(f"{path}.name", "a fallback cannot change the name", "leave it out"))
                continue
            try:
                parse_request(merge(body, fallback.overrides), allow_unknown=self.file.allow_unknown)
            except InputError as error:
                for problem in error.problems:
                    # What is wrong with the body itself is told there.
                    if valid or _find(fallback.overrides, problem.path)[0]:
                        self.tell(replace(problem, path=f"{path}.{problem.path}"))


_NO_KEYS = LaunchKeys()


@dataclass(frozen=True)
class _Template:
    """The name of a launch: text, and what is filled in. `pieces` are (text, placeholder or "", width)."""

    pieces: tuple[tuple[str, str, str], ...]
    places: Mapping[str, int]

    @classmethod
    def of(cls, given: object, axes: Sequence[str], count: int, tell: Any) -> _Template | None:
        """Read a name; None where it cannot be used, and then, unless it is no text, that is told."""
        if not isinstance(given, str) or not given.strip():
            return None
        lasts = [axis.rpartition(".")[2] for axis in axes]
        known = ["index", *dict.fromkeys(lasts)]
        try:
            parsed = list(string.Formatter().parse(given))
        except ValueError as error:
            tell(
                Problem(
                    "name", f"its braces do not fit: {error}", "write {index}; a brace itself is {{ or }}"
                )
            )
            return None
        pieces: list[tuple[str, str, str]] = []
        sound = True
        for text, name, width, conversion in parsed:
            pieces.append((text, name or "", width or ""))
            if name is None:
                continue
            flaw = None
            if name not in known:
                spelt = ", ".join(f"{{{one}}}" for one in known)
                shown = child_path("", name) if name else ""
                flaw = f"unknown placeholder {{{shown}}}", f"the placeholders here are {spelt}"
            elif lasts.count(name) > 1 or (name == "index" and "index" in lasts):
                flaw = f"{{{name}}} means several fields of the matrix", "leave it out"
            elif conversion or not _WIDTH.fullmatch(width or ""):
                flaw = f"{{{name}}} has a format that is not taken", "a width is taken, such as {index:03}"
            if flaw:
                sound = False
                tell(Problem("name", *flaw))
        if count > 1 and not any(name == "index" for _, name, _ in pieces):
            pieces.append(("", "", "copy"))
        return cls(tuple(pieces), {last: at for at, last in enumerate(lasts)}) if sound else None

    def fill(self, values: Sequence[Any], tell: Any) -> Any:
        """The name's function of the copy's number, for one combination of the matrix; None where there is none."""
        parts: list[tuple[str, str, str]] = []
        for text, name, width in self.pieces:
            if not name or name == "index":
                parts.append((text, name, width))
                continue
            value = values[self.places[name]]
            if isinstance(value, int) and not isinstance(value, bool):
                spelt = format(value, width)
            elif width:
                tell(Problem("name", f"{{{name}}} has a width, but is no whole number", f"write {{{name}}}"))
                return None
            elif isinstance(value, str | bool):
                spelt = value if isinstance(value, str) else json.dumps(value)
            else:
                wrong = f"{{{name}}} is {describe(value)}"
                tell(Problem("name", wrong, "text, whole numbers, true and false can stand in a name"))
                return None
            parts.append((text + spelt, "", ""))

        def name_of(number: int) -> str:
            return "".join(
                text + (format(number, width) if name else copy_suffix(number) if width else "")
                for text, name, width in parts
            )

        return name_of


def _any_name(given: object) -> object:
    """A name that stands for one that cannot be filled in, so that the rest of the body is checked."""
    return "name" if isinstance(given, str) and given.strip() else given


def _nested(path: str, value: Any) -> dict[str, Any]:
    for step in reversed(path.split(".")):
        value = {step: value}
    nested: dict[str, Any] = value
    return nested


def _identity_of(axis: str, value: Any) -> str:
    """A value of the matrix as a part of an identity. An init script, which may be secret, only by its hash."""
    text = as_text(value)
    if (
        len(text) <= _SHOWN
        and text.isprintable()
        and not axis.endswith("initScript")
        and "initScript" not in text
    ):
        return text
    return f"~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _steps(path: str) -> Iterator[str | int]:
    for match in _STEP.finditer(path):
        key, index = match.groups()
        if index is not None:
            yield int(index)
        else:
            yield json.loads(key) if key.startswith('"') else key


def _find(value: Any, path: str) -> tuple[bool, int | None]:
    """Whether something is at this path, and the line of it, or of the innermost thing around it where it is missing.

    The line is None where lines are not known.
    """
    line: int | None = getattr(value, "line", None)
    for step in _steps(path):
        lines = getattr(value, "lines", None)
        try:
            value, line = value[step], lines[step] if lines else line
        except (KeyError, IndexError, TypeError):
            return False, line
    return bool(path), line
