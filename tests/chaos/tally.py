"""What a run came to: the simulated cloud's own books against what the subject says about each job.

Nothing here believes the subject. How many instances there are, and of which name, only the cloud says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENDS = frozenset({"succeeded", "failed", "cancelled", "uncertain"})

UNCERTAIN_AT_MOST = 0.01
"""Share of the jobs with unique names that may end `uncertain`."""


@dataclass(frozen=True)
class Record:
    """What the subject says of one job at the end. `name` is the one that was sent to the cloud."""

    name: str
    state: str
    """succeeded, failed, cancelled, uncertain; everything else is no end."""
    instance_id: str | None = None


@dataclass(frozen=True)
class Tally:
    """The result. `twice`, `lost` and `orphans` say a line about each case."""

    asked: int
    succeeded: int
    failed: int
    uncertain: int
    not_ended: int
    instances: int
    """How many the cloud created."""
    surplus: int
    """Instances beyond the first of each job."""
    twice: tuple[str, ...]
    """Jobs that bought more than one instance."""
    lost: tuple[str, ...]
    """Jobs that did not end, or that say `succeeded` without an instance of their own."""
    orphans: tuple[str, ...]
    """Instances that are paid for and that no job knows, although it is not `uncertain`."""

    def broken(self, *, uncertain_at_most: float | None = None) -> list[str]:
        """Which promises were not kept. `uncertain_at_most` is a share of the jobs; None allows any."""
        found = [
            f"{len(cases)} {what}, such as: {cases[0]}"
            for what, cases in (("lost", self.lost), ("bought twice", self.twice), ("orphans", self.orphans))
            if cases
        ]
        if uncertain_at_most is not None and self.uncertain > uncertain_at_most * self.asked:
            found.append(f"{self.uncertain} uncertain, at most {uncertain_at_most * self.asked:g} may be")
        return found


def count(records: Sequence[Record], instances: Iterable[Mapping[str, Any]]) -> Tally:
    """Hold the subject's records against the cloud's instances (`instanceId` and `name` of each).

    Jobs whose names are alike cannot be told apart in the cloud's books: what is surplus is then only known of all of
    them together.
    """
    name_of = {str(one["instanceId"]): str(one["name"]) for one in instances}
    created = Counter(name_of.values())
    asked = Counter(record.name for record in records)
    states = Counter(record.state for record in records)
    twice = [
        f"{name}: {created[name]} instances for {number} job{'s' if number > 1 else ''}"
        for name, number in asked.items()
        for _ in range(min(number, max(0, created[name] - number)))
    ]
    lost, known = _lost(records, name_of)
    return Tally(
        asked=len(records),
        succeeded=states["succeeded"],
        failed=states["failed"] + states["cancelled"],
        uncertain=states["uncertain"],
        not_ended=sum(number for state, number in states.items() if state not in ENDS),
        instances=len(name_of),
        surplus=sum(max(0, created[name] - number) for name, number in asked.items()),
        twice=tuple(twice),
        lost=tuple(lost),
        orphans=tuple(_orphans(records, name_of, known)),
    )


def _lost(records: Sequence[Record], name_of: Mapping[str, str]) -> tuple[list[str], set[str]]:
    """The lost jobs, and the ids of the instances that a job rightly calls its own."""
    lost: list[str] = []
    known: set[str] = set()
    for record in records:
        own = record.instance_id
        if record.state not in ENDS:
            lost.append(f"{record.name}: did not end ({record.state})")
        elif record.state != "succeeded":
            continue
        elif own is None:
            lost.append(f"{record.name}: succeeded, but names no instance")
        elif own not in name_of:
            lost.append(f"{record.name}: there is no {own}")
        elif name_of[own] != record.name:
            lost.append(f"{record.name}: {own} was bought for {name_of[own]}")
        elif own in known:
            lost.append(f"{record.name}: {own} belongs to another job too")
        else:
            known.add(own)
    return lost, known


def _orphans(records: Sequence[Record], name_of: Mapping[str, str], known: set[str]) -> list[str]:
    """Instances that nobody knows. An uncertain job asks a person to look, so one of its name is no orphan."""
    excused = Counter(record.name for record in records if record.state == "uncertain")
    found = []
    for instance_id, name in name_of.items():
        if instance_id in known:
            continue
        if excused[name]:
            excused[name] -= 1
        else:
            found.append(f"{instance_id} ({name})")
    return found
