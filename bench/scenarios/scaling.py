"""Throughput of 1, 2, 4 and 8 processes, and of one and three hosts."""

from __future__ import annotations

from contextlib import ExitStack

from bench.namespaces import NotPermittedError, network
from bench.processes import wait_for
from bench.results import Picture, Result, Row, Table, spread
from bench.runs import run
from bench.scenario import Bench, Scenario, in_turns
from bench.subjects import Launchq
from bench.world import Cloud

PROCESSES = (1, 2, 4, 8)
IN_FLIGHT = 25
"""Calls in flight in each process: with few, it is the cloud's 100 ms that limit one process, until the cores are used."""
SECONDS = 6
"""How long a run should take, by arithmetic."""
FULL = 0.9
"""Share of all cores from which on a machine counts as used up."""


def measure(bench: Bench) -> Result:
    result = Result()
    counts = (1, 2) if bench.quick else PROCESSES
    subjects = [Launchq(processes=count, in_flight=IN_FLIGHT, name=named(count)) for count in counts]
    bench.tell.begin("scaling", bench.rounds * (len(subjects) + 2))
    rates: dict[int, list[float]] = {count: [] for count in counts}
    busy: dict[int, list[float]] = {count: [] for count in counts}
    with bench.cloud() as cloud:
        for _, subject in in_turns(subjects, bench.rounds):
            assert isinstance(subject, Launchq)
            jobs = bench.jobs or bench.size(SECONDS, 1) * 10 * IN_FLIGHT * subject.processes
            with bench.world(cloud=cloud) as world:
                one = run(subject, world, jobs)
            rates[subject.processes].append(one.rate)
            busy[subject.processes].append(one.busy)
            result.runs.append(one.document())
            bench.tell.step(f"{subject.name}: {one.rate:,.0f} jobs/s, {one.busy:.0%} of the cores")
    for count in counts[1:]:
        growth = [mine / alone for mine, alone in zip(rates[count], rates[1], strict=True)]
        shares = sum(busy[count]) / len(busy[count])
        used_up = shares >= FULL
        result.rows.append(
            Row(
                f"scaling-{count}", f"launches a second of {count} processes, {IN_FLIGHT} calls in flight in each", "itself with 1",
                growth, shown="{:.2f} times", limit=None if used_up else 0.9 * count,
                detail=f"{shares:.0%} of the cores busy" + (": used up" if used_up else ""),
            )
        )  # fmt: skip
    hosts = over_hosts(bench, result)
    result.tables.append(
        Table(
            f"Launches a second, {IN_FLIGHT} calls in flight in each process",
            ["", "jobs/s", "limit by arithmetic", "cores busy"],
            [
                *(
                    [named(count), spread(rates[count]), f"{count * IN_FLIGHT * 10:,}", spread(busy[count], "{:.0%}")]
                    for count in counts
                ),
                *([name, spread(many), f"{limit:,}", "–"] for name, limit, many in hosts),
            ],
        )
    )  # fmt: skip
    result.pictures.append(
        Picture(
            "scaling", f"Launches a second, {IN_FLIGHT} calls in flight in each process", "jobs/s", "lines",
            {"measured": [spread_middle(rates[count]) for count in counts], "the cloud's 100 ms alone": [float(count * IN_FLIGHT * 10) for count in counts]},
            x=[float(count) for count in counts], x_axis="processes",
        )
    )  # fmt: skip
    return result


def named(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def spread_middle(values: list[float]) -> float:
    """The median, for a line."""
    return sorted(values)[len(values) // 2]


def over_hosts(bench: Bench, result: Result) -> list[tuple[str, int, list[float]]]:
    """One and three hosts, one process each, that share nothing but Redis. Each has a cloud of its own, on its localhost."""
    rates: dict[int, list[float]] = {1: [], 3: []}
    try:
        for _ in range(bench.rounds):
            for count, many in rates.items():
                many.append(_on_hosts(bench, count))
                bench.tell.step(f"{count} hosts: {many[-1]:,.0f} jobs/s")
    except NotPermittedError as error:
        result.notes.append(f"Hosts as network namespaces could not be made here: {error}.")
    if not rates[3]:
        return []
    result.rows.append(
        Row(
            "scaling-hosts", f"launches a second of 3 hosts on one Redis, one process of {IN_FLIGHT} calls each", "itself on 1 host",
            [three / one for one, three in zip(rates[1], rates[3], strict=False)], shown="{:.2f} times", limit=2.7,
        )
    )  # fmt: skip
    return [
        (f"{count} host{'s' * (count > 1)}, one process each", count * IN_FLIGHT * 10, many)
        for count, many in rates.items()
    ]


def _on_hosts(bench: Bench, count: int) -> float:
    jobs = bench.jobs or bench.size(SECONDS, 1) * 10 * IN_FLIGHT * count
    with ExitStack() as stack:
        hosts = stack.enter_context(network(count))
        world = stack.enter_context(bench.world())
        world.client.config_set("protected-mode", "no")
        world.client.config_set("bind", f"127.0.0.1 {hosts.address}")
        clouds = [
            stack.enter_context(Cloud(world.folder, number=number + 1, inside=host.inside))
            for number, host in enumerate(hosts.hosts)
        ]
        subject = Launchq(processes=1, in_flight=IN_FLIGHT)
        subject.fill(world, jobs)
        for host, cloud in zip(hosts.hosts, clouds, strict=True):
            url = f"redis://{hosts.address}:{world.redis.port}/0"
            worker = Launchq(
                processes=1, in_flight=IN_FLIGHT, inside=host.inside, name=f"launchq-{host.name}",
                settings={"redis_url": url, "api_url": cloud.url},
            )  # fmt: skip
            for child in worker.start(world):
                stack.enter_context(child)

        def answered() -> bool:
            return bool(sum(cloud.state()["answered"] for cloud in clouds) >= jobs)

        wait_for("all answers", answered, timeout=SECONDS * 30)
        states = [cloud.state() for cloud in clouds]
        arrivals = [list(cloud.arrivals().values()) for cloud in clouds]
    calls = sum(state["calls"] for state in states)
    if calls != jobs:
        raise RuntimeError(f"{jobs} jobs, but {calls} calls")
    # The hosts begin one after the other: what counts is what they do together.
    began, ended = max(state["first"] for state in states), min(state["last"] for state in states)
    together = sum(began <= at <= ended for many in arrivals for at in many)
    rate: float = together / (ended - began)
    return rate


SCENARIO = Scenario("scaling", "Processes and hosts", 12, measure)
