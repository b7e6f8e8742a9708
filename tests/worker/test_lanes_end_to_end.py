"""Lanes with real workers: probes, start times, the account's budget, deadlines, and stock before probes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from harness import World, body, wait_until
from sandbox import CloudOptions
from sandbox.catalogue import REGION_ID
from tasks.states import State

HERE = body()["region"]
KIND = body()["instanceTypeId"]
LISTED = {"region": REGION_ID, "instanceTypeId": "dc25f5be-0000-4000-8000-5030e3358c41"}
"""A kind of instance that the simulated cloud's catalogue has; `body()` has one that it does not have."""


def arrivals(world: World, prefix: str) -> list[float]:
    """When the create calls for names of this prefix arrived, in seconds since 1970."""
    return [one["at"] for one in world.cloud.requests() if str(one["name"]).startswith(prefix)]


def busiest(times: Iterable[float], window: float) -> int:
    """The most of these times that lie in any window of so many seconds."""
    known = sorted(times)
    return max((sum(start <= one < start + window for one in known) for start in known), default=0)


def submit(world: World, name: str, *options: str, **changes: Any) -> list[str]:
    ran = world.run(
        "submit", "-", "--json", "--unique-names", *options, stdin=json.dumps(body(name, **changes))
    )
    assert ran.code == 0, ran
    return [job["id"] for job in ran.document["jobs"]]


def test_one_probe_a_second_for_a_hundred_jobs_that_all_go_at_once_when_there_is_capacity(
    make_world: Callable[..., World],
) -> None:
    world = make_world(capacity_interval="1s")
    world.cloud.set_capacity(HERE, KIND, 0, is_spot_instance=True)
    for _ in range(2):
        world.worker(processes=2)
    submit(world, "spot", "--spot", "--count", "100", "--batch", "spot")
    wait_until(lambda: arrivals(world, "spot"), description="the first call")
    others = submit(world, "other", "--count", "20", "--batch", "other")
    assert world.run("wait", "other", "--timeout", "10s").code == 0
    jobs = [world.job(one) for one in others]
    assert max(job.updated_at for job in jobs) - min(job.created_at for job in jobs) < timedelta(seconds=5)

    shown = world.run("status").out
    assert "100 jobs wait for capacity" in shown
    wait_until(
        lambda: (times := arrivals(world, "spot"))[-1] - times[0] > 10,
        description="ten seconds of probes",
        timeout=20,
    )
    assert 6 <= busiest(arrivals(world, "spot"), 10) <= 15
    assert world.launcher.batch("spot").counts[State.SUCCEEDED] == 0

    free_since = world.launcher.account().now
    world.cloud.set_capacity(HERE, KIND, 100, is_spot_instance=True)
    assert world.run("wait", "spot", "--timeout", "20s").code == 0
    launched = world.launcher.list_jobs(batch="spot", limit=0)
    assert max(job.updated_at for job in launched) - free_since < timedelta(seconds=8)
    assert sum(name.startswith("spot") for name in world.names_created()) == 100
    assert {job.attempts for job in launched if job.attempts > 20} == set(), "nobody asked for the others"


def test_a_start_time_is_never_early_and_soon_after_whoever_runs(world: World) -> None:
    def late_by(job_id: str, delay: float) -> float:
        job = world.wait_for(job_id, State.SUCCEEDED)
        [arrived] = arrivals(world, job.name)
        return arrived - job.created_at.timestamp() - delay

    world.worker(processes=1)
    [one] = submit(world, "one", "--in", "3s")
    for _ in range(2):
        world.worker(processes=1)
    assert -0.001 <= late_by(one, 3) <= 2
    [three] = submit(world, "three", "--in", "3s")
    assert -0.001 <= late_by(three, 3) <= 2

    for worker in world.workers:
        worker.signal(signal.SIGTERM)
    for worker in world.workers:
        worker.wait(timeout=30)
    [missed] = submit(world, "missed", "--in", "1s")
    due = world.job(missed).created_at + timedelta(seconds=1.5)
    wait_until(lambda: world.launcher.account().now > due, description="its time is over")
    world.worker(processes=1)
    back = world.launcher.account().now
    assert late_by(missed, 1) > 0
    assert arrivals(world, "missed")[0] - back.timestamp() < 2


def test_a_start_in_the_past_is_refused_unless_it_may_be_late(world: World) -> None:
    past = "2020-01-01T02:00"
    ran = world.run("submit", "-", "--at", past, stdin=json.dumps(body("a")))
    assert (ran.code, "lies in the past" in ran.err, "--late-ok" in ran.err) == (2, True, True)
    assert world.launcher.list_jobs() == []
    assert world.run("submit", "-", "--at", past, "--late-ok", stdin=json.dumps(body("a"))).code == 0


