"""One run: the world, the load, the blows, the end, the tally."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.plan import Kind, Plan, Strike
from chaos.subjects import AwayError, Subject, make_subject
from chaos.tally import UNCERTAIN_AT_MOST, Tally, count
from harness import Worker, World, wait_until
from sandbox import CloudOptions
from sandbox.redis_server import RedisServer

LOOK_EVERY = 0.5
"""Seconds between two looks at how far the subject is."""

QUIET = 1.0
"""Seconds without a create call after which nothing is on its way any more."""

Progress = Callable[[float, Mapping[str, int], int], None]
"""Told seconds since the start, jobs by state, and how many workers were killed."""


@dataclass
class Blows:
    """What has struck so far."""

    workers_killed: int = 0
    redis_killed: int = 0
    workers_ended: int = 0
    """Workers that ended by themselves, which none should; each is replaced like a killed one."""


@dataclass(frozen=True)
class Result:
    """One run and what it came to."""

    subject: str
    names: str
    plan: Plan
    tally: Tally
    blows: Blows
    seconds: float
    timed_out: bool
    faults_met: int
    """Create calls that met a fault."""
    cloud: Mapping[str, Any]
    """The simulated cloud's own counts."""

    @property
    def uncertain_at_most(self) -> float | None:
        """The share of jobs that may end `uncertain`: only with a name of its own can a job always be found again."""
        return UNCERTAIN_AT_MOST if self.names == "unique" else None

    @property
    def broken(self) -> list[str]:
        """Which promises were not kept."""
        return self.tally.broken(uncertain_at_most=self.uncertain_at_most)

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "subject": self.subject,
            "names": self.names,
            "plan": asdict(self.plan),
            "tally": asdict(self.tally),
            "blows": asdict(self.blows),
            "seconds": round(self.seconds, 1),
            "timedOut": self.timed_out,
            "faultsMet": self.faults_met,
            "cloud": dict(self.cloud),
            "broken": self.broken,
        }


def run(
    which: str, names: str, plan: Plan, progress: Progress | None = None, *, logs: Path | None = None
) -> Result:
    """One run of one subject. Whatever is started ends with it; `logs` is a folder in which to keep what workers said."""
    options = CloudOptions(
        latency=plan.latency, token_life=plan.token_life, refuse=plan.refused, seed=plan.seed
    )
    with RedisServer(append_only=True, append_fsync="always") as redis, World(redis, cloud=options) as world:
        world.cloud.set_fault_rates(plan.create_fault_rates())
        world.cloud.set_fault_rates(plan.list_fault_rates(), endpoint="list")
        subject = make_subject(which, names, world, plan)
        try:
            subject.submit(["trainer"] * plan.jobs if names == "same" else plan.names())
            workers = [subject.start_worker() for _ in range(plan.workers)]
            # The time runs from the first call on, so that the blows meet every subject at the same stage.
            wait_until(lambda: world.cloud.state()["creates"], description="the first call", timeout=60)
            chaos = Chaos(world, subject, workers, plan, progress or (lambda *_: None))
            seconds, timed_out = chaos.go()
            tally = count(subject.records(), world.cloud.instances())
            faults_met = sum(1 for call in world.cloud.requests() if call["fault"])
            cloud = world.cloud.state()
            return Result(which, names, plan, tally, chaos.blows, seconds, timed_out, faults_met, cloud)
        finally:
            subject.close()
            if logs is not None:
                shutil.copytree(world.folder, logs, dirs_exist_ok=True)


class Chaos:
    """Strikes until the subject is done or the hard end has come."""

    def __init__(
        self, world: World, subject: Subject, workers: list[Worker], plan: Plan, progress: Progress
    ) -> None:
        self._world = world
        self._subject = subject
        self._workers = workers
        self._plan = plan
        self._progress = progress
        self._redis_is_up = True
        self._done = False
        self._looked = 0.0
        self._began = 0.0
        self.blows = Blows()

    def go(self) -> tuple[float, bool]:
        """How many seconds it took, and whether the hard end came first. Afterwards Redis is up and no worker lives."""
        self._began = time.monotonic()
        for strike in self._plan.strikes():
            if self._done_before(strike.at):
                break
            self._strike(strike)
        done = self._done_before(self._plan.hard_end)
        seconds = self._clock()
        if not self._redis_is_up:
            self._world.redis.start()
        self._let_calls_end()
        for worker in self._workers:
            worker.kill_all()
        return seconds, not done

    def _done_before(self, moment: float) -> bool:
        """Wait until the subject is done, or until so many seconds after the start; whether it is done."""
        moment = min(moment, self._plan.hard_end)
        wait_until(
            lambda: self._is_done() or self._clock() >= moment,
            description="the subject is done, or the time is over",
            timeout=self._plan.hard_end + 60,
        )
        return self._done

    def _strike(self, strike: Strike) -> None:
        match strike.kind:
            case Kind.WORKER:
                self._workers[strike.place].kill_all()
                self._workers[strike.place] = self._subject.start_worker()
                self.blows.workers_killed += 1
            case Kind.REDIS:
                self._world.redis.kill()
                self._redis_is_up = False
                self.blows.redis_killed += 1
            case Kind.REDIS_BACK:
                self._world.redis.start()
                self._redis_is_up = True

    def _is_done(self) -> bool:
        """Looks now and then; in between, and while Redis is away, the answer is that of before."""
        if self._done or not self._redis_is_up or self._clock() - self._looked < LOOK_EVERY:
            return self._done
        self._looked = self._clock()
        for place, worker in enumerate(self._workers):
            if worker.ended:
                self._workers[place] = self._subject.start_worker()
                self.blows.workers_ended += 1
        try:
            self._progress(self._clock(), self._subject.counts(), self.blows.workers_killed)
            self._done = self._subject.is_done()
        except AwayError:
            pass
        return self._done

    def _let_calls_end(self) -> None:
        """Nobody may buy after the books were read: wait until no create call is under way, nor came for a while."""
        calls, since = -1, time.monotonic()

        def quiet() -> bool:
            nonlocal calls, since
            state = self._world.cloud.state()
            if state["creates"] != calls or state["createsInFlight"]:
                calls, since = state["creates"], time.monotonic()
            return time.monotonic() - since > QUIET

        wait_until(quiet, description="the last calls end", timeout=2 * self._plan.hang + 60, interval=0.1)

    def _clock(self) -> float:
        return time.monotonic() - self._began
