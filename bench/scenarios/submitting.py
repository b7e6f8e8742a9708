"""Submitting 10,000 jobs from one file, whole process, and a loop of Celery's `apply_async`."""

from __future__ import annotations

import json
import sys
import time

from bench.processes import Child, clean_environment
from bench.results import Picture, Result, Row
from bench.scenario import Bench, Scenario
from bench.subjects import LONG, Launchq, Peer
from bench.world import World, body

JOBS = 10_000


def submit(bench: Bench, world: World, jobs: int) -> float:
    """Seconds of `launchq submit`, from the start of its process to its end."""
    file = bench.folder / "bodies.jsonl"
    file.write_text(
        "".join(json.dumps(body(f"job-{number:07d}")) + "\n" for number in range(jobs)), encoding="utf-8"
    )
    command = [sys.executable, "-m", "launchq", "submit", "--yes", "--json", str(file)]
    environment = clean_environment(**Launchq().variables(world))
    began = time.monotonic()
    with Child(command, log=world.folder / "submit.log", environment=environment) as child:
        code = child.wait(LONG)
        took = time.monotonic() - began
        if code:
            raise RuntimeError(f"launchq submit failed:\n{child.log_end()}")
    return took


def apply_async(peer: Peer, world: World, jobs: int) -> tuple[float, float]:
    """Seconds of the whole process, and of its loop alone."""
    began = time.monotonic()
    with peer.producer(world, "fill", str(jobs)) as producer:
        loop = float(producer.read_line())
        producer.wait(LONG)
        return time.monotonic() - began, loop


def measure(bench: Bench) -> Result:
    result = Result()
    jobs = bench.jobs or bench.size(JOBS, 300)
    peers = [
        subject
        for subject in bench.installed(
            [Peer("Celery, threads"), Peer("Celery, threads", fsync="everysec")], result
        )
        if isinstance(subject, Peer)
    ]
    bench.tell.begin("submitting", bench.rounds * (1 + len(peers)))
    own: list[float] = []
    theirs: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with bench.cloud() as cloud:
        for _ in range(bench.rounds):
            with bench.world(cloud=cloud) as world:
                own.append(submit(bench, world, jobs))
            bench.tell.step(f"launchq submit: {own[-1]:.2f} s")
            for peer in peers:
                with bench.world(cloud=cloud, fsync=peer.fsync) as world:
                    whole, loop = apply_async(peer, world, jobs)
                theirs[peer.name].append(whole)
                result.runs.append({"subject": peer.name, "whole": whole, "loop": loop})
                bench.tell.step(f"{peer.name}: {whole:.2f} s")
    result.runs += [{"subject": "launchq", "whole": took} for took in own]

    def times(name: str) -> list[float]:
        return [celery / mine for celery, mine in zip(theirs.get(name, []), own, strict=False)]

    result.rows = [
        Row(
            "submitting", f"submitting {jobs:,} validated jobs from one file, whole process",
            "a loop of Celery's `apply_async`, nothing checked",
            times("Celery, threads"), shown="{:.1f} times faster", limit=10.0,
        ),
        Row(
            "submitting-lagging", "the same", "the same loop on a Redis that may lose a second (everysec)",
            times("Celery, threads, appendfsync everysec"), shown="{:.1f} times faster",
        ),
        Row("submitting-rate", "the same, jobs a second", "itself", [jobs / took for took in own], shown="{:,.0f}"),
    ]  # fmt: skip
    result.pictures.append(
        Picture(
            "submitting", f"Submitting {jobs:,} jobs, whole process", "seconds", "bars",
            {"launchq submit FILE": own, **{f"{name}: apply_async": took for name, took in theirs.items()}},
        )
    )  # fmt: skip
    return result


SCENARIO = Scenario("submitting", "Submitting", 3, measure)
