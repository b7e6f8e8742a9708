"""What a submission comes to: its entries grouped by kind, and whether it is one to think twice about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.entries import Entry
from tasks.policy import Policy
from tasks.request import LaunchRequest

MANY = 100
"""Instances above which a person is asked."""

LONG_MODES = frozenset({"perWeek", "perMonth"})
"""Charge modes that are paid for a week or more at once."""


@dataclass(frozen=True)
class Group:
    """Instances of one kind: same type, region, billing, capacity and policy. `request` is the first one's, `last` the last name."""

    request: LaunchRequest
    policy: Policy
    count: int
    last: str

    @property
    def names(self) -> str:
        """From which name to which."""
        return self.request.name if self.count == 1 else f"{self.request.name} … {self.last}"


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The groups of a submission, in the order in which they first come up."""
    members: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        request = entry.request
        kind = (
            request.instance_type_id,
            request.region,
            request.billing.charge_mode,
            request.billing.duration,
            request.is_spot_instance,
            str(entry.policy),
        )
        members.setdefault(kind, []).append(entry)
    return [
        Group(same[0].request, same[0].policy, len(same), same[-1].request.name) for same in members.values()
    ]


def why_ask(groups: Sequence[Group]) -> str:
    """Why a person must confirm these; empty where there is no need."""
    total = sum(group.count for group in groups)
    long = sum(group.count for group in groups if _long(group))
    reasons = []
    if total > MANY:
        reasons.append(f"{total} instances are more than {MANY}")
    if long:
        reasons.append(f"{long} of {total} would be paid for by the week or by the month")
    return "; ".join(reasons)


def _long(group: Group) -> bool:
    billings = [one.overrides.get("billing") for one in group.policy.fallbacks]
    modes = {one.get("chargeMode") for one in billings if isinstance(one, dict)}
    return bool({group.request.billing.charge_mode, *modes} & LONG_MODES)
