"""Launches a second with 1,000 calls in flight in two processes."""

from __future__ import annotations

from bench.results import Picture, Result, Row
from bench.scenario import Bench, Scenario
from bench.scenarios.throughput import CELERYS_SHARE, compared, figures, lagging, rate, ratios, same
from bench.subjects import Bare, Launchq, Peer, Subject


def measure(bench: Bench) -> Result:
    result = Result()
    subjects: list[Subject] = [
        Launchq(in_flight=500),
        Bare(in_flight=1000),
        Peer("Celery, threads", in_flight=500, share=CELERYS_SHARE),
        Peer("Celery, threads", in_flight=500, share=CELERYS_SHARE, fsync="everysec"),
        Peer("Celery, gevent", in_flight=500, share=CELERYS_SHARE),
        Peer("taskiq", in_flight=500),
        Peer("saq", in_flight=500),
    ]
    runs = compared(bench, subjects, result, title="1,000 in flight")
    celeries = [name for name in runs if name.startswith("Celery")]
    result.rows = [
        Row(
            "many-in-flight", "launches a second, 1,000 in flight in two processes", "Celery, the best of its pools",
            ratios(runs, "launchq", same(celeries), rate, max), limit=4.0, goal=5.0,
        ),
        Row(
            "many-in-flight-celery-lagging", "the same", "Celery on a Redis that may lose a second (everysec)",
            ratios(runs, "launchq", lagging(celeries), rate, max),
        ),
        Row(
            "many-in-flight-peers", "the same", "the better of taskiq and saq",
            ratios(runs, "launchq", ["taskiq", "saq"], rate, max),
        ),
        Row(
            "many-in-flight-bare", "the same", "the bare aiohttp script, in one process",
            ratios(runs, "launchq", ["bare aiohttp script"], rate, max),
        ),
    ]  # fmt: skip
    result.tables.append(figures(runs, "Launches a second, 1,000 calls in flight"))
    result.pictures.append(
        Picture(
            "many-in-flight", "Launches a second, 1,000 calls in flight, answers after 100 ms", "jobs/s", "bars",
            {name: [one.rate for one in many] for name, many in runs.items()},
        )
    )  # fmt: skip
    return result


SCENARIO = Scenario("many_in_flight", "1,000 calls in flight", 2, measure)
