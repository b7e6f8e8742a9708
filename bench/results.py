"""What a scenario found: rows of the table, runs behind them, pictures to draw, and what it was measured on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One row of the table: `values` are one a round. `limit` None: nothing is wanted, it is only told.

    `shown` formats a value. `key` names the row in remarks.toml.
    """

    key: str
    what: str
    against: str
    values: list[float]
    shown: str = "{:.2f}"
    limit: float | None = None
    sense: Literal["at least", "at most"] = "at least"
    goal: float | None = None
    detail: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the limit."""
        if self.limit is None or not self.values:
            return None
        return self.median >= self.limit if self.sense == "at least" else self.median <= self.limit

    @property
    def wanted(self) -> str:
        """The limit, and the goal beyond it, in words."""
        if self.limit is None:
            return "–"
        text = f"{self.sense} {self.shown.format(self.limit)}"
        return text if self.goal is None else f"{text}; goal {self.shown.format(self.goal)}"

    @property
    def measured(self) -> str:
        """The median, and the range where there is one."""
        if not self.values:
            return "not measured"
        text = self.shown.format(self.median)
        low, high = self.shown.format(min(self.values)), self.shown.format(max(self.values))
        return text if len(self.values) == 1 else f"**{text}** ({low} to {high})"


@dataclass(frozen=True)
class Picture:
    """A plot: bars (one value a label, with its range) or lines (many points a label)."""

    name: str
    title: str
    axis: str
    kind: Literal["bars", "lines"]
    series: dict[str, list[float]]
    """Bars: label -> the values of all rounds. Lines: label -> y for each of `x`."""
    x: list[float] = field(default_factory=list)
    x_axis: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class Table:
    """Figures behind the rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class Result:
    """What one scenario found."""

    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


def spread(values: Sequence[float], shown: str = "{:,.0f}") -> str:
    """The median with the range, for a table."""
    if not values:
        return "–"
    middle = shown.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({shown.format(min(values))} to {shown.format(max(values))})"


def save(
    folder: Path, scenario: str, title: str, order: int, machine: dict[str, Any], result: Result
) -> Path:
    """Write one scenario's result as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scenario}.json"
    document = {
        "scenario": scenario,
        "title": title,
        "order": order,
        "machine": machine,
        **asdict(result),
        "verdicts": {row.key: row.reached for row in result.rows},
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Saved:
    """One scenario's result, read again."""

    scenario: str
    title: str
    order: int
    machine: dict[str, Any]
    result: Result


def read(folder: Path) -> list[Saved]:
    """All results in a folder, in the order of the report."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        result = Result(
            rows=[Row(**row) for row in document["rows"]],
            tables=[Table(**table) for table in document["tables"]],
            pictures=[Picture(**picture) for picture in document["pictures"]],
            notes=document["notes"],
            runs=document["runs"],
        )
        found.append(
            Saved(document["scenario"], document["title"], document["order"], document["machine"], result)
        )
    return sorted(found, key=lambda saved: saved.order)
