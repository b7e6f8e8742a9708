"""Schedules in the ledger: a trigger makes one batch, whoever runs it, and whatever becomes of whoever does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from config import Settings, load
from harness import body, wait_until
from launchq import Launcher, RefusedError, schedules
from launchq.schedules import schedule
from ledger.vault import Vault
from ledger_box import Box
from sandbox.redis_server import RedisServer
from tasks.cron import Cron
from tasks.entries import Entry
from tasks.errors import NotFoundError, SealedError
from tasks.intake import read_input
from tasks.jobs import Submission
from tasks.schedules import PART, CatchUp, Overlap, Timing
from tasks.states import Event
from worker.timetable import TURN_SECONDS, Timetable

HOURLY = Timing(Cron("0 * * * *", "UTC"))
KEYS = ("A" * 43 + "=", "B" * 43 + "=")


class Killed(BaseException):
    """The worker is dead: nothing of it goes on."""


class Station:
    """A ledger with schedules, and workers' timetables beside it."""

    def __init__(self, box: Box, url: str, stack: ExitStack) -> None:
        self.box, self._url, self._stack = box, url, stack
        self.launcher = Launcher(self.settings())
        stack.callback(self.launcher.close)

    def settings(self, **values: str) -> Settings:
        given = {"REDIS_URL": self._url, "PREFIX": self.box.prefix, **values}
        return load({f"LAUNCHQ_{name}": value for name, value in given.items()})

    def timetable(self, asker: str, **values: str) -> Timetable:
        """Another worker's, with a name of its own; it looks when it is told to."""
        made = Timetable(self.settings(**values), wake_up=lambda: None)
        made._asker = asker
        self._stack.callback(made._ledger.close)
        return made

    def add(self, *names: str, timing: Timing = HOURLY, name: str = "n", **more: Any) -> str:
        return schedules.add(self.launcher, name, entries(*names or ("a", "b")), timing, **more).what

    def falls_due(self, name: str = "n", *, ago: float = 0.0) -> str:
        """Its next trigger is moved into the past, since Redis' clock cannot be moved; the batch that it will make.

        As if the hour had been full so many seconds ago.
        """
        at = self.box.now() / 1000 - ago
        self.box.redis.zadd(self.box.keys.base + "schedules", {name: round(at * 1000)})
        return f"{name}@{datetime.fromtimestamp(at, UTC).isoformat(timespec='minutes')}"

    def next(self, name: str = "n") -> float:
        return float(self.box.redis.zscore(self.box.keys.base + "schedules", name))

    def turn_is_over(self, name: str = "n") -> None:
        self.box.redis.delete(self.box.keys.base + "firing:" + name)

    def batches(self) -> dict[str, int]:
        return {
            name.removeprefix("batch:"): self.launcher.batch(name.removeprefix("batch:")).total
            for name in self.box.names()
            if name.startswith("batch:")
        }


def entries(*names: str, **changes: Any) -> tuple[Entry, ...]:
    return read_input(json.dumps([body(name, **changes) for name in names]), source="f").entries


def many(count: int) -> list[str]:
    return [f"trainer-{number:04}" for number in range(count)]


@pytest.fixture
def station(box: Box, redis: RedisServer) -> Iterator[Station]:
    with ExitStack() as stack:
        yield Station(box, redis.url, stack)


