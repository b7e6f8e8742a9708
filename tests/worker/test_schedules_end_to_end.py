"""Recurring schedules with real workers: each time makes one batch, never early, whoever dies."""

from __future__ import annotations

import json
import signal
from collections import Counter
from datetime import datetime, timedelta

from harness import World, body, wait_until

MINUTELY = ("--cron", "* * * * *", "--tz", "UTC")


def add(world: World, name: str, count: int, *options: str) -> None:
    text = json.dumps(body(f"{name}-machine"))
    ran = world.run(
        "schedule", "add", name, "-", *options, "--count", str(count), "--unique-names", stdin=text
    )
    assert ran.code == 0, ran


def batches(world: World, name: str) -> dict[str, int]:
    """The batches that were made of a schedule, and their jobs."""
    ledger = world.launcher.ledger
    head = ledger.keys.base + "batch:"
    names = [str(key).removeprefix(head) for key in ledger.redis.scan_iter(match=f"{head}{name}@*")]
    return {one: world.launcher.batch(one).total for one in sorted(names)}


def comes_up(world: World, name: str, seconds: float) -> float:
    """Its next trigger is moved to so many seconds from now, since Redis' clock cannot be moved; when that is (ms)."""
    ledger = world.launcher.ledger
    at = round((ledger.time() + seconds) * 1000)
    ledger.redis.zadd(ledger.keys.base + "schedules", {name: at})
    return at


def created(world: World, name: str) -> int:
    return sum(one.startswith(f"{name}-machine") for one in world.names_created())


def test_each_time_makes_one_batch_however_many_workers_run_or_die(world: World) -> None:
    workers = [world.worker(processes=1) for _ in range(3)]
    add(world, "minutely", 2, *MINUTELY)
    began = world.launcher.account().now

    # Due in a moment, and the workers die one by one meanwhile: 600 jobs are entered in three steps.
    add(world, "large", 600, "--cron", "0 0 1 1 *", "--max-parallel", "1", "--yes")
    due = comes_up(world, "large", 1.5)
    wait_until(lambda: batches(world, "large"), description="its batch is begun", interval=0.005)
    for worker in workers[:2]:
        worker.signal(signal.SIGKILL)
        worker.kill_all()
    wait_until(lambda: sum(batches(world, "large").values()) == 600, description="its batch is whole")
    [first] = world.launcher.list_jobs(batch=next(iter(batches(world, "large"))), limit=1)
    assert first.created_at.timestamp() * 1000 >= due
    assert world.run("cancel", *batches(world, "large")).code in (0, 2)

    # No worker at all, over its time: it is made as soon as there is one again.
    workers[2].signal(signal.SIGTERM)
    workers[2].wait(timeout=30)
    add(world, "missed", 2, "--cron", "0 0 1 1 *")
    comes_up(world, "missed", -90)
    add(world, "not-caught-up", 2, "--cron", "0 0 1 1 *", "--catch-up", "none")
    comes_up(world, "not-caught-up", -90)
    for _ in range(3):
        world.worker(processes=1)
    wait_until(lambda: created(world, "missed") == 2, description="the missed time is caught up")
    shown = {one["name"]: one for one in world.run("schedule", "list", "--json").document["schedules"]}
    assert shown["not-caught-up"]["last"]["result"] == "missed"
    assert (len(batches(world, "missed")), batches(world, "not-caught-up")) == (1, {})

    # And the real thing: a full minute of the clock, three workers.
    wait_until(
        lambda: (
            (world.launcher.account().now - began) > timedelta(seconds=3)
            and world.launcher.account().now.second < 30
            and created(world, "minutely") == 2 * len(batches(world, "minutely")) > 0
        ),
        description="a full minute has come",
        timeout=90,
    )
    minutes = [name.partition("@")[2] for name in batches(world, "minutely")]
    assert len(set(minutes)) == len(minutes)
    assert set(batches(world, "minutely").values()) == {2}
    for name in batches(world, "minutely"):
        trigger = datetime.fromisoformat(name.partition("@")[2])
        starts = [job.created_at for job in world.launcher.list_jobs(batch=name)]
        assert min(starts) >= trigger
        if trigger >= began + timedelta(seconds=20):  # all three workers were there
            assert max(starts) - trigger < timedelta(seconds=2)
    assert max(Counter(world.names_created()).values()) == 1
