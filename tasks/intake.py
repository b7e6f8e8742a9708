"""Reading the input files of `plan` and `submit`: from text to checked launch requests, or to every problem in it.

Told apart by content, not by file name: one body as the console exports it, a JSON array of bodies, JSON lines, or the
text of a `curl` command. Nothing is half read: one bad entry refuses the whole input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tasks.curl import looks_like_curl, read_curl
from tasks.errors import InputError, Problem
from tasks.intake_json import json_flaws, read_json, starts_with_whole_value
from tasks.request import BODY_FIELDS, LaunchRequest, describe, parse_request

Form = Literal["body", "array", "lines", "curl"]

_TAKEN = (
    "taken are one request body as the console exports it, a JSON array of bodies, JSON lines (one body a line),"
    " or a curl command"
)

# A name that ends like an identity could be taken for one: `gpu#2`, `gpu[7]`.
_LIKE_AN_IDENTITY = re.compile(r"(#[0-9]+|\[[0-9]+\])\Z")

# So many paths of unlisted fields are named in a warning.
_PATHS_NAMED = 20


@dataclass(frozen=True)
class Entry:
    """One launch of an input. `where` names the file and the place in it: `fleet.json, entry 3`.

    `identity` is what makes it the same entry when its batch is submitted again: its given name, with the ordinal
    where the name repeats (`name#2`), and the index of a counted copy (`name[7]`).
    """

    where: str
    request: LaunchRequest
    identity: str


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
        raise InputError([_unknown_form(text, source)])
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
        else:
            form = "body"
            bodies = [(source, value)]
    entries: list[Entry] = []
    for where, body in bodies:
        request = _checked(body, where, allow_unknown, problems)
        if request is not None:
            entries.append(Entry(where, request, request.name))
    if problems:
        raise InputError(problems)
    warnings = tuple(_warnings(entries, source, allow_unknown=allow_unknown, has_token=token is not None))
    return Intake(identify(entries), form, token, curl_url, warnings)


def identify(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Give the entries of one submission identities that are unique in it: call it once all its files are read,
    and before `expand_count`.

    A name keeps its identity whatever stands around it; only entries that share a name are told apart by their order.
    """
    seen: Counter[str] = Counter()
    identified = []
    for entry in entries:
        name = entry.request.name
        seen[name] += 1
        # A name that looks like another entry's identity always gets its ordinal, so no two identities can be equal.
        plain = seen[name] == 1 and not _LIKE_AN_IDENTITY.search(name)
        identity = name if plain else f"{name}#{seen[name]}"
        identified.append(entry if entry.identity == identity else replace(entry, identity=identity))
    return tuple(identified)


def expand_count(entries: Sequence[Entry], count: int) -> tuple[Entry, ...]:
    """Return `count` copies of each entry, named `name-01`, `name-02` and so on; a count of 1 changes nothing.

    Raises InputError where `count` is less than 1.
    """
    if count < 1:
        raise InputError([Problem("", f"the count is {count}", "must be a whole number from 1")])
    if count == 1:
        return tuple(entries)
    width = max(2, len(str(count)))
    return tuple(
        Entry(
            f"{entry.where}, copy {number}",
            entry.request.renamed(f"{entry.request.name}-{number:0{width}}"),
            # Without the zeros: a larger count must not turn the copies that were launched into new ones.
            f"{entry.identity}[{number}]",
        )
        for entry in entries
        for number in range(1, count + 1)
    )


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
        return Problem("", "is neither JSON nor a curl command", _TAKEN, source)
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


def _checked(body: object, where: str, allow_unknown: bool, problems: list[Problem]) -> LaunchRequest | None:
    """Return the body as a request, or add everything that is wrong with it to the problems."""
    flaws = json_flaws(body, where=where)
    problems.extend(flaws)
    if misfit := _misfit(body, where):
        problems.append(misfit)
        return None
    try:
        return parse_request(body, allow_unknown=allow_unknown, where=where)
    except InputError as error:
        told = {flaw.path for flaw in flaws}
        problems.extend(problem for problem in error.problems if problem.path not in told)
        return None


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
