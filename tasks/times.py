"""Reading the times at which people want things to start."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from tasks.errors import InputError, Problem

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

RIGHT = "2026-12-01T02:00, 2026-12-01T02:00+08:00, or 02:00 for the next time that it is two o'clock"


def read_time(text: str, *, zone: tzinfo, now: datetime, where: str = "", path: str = "at") -> datetime:
    """A date and time, or a time of day for the next time that the clock shows it; in UTC.

    A text without an offset is a time of `zone`. InputError where it is no time, or one that the clocks of that zone skip.
    A time that the clocks show twice is the first of the two.
    """
    text = text.strip()
    if clock := _CLOCK.fullmatch(text):
        today = now.astimezone(zone).replace(
            hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0, fold=0
        )
        for days in range(3):
            # By the calendar, not by 24 hours: the day on which the clocks change has another length.
            there = (today.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=zone)
            if there.astimezone(UTC) > now and not _is_skipped(there):
                return there.astimezone(UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise InputError([Problem(path, "is no time", RIGHT, where)]) from None
    try:
        if given.tzinfo is None:
            given = given.replace(tzinfo=zone)
            if _is_skipped(given):
                wrong = f"does not exist in {zone}: the clocks skip it"
                raise InputError([Problem(path, wrong, "another time, or one with an offset", where)])
        return given.astimezone(UTC)
    except OverflowError:
        raise InputError([Problem(path, "is out of all bounds", RIGHT, where)]) from None


def _is_skipped(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None)
