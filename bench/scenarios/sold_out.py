"""Create calls while one job, and 10,000, wait for capacity on one sold-out lane."""

from __future__ import annotations

import time

from bench.processes import wait_for
from bench.results import Result, Row, Table
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq
from bench.world import body
from launchq import Launcher

INTERVAL = 1.0
"""Seconds between two calls that ask whether there is capacity again (LAUNCHQ_CAPACITY_INTERVAL)."""


def measure(bench: Bench) -> Result:
    result = Result()
    seconds = bench.size(20, 2)
    many = bench.size(10_000, 100)
    subject = Launchq(settings={"capacity_interval": f"{INTERVAL:g}"})
    bench.tell.begin("sold out", 2)
    counted: dict[int, float] = {}
    with bench.cloud() as cloud:
        for jobs in (1, many):
            with bench.world(cloud=cloud) as world, Launcher(subject.settings_for(world)) as launcher:
                cloud.reset(capacity=0)
                launcher.submit_many(
                    (body(f"job-{number}", isSpotInstance=True) for number in range(jobs)),
                    wait_for_capacity=True,
                )
                children = subject.start(world)
                try:
                    wait_for("the first answer", lambda: cloud.state()["answered"] >= 1)
                    time.sleep(2 * INTERVAL)  # what was in flight when the lane turned out to be sold out
                    before = cloud.state()["calls"]
                    time.sleep(seconds)
                    counted[jobs] = (cloud.state()["calls"] - before) / seconds
                finally:
                    for child in children:
                        child.stop()
            bench.tell.step(f"{jobs:,} jobs: {counted[jobs]:.2f} calls/s")
    result.rows.append(
        Row(
            "sold-out", f"create calls while {many:,} jobs wait on one sold-out lane", "itself with 1 job",
            [counted[many] / counted[1]], shown="{:.2f} times", limit=1.1, sense="at most",
            detail="at most 1.1: the same, but for where the counted time begins and ends",
        )
    )  # fmt: skip
    result.tables.append(
        Table(
            f"Create calls on a sold-out lane, over {seconds} s, one probe each {INTERVAL:g} s",
            ["jobs that wait", "calls a second"],
            [[f"{jobs:,}", f"{calls:.2f}"] for jobs, calls in counted.items()],
        )
    )
    return result


SCENARIO = Scenario("sold_out", "A sold-out lane", 8, measure)
