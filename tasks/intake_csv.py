"""Reading CSV: a header of field paths (`billing.chargeMode`), and one launch a row.

A cell is read as what its field wants: a number, true or false, text; what does not fit stays text, and is refused like any other
wrong value. An empty cell leaves the field out, save where empty is a value (`initScript`, `nodePorts`, `remoteStorages`).
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tasks.bodies import child_path
from tasks.errors import InputError, Problem
from tasks.intake_json import decimal, json_flaws, read_json
from tasks.launch_keys import LaunchKeys
from tasks.request import LaunchRequest

_DELIMITERS = ",;\t"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_EMPTY: dict[str, Any] = {"initScript": "", "nodePorts": [], "remoteStorages": []}
"""The fields for which an empty cell is a value."""


def _number(cell: str) -> Any:
    if _WHOLE.fullmatch(cell) and len(cell) < 20:
        return int(cell)
    return decimal(cell) if _DECIMAL.fullmatch(cell) else cell


def _flag(cell: str) -> Any:
    # Spreadsheets write TRUE.
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _json(cell: str) -> Any:
    return read_json(cell, where="")


def _ports(cell: str) -> Any:
    return _json(cell) if cell.startswith("[") else [_number(port.strip()) for port in cell.split(";")]


def _kind(annotation: Any) -> Callable[[str], Any]:
    """How the cells of a field of this type are read."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if bool in options:
        return _flag
    if int in options or float in options:
        return _number
    if str in options or typing.get_origin(annotation) is typing.Literal:
        return str
    return _json


def _columns(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Callable[[str], Any]]]:
    for name, info in model.model_fields.items():
        here = child_path(path, info.alias or name)
        parts = [one for one in (info.annotation, *typing.get_args(info.annotation)) if isinstance(one, type)]
        inner = next((one for one in parts if issubclass(one, BaseModel)), None)
        if inner is not None:
            yield from _columns(inner, here)
        else:
            yield here, _ports if here == "nodePorts" else _kind(info.annotation)


COLUMNS: dict[str, Callable[[str], Any]] = {**dict(_columns(LaunchRequest)), **dict(_columns(LaunchKeys))}
"""Every column that a CSV file may have, and how its cells are read."""


def csv_delimiter(text: str) -> str | None:
    """What separates the cells, where the text is CSV: its first line names fields."""
    first = text.lstrip().partition("\n")[0].strip()
    counts = {sign: sum(_cell(cell) in COLUMNS for cell in first.split(sign)) for sign in _DELIMITERS}
    best = max(counts, key=lambda sign: counts[sign])
    return best if counts[best] >= 2 else None


def _cell(text: str) -> str:
    return text.strip().strip('"')


@dataclass
class Table:
    """A CSV file: its header and where that is, each row's place and its launch, as a fleet file would have it, and what
    is wrong so far."""

    header: list[str] = field(default_factory=list)
    head: str = ""
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def with_columns(self, problem: Problem) -> Problem:
        """A problem of a row, or of the header where it lacks the column."""
        below = f"{problem.path}."
        if not problem.path or any(one == problem.path or one.startswith(below) for one in self.header):
            return problem
        if problem.path not in COLUMNS and not any(one.startswith(below) for one in COLUMNS):
            return problem
        missing = [column for column in COLUMNS if column == problem.path or column.startswith(below)]
        return Problem(problem.path, "required field has no column", f"add {', '.join(missing)}", self.head)


def read_csv(text: str, delimiter: str, *, source: str, allow_unknown: bool) -> Table:
    """Read the cells of a CSV file.

    Rows are counted as spreadsheets do: the header is row 1. Raises InputError where the file cannot be read as CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table = Table()
    try:
        for number, cells in enumerate(reader, start=1):
            where = f"{source}, row {number}"
            if not any(cell.strip() for cell in cells):
                continue
            if not table.header:
                table.header, table.head = [cell.strip() for cell in cells], where
                table.problems += _header_problems(table.header, where, allow_unknown=allow_unknown)
            elif len(cells) != len(table.header):
                wrong = f"has {len(cells)} cells, but the header has {len(table.header)}"
                right = "text with commas or line breaks in it needs double quotes"
                table.problems.append(Problem("", wrong, right, where))
            else:
                table.rows.append((where, _launch(table.header, cells, where, table.problems)))
    except csv.Error as error:
        wrong = f"is not valid CSV at line {reader.line_num}: {error}"
        right = 'text with commas, line breaks or " in it goes between ", and a " in it is written ""'
        raise InputError([Problem("", wrong, right, source)]) from None
    if not table.rows and not table.problems:
        table.problems.append(Problem("", "has a header, but no row", "give at least one launch", source))
    return table


def _header_problems(header: list[str], where: str, *, allow_unknown: bool) -> Iterator[Problem]:
    for column, count in Counter(header).items():
        path = child_path("", column)
        if not column:
            yield Problem("", "has a column without a name", "name its field, or take it out", where)
        elif count > 1:
            yield Problem(path, "is the name of several columns", "keep one", where)
        elif any(other.startswith(f"{column}.") for other in header):
            yield Problem(path, "is a column, and so is a part of it", "keep one of them", where)
        elif column not in COLUMNS and not (allow_unknown and re.fullmatch(r"[\w$-]+(\.[\w$-]+)*", column)):
            inner = [known for known in COLUMNS if known.startswith(f"{column}.")]
            close = difflib.get_close_matches(column[:60], COLUMNS, n=1, cutoff=0.6)
            right = f"use the columns {', '.join(inner)}" if inner else ""
            right = right or (
                f'did you mean "{close[0]}"?' if close else "columns are named after the fields of a body"
            )
            yield Problem(path, "unknown column", right, where)


def _launch(header: list[str], cells: list[str], where: str, problems: list[Problem]) -> dict[str, Any]:
    launch: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=True):
        *outer, last = column.split(".")
        if not cell.strip():
            if last not in _EMPTY:
                continue
            value = _EMPTY[last]
        else:
            try:
                value = COLUMNS.get(column, _any)(cell if COLUMNS.get(column) is str else cell.strip())
            except InputError as error:
                problems += (Problem(column, one.wrong, one.right, where) for one in error.problems)
                value = None
            flaws = json_flaws(value, where=where)
            problems += (Problem(f"{column}{one.path}", one.wrong, one.right, where) for one in flaws)
        holder = launch
        for step in outer:
            holder = holder.setdefault(step, {})
        holder[last] = value
    return launch


def _any(cell: str) -> Any:
    """A cell of a field that the API's document does not list: JSON where it is, otherwise text."""
    try:
        return _json(cell)
    except InputError:
        return cell
