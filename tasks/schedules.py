"""Recurring schedules: when their triggers are run, what is stored of their entries, and how they look from outside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from tasks.bodies import request_differences
from tasks.cron import Cron
from tasks.entries import Entry
from tasks.errors import InputError, Problem
from tasks.jobs import Submission, moment, rfc3339
from tasks.policy import FOR_EVER, LONGEST, Fallback, Policy

ON_TIME = timedelta(seconds=60)
"""A run that is late by less than this is not missed: it is made whatever the deadline and `catch_up` say."""

PART = 250
"""Entries that are stored, read and entered at once."""

_NAME = re.compile(r"[^\s@-][^\s@]{0,99}")


class Overlap(StrEnum):
    """What becomes of a trigger while the batch made before is not done."""

    ALLOW = "allow"
    SKIP = "skip"


class CatchUp(StrEnum):
    """Which missed triggers are run, as long as they are within the deadline."""

    LAST = "last"
    NONE = "none"
    ALL = "all"


class Result(StrEnum):
    """What became of a trigger."""

    RAN = "ran"
    SKIPPED = "skipped"
    MISSED = "missed"
    FAILED = "failed"


@dataclass(frozen=True)
class Timing:
    """When the batches of a schedule are made. `deadline`: how late a missed one may still be made, in seconds.

    `max_parallel`, `stop_after`: calls in flight of one batch, and jobs of it that fail before the rest is held; None is any number.
    """

    cron: Cron
    deadline: float = 3600.0
    overlap: Overlap = Overlap.ALLOW
    catch_up: CatchUp = CatchUp.LAST
    max_parallel: int | None = None
    stop_after: int | None = None


@dataclass(frozen=True)
class Last:
    """The last trigger, or the last run by hand: its time, and what became of it and when."""

    trigger: datetime
    at: datetime
    result: Result
    message: str | None
    batch_id: str | None


@dataclass(frozen=True)
class Schedule:
    """One schedule. `next`: its next trigger, or the one that is due; None is never. `made`: the last batch made of it.

    `error`: why the trigger that is due now cannot be run. `parts`: how many parts its entries are stored in; `revision`
    tells its contents from those that were there before.
    """

    name: str
    timing: Timing
    jobs: int
    parts: int
    revision: str
    paused: bool
    next: datetime | None
    last: Last | None
    made: str | None
    error: str | None
    created_at: datetime | None
    updated_at: datetime | None

    @classmethod
    def from_redis(cls, name: str, score: str, fields: Mapping[str, str]) -> Schedule:
        """Out of the hash of a schedule and its score in the sorted set."""
        timing = Timing(
            Cron(fields["cron"], fields["timezone"]),
            int(fields["deadline"]) / 1000,
            Overlap(fields["overlap"]),
            CatchUp(fields["catchUp"]),
            int(fields.get("maxParallel", "0")) or None,
            int(fields.get("stopAfter", "0")) or None,
        )
        last = None
        trigger, at = moment(fields.get("lastTrigger")), moment(fields.get("lastAt"))
        if trigger and at:
            result = Result(fields["lastResult"])
            batch = fields.get("made") if result is Result.RAN else None
            last = Last(trigger, at, result, fields.get("lastMessage") or None, batch)
        return cls(
            name=name,
            timing=timing,
            jobs=int(fields["jobs"]),
            parts=int(fields["parts"]),
            revision=fields["revision"],
            paused=bool(fields.get("paused")),
            next=None if math.isinf(float(score)) else moment(round(float(score))),
            last=last,
            made=fields.get("made") or None,
            error=fields.get("error") or None,
            created_at=moment(fields.get("createdAt")),
            updated_at=moment(fields.get("updatedAt")),
        )

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        last = self.last
        return {
            "name": self.name,
            "cron": self.timing.cron.expression,
            "timezone": self.timing.cron.zone,
            "deadline": self.timing.deadline,
            "overlap": str(self.timing.overlap),
            "catchUp": str(self.timing.catch_up),
            "maxParallel": self.timing.max_parallel,
            "stopAfterFailures": self.timing.stop_after,
            "paused": self.paused,
            "next": None if self.paused else rfc3339(self.next),
            "last": None
            if last is None
            else {
                "trigger": rfc3339(last.trigger),
                "at": rfc3339(last.at),
                "result": str(last.result),
                "message": last.message,
                "batchId": last.batch_id,
            },
            "lastBatchId": self.made,
            "error": self.error,
            "jobs": self.jobs,
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
        }


def checked_name(name: str) -> str:
    """A schedule's name that can be used; InputError where it cannot."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        right = "1 to 100 printable characters without blanks and @, the first of them no -"
        raise InputError([Problem("NAME", f"{name[:40]!r} cannot be used", right)])
    return name


def checked_deadline(seconds: float) -> float:
    """A deadline that can be used; InputError where it cannot."""
    if not 0 <= seconds <= LONGEST:
        raise InputError([Problem("--deadline", "this length of time cannot be used", "30m, 1h, 2d")])
    return seconds


def batch_of(schedule: Schedule, trigger: datetime, *, by_hand: bool = False) -> str:
    """The batch's name: `nightly@2026-12-01T02:00+08:00`; with seconds where it was made by hand.

    The time is that of the schedule's zone. Its offset tells the two equal hours of a change of clocks apart.
    """
    local = trigger.astimezone(schedule.timing.cron.tz)
    return f"{schedule.name}@{local.isoformat(timespec='seconds' if by_hand else 'minutes')}"


