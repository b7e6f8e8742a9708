"""The network between two parts is cut in the middle of work, brokers forget, clocks differ: every job ends, none twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jwt
import pytest
import redis as redis_client

from config import load
from config.celery_settings import wake_up_queue
from cutter import Cutter
from harness import Worker, World, body, wait_until
from launchq import InputError, Launcher, LedgerError, NotFoundError
from ledger.version import LEDGER_VERSION
from sandbox import CloudOptions
from sandbox.redis_server import RedisServer
from tasks.states import State

QUICK: dict[str, object] = {
    "request_timeout": "2",
    "concurrency": "8",
    "max_attempts": "100",
    "verify_delays": "0.3,0.6,1",
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


def all_launched_once(world: World, ids: list[str]) -> None:
    """Every job becomes `succeeded`, and its name is in the cloud's books exactly once, and nothing else is."""

    def states() -> Counter[State]:
        return Counter(job.state for job in world.launcher.ledger.jobs(ids) if job is not None)

    with suppress(AssertionError):
        wait_until(
            lambda: set(states()) == {State.SUCCEEDED}, description="all jobs", timeout=40, interval=0.1
        )
    assert set(states()) == {State.SUCCEEDED}, (states(), world.logs())
    jobs = [world.job(job_id) for job_id in ids]
    books = Counter(world.names_created())
    assert max(books.values()) == 1, books.most_common(3)
    assert set(books) == {job.name for job in jobs}
    by_name = {instance["name"]: instance["instanceId"] for instance in world.cloud.instances()}
    assert all(job.instance_id == by_name[job.name] for job in jobs)
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
        if to == "cloud":
            of_the_part["request_timeout"] = "1"  # so that the outage outlasts calls
        world.worker(processes=2, **(of_the_part if part == "worker" else {}))
        with producing(world, **(of_the_part if part == "producer" else {})) as producer:
            wait_until(lambda: len(world.cloud.requests()) > 5, description="calls are under way")
            assert network.passed
            if manner == "cut":
                network.cut()
            else:
                network.black_hole()
            before = network.passed  # read afterwards: until then, bytes pass
            # To the ledger, longer than its clients wait for an answer: they give up, and what they sent arrives later.
            pass_time(5.5 if (to, manner) == ("ledger", "black hole") else 1.5, description="the outage")
            assert network.passed == before
            network.heal()
            healed = len(producer.entered)
            wait_until(lambda: len(producer.entered) > healed + 3, description="more jobs after the outage")
            ids = producer.finish()
            assert bool(producer.refusals) == (pair == "producer-ledger" and manner == "cut")
        all_launched_once(world, ids)
        if to == "cloud":
            events = world.launcher.ledger.latest_events(10_000)
            assert "verifying" in {fields["state"] for _, fields in events}, "no call was under way"
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
            assert raw.llen(wake_up_queue(world.settings, LEDGER_VERSION)) == 1
            raw.flushall()
            world.worker(processes=2)
        else:
            world.worker(processes=2)
            with producing(world) as producer:
                wait_until(lambda: len(world.cloud.requests()) > 5, description="calls are under way")
                if loss == "restarted empty":
                    raw.set("was there", 1)
                    broker.kill()
                    wait_until(
                        lambda: len(producer.entered) > 20, description="jobs are entered without a broker"
                    )
                    broker.start()
                    assert not raw.exists("was there")
                else:
                    for _ in range(15):
                        raw.flushall()
                        pass_time(0.1, description="the next flush")
                ids = producer.finish()
        all_launched_once(world, ids)


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_full_disk_under_redis_stops_everybody_and_loses_and_doubles_nothing(fsync: str) -> None:
    """With `everysec`, Redis refuses changes while its disk is full; with `always` it ends."""
    with (
        RedisServer(append_only=True, append_fsync=fsync) as redis,
        redis_client.Redis.from_url(redis.url, retry=None) as raw,
        World(redis, cloud=CloudOptions(latency=0.2), **{**QUICK, "concurrency": 2}) as world,
    ):
        world.worker(processes=2)
        ids = [job.id for job in world.launcher.submit_many([body(f"job-{n:02}") for n in range(40)]).jobs]
        wait_until(lambda: len(world.cloud.requests()) > 5, description="calls are under way")
        redis.fill_disk()
        wait_until(lambda: not takes_changes(raw), description="Redis meets its full disk")
        sent = len(world.cloud.requests())  # whatever was sent had been claimed before
        late = json.dumps([body(f"late-{n}") for n in range(3)])
        refused = world.run("submit", "-", "--batch", "late", "--json", stdin=late)
        assert refused.code == 1, refused
        said = refused.document["error"]["message"]
        assert ("cannot write to its disk" if fsync == "everysec" else "Connection refused") in said
        pass_time(0.5, description="the workers try to claim")
        assert sent <= len(world.cloud.requests()) <= sent + 2 * 2
        assert len(world.cloud.requests()) < 30
        if fsync == "everysec":
            redis.free_disk()
        else:
            redis.kill()
            redis.start()
        wait_until(lambda: takes_changes(raw), description="Redis writes again")
        with pytest.raises(NotFoundError):
            world.launcher.batch("late")
        entered = world.run("submit", "-", "--batch", "late", "--json", stdin=late)
        assert entered.code == 0, entered
        all_launched_once(world, ids + [job["id"] for job in entered.document["jobs"]])


