"""What a worker with nothing to do costs."""

from __future__ import annotations

import time

from bench.processes import cpu_of, cpu_seconds, wait_for
from bench.results import Result, Row, Table
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq, Peer, Subject
from bench.world import World

SECONDS = 60.0
SETTLING = 4
"""Seconds for a worker to come to rest after its start."""


def commands(world: World) -> dict[str, int]:
    """How often each command was called so far."""
    return {name.removeprefix("cmdstat_"): said["calls"] for name, said in world.info("commandstats").items()}


def measure(bench: Bench) -> Result:
    result = Result()
    seconds = bench.size(60, 3)
    subjects: list[Subject] = bench.installed(
        [Launchq(), Peer("Celery, prefork, 2 processes"), Peer("taskiq")], result
    )
    bench.tell.begin("idle worker", len(subjects))
    rows = []
    with bench.cloud() as cloud:
        for subject in subjects:
            with bench.world(cloud=cloud) as world:
                subject.fill(world, 1)
                children = subject.start(world)
                try:
                    wait_for(f"{subject.name}: the first job", lambda: cloud.state()["answered"] >= 1)
                    time.sleep(bench.size(SETTLING, 1))
                    before, cpu, redis = commands(world), cpu_seconds(children), cpu_of(world.redis.pid)
                    time.sleep(seconds)
                    busy = (cpu_seconds(children) - cpu) / seconds
                    redis_busy = (cpu_of(world.redis.pid) - redis) / seconds
                    calls = {
                        name: (count - before.get(name, 0)) / seconds
                        for name, count in commands(world).items()
                    }
                finally:
                    for child in children:
                        child.stop()
            # Commands that a script makes inside Redis are counted there as well: they are no round trips, but work.
            calls.pop("info", None)
            total = sum(calls.values())
            trips = sum(
                calls.get(name, 0)
                for name in (
                    "evalsha",
                    "eval",
                    "brpop",
                    "blpop",
                    "multi",
                    "ping",
                    "xread",
                    "xreadgroup",
                    "bzpopmin",
                )
            )
            named = ", ".join(
                f"{name} {count:.1f}"
                for name, count in sorted(calls.items(), key=lambda pair: -pair[1])
                if count >= 0.05
            )
            rows.append(
                [subject.name, f"{busy:.2%}", f"{redis_busy:.2%}", f"{trips:.1f}", f"{total:.1f}", named]
            )
            result.runs.append({"subject": subject.name, "cpu": busy, "commands": calls})
            bench.tell.step(f"{subject.name}: {busy:.2%} of a core, {total:.1f} commands/s")
            if subject.name == "launchq":
                result.rows = [
                    Row("idle-cpu", "CPU of an idle worker, 2 processes", "a core", [busy], shown="{:.2%}", limit=0.005, sense="at most"),
                    Row("idle-trips", "Redis commands a second that an idle worker sends", "", [trips], shown="{:.1f}", limit=5.0, sense="at most"),
                    Row("idle-commands", "the same, with those inside its scripts", "", [total], shown="{:.1f}"),
                ]  # fmt: skip
            cloud.reset()
    result.tables.append(
        Table(
            f"An idle worker over {seconds} s",
            [
                "",
                "CPU, of a core",
                "Redis' CPU, of a core",
                "commands/s sent",
                "commands/s with those in scripts",
                "which",
            ],
            rows,
        )
    )
    return result


SCENARIO = Scenario("idle_worker", "An idle worker", 7, measure)
