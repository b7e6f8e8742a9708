"""One run: a filled queue, workers started on it, and what the cloud and the kernel say about how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from bench.processes import Child, cpu_of, cpu_seconds, wait_for
from bench.subjects import Subject
from bench.world import World

WARM = 0.02
"""The share of the jobs after whose arrival the CPU time is first read, so that a start's imports are not the jobs'."""

STILL = 30.0
"""Seconds without any new answer after which a run is given up."""


@dataclass(frozen=True)
class Run:
    """How one run went. Rates are jobs a second from the first call's arrival to the last's; CPU is in ms a job."""

    subject: str
    jobs: int
    rate: float
    worker_cpu: float
    redis_cpu: float
    cloud_cpu: float
    busy: float
    """Share of all cores that was busy, with whatever."""
    most_in_flight: int
    calls: int
    distinct: int
    enqueue_rate: float

    def document(self) -> dict[str, Any]:
        return asdict(self)


def run(
    subject: Subject,
    world: World,
    jobs: int,
    *,
    meanwhile: Callable[[list[Child]], None] | None = None,
    afterwards: Callable[[], None] | None = None,
) -> Run:
    """Fill, start, wait for the last answer, stop. RuntimeError where jobs are missing at the end.

    `meanwhile` is called with the workers' processes when the first calls have arrived, `afterwards` while they still run.
    """
    filled = subject.fill(world, jobs)
    children = subject.start(world)
    cloud = world.cloud

    def answered(count: int) -> bool:
        state = cloud.state()
        # Calls made twice must not hide jobs that are still to come.
        if state["answered"] - (state["calls"] - state["distinct"]) >= count:
            return True
        if any(child.ended for child in children) and state["calls"] < jobs:
            raise RuntimeError(f"{subject.name}: a worker ended; its log ends with:\n{children[0].log_end()}")
        return False

    try:
        wait_for(f"{subject.name}: the first answers", lambda: answered(max(1, int(jobs * WARM))))
        began, before = _reading(world, children)
        psutil.cpu_percent(None)
        if meanwhile is not None:
            meanwhile(children)
        _until_all(subject, world, jobs, answered)
        busy = psutil.cpu_percent(None) / 100
        time.sleep(0.3)  # for what is still to be written down
        ended, after = _reading(world, children)
        state = cloud.state()
        if afterwards is not None:
            afterwards()
    finally:
        for child in children:
            child.stop()
    if state["distinct"] != jobs:
        raise RuntimeError(f"{subject.name}: {jobs} jobs, but calls for {state['distinct']}")
    counted = max(1, ended - began)
    worker, server, cloud_cpu = ((b - a) / counted * 1000 for a, b in zip(before, after, strict=True))
    return Run(
        subject=subject.name,
        jobs=jobs,
        rate=(state["calls"] - 1) / (state["last"] - state["first"]),
        worker_cpu=worker,
        redis_cpu=server,
        cloud_cpu=cloud_cpu,
        busy=busy,
        most_in_flight=state["mostInFlight"],
        calls=state["calls"],
        distinct=state["distinct"],
        enqueue_rate=jobs / filled if filled else 0.0,
    )


def _reading(world: World, children: list[Child]) -> tuple[int, tuple[float, float, float]]:
    """Calls so far, and CPU seconds of the workers, of Redis and of the cloud."""
    cpu = (cpu_seconds(children), cpu_of(world.redis.pid), cpu_of(world.cloud.child.pid))
    return world.cloud.state()["calls"], cpu


def _until_all(subject: Subject, world: World, jobs: int, answered: Callable[[int], bool]) -> None:
    seen, since = 0, time.monotonic()
    while not answered(jobs):
        now = world.cloud.state()["answered"]
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STILL:
            raise RuntimeError(f"{subject.name}: nothing more after {seen} of {jobs} jobs")
        time.sleep(0.1)