def killed_in(timetable: Timetable, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker dies when it is about to enter that part."""
    enqueue, done = timetable._ledger.enqueue, 0

    def dying(many: list[Submission], **how: Any) -> Any:
        nonlocal done
        if done == part:
            raise Killed
        done += 1
        return enqueue(many, **how)

    monkeypatch.setattr(timetable._ledger, "enqueue", dying)
    with pytest.raises(Killed):
        timetable.look()


def test_what_is_due_makes_one_batch_by_the_triggers_name_and_comes_up_again(station: Station) -> None:
    assert station.add() == "added"
    one = station.timetable("w1")
    assert 0 < one.look() <= 1
    assert station.batches() == {}, "it is not due yet"
    batch = station.falls_due()
    one.look()
    station.timetable("w2").look()
    assert station.batches() == {batch: 2}
    shown = schedule(station.launcher, "n")
    assert shown.last is not None
    assert (shown.last.result, shown.last.batch_id, shown.made) == ("ran", batch, batch)
    assert station.next() > station.box.now()
    assert station.next() % 3_600_000 == 0


def test_a_worker_that_dies_half_way_leaves_the_other_half_to_another_after_its_turn(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add(*many(2 * PART + 7))
    batch = station.falls_due()
    killed_in(station.timetable("victim"), 1, monkeypatch)
    assert station.batches() == {batch: PART}
    other = station.timetable("other")
    other.look()
    assert station.batches() == {batch: PART}, "the turn is still the other's"
    wait_until(
        lambda: other.look() and station.next() > station.box.now(),
        description="the other half is entered",
        timeout=3 * TURN_SECONDS,
    )
    assert station.batches() == {batch: 2 * PART + 7}


def test_what_has_begun_is_ended_long_after_its_deadline(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add(*many(PART + 1))
    batch = station.falls_due(ago=7200)
    station.launcher.ledger.enqueue(
        [
            Submission(
                "x",
                "trainer-0000",
                json.dumps(body("trainer-0000"), separators=(",", ":")),
                entry="trainer-0000",
            )
        ],
        batch="else",
    )
    # A worker had begun in time: its first part is there.
    early = station.timetable("victim")
    monkeypatch.setattr("worker.timetable.decide", _runs_anyway)
    killed_in(early, 1, monkeypatch)
    monkeypatch.undo()
    station.turn_is_over()
    station.timetable("other").look()
    assert station.batches()[batch] == PART + 1


def _runs_anyway(*_: Any, **__: Any) -> Any:
    from tasks.schedules import Decision, Result

    return Decision(Result.RAN, "", None)


def test_two_workers_in_one_trigger_make_one_batch_and_the_slow_one_enters_no_more(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one stands still for longer than its turn, and goes on when the other has done it all."""
    station.add(*many(3 * PART))
    batch = station.falls_due()
    slow, quick = station.timetable("slow"), station.timetable("quick")
    enqueue, entered, go_on = slow._ledger.enqueue, threading.Event(), threading.Event()
    parts = []

    def pausing(group: list[Submission], **how: Any) -> Any:
        parts.append(len(group))
        if len(parts) == 2:
            entered.set()
            assert go_on.wait(20)
        return enqueue(group, **how)

    monkeypatch.setattr(slow._ledger, "enqueue", pausing)
    thread = threading.Thread(target=slow.look)
    thread.start()
    assert entered.wait(20)
    station.turn_is_over()
    quick.look()
    following = station.next()
    assert station.batches() == {batch: 3 * PART}
    go_on.set()
    thread.join(20)
    assert not thread.is_alive()
    assert parts == [PART, PART], "it has seen that its turn is over"
    assert station.batches() == {batch: 3 * PART}
    assert station.next() == following


def test_a_skipped_trigger_says_which_batch_it_waited_for_and_the_next_one_runs(station: Station) -> None:
    station.add("a", timing=Timing(HOURLY.cron, overlap=Overlap.SKIP))
    worker = station.timetable("w")
    first = station.falls_due(ago=60)
    worker.look()
    station.falls_due()
    worker.look()
    shown = schedule(station.launcher, "n")
    assert station.batches() == {first: 1}
    assert shown.last is not None
    assert (shown.last.result, shown.last.message) == ("skipped", f"batch {first} is not done yet")
    assert shown.made == first
    [job] = station.box.claim().jobs
    station.box.settle(_created(job))
    batch = station.falls_due()
    worker.look()
    assert set(station.batches()) == {first, batch}


def _created(job: Any) -> Any:
    from ledger_box import report

    return report(job, Event.CREATE)


def test_a_pause_ends_what_has_begun_and_skips_what_is_due_and_nothing_is_caught_up(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add(*many(PART + 1))
    begun = station.falls_due(ago=120)
    killed_in(station.timetable("victim"), 1, monkeypatch)
    schedules.pause(station.launcher, "n")
    station.turn_is_over()
    worker = station.timetable("w")
    worker.look()
    assert station.batches() == {begun: PART + 1}
    assert station.next() == float("inf")
    schedules.resume(station.launcher, "n")
    assert station.next() > station.box.now()
    station.falls_due()
    schedules.pause(station.launcher, "n")
    worker.look()
    shown = schedule(station.launcher, "n")
    assert shown.last is not None
    assert (shown.last.result, shown.last.message) == ("skipped", "the schedule was paused")
    assert station.batches() == {begun: PART + 1}
    assert shown.document()["next"] is None


def test_a_schedule_replaced_while_it_is_run_enters_nothing_of_either_any_more(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add(*many(2 * PART))
    batch = station.falls_due()
    worker = station.timetable("w")
    enqueue = worker._ledger.enqueue

    def replaced_meanwhile(group: list[Submission], **how: Any) -> Any:
        station.add("other", replace=True)
        return enqueue(group, **how)

    monkeypatch.setattr(worker._ledger, "enqueue", replaced_meanwhile)
    worker.look()
    assert station.batches() == {batch: PART}
    assert schedule(station.launcher, "n").jobs == 1
    assert station.next() > station.box.now()


def test_without_the_key_it_says_so_does_not_spin_and_leaves_it_to_who_has_it(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = station.launcher.ledger
    ledger.vault = Vault(KEYS[:1])
    station.add("a")
    ledger.vault = Vault(KEYS[1:])
    assert "SECRET" not in str(station.box.picture())
    for act in (lambda: schedules.run(station.launcher, "n"),):
        with pytest.raises(SealedError):
            act()
    with pytest.raises(RefusedError, match="cannot be compared without the key"):
        station.add("a")
    batch = station.falls_due()
    blind, calls = station.timetable("blind", SECRET_KEY=KEYS[1]), []
    settle = blind._settle
    monkeypatch.setattr(blind, "_settle", lambda taken: (calls.append(taken), settle(taken)))
    for _ in range(3):
        assert blind.look() > 0.3
    assert len(calls) == 1
    assert "LAUNCHQ_SECRET_KEY" in (schedule(station.launcher, "n").error or "")
    assert station.batches() == {}
    station.timetable("with the key", SECRET_KEY=",".join(KEYS)).look()
    assert station.batches() == {batch: 1}
    assert schedule(station.launcher, "n").error is None


def test_a_batch_of_that_name_with_other_contents_fails_the_run_and_not_the_schedule(
    station: Station,
) -> None:
    station.add("a")
    batch = station.falls_due()
    other = json.dumps(body("a", nodePorts=[1]), separators=(",", ":"))
    station.launcher.ledger.enqueue([Submission("x", "a", other, entry="a")], batch=batch)
    station.timetable("w").look()
    shown = schedule(station.launcher, "n")
    assert shown.last is not None
    assert shown.last.result == "failed"
    assert "nodePorts" in (shown.last.message or "")
    assert station.next() > station.box.now()


def test_a_small_schedule_does_not_wait_for_a_large_one(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add(*many(PART + 1), name="large")
    station.add(name="small")
    large, small = station.falls_due("large", ago=1), station.falls_due("small")
    entered: list[str] = []
    worker = station.timetable("w")
    enqueue = worker._ledger.enqueue

    def noted(group: list[Submission], **how: Any) -> Any:
        entered.append(how["batch"])
        return enqueue(group, **how)

    monkeypatch.setattr(worker._ledger, "enqueue", noted)
    worker.look()
    assert entered == [small, large, large]


def test_an_outage_of_hours_is_caught_up_as_the_schedule_says(station: Station) -> None:
    for catch_up in CatchUp:
        station.add(
            "a", name=str(catch_up), timing=Timing(Cron("*/10 * * * *", "UTC"), 1500, catch_up=catch_up)
        )
        station.falls_due(str(catch_up), ago=7200)
    station.timetable("w").look()
    made = sorted(name.partition("@")[0] for name in station.batches())
    now = station.box.now() / 1000
    in_time = now % 600 < 60
    within = sum(1 for step in range(4) if now % 600 + 600 * step <= 1500)
    assert made == ["all"] * within + ["last"] + ["none"] * in_time


def test_run_by_hand_makes_a_batch_now_also_while_paused_and_moves_nothing(station: Station) -> None:
    station.add()
    schedules.pause(station.launcher, "n")
    made = schedules.run(station.launcher, "n")
    assert station.batches() == {made.batch_id: 2}
    shown = schedule(station.launcher, "n")
    assert shown.last is not None
    assert (shown.last.message, shown.made, shown.paused) == ("by hand", made.batch_id, True)
    assert station.next() == float("inf")


def test_the_same_again_changes_nothing_and_another_is_refused_with_what_differs(station: Station) -> None:
    assert station.add("a", "b") == "added"
    before = station.box.picture()
    assert station.add("a", "b") == "unchanged"
    other = Timing(Cron("5 * * * *", "Asia/Shanghai"))
    with pytest.raises(RefusedError) as refused:
        station.add("a", "c", timing=other)
    for part in (
        "cron (there: 0 * * * *, here: 5 * * * *)",
        "zone (there: UTC, here: Asia/Shanghai)",
        "b is gone, c is new",
        "--replace",
    ):
        assert part in str(refused.value)
    assert station.box.picture() == before
    assert station.add("a", "c", timing=other, replace=True) == "replaced"
    assert schedule(station.launcher, "n").timing == other


def test_two_who_add_at_once_store_one_and_the_other_is_told(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks before the first has stored its own, and stores after."""
    find = schedules._find
    first: list[str] = []

    def overtaken(launcher: Launcher, name: str) -> Any:
        found = find(launcher, name)
        if not first:
            first.append("looked")
            assert station.add("a") == "added"
        return found

    monkeypatch.setattr(schedules, "_find", overtaken)
    with pytest.raises(RefusedError, match="b is new"):
        station.add("b")


def test_removed_is_gone_but_for_its_batches(station: Station) -> None:
    station.add()
    batch = station.falls_due()
    station.timetable("w").look()
    schedules.remove(station.launcher, "n")
    assert station.batches() == {batch: 2}
    assert not [name for name in station.box.names() if name.startswith(("schedule", "launches", "firing"))]
    for act in (schedules.remove, schedules.pause, schedules.resume, schedules.run, schedule):
        with pytest.raises(NotFoundError):
            act(station.launcher, "n")


def test_every_call_may_be_repeated_by_the_redis_client(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py sends a command again whose answer was lost: everything is done twice here."""
    run: Callable[..., Any] = type(station.launcher.ledger).run

    def twice(self: Any, call: Any) -> Any:
        first = run(self, call)
        if call.script.name.startswith("schedule_") and call.script.name not in (
            "schedule_remove",
            "schedule_move",
        ):
            run(self, call)
        elif call.script.name == "schedule_move":
            assert not run(self, call), "it has been moved on from"
        return first

    monkeypatch.setattr(type(station.launcher.ledger), "run", twice)
    assert station.add() == "added"
    batch = station.falls_due()
    station.timetable("w").look()
    schedules.pause(station.launcher, "n")
    schedules.resume(station.launcher, "n")
    assert station.batches() == {batch: 2}
    assert station.next() > station.box.now()
