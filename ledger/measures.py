"""What workers measure, of all of them together: histograms, whose buckets are counted in one hash (`measures`).

A field is `<measure>:<upper bound>`, `<measure>:+Inf` or `<measure>:sum` (in thousandths). A write that is repeated after a broken
connection may count twice: this is for looking at, nothing is decided by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One histogram: its name, and the upper bounds of its buckets."""

    name: str
    bounds: tuple[float, ...]

    def field(self, value: float) -> str:
        """The bucket that a value falls into."""
        at = bisect_left(self.bounds, value)
        return f"{self.name}:{self.bounds[at]:g}" if at < len(self.bounds) else f"{self.name}:+Inf"

    def read(self, kept: Mapping[str, str]) -> tuple[list[tuple[str, float]], float]:
        """Bucket (its upper bound, as text) -> how many up to there; and the sum of all."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound in (*(f"{bound:g}" for bound in self.bounds), "+Inf"):
            total += int(kept.get(f"{self.name}:{bound}", 0))
            buckets.append((bound, total))
        return buckets, int(kept.get(f"{self.name}:sum", 0)) / 1000


CALL = Measure("call", (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0))
"""Seconds that a create call took."""

SHIFT = Measure("shift", (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0))
"""Create calls that a shift made."""


class Tally:
    """What one process has measured and not written yet."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, measure: Measure, value: float) -> None:
        """Note one value."""
        self._counts[measure.field(value)] += 1
        self._counts[f"{measure.name}:sum"] += round(value * 1000)

    def take(self) -> dict[str, int]:
        """All of it; from then on there is nothing."""
        taken, self._counts = dict(self._counts), Counter()
        return taken