def takes_changes(raw: redis_client.Redis) -> bool:
    try:
        return bool(raw.info("persistence")["aof_last_write_status"] == "ok")
    except redis_client.ConnectionError:
        return False


CELERY = ["-m", "celery", "-A", "worker", "worker", "-c", "1", "--loglevel", "info"]


@pytest.mark.parametrize("command", [None, CELERY], ids=["launchq worker", "celery worker"])
def test_a_worker_refuses_to_start_on_an_evicting_redis(command: list[str] | None) -> None:
    with RedisServer(maxmemory_policy="volatile-lru") as redis, World(redis) as world:
        job = world.launcher.submit(body())
        worker = world.worker(command=command, ready=False)
        assert worker.wait(20) == 1
        said = worker.log()
        assert "maxmemory-policy is volatile-lru" in said
        assert "noeviction" in said
        assert "Traceback" not in said
        assert world.job(job.id).state is State.QUEUED
        assert world.launcher.account().workers == {}
        doctor = {one["name"]: one for one in world.run("doctor", "--json").document["checks"]}
        assert doctor["eviction"]["status"] == "fail"


def test_a_redis_that_begins_to_evict_stops_all_claims_for_all_to_see(redis: RedisServer) -> None:
    with (
        RedisServer() as own,
        redis_client.Redis.from_url(own.url) as raw,
        World(own, **QUICK) as world,
    ):
        soon = [
            "-c", "from worker import pulse; pulse.TIDY_SECONDS = 0.3\n"
            "from launchq.cli import main; main(['worker', '--processes', '1'])",
        ]  # fmt: skip
        world.worker(command=soon)
        world.wait_for(world.launcher.submit(body("before")).id, State.SUCCEEDED)
        raw.config_set("maxmemory-policy", "allkeys-lru")
        account = wait_until(
            lambda: (found := world.launcher.account()).state == "blocked" and found,
            description="the account is blocked",
        )
        assert account.reason == "evicting"
        assert "maxmemory-policy is allkeys-lru" in account.message
        job = world.launcher.submit(body("meanwhile"))
        assert "noeviction" in world.run("list").err
        pass_time(1.5, description="a pulse and a half")
        assert world.job(job.id).state is State.QUEUED
        raw.config_set("maxmemory-policy", "noeviction")
        world.wait_for(job.id, State.SUCCEEDED)
        assert world.launcher.account().state == "open"


def on_a_wrong_clock(offset: float) -> list[str]:
    """The command of a worker on a machine whose clock is off by so many seconds."""
    return [
        "-c",
        f"""
import datetime, time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {offset}
time.time_ns = lambda: real_ns() + int({offset} * 1e9)
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds={offset})
import worker.cloud
worker.cloud.datetime = Wrong
from launchq.cli import main
main(["worker", "--processes", "1"])
""",
    ]


def test_workers_whose_clocks_are_ten_minutes_off_do_nothing_early_and_nothing_twice(
    make_world: Callable[..., World],
) -> None:
    world = make_world(cloud=CloudOptions(latency=0.1, token_life=3.0), **{**QUICK, "backoff_base": "0.5"})
    for fault in ("429:1", "429-date:1"):
        world.cloud.script_faults(fault, name=f"meets-{fault.partition(':')[0]}")
    for offset in (600, -600):
        world.worker(command=on_a_wrong_clock(offset))
    names = ["meets-429", "meets-429-date", *(f"job-{number:02}" for number in range(40))]
    first = world.launcher.submit_many([body(name) for name in names], batch="first")
    ids = [receipt.id for receipt in first.jobs]
    all_launched_once(world, ids)
    # A cloud that is away for a moment, and jobs all along while tokens end.
    world.cloud.refuse_for(1)
    with producing(world) as producer:
        pass_time(3.2, description="a token's life")
        ids += producer.finish()
    all_launched_once(world, ids)
    for name in names[:2]:
        early, late = world.cloud.requests(name)
        assert late["at"] - early["at"] >= 1
    requests = world.cloud.requests()
    # A call may be on its way when its token ends; a clock that counted would have every call refused.
    refused = sum(request["outcome"] == "unauthorized" for request in requests)
    assert refused <= len(requests) // 10
    lives = (requests[-1]["at"] - requests[0]["at"]) / 3.0
    assert world.cloud.state()["logins"]["ok"] <= 2 * lives + 2
    off = {name: age for name, age in world.launcher.account().workers.items() if age > 5}
    assert not off, "workers are heard by Redis' clock"