@dataclass(frozen=True)
class Decision:
    """What is to become of a trigger that is due. `next`: the one to look at afterwards; None is never."""

    result: Result
    message: str
    next: datetime | None


def decide(
    schedule: Schedule,
    trigger: datetime,
    now: datetime,
    *,
    begun: bool,
    busy: str | None,
    longest: float,
) -> Decision:
    """What to do about a trigger that is due.

    `begun`: somebody has begun to make its batch, so it is made whole, however late. `busy`: the batch made before, if it
    is not done. `longest`: no run is later than this (seconds): jobs are kept so long, and what is forgotten could be
    launched twice.
    """
    timing, late = schedule.timing, now - trigger
    following = timing.cron.after(trigger)
    limit = timedelta(seconds=min(longest, timing.deadline))
    caught_up = late <= limit and (
        timing.catch_up is CatchUp.ALL
        or (timing.catch_up is CatchUp.LAST and (following is None or following > now))
    )
    if late.total_seconds() < longest:
        if begun:
            return Decision(Result.RAN, "", following)
        if schedule.paused:
            return Decision(Result.SKIPPED, "the schedule was paused", following)
        if late < ON_TIME or caught_up:
            if busy and timing.overlap is Overlap.SKIP:
                return Decision(Result.SKIPPED, f"batch {busy} is not done yet", following)
            return Decision(Result.RAN, "", following)
    seconds = f"{late.total_seconds():.0f} s late"
    if timing.catch_up is CatchUp.NONE:
        why = f"{seconds}, and nothing is caught up"
    elif late > limit:
        why = f"{seconds}, which is past its deadline"
    else:
        why = f"{seconds}, and a later one is run instead"
    return Decision(Result.MISSED, why, _worth_a_look(timing, trigger, now, limit))


def _worth_a_look(timing: Timing, trigger: datetime, now: datetime, limit: timedelta) -> datetime | None:
    """The first trigger after this one that may still be run, past or future."""
    # A second more, so that the one that is just late enough to be run is found.
    window = max(ON_TIME, limit if timing.catch_up is not CatchUp.NONE else timedelta(0)) + timedelta(
        seconds=1
    )
    since = max(trigger, now - window)
    if timing.catch_up is CatchUp.ALL:
        return timing.cron.after(since)
    return timing.cron.latest(since, now) or timing.cron.after(now)


def stored(entries: Sequence[Entry]) -> list[str]:
    """The parts in which entries are stored: JSON, before it is sealed. The same entries give the same text."""
    groups = (entries[at : at + PART] for at in range(0, len(entries), PART))
    return [
        json.dumps([_document(entry) for entry in group], ensure_ascii=False, separators=(",", ":"))
        for group in groups
    ]


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.identity,
        "request": entry.request.wire(),
        "policy": entry.policy.document(show_script=True),
    }


def _policy(document: Mapping[str, Any]) -> Policy:
    until = document["until"]
    return Policy(
        max_attempts=document["maxAttempts"],
        unique_names=document["uniqueNames"],
        wait_for_capacity=document["waitForCapacity"],
        until=math.inf if until == FOR_EVER else until,
        fallbacks=tuple(Fallback(one["change"], one["after"]) for one in document["fallbacks"]),
    )


def submissions(part: str, *, late: timedelta, new_id: Callable[[], str]) -> list[Submission]:
    """The jobs of one stored part, for a run that is so late: that time is taken off how long they are tried."""
    from tasks.request import parse_request

    made = []
    for document in json.loads(part):
        request = parse_request(document["request"], allow_unknown=True)
        policy = _policy(document["policy"]).settled(spot=request.is_spot_instance)
        assert policy.until is not None
        left = max(policy.until - max(late.total_seconds(), 0), 0.001)
        made.append(
            Submission.of(request, new_id(), entry=document["entry"], policy=replace(policy, until=left))
        )
    return made


def refuse_start_times(entries: Iterable[Entry]) -> None:
    """InputError where entries have a start time of their own: their schedule says when they are launched."""
    places = dict.fromkeys(
        entry.launch.where if entry.launch else entry.where
        for entry in entries
        if entry.policy.not_before is not None
    )
    if places:
        right = "leave it away: the schedule's --cron says when"
        raise InputError(
            Problem("schedule.at", "cannot be in a recurring schedule", right, where) for where in places
        )


def contents_differ(old: Iterable[str], new: Iterable[str]) -> Iterator[str]:
    """In words, how two lists of stored parts differ, entry by entry; never a value, which may be a secret."""
    before, after = (
        {one["entry"]: one for part in parts for one in json.loads(part)} for parts in (old, new)
    )
    for entry in [*before, *(one for one in after if one not in before)]:
        if entry not in after:
            yield f"{entry} is gone"
        elif entry not in before:
            yield f"{entry} is new"
        elif before[entry] != after[entry]:
            paths = [
                *request_differences(before[entry]["request"], after[entry]["request"]),
                *(
                    key
                    for key, value in after[entry]["policy"].items()
                    if before[entry]["policy"].get(key) != value
                ),
            ]
            yield f"{entry} ({', '.join(paths)})"


def coming(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """The triggers of a schedule from now on."""
    return schedule.timing.cron.from_(now.astimezone(UTC))
