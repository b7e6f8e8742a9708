"""The network between two parts is cut in the middle of work, brokers forget, clocks differ: every job ends, none twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis as redis_client

from config import Settings, load
from cutter import Cutter
from harness import World, body, wait_until
from launchq import Launcher, LedgerError
from sandbox import CloudOptions
from sandbox.redis_server import RedisServer
from tasks.states import State

VERIFIES = "VERIFYING" in State.__members__
"""Whether an attempt whose end is unknown is looked up; without that, it is parked as `uncertain`."""

QUICK: dict[str, object] = {
    "request_timeout": "2",
    "concurrency": "8",
    "max_attempts": "100",
    **({"verify_delays": "0.3,0.6,1"} if "verify_delays" in Settings.model_fields else {}),
}
"""Settings under which outages of seconds are survived in seconds."""


class Producer(threading.Thread):
    """Submits jobs one after the other, each with a key and again until Redis has said that it has it, as README.md says."""

    def __init__(self, world: World, **settings: str) -> None:
        super().__init__(daemon=True)
        changed = {f"LAUNCHQ_{name.upper()}": value for name, value in settings.items()}
        self._launcher = Launcher(load({**world.variables, **changed}))
        self._enough = threading.Event()
        self.names: list[str] = []
        self.entered: dict[str, str] = {}
        self.refusals = 0

    def run(self) -> None:
        while not self._enough.wait(0.05):
            name = f"job-{len(self.names):03}"
            self.names.append(name)
            while name not in self.entered:
                try:
                    self.entered[name] = self._launcher.submit(body(name), key=name).id
                except LedgerError:
                    self.refusals += 1

    def finish(self) -> list[str]:
        """No further jobs; the ids of all that were submitted."""
        self._enough.set()
        self.join(60)
        assert not self.is_alive(), "the producer never got an answer"
        self._launcher.close()
        return [self.entered[name] for name in self.names]


@contextmanager
def producing(world: World, **settings: str) -> Iterator[Producer]:
    producer = Producer(world, **settings)
    producer.start()
    try:
        yield producer
    finally:
        with suppress(AssertionError):
            producer.finish()


def pass_time(seconds: float, *, description: str) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, description=description, timeout=seconds + 5)


def all_launched_once(world: World, ids: list[str], *, doubts: bool = False, timeout: float = 40) -> None:
    """Every job becomes `succeeded`, and its name is in the cloud's books exactly once, and nothing else is.

    With `doubts`, a call was cut off: as long as nobody looks such calls up, its job may stay `uncertain`.
    """
    accepted = {State.SUCCEEDED, State.UNCERTAIN} if doubts and not VERIFIES else {State.SUCCEEDED}

    def states() -> Counter[State]:
        return Counter(job.state for job in world.launcher.ledger.jobs(ids) if job is not None)

    with suppress(AssertionError):
        wait_until(
            lambda: set(states()) <= accepted,
            description="all jobs have ended",
            timeout=timeout,
            interval=0.1,
        )
    assert set(states()) <= accepted, (states(), world.logs())
    jobs = [world.job(job_id) for job_id in ids]
    books = Counter(world.names_created())
    assert max(books.values()) == 1, books.most_common(3)
    assert set(books) <= {job.name for job in jobs}
    open_ends = {job.name for job in jobs if job.state is State.UNCERTAIN}
    assert {job.name for job in jobs} - open_ends <= set(books)
    by_name = {instance["name"]: instance["instanceId"] for instance in world.cloud.instances()}
    assert all(job.instance_id == by_name[job.name] for job in jobs if job.state is State.SUCCEEDED)
    assert not any(worker.ended for worker in world.workers), world.logs()


PAIRS = ["worker-ledger", "worker-broker", "worker-cloud", "producer-ledger", "producer-broker"]


@pytest.mark.parametrize("manner", ["cut", "black hole"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_network_that_is_cut_in_the_middle_of_work_loses_and_doubles_nothing(
    make_world: Callable[..., World], redis: RedisServer, pair: str, manner: str
) -> None:
    broker = redis.url.replace("/0", "/1")
    world = make_world(cloud=CloudOptions(latency=0.2), broker_url=broker, **QUICK)
    part, _, to = pair.partition("-")
    setting, target = {
        "ledger": ("redis_url", redis.url),
        "broker": ("broker_url", broker),
        "cloud": ("api_url", world.cloud.api_url),
    }[to]
    with Cutter(target) as network:
        of_the_part: dict[str, Any] = {setting: network.url}
        world.worker(processes=2, **(of_the_part if part == "worker" else {}))
        with producing(world, **(of_the_part if part == "producer" else {})) as producer:
            wait_until(lambda: len(world.cloud.requests()) > 5, description="calls are under way")
            before = network.passed
            assert before
            if manner == "cut":
                network.cut()
            else:
                network.black_hole()
            # To the ledger, longer than its clients wait for an answer: they give up, and what they sent arrives later.
            pass_time(6 if (to, manner) == ("ledger", "black hole") else 1.5, description="the outage")
            assert network.passed == before
            network.heal()
            healed = len(producer.entered)
            wait_until(lambda: len(producer.entered) > healed + 3, description="more jobs after the outage")
            ids = producer.finish()
            assert bool(producer.refusals) == (pair == "producer-ledger" and manner == "cut")
        all_launched_once(world, ids, doubts=to == "cloud")
        if part == "worker":
            wait_until(lambda: network.passed > before, description="the network is used again")


@pytest.mark.parametrize("loss", ["flushed while jobs wait", "restarted empty", "flushed again and again"])
def test_a_broker_that_loses_all_its_messages_loses_no_job(
    make_world: Callable[..., World], loss: str
) -> None:
    """A message is only a wake-up call: the pulse sends another one."""
    with RedisServer() as broker, redis_client.Redis.from_url(broker.url) as raw:  # without persistence
        world = make_world(
            cloud=CloudOptions(latency=0.2), **{**QUICK, "broker_url": broker.url, "shift_seconds": "0.5"}
        )
        if loss == "flushed while jobs wait":
            ids = [job.id for job in world.launcher.submit_many([body(f"job-{n}") for n in range(20)]).jobs]
            assert raw.llen(f"{world.prefix}.wake") == 1
            raw.flushall()
            world.worker(processes=2)
        else:
            world.worker(processes=2)
            with producing(world) as producer:
                wait_until(lambda: len(world.cloud.requests()) > 5, description="calls are under way")
                if loss == "restarted empty":
                    broker.kill()
                    wait_until(
                        lambda: len(producer.entered) > 20, description="jobs are entered without a broker"
                    )
                    broker.start()
                    assert raw.dbsize() == 0
                else:
                    for _ in range(15):
                        raw.flushall()
                        pass_time(0.1, description="the next flush")
                ids = producer.finish()
        all_launched_once(world, ids)
