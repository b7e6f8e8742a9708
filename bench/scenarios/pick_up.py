"""From submit to the request's arrival at the cloud: one job, idle worker."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.processes import wait_for
from bench.results import Picture, Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq, Peer
from bench.world import World, body
from launchq import Launcher

JOBS = 50
REST = 0.7
"""Seconds after a job's end: longer than a shift lingers, so that its worker is idle again."""

Submit = Callable[[str], float]
"""Submits a job of this name, and tells the clock from right before."""


def measure(bench: Bench) -> Result:
    result = Result()
    jobs = bench.size(JOBS, 3)
    peers = [
        subject
        for subject in bench.installed(
            [Peer("Celery, threads"), Peer("Celery, prefork, 2 processes"), Peer("taskiq")], result
        )
        if isinstance(subject, Peer)
    ]
    bench.tell.begin("pick-up", jobs)
    delays: dict[str, list[float]] = {}
    with ExitStack() as stack:
        subjects: dict[str, tuple[World, Submit]] = {}
        own = stack.enter_context(bench.world())
        launcher = stack.enter_context(Launcher(Launchq().settings_for(own)))
        for child in Launchq().start(own):
            stack.enter_context(child)

        def submit(name: str) -> float:
            began = time.monotonic()
            launcher.submit(body(name))
            return began

        subjects["launchq"] = own, submit
        for peer in peers:
            world = stack.enter_context(bench.world())
            for child in peer.start(world):
                stack.enter_context(child)
            producer = stack.enter_context(peer.producer(world, "one"))
            subjects[peer.name] = world, lambda name, producer=producer: float(producer.ask(name))  # type: ignore[misc]
        for name, (
            world,
            put,
        ) in subjects.items():  # a first job each: connections and imports are no pick-up
            put("warm-0")
            wait_for(f"{name}: the first job", lambda world=world: world.cloud.state()["answered"] >= 1)  # type: ignore[misc]
            delays[name] = []
        time.sleep(2.0)
        for number in range(jobs):
            for name, (world, put) in subjects.items():
                before = world.cloud.state()["answered"]
                began = put(f"job-{number}")
                wait_for(
                    f"{name}: job {number}",
                    lambda world=world, before=before: world.cloud.state()["answered"] > before,  # type: ignore[misc]
                    interval=0.01,
                )
                delays[name].append((world.cloud.arrivals()[f"job-{number}"] - began) * 1000)
            time.sleep(REST)
            bench.tell.step(", ".join(f"{name} {many[-1]:.1f} ms" for name, many in delays.items()))
    medians = {name: statistics.median(many) for name, many in delays.items()}
    celery = min((ms for name, ms in medians.items() if name.startswith("Celery")), default=None)
    result.rows = [
        Row(
            "pick-up", "from `submit` to the request's arrival, one job, idle worker", "Celery's own pick-up, its quickest pool",
            [] if celery is None else [medians["launchq"] - celery], shown="{:+.1f} ms", limit=5.0, sense="at most",
        ),
        Row(
            "pick-up-alone", "the same", "itself", delays["launchq"], shown="{:.1f} ms",
        ),
    ]  # fmt: skip
    result.tables.append(
        Table(
            "Pick-up of one job by an idle worker",
            ["", "ms"],
            [[name, spread(many, "{:.1f}")] for name, many in delays.items()],
        )
    )
    result.pictures.append(
        Picture("pick-up", "From submit to the request's arrival, idle worker", "ms", "bars", delays)
    )
    return result


SCENARIO = Scenario("pick_up", "Pick-up", 4, measure)
