"""A submission on its way into the ledger: inputs, and how they are to be launched. The command line and the board use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from launchq.inputs import Inputs
from launchq.launcher import Launcher, checked_batch, new_id
from ledger.calls import Limits
from tasks.entries import Entry, placed
from tasks.errors import InputError, Problem
from tasks.jobs import Receipt, Submission
from tasks.plan import Group, grouped


@dataclass(frozen=True)
class Wishes:
    """How it is to be launched. None leaves that as the input says.

    `at` is a time as a person writes it, `delay` seconds from now. The others are as in `Launcher.submit_many`.
    """

    batch: str | None = None
    key: str | None = None
    spot: bool | None = None
    max_attempts: int | None = None
    unique_names: bool = False
    wait_for_capacity: bool | None = None
    until: float | None = None
    at: str | None = None
    delay: float | None = None
    late_ok: bool = False
    limits: Limits = field(default_factory=Limits)
    allow_unknown: bool = False


@dataclass(frozen=True)
class Order:
    """Entries with all wishes in them. Made by `order_of`, which checks what can be checked without the ledger."""

    entries: tuple[Entry, ...]
    keys: tuple[str | None, ...]
    batch: str | None
    wishes: Wishes
    zone: ZoneInfo
    at_called: str
    """What the wish `at` is called in messages."""
    checked: list[Submission] = field(default_factory=list, repr=False, compare=False)
    """Its jobs as they were checked, where no start time has to be read once more: to be entered once, since they have ids."""

    @property
    def groups(self) -> list[Group]:
        """What it comes to, by kind."""
        return grouped(self.entries)

    def submissions(self, now: datetime, *, late_ok: bool) -> list[Submission]:
        """Its jobs as they are entered. InputError where something is wrong, or has its start before `now` (unless `late_ok`)."""
        return [
            Submission.of(
                entry.request,
                new_id(),
                entry=entry.identity if self.batch else "",
                key=key,
                policy=entry.policy,
                allow_unknown=self.wishes.allow_unknown,
            )
            for entry, key in zip(
                placed(
                    self.entries,
                    zone=self.zone,
                    now=now,
                    late_ok=late_ok,
                    option=self.at_called if self.wishes.at else "",
                ),
                self.keys,
                strict=True,
            )
        ]

    def enter(self, launcher: Launcher) -> tuple[Receipt, ...]:
        """Enter all jobs, or none. As `Launcher.enqueue`."""
        submissions = self.checked.copy()
        self.checked.clear()
        if not submissions:
            now = datetime.fromtimestamp(launcher.ledger.time(), UTC)
            submissions = self.submissions(now, late_ok=self.wishes.late_ok)
        return launcher.enqueue(submissions, batch=self.batch or "", limits=self.wishes.limits)


def order_of(inputs: Inputs, wishes: Wishes, timezone: str, *, at_called: str = "--at") -> Order:
    """The inputs as they are wished. InputError with what is wrong, whatever the time and the ledger."""
    entries: Sequence[Entry] = inputs.entries
    batch = inputs.batch(wishes.batch)
    if batch is not None:
        checked_batch(batch)
    elif wishes.limits != Limits():
        right = "give the batch a name"
        raise InputError([Problem("", "a limit of calls or failures is a batch's", right)])
    if wishes.at is not None and wishes.delay is not None:
        raise InputError([Problem("", "there are two start times", "a time, or so long from now")])
    keys: tuple[str | None, ...] = (None,) * len(entries)
    if (key := wishes.key) is not None:
        # The first entry has the key itself, so that a file that has grown finds the job of its first submission.
        keys = (key, *(f"{key}:{entry.identity}" if key else key for entry in entries[1:]))
    if wishes.spot is not None:
        changes = {"is_spot_instance": wishes.spot}
        entries = [replace(entry, request=entry.request.model_copy(update=changes)) for entry in entries]
    options: dict[str, Any] = {
        "max_attempts": wishes.max_attempts,
        "unique_names": wishes.unique_names or None,
        "wait_for_capacity": wishes.wait_for_capacity,
        "until": wishes.until,
        "not_before": wishes.at if wishes.delay is None else timedelta(seconds=wishes.delay),
    }
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        entries = [replace(entry, policy=replace(entry.policy, **given)) for entry in entries]
    order = Order(tuple(entries), keys, batch, wishes, ZoneInfo(timezone), at_called)
    checked = order.submissions(datetime.now(UTC), late_ok=True)
    if not any(isinstance(entry.policy.not_before, str) for entry in entries):
        order.checked.extend(checked)
    return order