def test_the_budget_is_one_for_all_workers_and_429_lowers_it(make_world: Callable[..., World]) -> None:
    world = make_world(rate_limit="20/s")
    workers = [world.worker(processes=2) for _ in range(2)]
    submit(world, "calm", "--count", "60", "--batch", "calm")
    assert world.run("wait", "calm", "--timeout", "30s").code == 0
    # A tenth of a second's worth may be saved up, and calls that were claimed together need not arrive together.
    assert 15 <= busiest(arrivals(world, "calm"), 1) <= 25
    assert len(arrivals(world, "calm")) == 60

    def factor() -> float:
        """How much of the budget is left of it, after 429s."""
        ledger = world.launcher.ledger
        return float(ledger.redis.hget(ledger.keys.base + "rate", "factor") or 1)

    world.cloud.script_faults("429:1")
    submit(world, "hot", "--count", "10", "--batch", "hot")
    lowered = wait_until(
        lambda: now if (now := factor()) < 1 else 0, description="the rate is lowered", interval=0.005
    )
    assert world.run("wait", "hot", "--timeout", "30s").code == 0
    refused = next(one["at"] for one in world.cloud.requests() if one["outcome"] == "throttled")
    later = [one for one in arrivals(world, "hot") if one > refused + 0.2]  # those in flight have ended
    assert min(later) - refused >= 0.9
    assert factor() > lowered, "each instance raises it again"
    assert not any(worker.ended for worker in workers)


def test_when_the_time_is_up_it_fails_for_want_of_capacity_and_asks_no_more(
    make_world: Callable[..., World],
) -> None:
    world = make_world(capacity_interval="0.4s")
    world.cloud.set_capacity(HERE, KIND, 0, is_spot_instance=True)
    world.worker(processes=1)
    [job_id] = submit(world, "patient", "--spot", "--until", "2s")
    wait_until(lambda: world.job(job_id).attempts >= 2, description="it is tried again")
    shown = world.run("status", job_id).out
    assert "waiting for capacity" in shown or "waits for capacity" in shown
    job = world.wait_for(job_id, State.FAILED)
    assert job.error is not None
    assert job.error.category == "capacity"
    deadline = job.created_at.timestamp() + 2
    other = submit(world, "other")  # time passes, and the worker is there
    world.wait_for(other[0], State.SUCCEEDED)
    assert max(arrivals(world, "patient")) < deadline + 0.5
    assert len(arrivals(world, "patient")) == job.attempts


class TestStock:
    """Interval 0.4 s: without the catalogue, seven or eight calls in three seconds."""

    @pytest.fixture
    def world(self, make_world: Callable[..., World]) -> World:
        world = make_world(capacity_interval="0.4s", cloud=CloudOptions(latency=0.01))
        world.cloud.set_capacity(LISTED["region"], LISTED["instanceTypeId"], 0, is_spot_instance=True)
        for _ in range(2):
            world.worker(processes=1)
        return world

    def probed(self, world: World, seconds: float) -> int:
        """How many create calls there are in so many seconds from the first on."""
        submit(world, "spot", "--spot", "--count", "3", "--batch", "spot", **LISTED)
        wait_until(lambda: arrivals(world, "spot"), description="the first call")
        until = datetime.fromtimestamp(arrivals(world, "spot")[0] + seconds).astimezone()
        wait_until(lambda: world.launcher.account().now > until, description="some probes")
        return len(arrivals(world, "spot"))

    def test_a_lane_that_the_catalogue_shows_empty_is_hardly_asked_and_taken_when_it_shows_stock(
        self, world: World
    ) -> None:
        assert self.probed(world, 3) <= 4
        assert world.cloud.state()["calls"]["catalogue"] >= 4
        assert "the catalogue showed none" in world.run("status").out
        world.cloud.set_capacity(LISTED["region"], LISTED["instanceTypeId"], 3, is_spot_instance=True)
        free_since = world.launcher.account().now
        assert world.run("wait", "spot", "--timeout", "20s").code == 0
        ends = [job.updated_at for job in world.launcher.list_jobs(batch="spot")]
        assert max(ends) - free_since < timedelta(seconds=3)

    def test_where_it_cannot_be_read_probes_go_as_ever_and_it_is_left_alone(self, world: World) -> None:
        world.cloud.set_fault_rates({"500": 1.0}, endpoint="catalogue")
        assert self.probed(world, 3) >= 5
        assert world.cloud.state()["calls"]["catalogue"] <= 2