@pytest.mark.parametrize("offset", [600, -600])
def test_a_configured_token_ends_by_redis_clock_and_not_by_the_workers(
    make_world: Callable[..., World], offset: float
) -> None:
    now = int(time.time())
    world = make_world(username=None, password=None)
    good = world.cloud.mint_token(60)
    ended = jwt.encode({"iat": now - 400, "exp": now - 300}, "k" * 32, algorithm="HS256")
    world.set(access_token=good if offset > 0 else ended)
    worker = world.worker(command=on_a_wrong_clock(offset))
    job = world.launcher.submit(body())
    if offset > 0:
        world.wait_for(job.id, State.SUCCEEDED)
    else:
        wait_until(lambda: world.launcher.account().state == "blocked", description="the account is blocked")
        assert "LAUNCHQ_ACCESS_TOKEN has ended" in worker.log()
        assert world.cloud.requests() == []


def test_a_token_is_set_by_redis_clock_and_not_by_the_producers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, real = int(time.time()), time.time
    ended = jwt.encode({"exp": now - 300}, "k" * 32, algorithm="HS256")
    monkeypatch.setattr(time, "time", lambda: real() + 600)
    world.launcher.set_token(world.cloud.mint_token(60))
    monkeypatch.setattr(time, "time", lambda: real() - 600)
    with pytest.raises(InputError, match="ended already"):
        world.launcher.set_token(ended)


NEWER = [
    "-c",
    "from ledger import version; version.LEDGER_VERSION += 1\n"
    "from launchq.cli import main; main(['worker', '--processes', '1'])",
]
"""A worker of a launchq with a higher ledger version."""


def test_beside_a_newer_worker_an_older_one_ends_its_calls_and_launches_nothing_more(
    make_world: Callable[..., World],
) -> None:
    world = make_world(cloud=CloudOptions(latency=1.0), **{**QUICK, "request_timeout": "5", "concurrency": 5})

    def launched_by(worker: Worker, ids: list[str]) -> set[str]:
        """The jobs whose last attempt was this worker's."""
        pids = {str(pid) for pid in worker.children()}
        raw, keys = world.launcher.ledger.redis, world.launcher.ledger.keys
        return {one for one in ids if str(raw.hget(keys.job(one), "worker")).partition(":")[2] in pids}

    old = world.worker(processes=1)
    ids = [job.id for job in world.launcher.submit_many([body(f"job-{n:02}") for n in range(15)]).jobs]
    wait_until(lambda: len(world.cloud.requests()) == 5, description="the older worker's calls are under way")
    new = world.worker(command=NEWER, ready=False)
    newest = LEDGER_VERSION + 1
    wait_until(
        lambda: world.launcher.account().version == newest,
        description="the newer worker's mark",
        interval=0.001,
    )
    begun = launched_by(old, ids)
    assert begun
    all_launched_once(world, ids)
    assert launched_by(old, ids) == begun
    assert launched_by(new, ids) == set(ids) - begun
    assert {world.job(one).attempts for one in ids} == {1}
    # Nor later, although the older worker takes wake-ups, too. The producer here is an older one as well.
    world.cloud.change_settings(latency=0.02)
    later = [world.launcher.submit(body(f"later-{n}")).id for n in range(5)]
    all_launched_once(world, ids + later)
    assert launched_by(new, later) == set(later)
    assert old.log().count("used by a newer launchq") == 1
    assert "newer launchq" not in new.log()
    assert "used by a newer launchq" in world.run("status").out
    assert world.launcher.account().version == newest
    doctor = {one["name"]: one for one in world.run("doctor", "--json").document["checks"]}
    assert doctor["version"]["status"] == "fail"


@pytest.mark.parametrize("words", [["list"], ["status", "JOB"], ["wait", "JOB"]], ids=" ".join)
def test_a_reader_tells_of_a_state_that_only_a_newer_launchq_knows(world: World, words: list[str]) -> None:
    job = world.launcher.submit(body())
    world.launcher.ledger.redis.hset(world.launcher.ledger.keys.job(job.id), "state", "hibernating")
    ran = world.run(*(job.id if word == "JOB" else word for word in words), "--json")
    assert ran.code == 1
    assert "'hibernating', a state that only a newer launchq knows" in ran.document["error"]["message"]
    assert "Traceback" not in ran.err
    assert world.run("status").code == 0
