"""Lanes, stock, start times and the account's budget with real workers: what the simulated cloud sees arrive, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness import World, body, wait_until
from sandbox import CloudOptions
from sandbox.answers import SOLD_OUT
from sandbox.catalogue import REGION_ID
from sandbox.redis_server import RedisServer
from tasks.jobs import Job
from tasks.states import State

INTERVAL = 1.0


@pytest.fixture(scope="module")
def lanes(redis: RedisServer) -> Iterator[World]:
    """A world of three workers, shared: each test has lanes of its own. Nobody reads the catalogue, so each probe is made."""
    with World(redis, cloud=CloudOptions(latency=0.2), capacity_interval=INTERVAL, stock="off") as world:
        for _ in range(3):
            world.worker(processes=1)
        yield world


def spot(name: str, kind: str, **changes: Any) -> dict[str, Any]:
    return body(name, isSpotInstance=True, instanceTypeId=kind, **changes)


def free(world: World, kind: str, many: int) -> None:
    """Let the lane of `spot(..., kind)` have so many."""
    world.cloud.set_capacity(body()["region"], kind, many, is_spot_instance=True)


def arrivals(world: World, kind: str) -> list[float]:
    """When the create calls of this instance type arrived at the cloud, in seconds of the epoch."""
    return [
        request["at"]
        for request in world.cloud.requests()
        if request["body"] and request["body"]["instanceTypeId"] == kind
    ]


def busiest(times: list[float], seconds: float) -> int:
    """The most of them in any window of so many seconds."""
    return max(sum(first <= at < first + seconds for at in times) for first in times)


def started_after(world: World, job: Job) -> float:
    """Seconds from when the job was entered until its one create call arrived."""
    [request] = world.cloud.requests(job.name)
    return float(request["at"]) - job.created_at.timestamp()


class TestCapacity:
    def test_a_hundred_on_a_sold_out_lane_ask_once_an_interval_follow_the_first_and_slow_nobody(
        self, lanes: World
    ) -> None:
        free(lanes, "scarce", 0)
        batch = lanes.launcher.submit_many(
            [spot(f"scarce-{number:03}", "scarce") for number in range(100)], batch="hundred"
        )
        wait_until(lambda: arrivals(lanes, "scarce"), description="the lane is found sold out")
        began = time.time()

        # Meanwhile another lane is not slowed.
        plenty = lanes.launcher.submit_many(
            [spot(f"plenty-{number:02}", "plenty") for number in range(20)], batch="twenty"
        )
        assert {job.state for job in lanes.launcher.wait([plenty.id], timeout=5)} == {State.SUCCEEDED}

        # A status says what is waited for.
        assert "jobs wait for capacity" in lanes.run("status").out
        first, last = batch.jobs[0].id, batch.jobs[-1].id
        wait_until(
            lambda: (
                "waits for capacity, attempt" in (shown := lanes.run("status", first).out)
                and "asked again" in shown
                and SOLD_OUT in shown
            ),
            description="the status shows the attempt, the next probe and the last answer",
        )
        assert "waits for capacity, its lane is asked again" in lanes.run("status", last).out
        wait_until(lambda: time.time() > began + 10, description="ten seconds have passed")
        asked = arrivals(lanes, "scarce")
        assert 5 <= busiest(asked, 10) <= 15
        assert "catalogue" not in lanes.cloud.state()["calls"]

        free(lanes, "scarce", 100)
        jobs = lanes.launcher.wait([batch.id], timeout=8)
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        created = [name for name in lanes.names_created() if name.startswith("scarce-")]
        assert len(created) == len(set(created)) == 100

    def test_a_job_whose_time_is_up_fails_with_the_last_answer_and_is_not_tried_again(
        self, lanes: World
    ) -> None:
        free(lanes, "never", 0)
        job = lanes.launcher.submit(spot("impatient", "never"), until=2)
        lanes.launcher.submit(spot("patient", "never"))
        ended = lanes.wait_for(job.id, State.FAILED)
        assert ended.error is not None
        assert ended.error.category == "capacity"
        assert ended.error.message == SOLD_OUT
        free(lanes, "never", 10)
        wait_until(lambda: "patient" in lanes.names_created(), description="the other job gets its instance")
        assert max(one["at"] for one in lanes.cloud.requests("impatient")) < ended.updated_at.timestamp()


class TestStock:
    KIND = "dc25f5be-0000-4000-8000-5030e3358c41"
    """A kind of instance that is in the simulated cloud's catalogue; `spot` asks for others."""

    def test_a_lane_that_the_catalogue_shows_empty_is_hardly_asked_and_one_that_it_cannot_show_as_ever(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(CloudOptions(latency=0.01), capacity_interval=0.5)
        for _ in range(2):
            world.worker(processes=1)

        def readings() -> int:
            return int(world.cloud.state()["calls"].get("catalogue", 0))

        def capacity(many: int) -> None:
            world.cloud.set_capacity(REGION_ID, self.KIND, many, is_spot_instance=True)

        capacity(0)
        batch = world.launcher.submit_many([spot(f"n{one}", self.KIND, region=REGION_ID) for one in range(3)])
        wait_until(lambda: readings() >= 12, description="the catalogue is read before each probe")
        first, *later = arrivals(world, self.KIND)
        assert 1 <= sum(at > first + 1 for at in later) <= 3, "one of ten is made all the same, and no more"
        assert "the catalogue showed none" in world.run("status").out

        capacity(3)
        jobs = world.launcher.wait([batch.id], timeout=3)
        assert {job.state for job in jobs} == {State.SUCCEEDED}

        capacity(0)
        world.cloud.set_fault_rates({"500": 1.0}, endpoint="catalogue")
        before = readings()
        world.launcher.submit(spot("unseen", self.KIND, region=REGION_ID))
        wait_until(
            lambda: (
                len(asked := world.cloud.requests("unseen")) >= 6 and asked[-1]["at"] < asked[0]["at"] + 5
            ),
            description="probes go as ever",
        )
        assert readings() <= before + 1, "a catalogue that cannot be read is left alone"


class TestStart:
    def test_with_three_workers_it_is_not_early_and_at_most_two_seconds_late(self, lanes: World) -> None:
        ran = lanes.run("submit", "-", "--in", "3s", "--json", stdin=json.dumps(body("in-three")))
        [job] = lanes.launcher.wait([ran.document["jobs"][0]["id"]], timeout=20)
        assert 3 <= started_after(lanes, job) <= 5

    def test_a_time_in_the_past_is_refused_unless_late_is_as_good(self, lanes: World) -> None:
        past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        words, text = ("submit", "-", "--at", past, "--json"), json.dumps(body("late"))
        refused = lanes.run(*words, stdin=text)
        assert refused.code == 2
        assert "lies in the past" in refused.err + refused.out
        assert "--late-ok" in refused.err + refused.out
        assert lanes.run(*words, "--late-ok", "--wait", stdin=text).code == 0
        assert lanes.names_created().count("late") == 1

    def test_with_one_worker_too_and_what_fell_due_while_there_was_none_starts_when_one_is_back(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world()
        worker = world.worker(processes=1)
        missed = world.launcher.submit(body("due-meanwhile"), not_before=timedelta(seconds=1))
        worker.kill_all()
        over = missed.created_at + timedelta(seconds=1.5)
        wait_until(lambda: world.launcher.account().now > over, description="its time has passed")
        assert world.cloud.requests() == []
        world.worker(processes=1)
        back = time.time()
        world.wait_for(missed.id, State.SUCCEEDED)
        assert world.cloud.requests("due-meanwhile")[0]["at"] <= back + 2

        job = world.launcher.submit(body("in-three"), not_before=timedelta(seconds=3))
        world.wait_for(job.id, State.SUCCEEDED)
        assert 3 <= started_after(world, job) <= 5


class TestBudget:
    def test_it_is_one_for_all_workers_each_429_lowers_it_and_instances_raise_it_again(
        self, make_world: Callable[..., World]
    ) -> None:
        # A call takes so long that one process has not enough of them in flight to use up the budget.
        world = make_world(CloudOptions(latency=0.5), rate_limit="20/s", concurrency=5)
        for _ in range(2):
            world.worker(processes=2)
        batch = world.launcher.submit_many([body(f"even-{number}") for number in range(60)])
        jobs = world.launcher.wait([batch.id], timeout=30)
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        assert len({happening.by for job in jobs for happening in job.history}) > 1, "several took part"
        assert busiest(everything(world), 2) <= 2 * 20 + 2 + 4, (
            "a tenth of a second may be saved up, and some arrive late"
        )

        world.cloud.change_settings(latency=0.02)
        world.cloud.script_faults("429:1")
        many = world.launcher.submit_many([body(f"again-{number}") for number in range(45)])
        wait_until(lambda: throttled(world), description="the first 429")
        world.cloud.script_faults("429:1")
        jobs = world.launcher.wait([many.id], timeout=30)
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        for at in throttled(world):
            on_their_way = [one for one in everything(world) if at < one < at + 1]
            assert len(on_their_way) <= 4, "nothing is claimed while the account waits as it was told to"
        _, last = throttled(world)
        after = [at for at in everything(world) if at >= last + 1]
        assert after[5] - after[0] >= 0.4, "twice halved: 5 calls a second, and not 20"
        assert after[-1] - after[-21] <= 2.5, "grown again: 20 calls a second, and not 5"


def everything(world: World) -> list[float]:
    """When each create call arrived."""
    return [request["at"] for request in world.cloud.requests()]


def throttled(world: World) -> list[float]:
    """When each call arrived that was answered with HTTP 429."""
    return [request["at"] for request in world.cloud.requests() if request["outcome"] == "throttled"]
