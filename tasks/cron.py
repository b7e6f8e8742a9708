"""When a recurring schedule comes up: the five fields of cron, in a time zone.

Moments go in and come out in UTC. Where clocks change, it is as Debian's cron has it (the library `cronsim`): a fixed time
that the clocks skip comes up once, right after the gap; one that they show twice comes up once, the first time; and where
the minutes or the hours begin with a star, what comes up follows the clock through both hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tasks.errors import InputError, Problem

RIGHT = '"0 2 * * *" is every day at two o\'clock: minute, hour, day of the month, month, day of the week (Sunday is 0 or 7)'
ZONE_RIGHT = "the name of a time zone, such as Asia/Shanghai, Europe/Berlin or UTC"

# What the library takes beyond the five fields that every cron takes: L and LW (the last day), # (the nth weekday).
_STANDARD = re.compile(r"[0-9*/,-]+ [0-9*/,-]+ [0-9*/,-]+ [0-9a-z*/,-]+ [0-9a-km-z*/,-]+", re.IGNORECASE)

_WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))


@dataclass(frozen=True)
class Cron:
    """Five fields of cron (`expression`) in the zone of this IANA name. Make one with `read_cron`."""

    expression: str
    zone: str

    @cached_property
    def tz(self) -> ZoneInfo:
        """The zone."""
        return ZoneInfo(self.zone)

    def from_(self, base: datetime) -> Iterator[datetime]:
        """Every time that it comes up after `base` (aware), strictly increasing, in UTC. May end: there are fields that never
        come up, or the calendar ends."""
        last = base
        try:
            for found in CronSim(self.expression, base.astimezone(self.tz)):
                # Two fixed times in a skipped hour are one, and a base in the second of two equal hours finds the first again.
                if (moment := found.astimezone(UTC)) > last:
                    last = moment
                    yield moment
        except OverflowError:
            return

    def after(self, base: datetime) -> datetime | None:
        """The first time that it comes up after `base`; None is never."""
        return next(self.from_(base), None)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last time that it comes up after `after` and not after `until`; None where it does not."""
        starts = [max(after, until - window) for window in _WINDOWS] + [after]
        for start in dict.fromkeys(starts):
            latest = None
            for moment in self.from_(start):
                if moment > until:
                    break
                latest = moment
            if latest is not None:
                return latest
        return None


def read_cron(expression: str, zone: str, *, now: datetime) -> Cron:
    """A cron expression and a zone that can be used. InputError where they cannot, or where nothing comes up after `now`."""
    problems = []
    text = " ".join(expression.split())
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        problems.append(Problem("--tz", f"{zone[:60]!r} is no time zone", ZONE_RIGHT))
    wrong = f"{text[:60]!r} cannot be used"
    try:
        CronSim(text, now)
        if not _STANDARD.fullmatch(text):
            problems.append(Problem("--cron", f"{wrong}: only the five standard fields are", RIGHT))
    except CronSimError as error:
        problems.append(Problem("--cron", f"{wrong}: {str(error).lower()}", RIGHT))
    if problems:
        raise InputError(problems)
    cron = Cron(text, zone)
    if cron.after(now) is None:
        raise InputError([Problem("--cron", f"{text!r} never comes up", RIGHT)])
    return cron
