"""Reading JSON more strictly than `json.loads` does: what two readers could take differently is refused.

A key that appears twice, NaN, Infinity and numbers that overflow all get through `json.loads`, and a body that means
one thing to us and another to the API is money spent on the wrong instance.
"""

from __future__ import annotations

import json
from typing import Any

from tasks.bodies import child_path
from tasks.errors import InputError, Problem

# Python reads integers of up to 4300 digits; no number of a body needs more than a few.
_MAX_DIGITS = 400

# What stands where something else was expected, and what the writer most likely overlooked.
_LIKELY_CAUSES = {
    "'": 'JSON takes double quotes: "name"',
    "/": "JSON has no comments",
    "#": "JSON has no comments",
    "}": "a comma before it, or a missing value?",
    "]": "a comma before it, or a missing value?",
    ",": "is the comma one too many?",
    "T": "JSON spells it true",
    "F": "JSON spells it false",
    "N": "JSON spells it null, and has no NaN",
    "\\": "JSON takes plain double quotes around names and text",
}


class Repeating(dict[str, Any]):
    """An object in which keys appeared more than once; it holds the last value of each."""

    repeated: tuple[str, ...] = ()


class Unreadable:
    """A number that JSON, or a double, cannot hold."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = Repeating(found)
    keys = [key for key, _ in pairs]
    repeating.repeated = tuple(key for key in found if keys.count(key) > 1)
    return repeating


def integer(digits: str) -> int | Unreadable:
    """A whole number, where it is not too long."""
    return int(digits) if len(digits) <= _MAX_DIGITS else Unreadable("is too large a number")


def decimal(digits: str) -> float | Unreadable:
    """Any other number, where a double can hold it."""
    number = float(digits)
    return Unreadable("is too large a number") if number in (float("inf"), float("-inf")) else number


def _constant(name: str) -> Unreadable:
    return Unreadable(f"is {name}, which JSON does not have")


# One decoder for all: making one costs as much as reading a small body.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=integer, parse_float=decimal, parse_constant=_constant
)


def read_json(text: str, *, where: str, first_line: int = 1) -> object:
    """Read one JSON value. `first_line` is the number of the text's first line in the file it comes from.

    The value may hold what `json_flaws` finds; nothing else that is wrong. Raises InputError where the text is not
    JSON, naming line and column.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError([_syntax_problem(error, where, first_line)]) from None
    except RecursionError:
        raise InputError([too_deep(where)]) from None


def starts_with_whole_value(line: str) -> bool:
    """Whether the line is one JSON value by itself: the mark of JSON lines."""
    try:
        _DECODER.decode(line)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def json_flaws(value: object, *, where: str) -> tuple[Problem, ...]:
    """Find the repeated keys and unreadable numbers in a value that `read_json` read; paths begin at the value."""
    problems: list[Problem] = []
    try:
        _find_flaws(value, "", where, problems)
    except RecursionError:
        return (too_deep(where),)
    return tuple(problems)


def too_deep(where: str) -> Problem:
    """The problem of a text that nests more deeply than it can be read."""
    return Problem("", "is nested too deeply to be read", "a body needs three levels", where)


def _find_flaws(value: object, path: str, where: str, problems: list[Problem]) -> None:
    if isinstance(value, dict):
        if isinstance(value, Repeating):
            problems.extend(
                Problem(child_path(path, key), "appears more than once in the same object", "keep one", where)
                for key in value.repeated
            )
        for key, item in value.items():
            if isinstance(item, dict | list | Unreadable):
                _find_flaws(item, child_path(path, key), where, problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict | list | Unreadable):
                _find_flaws(item, child_path(path, index), where, problems)
    elif isinstance(value, Unreadable):
        problems.append(Problem(path, value.wrong, "must be a number that JSON can hold", where))


def _syntax_problem(error: json.JSONDecodeError, where: str, first_line: int) -> Problem:
    place = f"line {error.lineno + first_line - 1}, column {error.colno}"
    rest = error.doc[error.pos :]
    if not rest.strip():
        return Problem("", f"is not valid JSON: it ends too early, at {place}", "is the end missing?", where)
    if error.msg.startswith("Unterminated string"):
        return Problem(
            "", f"is not valid JSON: the text that begins at {place} does not end", 'close it with "', where
        )
    if error.msg.startswith("Extra data"):
        right = "put several bodies into one JSON array, or each on a line of its own"
        return Problem("", f"is not valid JSON: more text after its end, at {place}", right, where)
    if error.msg.startswith("Invalid control character"):
        right = r"write line breaks in text as \n and tabs as \t"
        return Problem("", f"is not valid JSON: a raw control character in text at {place}", right, where)
    if "escape" in error.msg:
        right = r"a backslash in text is written \\"
        return Problem("", f"is not valid JSON: a broken backslash escape at {place}", right, where)
    # Python's own words, `Expecting ',' delimiter`, are plain enough.
    wrong = f"is not valid JSON at {place}: {error.msg[:1].lower()}{error.msg[1:]}"
    return Problem("", wrong, _LIKELY_CAUSES.get(rest[0], ""), where)
