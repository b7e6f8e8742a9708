"""Memory in Redis of a job that waits, in a batch of 100,000, to the JSON that is sent."""

from __future__ import annotations

import json
from collections.abc import Callable

from bench.results import Picture, Result, Row, Table
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq
from bench.world import World, body
from launchq import Launcher

JOBS = 100_000


def submitted(name: Callable[[int], str]) -> Callable[[World, int], None]:
    """Submits one batch through the Python door, with such names."""

    def fill(world: World, jobs: int) -> None:
        with Launcher(Launchq().settings_for(world)) as launcher:
            launcher.submit_many((body(name(number)) for number in range(jobs)), batch="memory")

    return fill


KINDS = {
    "copies of one request": submitted(lambda _: "example-instance"),
    "requests that differ in their names": submitted(lambda number: f"example-instance-{number:06d}"),
}


def measure(bench: Bench) -> Result:
    result = Result()
    jobs = bench.jobs or bench.size(JOBS, 1000)
    size = len(json.dumps(body("example-instance"), separators=(",", ":")).encode())
    bench.tell.begin("memory in Redis", len(KINDS))
    rows, bars = [], {}
    with bench.cloud() as cloud:
        for name, fill in KINDS.items():
            with bench.world(cloud=cloud) as world:
                before = world.info("memory")
                fill(world, jobs)
                after = world.info("memory")
            dataset, used = (
                (after[field] - before[field]) / jobs for field in ("used_memory_dataset", "used_memory")
            )
            rows.append([name, f"{dataset:,.0f}", f"{used:,.0f}", f"{dataset / size:.2f}"])
            bars[name] = [dataset]
            result.rows.append(
                Row(
                    f"redis-memory-{'copies' if 'copies' in name else 'names'}",
                    f"Redis memory a waiting job, a batch of {jobs:,} {name}", f"the raw JSON body, {size} bytes",
                    [dataset / size], shown="{:.2f} times", limit=1.2, sense="at most",
                )
            )  # fmt: skip
            bench.tell.step(f"{name}: {dataset:,.0f} bytes a job")
    result.tables.append(
        Table(
            f"Bytes of Redis a waiting job (the raw body: {size})",
            ["", "used_memory_dataset", "used_memory (with the table of keys)", "times the body"],
            rows,
        )
    )
    result.pictures.append(
        Picture(
            "redis-memory",
            "Memory in Redis of a waiting job",
            "bytes",
            "bars",
            {"raw JSON body": [float(size)], **bars},
        )
    )
    return result


SCENARIO = Scenario("redis_memory", "Memory in Redis", 5, measure)
