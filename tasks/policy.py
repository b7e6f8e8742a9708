"""When a job is tried, how often, and until when: what a producer may say beside the request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tasks.errors import Problem

CAPACITY_PATIENCE: Final = 86400.0
"""Seconds that a job waits for capacity unless it is told."""

LONGEST: Final = 10 * 366 * 86400.0
"""Seconds; whatever is to last longer is a mistake."""


@dataclass(frozen=True)
class Policy:
    """How one job is treated. Every field has a sensible default.

    `max_attempts`: tries that may fail for a passing reason; None is the workers' setting. `unique_names`: the name sent gets
    the job's tag. `wait_for_capacity`: ask again while sold out; None: spot instances do, others do not. `until`: seconds from its
    start in which it is tried; None is a day for jobs that wait for capacity and for ever for others, math.inf is for ever. `not_before`:
    not before this time (aware), or so long from now; None is at once.
    """

    max_attempts: int | None = None
    unique_names: bool = False
    wait_for_capacity: bool | None = None
    until: float | None = None
    not_before: datetime | timedelta | None = None

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
        if isinstance(start, datetime) and start.tzinfo is None:
            yield Problem("", "the time has no offset", "an aware datetime", "notBefore")
        if isinstance(start, timedelta) and not 0 <= start.total_seconds() <= LONGEST:
            yield Problem("", "this length of time cannot be used", "10m, 2h, 3d", "notBefore")


DEFAULT_POLICY: Final = Policy()
