"""The calls of recurring schedules. Each is a value that a `Ledger` carries out, as in calls.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.calls import Call, Limits, milliseconds, newer_ledger, pairs
from ledger.scripts import script
from tasks.errors import OutdatedError
from tasks.jobs import moment
from tasks.schedules import Decision, Result, Schedule, Timing


@dataclass(frozen=True)
class Taken:
    """A schedule whose trigger is due, in the turn of whoever took it. `busy`: the batch made before, if it is not done."""

    schedule: Schedule
    trigger: datetime
    now: datetime
    busy: str | None


def put(
    name: str,
    timing: Timing,
    parts: Sequence[str],
    *,
    jobs: int,
    first: datetime | None,
    revision: str,
    seen: str = "",
) -> Call[bool]:
    """Store a schedule, `parts` as they are to be kept (sealed). `seen`: the revision that it replaces; "" is none.

    False where there is another one by now.
    """
    fields = {
        "cron": timing.cron.expression,
        "timezone": timing.cron.zone,
        "deadline": str(round(timing.deadline * 1000)),
        "overlap": str(timing.overlap),
        "catchUp": str(timing.catch_up),
        "maxParallel": str(timing.max_parallel or 0),
        "stopAfter": str(timing.stop_after or 0),
        "jobs": str(jobs),
        "parts": str(len(parts)),
    }
    flat = [text for pair in fields.items() for text in pair]
    return Call(
        script("schedule_put"), (name, seen, revision, _ms(first), str(len(flat)), *flat, *parts), bool
    )


def schedules(*names: str) -> Call[list[Schedule]]:
    """Schedules by their next trigger: those of these names that there are, or all."""
    return Call(
        script("schedule_list"),
        names,
        lambda reply: [Schedule.from_redis(name, score, pairs(flat)) for name, score, flat in reply],
    )


def take(asker: str, *, lasts: float, without: Iterable[str] = ()) -> Call[tuple[Taken | None, float | None]]:
    """The turn to run a schedule that is due, for so many seconds; and the seconds until the next one will be.

    `without`: names that the asker cannot run now. OutdatedError where a newer launchq uses the ledger.
    """

    def parse(reply: list[Any]) -> tuple[Taken | None, float | None]:
        if len(reply) == 1:
            raise OutdatedError(newer_ledger(int(reply[0])))
        wait = int(reply[1]) / 1000 if reply[1] != "" else None
        if len(reply) == 2:
            return None, wait
        now, _, name, score, flat, busy = reply
        schedule = Schedule.from_redis(name, score, pairs(flat))
        trigger, at = schedule.next, moment(now)
        assert trigger is not None
        assert at is not None
        return Taken(schedule, trigger, at, busy or None), wait

    return Call(script("schedule_take"), (asker, milliseconds(lasts), *without), parse)


def part(schedule: Schedule, index: int, *, asker: str = "", lasts: float = 0.0) -> Call[str | None]:
    """One part of a schedule's entries, as it is kept; None where the schedule has changed since.

    With an `asker`, its turn is kept for so many seconds more; None also where that is over, or the trigger is done.
    """
    trigger = _ms(schedule.next) if asker else ""
    args = (schedule.name, schedule.revision, str(index), asker, trigger, milliseconds(lasts))
    return Call(script("schedule_part"), args, lambda reply: reply)


def move(taken: Taken, decision: Decision, *, asker: str, batch: str) -> Call[bool]:
    """Note what became of a trigger, and move on to the next. False where somebody else has, or the schedule has changed."""
    made = batch if decision.result is Result.RAN else ""
    args = (
        taken.schedule.name, taken.schedule.revision, asker, _ms(taken.trigger), _ms(decision.next),
        str(decision.result), decision.message, made,
    )  # fmt: skip
    return Call(script("schedule_move"), args, bool)


def let_go(taken: Taken, *, asker: str, error: str = "") -> Call[bool]:
    """Give back a turn, and note why the trigger could not be run."""
    args = (taken.schedule.name, taken.schedule.revision, asker, _ms(taken.trigger), error)
    return Call(script("schedule_let_go"), args, bool)


def limits_of(schedule: Schedule) -> Limits:
    """What each batch of a schedule may do at once."""
    return Limits(schedule.timing.max_parallel, schedule.timing.stop_after)


def by_hand(schedule: Schedule, at: datetime, batch: str) -> Call[bool]:
    """Note a run by hand. False where the schedule has changed since."""
    return Call(script("schedule_by_hand"), (schedule.name, schedule.revision, _ms(at), batch), bool)


def pause(schedule: Schedule) -> Call[bool]:
    """Trigger no more. False where the schedule has changed since."""
    return Call(script("schedule_pause"), (schedule.name, schedule.revision), bool)


def resume(schedule: Schedule, following: datetime | None) -> Call[bool]:
    """Trigger again, at `following` first. False where the schedule has changed since."""
    return Call(script("schedule_resume"), (schedule.name, schedule.revision, _ms(following)), bool)


def remove(name: str) -> Call[bool]:
    """Forget a schedule. False where there is none."""
    return Call(script("schedule_remove"), (name,), bool)


def _ms(time: datetime | None) -> str:
    """A time as sorted sets hold it; None is never."""
    return "+inf" if time is None else str(round(time.timestamp() * 1000))
