"""Launches a second with at most 200 calls in flight: launchq, the bare script, and the alternatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.results import Picture, Result, Row, Table, spread
from bench.runs import Run, run
from bench.scenario import Bench, Scenario, in_turns
from bench.subjects import CELERY, OTHERS, Bare, Launchq, Peer, Subject

JOBS = 10_000
CELERYS_SHARE = 0.25
"""Celery is slow: its rate shows with fewer jobs."""

Runs = dict[str, list[Run]]


def compared(bench: Bench, subjects: Sequence[Subject], result: Result, *, title: str) -> Runs:
    """Runs of all subjects in turns."""
    subjects = bench.installed(subjects, result)
    jobs = bench.jobs or bench.size(JOBS, 300)
    runs: Runs = {subject.name: [] for subject in subjects}
    bench.tell.begin(title, len(subjects) * bench.rounds)
    with bench.cloud() as cloud:
        for _, subject in in_turns(subjects, bench.rounds):
            with bench.world(cloud=cloud, fsync=subject.fsync) as world:
                one = run(subject, world, int(jobs * subject.share))
            runs[subject.name].append(one)
            result.runs.append(one.document())
            bench.tell.step(f"{subject.name}: {one.rate:,.0f} jobs/s, {one.worker_cpu:.2f} ms CPU a job")
    return runs


def ratios(
    runs: Runs, mine: str, others: Sequence[str], value: Callable[[Run], float], best: Callable[..., float]
) -> list[float]:
    """Of each round: mine to the best of the others, in the same round."""
    there = [name for name in others if runs.get(name)]
    if not there or not runs.get(mine):
        return []
    return [
        value(own) / best(value(runs[name][number]) for name in there)
        for number, own in enumerate(runs[mine])
    ]


def figures(runs: Runs, title: str) -> Table:
    """The figures behind the ratios."""
    columns = [
        "",
        "jobs/s",
        "worker CPU, ms a job",
        "Redis' CPU, ms a job",
        "enqueued/s",
        "calls in flight at most",
        "calls too many",
        "cores busy",
    ]
    rows = [
        [
            name,
            spread([one.rate for one in many]),
            spread([one.worker_cpu for one in many], "{:.2f}"),
            spread([one.redis_cpu for one in many], "{:.2f}"),
            spread([one.enqueue_rate for one in many]) if any(one.enqueue_rate for one in many) else "–",
            f"{max(one.most_in_flight for one in many)}",
            f"{sum(one.calls - one.distinct for one in many)}",
            spread([one.busy for one in many], "{:.0%}"),
        ]
        for name, many in runs.items()
        if many
    ]
    return Table(title, columns, rows)


def rate(one: Run) -> float:
    return one.rate


def same(names: Sequence[str]) -> list[str]:
    """Those of the subjects that had the same Redis settings as launchq."""
    return [name for name in names if not name.endswith("everysec")]


def lagging(names: Sequence[str]) -> list[str]:
    """Those that had a Redis that answers before it has written."""
    return [name for name in names if name.endswith("everysec")]


def measure(bench: Bench) -> Result:
    result = Result()
    weaker = [
        Peer("Celery, threads", fsync="everysec", share=CELERYS_SHARE),
        *(Peer(name, fsync="everysec", share=0.5) for name in OTHERS if name != "dramatiq"),
    ]
    celery = [Peer(name, share=CELERYS_SHARE) for name in CELERY]
    peers = [Peer(name) for name in OTHERS]
    runs = compared(bench, [Launchq(), Bare(), *celery, *peers, *weaker], result, title="throughput")
    celeries = [name for name in runs if name.startswith("Celery")]
    others = [name for name in runs if name.split(",")[0] in {"taskiq", "saq", "dramatiq"}]
    keeping = [name for name in others if "no results" not in name]
    own = runs["launchq"]
    result.rows = [
        Row(
            "throughput-bare", "launches a second, 10,000 jobs, 200 in flight", "the bare aiohttp script",
            ratios(runs, "launchq", ["bare aiohttp script"], rate, max), limit=0.9, goal=0.95,
            detail="2 processes × 100 calls, to one process × 200",
        ),
        Row(
            "throughput-celery", "the same", "Celery, the best of its pools",
            ratios(runs, "launchq", same(celeries), rate, max), limit=3.0, goal=3.5, detail="the best of each round",
        ),
        Row(
            "throughput-celery-lagging", "the same", "Celery on a Redis that may lose a second (everysec)",
            ratios(runs, "launchq", lagging(celeries), rate, max),
        ),
        Row(
            "throughput-peers", "the same", "the best of taskiq, saq and dramatiq",
            ratios(runs, "launchq", same(keeping), rate, max), limit=1.2, detail="the best of each round",
        ),
        Row(
            "throughput-peers-lagging", "the same", "taskiq and saq on a Redis that may lose a second (everysec)",
            ratios(runs, "launchq", lagging(keeping), rate, max),
        ),
        Row(
            "throughput-fire-and-forget", "the same", "taskiq without results: what it bought is noted nowhere",
            ratios(runs, "launchq", same([name for name in others if name not in keeping]), rate, max),
        ),
        Row(
            "cpu", "worker CPU a job", "0.8 ms", [one.worker_cpu for one in own], shown="{:.2f} ms", limit=0.8,
            sense="at most",
        ),
        Row(
            "cpu-celery", "the same", "Celery, the best of its pools",
            ratios(runs, "launchq", celeries, lambda one: one.worker_cpu, min), limit=1 / 3, sense="at most",
        ),
        Row(
            "cpu-peers", "the same", "the best of taskiq, saq and dramatiq",
            ratios(runs, "launchq", keeping, lambda one: one.worker_cpu, min),
        ),
    ]  # fmt: skip
    result.tables.append(figures(runs, "Launches a second, 200 calls in flight"))
    result.pictures += [
        Picture(
            "throughput", "Launches a second, 200 calls in flight, answers after 100 ms", "jobs/s", "bars",
            {name: [one.rate for one in many] for name, many in runs.items()},
        ),
        Picture(
            "cpu", "Worker CPU a job", "ms", "bars",
            {name: [one.worker_cpu for one in many] for name, many in runs.items()},
        ),
    ]  # fmt: skip
    return result


SCENARIO = Scenario("throughput", "Launches a second", 1, measure)
