"""A thousand pollers that wait for results: what they cost Redis, and how soon they know."""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack

from bench.processes import Child, clean_environment
from bench.results import Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.scenarios.idle_worker import commands
from bench.subjects import Launchq
from bench.world import World, body
from launchq import Launcher
from ledger import calls
from ledger.calls import AccountNews, Claimed, Report
from tasks.retry import Outcome
from tasks.states import Event

POLLERS = 1_000
PROCESSES = 4
SETTLED = 100
SHARING = 50
"""Threads that share a `Launcher`."""
ALL_SHARING = 250
"""Threads that share one where it is seen how many can."""


def measure(bench: Bench) -> Result:
    """The pollers wait in threads of a few processes (bench/poller.py), each for a job of its own.

    The bench itself claims and settles, one job at a time, so that the moment of settling is known.
    """
    result = Result()
    pollers, quiet = bench.size(POLLERS, 40), bench.size(20, 1)
    bench.tell.begin("pollers", 4)
    with ExitStack() as stack:
        world = stack.enter_context(bench.world(cloud=stack.enter_context(bench.cloud())))
        launcher = stack.enter_context(Launcher(Launchq().settings_for(world)))
        batch = launcher.submit_many((body(f"job-{number}") for number in range(pollers)), unique_names=True)
        call = calls.claim(
            uuid.uuid4().hex, limit=pollers, lease=600.0, worker="bench", api_key="bench", first=True,
            watching=False, vault=launcher.ledger.vault,
        )  # fmt: skip
        claimed = {job.id: job for job in launcher.ledger.run(call).jobs}
        ids = [receipt.id for receipt in batch.jobs]

        together = ids[: bench.size(ALL_SHARING, 20)]
        with _poller(world, together, sharing=len(together)) as child:
            could = _waiting(child, len(together))
        bench.tell.step(f"{could} of {len(together)} wait on one Launcher")

        share = -(-pollers // PROCESSES)
        children = [
            stack.enter_context(_poller(world, ids[at : at + share], sharing=SHARING))
            for at in range(0, pollers, share)
        ]
        waiting = sum(_waiting(child, share) for child in children)
        if waiting != pollers:
            raise RuntimeError(f"only {waiting} of {pollers} pollers wait")
        time.sleep(bench.size(6, 1))  # past the first look of each at its job
        bench.tell.step(f"{pollers:,} wait")
        before = commands(world)
        time.sleep(quiet)
        now = commands(world)
        # Round trips: what a script does inside Redis is counted there too.
        idle = sum(now[name] - before.get(name, 0) for name in ("xread", "evalsha") if name in now) / quiet
        bench.tell.step(f"{idle:.0f} commands/s while nothing happens")
        delays = [
            _wake_up(launcher, claimed[job_id], children[ids.index(job_id) // share])
            for job_id in ids[:: max(1, pollers // bench.size(SETTLED, 10))]
        ]
    result.rows = [
        Row(
            "pollers-wake-up", f"from settle to wake-up, {pollers:,} pollers waiting", "20 ms", delays, shown="{:.1f} ms", limit=20.0,
            sense="at most",
        ),
        Row(
            "pollers-commands", "Redis commands a second of a poller while nothing happens", "a loop that asks once a second",
            [idle / pollers], shown="{:.2f}", limit=0.5, sense="at most",
            detail="a poller blocks for 4 s at most, and looks at its job every 5 s, should its event have been missed",
        ),
        Row(
            "pollers-sharing", f"how many of {len(together)} threads can wait at once on one `Launcher`", "all of them",
            [could / len(together)], shown="{:.0%}", limit=1.0,
        ),
    ]  # fmt: skip
    result.tables.append(
        Table(
            f"{pollers:,} pollers in {len(children)} processes",
            ["", ""],
            [
                ["from settle to wake-up, ms", spread(delays, "{:.1f}")],
                ["99 of 100 within, ms", f"{statistics.quantiles(delays, n=100)[98]:.1f}"],
                ["Redis commands a second while nothing happens", f"{idle:,.0f}"],
            ],
        )
    )
    bench.tell.step(f"wake-up after {statistics.median(delays):.1f} ms")
    return result


def _poller(world: World, ids: Sequence[str], *, sharing: int) -> Child:
    child = Child(
        [sys.executable, "-m", "bench.poller", str(sharing)],
        log=world.folder / "poller.log",
        environment=clean_environment(**Launchq().variables(world)),
        pipes=True,
    )
    child.ask(" ".join(ids))
    return child


def _waiting(poller: Child, many: int) -> int:
    """How many of so many pollers wait."""
    return sum(poller.read_line().endswith(" waits") for _ in range(many))


def _wake_up(launcher: Launcher, job: Claimed, poller: Child) -> float:
    """Settle one job; milliseconds until its poller's wait has come back."""
    report = Report(job.id, job.attempt, Outcome(Event.CREATE, instance_id=f"notebook-{job.id}"))
    began = time.monotonic()
    launcher.ledger.run(calls.settle([report], AccountNews(), verify_delays=(5.0, 15.0, 45.0)))
    woken_id, _, woken = poller.read_line().partition(" ")
    if woken_id != job.id or woken == "failed":
        raise RuntimeError(f"a poller came back that was not to: {woken_id} {woken}")
    took = (float(woken) - began) * 1000
    time.sleep(0.05)  # until the others have gone back to their waits
    return took


SCENARIO = Scenario("pollers", "Pollers", 9, measure)
