"""Recurring schedules, for the command line and whatever else shows and changes them."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, repeat
from typing import Literal

from launchq.launcher import Launcher, new_id
from ledger import schedules as calls
from tasks.entries import Entry
from tasks.errors import NotFoundError, RefusedError, SealedError
from tasks.jobs import Receipt
from tasks.schedules import (
    Schedule,
    Timing,
    batch_of,
    checked_deadline,
    checked_name,
    coming,
    contents_differ,
    refuse_start_times,
    stored,
    submissions,
)

DIFFERENCES_NAMED = 5
"""So many entries that differ are named."""


@dataclass(frozen=True)
class Added:
    """What `add` did, and the schedule that there is now."""

    schedule: Schedule
    what: Literal["added", "replaced", "unchanged"]


@dataclass(frozen=True)
class Run:
    """A batch made by hand: what became of its entries."""

    batch_id: str
    receipts: tuple[Receipt, ...]


def ledger_time(launcher: Launcher) -> datetime:
    """The present by Redis' clock, which decides what is due."""
    return datetime.fromtimestamp(launcher.ledger.time(), UTC)


def check(name: str, entries: Sequence[Entry], timing: Timing) -> None:
    """InputError where these cannot make a schedule."""
    checked_name(name)
    checked_deadline(timing.deadline)
    refuse_start_times(entries)
    for part in stored(entries):
        submissions(part, late=timedelta(0), new_id=new_id)


def add(
    launcher: Launcher, name: str, entries: Sequence[Entry], timing: Timing, *, replace: bool = False
) -> Added:
    """Store a schedule. The same one again changes nothing; another one of that name is refused unless `replace`.

    InputError where it cannot be used, RefusedError (which says what differs) where the name stands for another one.
    """
    check(name, entries, timing)
    ledger, parts = launcher.ledger, stored(entries)
    revision = uuid.uuid4().hex
    while True:
        old = _find(launcher, name)
        if old is not None:
            differing = list(_differences(launcher, old, timing, parts))
            if not differing:
                return Added(old, "unchanged")
            if not replace:
                raise RefusedError(
                    f"schedule {name} exists and is another one: {'; '.join(differing)}. --replace replaces it"
                )
        first = timing.cron.after(ledger_time(launcher))
        sealed = [ledger.vault.seal(part) for part in parts]
        call = calls.put(
            name,
            timing,
            sealed,
            jobs=len(entries),
            first=first,
            revision=revision,
            seen=old.revision if old else "",
        )
        if ledger.run(call):
            return Added(schedule(launcher, name), "replaced" if old else "added")


def list_schedules(launcher: Launcher) -> list[Schedule]:
    """All schedules, those with the next trigger first."""
    return launcher.ledger.run(calls.schedules())


def schedule(launcher: Launcher, name: str) -> Schedule:
    """One schedule; NotFoundError where there is none."""
    found = _find(launcher, name)
    if found is None:
        raise NotFoundError(f"no schedule has the name {name}; `launchq schedule list` shows all")
    return found


def triggers(launcher: Launcher, name: str | None, count: int) -> list[tuple[Schedule, datetime]]:
    """The next triggers: of one schedule, paused or not, or of all that are not paused."""
    shown = (
        [one for one in list_schedules(launcher) if not one.paused]
        if name is None
        else [schedule(launcher, name)]
    )
    now = ledger_time(launcher)
    # Names differ, so that schedules are never compared.
    streams = (zip(coming(one, now), repeat(one.name), repeat(one), strict=False) for one in shown)
    return [(one, moment) for moment, _, one in islice(heapq.merge(*streams), count)]


def pause(launcher: Launcher, name: str) -> Schedule:
    """Trigger no more until `resume`. What is being run at this moment is run to its end."""
    while not launcher.ledger.run(calls.pause(schedule(launcher, name))):
        pass
    return schedule(launcher, name)


def resume(launcher: Launcher, name: str) -> Schedule:
    """Trigger again, from now on: what was missed meanwhile is not caught up."""
    while True:
        one = schedule(launcher, name)
        if launcher.ledger.run(calls.resume(one, one.timing.cron.after(ledger_time(launcher)))):
            return schedule(launcher, name)


def remove(launcher: Launcher, name: str) -> None:
    """Forget a schedule; its batches stay. NotFoundError where there is none."""
    schedule(launcher, name)
    launcher.ledger.run(calls.remove(name))


def run(launcher: Launcher, name: str) -> Run:
    """Make a batch of a schedule now, paused or not. Twice within one second makes one."""
    one, now = schedule(launcher, name), ledger_time(launcher)
    batch = batch_of(one, now, by_hand=True)
    receipts: list[Receipt] = []
    for text in _parts(launcher, one):
        jobs = submissions(text, late=timedelta(0), new_id=new_id)
        receipts += launcher.enqueue(jobs, batch=batch, limits=calls.limits_of(one))
    launcher.ledger.run(calls.by_hand(one, now, batch))
    return Run(batch, tuple(receipts))


def _find(launcher: Launcher, name: str) -> Schedule | None:
    found = launcher.ledger.run(calls.schedules(name))
    return found[0] if found else None


def _parts(launcher: Launcher, one: Schedule) -> Iterator[str]:
    """The entries as they were stored. SealedError where this process has not their key."""
    for index in range(one.parts):
        sealed = launcher.ledger.run(calls.part(one, index))
        if sealed is None:
            raise RefusedError(f"schedule {one.name} was replaced or removed meanwhile")
        yield launcher.ledger.vault.open(sealed)


def _differences(launcher: Launcher, old: Schedule, timing: Timing, parts: Sequence[str]) -> Iterator[str]:
    was, now = old.timing, timing
    for what, before, after in (
        ("cron", was.cron.expression, now.cron.expression),
        ("zone", was.cron.zone, now.cron.zone),
        ("deadline", f"{was.deadline:g} s", f"{now.deadline:g} s"),
        ("overlap", was.overlap, now.overlap),
        ("catch-up", was.catch_up, now.catch_up),
        ("calls in flight", was.max_parallel or "any", now.max_parallel or "any"),
        ("failures before the rest is held", was.stop_after or "any", now.stop_after or "any"),
    ):
        if before != after:
            yield f"{what} (there: {before}, here: {after})"
    try:
        stored_there = list(_parts(launcher, old))
    except SealedError:
        yield "the files' contents cannot be compared without the key that they are sealed with"
        return
    if stored_there != list(parts):
        entries = list(contents_differ(stored_there, parts))
        more = f" and {len(entries) - DIFFERENCES_NAMED} more" if len(entries) > DIFFERENCES_NAMED else ""
        named = ", ".join(entries[:DIFFERENCES_NAMED]) or "the order of the entries"
        yield f"the files' contents: {named}{more}"
