"""Workers die, stop and lose Redis: no job is created twice, none is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import psutil
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from harness import World, body, wait_until
from sandbox import CloudOptions
from sandbox.redis_server import RedisServer
from tasks.states import State


@pytest.mark.parametrize("survivor", [True, False], ids=["another worker lives", "no worker lives"])
def test_a_job_whose_worker_is_killed_is_looked_up_before_anything_else(
    make_world: Callable[..., World], survivor: bool
) -> None:
    world = make_world(request_timeout="1", verify_delays="0.3,0.6")
    world.cloud.script_faults("hang-after:60", name="bought")
    world.cloud.script_faults("hang-before:60", name="not-bought")
    victim = world.worker(processes=1)
    names = ("bought", "not-bought")
    batch = world.launcher.submit_many([body(name) for name in names], batch="b")
    wait_until(lambda: len(world.cloud.requests()) == 2, description="the calls arrive")
    victim.kill_all()
    if not survivor:
        # Nobody is there to look: the jobs stay as they are, and nothing is said of them that is not known.
        lease_over = time.monotonic() + 6.5
        wait_until(lambda: time.monotonic() > lease_over, description="the leases are over")
        assert world.launcher.batch("b").counts[State.SUBMITTING] == 2
    world.worker(processes=1)
    jobs = world.launcher.wait([batch.id], timeout=40)
    assert {job.name: (job.state, job.attempts) for job in jobs} == {
        "bought": (State.SUCCEEDED, 1),
        "not-bought": (State.SUCCEEDED, 2),
    }
    assert sorted(world.names_created()) == ["bought", "not-bought"]
    assert len(world.cloud.requests("bought")) == 1
    for job in jobs:
        [lost] = [one for one in job.history if one.event == "expire"]
        assert (lost.by or "").startswith(f"{socket.gethostname()}:")


def test_a_killed_child_is_replaced_and_its_jobs_are_looked_up(make_world: Callable[..., World]) -> None:
    world = make_world(request_timeout="1", verify_delays="0.3,0.6")
    world.cloud.script_faults("hang-before:60", name="victim")
    worker = world.worker(processes=1)
    job = world.launcher.submit(body("victim"))
    wait_until(lambda: world.cloud.requests("victim"), description="the call arrives")
    for child in worker.children():
        psutil.Process(child).kill()
    other = world.launcher.submit(body("after the kill"))
    world.wait_for(other.id, State.SUCCEEDED)
    world.wait_for(job.id, State.VERIFYING, timeout=20)
    assert len(world.cloud.requests("victim")) == 1
    assert world.wait_for(job.id, State.SUCCEEDED, timeout=20).attempts == 2
    assert sorted(world.names_created()) == ["after the kill", "victim"]


def test_workers_killed_at_random_moments_create_nothing_twice_and_lose_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world(
        cloud=CloudOptions(latency=0.1), request_timeout="1", concurrency=5, verify_delays="0.3,0.6,1"
    )
    dice = random.Random(7)
    batch = world.launcher.submit_many([body(f"job-{number:03}") for number in range(150)])
    for _ in range(6):
        worker = world.worker(processes=2, ready=False)
        enough = len(world.cloud.requests()) + 4
        wait_until(partial(arrived, world, enough), description="some calls")
        moment = time.monotonic() + dice.uniform(0, 0.15)
        wait_until(
            lambda until=moment: time.monotonic() > until, description="a random moment", interval=0.001
        )
        worker.kill_all()
    world.worker(processes=2)
    jobs = world.launcher.wait([batch.id], timeout=60)
    assert Counter(job.state for job in jobs) == {State.SUCCEEDED: 150}
    assert Counter(world.names_created()) == Counter(job.name for job in jobs)
    instances = {instance["instanceId"]: instance["name"] for instance in world.cloud.instances()}
    assert {job.instance_id: job.name for job in jobs} == instances


@pytest.mark.parametrize("command", ["STOP longer than the lease", "STOP longer than all lookups"])
def test_a_worker_that_was_stopped_for_longer_than_its_lease_buys_nothing_twice(
    make_world: Callable[..., World], command: str
) -> None:
    """Its calls are looked up by others; what it still does when it goes on is refused, or believed where it is news."""
    world = make_world(
        cloud=CloudOptions(latency=0.5), request_timeout="1", concurrency=10, verify_delays="0.3,0.6"
    )
    stopped = world.worker(processes=2)
    batch = world.launcher.submit_many([body(f"job-{number:03}") for number in range(100)])
    wait_until(partial(arrived, world, 12), description="calls are in flight")
    everyone = [stopped.pid, *stopped.children()]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    world.worker(processes=1)
    doubtful = lambda: world.launcher.batch(batch.id).counts  # noqa: E731
    wait_until(lambda: doubtful()[State.VERIFYING], description="leases are over", timeout=30)
    if command == "STOP longer than all lookups":
        wait_until(lambda: world.launcher.batch(batch.id).done, description="all has ended", timeout=60)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    jobs = world.launcher.wait([batch.id], timeout=60)
    assert Counter(job.state for job in jobs) == {State.SUCCEEDED: 100}
    later = world.launcher.submit(body("later"))
    world.wait_for(later.id, State.SUCCEEDED)
    assert Counter(world.names_created()) == Counter([*(job.name for job in jobs), "later"])


@pytest.mark.parametrize("to_group", [False, True], ids=["main process", "whole group"])
@pytest.mark.parametrize("command", ["launchq", "celery"])
def test_sigterm_claims_no_more_finishes_what_is_in_flight_and_exits_in_time(
    make_world: Callable[..., World], to_group: bool, command: str
) -> None:
    world = make_world(cloud=CloudOptions(latency=1.0), request_timeout="8", concurrency=4)
    celery = ["-m", "celery", "-A", "worker", "worker", "-c", "2", "--loglevel", "info"]
    worker = world.worker(processes=2, command=celery if command == "celery" else None)
    batch = world.launcher.submit_many([body(f"job-{number:02}") for number in range(40)])
    wait_until(world.cloud.requests, description="the first calls arrive")
    if to_group:
        os.killpg(worker.pid, signal.SIGTERM)
    else:
        worker.signal(signal.SIGTERM)
    assert worker.wait(8) == 0, worker.log()
    jobs = world.launcher.list_jobs(batch=batch.id, limit=0)
    states = Counter(job.state for job in jobs)
    assert set(states) == {State.SUCCEEDED, State.QUEUED}, states
    assert states[State.SUCCEEDED] == len(world.names_created()) <= 16
    assert world.launcher.account().workers == {}


@pytest.mark.parametrize("outage", ["restart", "kill", "freeze"])
def test_redis_goes_away_and_comes_back_and_the_worker_goes_on(outage: str) -> None:
    with (
        RedisServer(append_only=True, append_fsync="always") as redis,
        World(redis, request_timeout="5") as world,
    ):
        worker = world.worker(processes=2)
        first = world.launcher.submit(body("before"))
        world.wait_for(first.id, State.SUCCEEDED)
        world.cloud.change_settings(latency=1.5)
        under_way = world.launcher.submit_many([body(f"under-way-{number}") for number in range(5)])
        wait_until(lambda: len(world.cloud.requests()) == 6, description="five calls are in flight")
        if outage == "restart":
            redis.restart()
        else:
            redis.kill() if outage == "kill" else redis.pause()
            pause = time.monotonic() + 2.0
            wait_until(lambda: time.monotonic() > pause, description="the calls end while Redis is away")
            redis.start() if outage == "kill" else redis.resume()
        jobs = world.launcher.wait([under_way.id], timeout=30)
        assert {job.state for job in jobs} == {State.SUCCEEDED}
        world.cloud.change_settings(latency=0.02)
        later = world.launcher.submit(body("after"))
        assert world.wait_for(later.id, State.SUCCEEDED).attempts == 1
        assert not worker.ended
        assert max(Counter(world.names_created()).values()) == 1
        # The broker's connection is back too: a message of a producer that only has Celery arrives.
        producer = Celery("producer", broker=redis.url)
        sent = producer.send_task("launchq.submit", [body("by-celery")], queue=world.prefix)
        producer.close()
        world.wait_for(sent.id, State.SUCCEEDED)


def test_a_slow_call_holds_up_nobody(make_world: Callable[..., World]) -> None:
    """One process, calls that hang longer than a shift lasts: other jobs go on being launched."""
    world = make_world(request_timeout="20", shift_seconds="1")
    world.cloud.script_faults("hang-before:15", name="slow")
    world.worker(processes=1)
    slow = world.launcher.submit(body("slow"))
    wait_until(lambda: world.cloud.requests("slow"), description="the slow call arrives")
    until = time.monotonic() + 6
    number = 0
    while time.monotonic() < until:
        number += 1
        job = world.launcher.submit(body(f"quick-{number}"))
        world.wait_for(job.id, State.SUCCEEDED, timeout=5)
    assert world.job(slow.id).state is State.SUBMITTING
    assert json.loads(world.run("status", slow.id, "--json").out)["state"] == "submitting"


def test_a_broker_that_dies_under_messages_of_the_celery_door_ends_no_worker() -> None:
    """kombu trips over its own closed connection when a message is unacknowledged at that moment."""
    with (
        RedisServer(append_only=True, append_fsync="always") as redis,
        World(redis, request_timeout="5") as world,
    ):
        workers = [world.worker(processes=2) for _ in range(2)]
        producer = Celery("producer", broker=redis.url)
        for _ in range(3):
            for number in range(30):
                producer.send_task("launchq.submit", [body(f"m-{number}")], queue=world.prefix)
            redis.kill()
            redis.start()
            wait_until(lambda: redis_is_back(producer, world), description="a message can be sent again")
        sent = producer.send_task("launchq.submit", [body("last")], queue=world.prefix)
        producer.close()
        world.wait_for(sent.id, State.SUCCEEDED)
        assert not any(worker.ended for worker in workers), world.logs()


def arrived(world: World, calls: int) -> bool:
    return len(world.cloud.requests()) >= calls


def redis_is_back(producer: Celery, world: World) -> bool:
    try:
        producer.send_task("launchq.submit", [body("probe")], {"key": "probe"}, queue=world.prefix)
    except OperationalError:
        return False
    return True
