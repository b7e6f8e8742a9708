"""What a claim costs while many jobs wait for later."""

from __future__ import annotations

import statistics
import time
import uuid
from contextlib import ExitStack
from datetime import timedelta

from bench.results import Picture, Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq
from bench.world import World, body
from launchq import Launcher
from ledger import calls

WAITING = (1_000, 100_000, 1_000_000)
AT_ONCE = 20_000
"""Jobs in one submission: what is entered at once holds up everything else."""
CLAIMS = 200
GROUP = 20
"""Jobs that a claim takes."""


class Queue:
    """A ledger in which so many jobs wait for later, and some are due."""

    def __init__(self, world: World, launcher: Launcher, waiting: int) -> None:
        self.world, self.launcher, self.waiting = world, launcher, waiting
        self.times: list[float] = []

    def fill(self, due: int) -> None:
        """By the way that all jobs take."""
        for at in range(0, self.waiting, AT_ONCE):
            numbers = range(at, min(at + AT_ONCE, self.waiting))
            self.launcher.submit_many(
                (body(f"later-{number}") for number in numbers),
                unique_names=True,
                not_before=timedelta(days=1),
            )
        self.launcher.submit_many((body(f"due-{number}") for number in range(due)), unique_names=True)

    def claim(self) -> None:
        """One claim of a group; its time in ms."""
        call = calls.claim(
            uuid.uuid4().hex, limit=GROUP, lease=600.0, worker="bench", api_key="bench", first=False,
            watching=True, vault=self.launcher.ledger.vault,
        )  # fmt: skip
        began = time.perf_counter()
        claimed = self.launcher.ledger.run(call)
        self.times.append((time.perf_counter() - began) * 1000)
        if len(claimed.jobs) != GROUP:
            raise RuntimeError(f"a claim took {len(claimed.jobs)} jobs, not {GROUP}")


def measure(bench: Bench) -> Result:
    result = Result()
    sizes = [size for size in WAITING if not bench.quick or size <= 1_000] + ([2_000] if bench.quick else [])
    claims = bench.size(CLAIMS, 10)
    bench.tell.begin("claims", len(sizes) + 1)
    with ExitStack() as stack:
        cloud = stack.enter_context(bench.cloud())
        queues = []
        for size in sizes:
            # Nothing of this is about the disk, and a million jobs are a gigabyte of it.
            world = stack.enter_context(bench.world(cloud=cloud, fsync="no"))
            launcher = stack.enter_context(Launcher(Launchq().settings_for(world)))
            queue = Queue(world, launcher, size)
            queue.fill(claims * GROUP)
            queues.append(queue)
            bench.tell.step(f"{size:,} jobs wait for later")
        for _ in range(claims):
            for queue in queues:
                queue.claim()
    first = statistics.median(queues[0].times)
    for queue in queues[1:]:
        result.rows.append(
            Row(
                f"claim-{queue.waiting}", f"a claim of {GROUP} jobs while {queue.waiting:,} wait for later",
                f"itself while {queues[0].waiting:,} wait", [statistics.median(queue.times) / first],
                shown="{:.2f} times", limit=1.2, sense="at most",
            )
        )  # fmt: skip
    result.tables.append(
        Table(
            f"A claim of {GROUP} jobs, as its caller sees it",
            ["jobs that wait for later", "ms"],
            [[f"{queue.waiting:,}", spread(queue.times, "{:.2f}")] for queue in queues],
        )
    )
    result.pictures.append(
        Picture(
            "claim-cost", f"A claim of {GROUP} jobs while others wait for later", "ms", "bars",
            {f"{queue.waiting:,} wait": queue.times for queue in queues},
        )
    )  # fmt: skip
    bench.tell.step(
        ", ".join(f"{queue.waiting:,}: {statistics.median(queue.times):.2f} ms" for queue in queues)
    )
    return result


SCENARIO = Scenario("claim_cost", "Claims", 6, measure)
