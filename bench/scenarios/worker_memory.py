"""Memory of a worker with 1,000 calls in flight."""

from __future__ import annotations

from bench.processes import Child, memory, wait_for
from bench.results import Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq

MB = 1e6
LATENCY = 8
"""Seconds: calls stay in flight long enough to look."""


def measure(bench: Bench) -> Result:
    result = Result()
    calls = bench.size(1_000, 50)
    shapes = {"1 process": 1} if bench.quick else {"1 process": 1, "2 processes": 2}
    bench.tell.begin("memory of a worker", len(shapes) * bench.rounds)
    proportional: dict[str, list[float]] = {name: [] for name in shapes}
    resident: dict[str, list[float]] = {name: [] for name in shapes}
    with bench.cloud() as cloud:
        for _ in range(bench.rounds):
            for name, processes in shapes.items():
                subject = Launchq(processes=processes, in_flight=calls // processes)
                with bench.world(cloud=cloud) as world:
                    cloud.reset(latency=bench.size(LATENCY, 1))
                    subject.fill(world, calls)
                    children: list[Child] = subject.start(world)
                    try:
                        wait_for(f"{calls} calls in flight", lambda: cloud.state()["inFlight"] >= calls)
                        rss, pss = memory(children)
                    finally:
                        for child in children:
                            child.stop()
                proportional[name].append(pss / MB)
                resident[name].append(rss / MB)
                bench.tell.step(f"{name}: {pss / MB:.0f} MB")
    for name, processes in shapes.items():
        result.rows.append(
            Row(
                f"worker-memory-{processes}", f"memory of a worker with {calls:,} calls in flight, {name}", "150 MB",
                proportional[name], shown="{:.0f} MB", limit=150.0, sense="at most",
                detail="all its processes; pages that they share counted once",
            )
        )  # fmt: skip
    result.tables.append(
        Table(
            f"Memory of a worker with {calls:,} calls in flight, all its processes, MB",
            ["", "shared pages counted once (PSS)", "each process for itself (RSS)"],
            [[name, spread(proportional[name]), spread(resident[name])] for name in shapes],
        )
    )
    return result


SCENARIO = Scenario("worker_memory", "Memory of a worker", 11, measure)
