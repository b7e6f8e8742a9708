"""How a job is to be launched, beside what is launched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from tasks.bodies import redacted
from tasks.errors import Problem

FOR_EVER = "forever"

CAPACITY_PATIENCE: Final = 86400.0
"""Seconds that a job waits for capacity unless it is told."""

LONGEST: Final = 10 * 366 * 86400.0
"""Seconds; whatever is to last longer is a mistake."""

UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds in a unit of time."""


class Fallback(NamedTuple):
    """What to change where there is no capacity `after` seconds from a job's start: `overrides` go over the launch's body."""

    overrides: Mapping[str, Any]
    after: float


@dataclass(frozen=True)
class Policy:
    """How one job is to be launched. None leaves a thing to the settings, or to what kind of instance it is.

    `max_attempts`: tries that may fail for a passing reason. `unique_names`: the name sent gets the job's tag.
    `wait_for_capacity`: ask again while sold out; None: spot instances do, others do not. `until`: seconds from its start in
    which it is tried; None is a day for jobs that wait for capacity and for ever for others, infinity is for ever.
    `not_before`: not before this time (aware), or so long from now; a text is a time as a file gives it, to be read before
    the job is entered (see `tasks/times.py`). `fallbacks`: what to change, in this order, where there is no capacity.
    """

    max_attempts: int | None = None
    unique_names: bool = False
    wait_for_capacity: bool | None = None
    until: float | None = None
    not_before: datetime | timedelta | str | None = None
    fallbacks: tuple[Fallback, ...] = ()

    def __str__(self) -> str:
        return "; ".join(self.parts())

    def document(self, *, show_script: bool = False) -> dict[str, Any]:
        """The JSON form; init scripts of fallbacks, which may hold secrets, only where asked for."""
        return {
            "maxAttempts": self.max_attempts,
            "uniqueNames": self.unique_names,
            "until": FOR_EVER if self.until == math.inf else self.until,
            "waitForCapacity": self.wait_for_capacity,
            "notBefore": self._start,
            "fallbacks": [
                {
                    "after": one.after,
                    "change": dict(one.overrides) if show_script else redacted(one.overrides),
                }
                for one in self.fallbacks
            ],
        }

    def parts(self) -> Iterator[str]:
        """Everything that is not the default, in words."""
        if self._start is not None:
            yield f"at {self._start}" if not isinstance(self.not_before, timedelta) else f"in {self._start}"
        if self.max_attempts is not None:
            yield f"{self.max_attempts} tries"
        if self.until is not None:
            yield "for ever" if math.isinf(self.until) else f"until {_in_words(self.until)} are over"
        if self.wait_for_capacity is not None:
            yield "waits for capacity" if self.wait_for_capacity else "does not wait for capacity"
        if self.fallbacks:
            yield f"{len(self.fallbacks)} fallback{'s' if len(self.fallbacks) > 1 else ''}"
        if self.unique_names:
            yield "unique names"

    @property
    def _start(self) -> str | None:
        if isinstance(self.not_before, datetime):
            return self.not_before.isoformat()
        return (
            _in_words(self.not_before.total_seconds())
            if isinstance(self.not_before, timedelta)
            else self.not_before
        )

    def waits(self, *, spot: bool) -> bool:
        """Whether a job of this policy waits for capacity."""
        return spot if self.wait_for_capacity is None else self.wait_for_capacity

    def settled(self, *, spot: bool) -> Policy:
        """This policy with its defaults filled in for a spot instance, or another one."""
        waits = self.waits(spot=spot)
        default = CAPACITY_PATIENCE if waits else math.inf
        return replace(self, wait_for_capacity=waits, until=default if self.until is None else self.until)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with it."""
        attempts, until, start = self.max_attempts, self.until, self.not_before
        if attempts is not None and (
            isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1
        ):
            yield Problem("", "the number of attempts cannot be used", "a whole number from 1", "maxAttempts")
        if until is not None and not (until == math.inf or 0 < until <= LONGEST):
            yield Problem("", "this length of time cannot be used", "30m, 6h, 7d or forever", "until")
        if isinstance(start, str) or (isinstance(start, datetime) and start.tzinfo is None):
            yield Problem("", "the time has no offset", "an aware datetime", "notBefore")
        if isinstance(start, timedelta) and not 0 <= start.total_seconds() <= LONGEST:
            yield Problem("", "this length of time cannot be used", "10m, 2h, 3d", "notBefore")


DEFAULT: Final = Policy()


def _in_words(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:g} {unit}"
    return f"{seconds:g} s"
