"""The entries of a submission: what makes each the same one when its batch is submitted again, and counted copies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from tasks.errors import InputError, Problem
from tasks.policy import DEFAULT, Policy
from tasks.times import read_time

if TYPE_CHECKING:
    from tasks.request import LaunchRequest

MAX_ENTRIES = 100_000
"""Instances of one submission, at most."""

# A name that ends like an identity could be taken for one: `gpu#2`, `gpu[7]`, `gpu(region="a")`.
_LIKE_AN_IDENTITY = re.compile(r"(#[0-9]+|\[[0-9]+\]|\([A-Za-z0-9_$.-]+=.*\))\Z", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Launch:
    """One launch of a fleet file, or one row of a CSV file: what its entries have in common. `name` is as given there."""

    name: str
    where: str


@dataclass(frozen=True)
class Entry:
    """One instance to be launched. `where` names the file and the place in it: `fleet.json, entry 3`.

    `identity` is what makes it the same entry when its batch is submitted again: its given name, with the ordinal
    where the name repeats (`name#2`), the values of its matrix (`name(region="a")`), and from the second copy on the
    index of a counted one (`name[7]`). `part` is what comes behind the ordinal.
    """

    where: str
    request: LaunchRequest
    identity: str
    policy: Policy = DEFAULT
    launch: Launch | None = field(default=None, compare=False)
    part: str = ""


def identify(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Give the entries of one submission identities that are unique in it: call it once all its files are read,
    and before `expand_count`.

    A name keeps its identity whatever stands around it; only launches that share a name are told apart by their order.
    """
    seen: Counter[str] = Counter()
    ordinals: dict[Launch, int] = {}
    identified = []
    for entry in entries:
        name = entry.request.name if entry.launch is None else entry.launch.name
        if entry.launch is None or entry.launch not in ordinals:
            seen[name] += 1
        ordinal = seen[name] if entry.launch is None else ordinals.setdefault(entry.launch, seen[name])
        # A name that looks like another entry's identity always gets its ordinal, so no two identities can be equal.
        plain = ordinal == 1 and not _LIKE_AN_IDENTITY.search(name)
        identity = (name if plain else f"{name}#{ordinal}") + entry.part
        identified.append(entry if entry.identity == identity else replace(entry, identity=identity))
    return tuple(identified)


def expand_count(entries: Sequence[Entry], count: int) -> tuple[Entry, ...]:
    """Return `count` copies of each entry, named `name-01`, `name-02` and so on; a count of 1 changes nothing.

    Raises InputError where `count` is less than 1, or an entry belongs to a file that counts by itself.
    """
    if count < 1:
        raise InputError([Problem("", f"the count is {count}", "must be a whole number from 1")])
    if count == 1:
        return tuple(entries)
    for entry in entries:
        if entry.launch is not None:
            right = "write `count` into the file, or leave --count away"
            raise InputError([Problem("", "counts its launches by itself", right, entry.where)])
    return tuple(
        replace(
            entry,
            where=f"{entry.where}, copy {number}",
            request=entry.request.renamed(entry.request.name + copy_suffix(number)),
            identity=entry.identity + copy_part(number),
        )
        for entry in entries
        for number in range(1, count + 1)
    )


def copy_suffix(number: int) -> str:
    """What a copy's name gets: `-07`. It does not depend on how many copies there are, so a larger count leaves the
    names of those that were launched as they are."""
    return f"-{number:02}"


def copy_part(number: int) -> str:
    """What a copy's identity gets. The first has none: it is the entry itself, so that an entry which gets a count
    later is not launched once more beside its copies, but refused for its new name."""
    return f"[{number}]" if number > 1 else ""


def repeated_names(entries: Iterable[Entry]) -> dict[str, int]:
    """The names that several entries would send as they are, and how many of them."""
    names = Counter(entry.request.name for entry in entries if not entry.policy.unique_names)
    return {name: count for name, count in names.items() if count > 1}


def placed(
    entries: Iterable[Entry], *, zone: tzinfo, now: datetime, late_ok: bool = False, option: str = ""
) -> tuple[Entry, ...]:
    """The entries with the times at which they start read: a time without an offset is one of `zone`.

    Raises InputError with every text that is no time, and with every time before `now` (aware) unless `late_ok`. `option`
    is where the times stand if not in a file.
    """
    read: dict[tuple[str, str], datetime | InputError] = {}
    made = []
    for entry in entries:
        text = entry.policy.not_before
        if isinstance(text, str):
            where = "" if option else entry.launch.where if entry.launch else entry.where
            if (text, where) not in read:
                read[text, where] = _start(text, zone, now, late_ok, option or "schedule.at", where)
            start = read[text, where]
            if isinstance(start, datetime):
                made.append(replace(entry, policy=replace(entry.policy, not_before=start)))
        else:
            made.append(entry)
    problems = [
        problem for error in read.values() if isinstance(error, InputError) for problem in error.problems
    ]
    if problems:
        raise InputError(problems)
    return tuple(made)


def _start(
    text: str, zone: tzinfo, now: datetime, late_ok: bool, path: str, where: str
) -> datetime | InputError:
    try:
        start = read_time(text, zone=zone, now=now, where=where, path=path)
    except InputError as error:
        return error
    if start >= now or late_ok:
        return start
    wrong = f"lies in the past: it is {now.astimezone(zone):%Y-%m-%dT%H:%M:%S%z}"
    return InputError([Problem(path, wrong, "a later time, or --late-ok for now", where)])
