"""A thousand pollers that wait for results: what they cost Redis, and how soon they know."""

from __future__ import annotations

import statistics
import sys
import time
import uuid

from bench.processes import Child, clean_environment, wait_for
from bench.results import Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.scenarios.idle_worker import commands
from bench.subjects import Launchq
from bench.world import body
from launchq import Launcher
from ledger import calls
from ledger.calls import AccountNews, Report
from tasks.retry import Outcome
from tasks.states import Event

POLLERS = 1_000
PROCESSES = 4
SETTLED = 100


def measure(bench: Bench) -> Result:
    """The pollers wait in threads of a few processes (bench/poller.py), each for a job of its own, with `Launcher.wait`.

    The bench itself claims and settles, one job at a time, so that the moment of settling is known.
    """
    result = Result()
    pollers, settled, quiet = bench.size(POLLERS, 40), bench.size(SETTLED, 10), bench.size(20, 1)
    bench.tell.begin("pollers", 3)
    with bench.cloud() as cloud, bench.world(cloud=cloud) as world:
        subject = Launchq()
        with Launcher(subject.settings_for(world)) as launcher:
            batch = launcher.submit_many(
                (body(f"job-{number}") for number in range(pollers)), unique_names=True
            )
            call = calls.claim(
                uuid.uuid4().hex, limit=pollers, lease=600.0, worker="bench", api_key="bench", first=True,
                watching=False, vault=launcher.ledger.vault,
            )  # fmt: skip
            claimed = {job.id: job for job in launcher.ledger.run(call).jobs}
            ids = [receipt.id for receipt in batch.jobs]
            share = -(-pollers // PROCESSES)
            children = [
                Child(
                    [sys.executable, "-m", "bench.poller"],
                    log=world.folder / f"poller-{number}.log",
                    environment=clean_environment(**subject.variables(world)),
                    pipes=True,
                )
                for number in range(PROCESSES)
            ]
            try:
                for number, child in enumerate(children):
                    child.ask(" ".join(ids[number * share : (number + 1) * share]))
                # Each waiter holds a connection of its own while it blocks.
                wait_for(
                    "all pollers block",
                    lambda: world.info("clients")["blocked_clients"] >= pollers,
                    timeout=120,
                )
                time.sleep(bench.size(6, 1))  # past the first look of each at its job
                bench.tell.step(f"{pollers:,} wait")
                before = commands(world)
                time.sleep(quiet)
                now = commands(world)
                # Round trips: what a script does inside Redis is counted there too.
                idle = sum(now[name] - before.get(name, 0) for name in ("xread", "evalsha") if name in now)
                bench.tell.step(f"{idle / quiet:.0f} commands/s while nothing happens")
                delays = []
                for job_id in ids[:: max(1, pollers // settled)]:
                    report = Report(
                        job_id,
                        claimed[job_id].attempt,
                        Outcome(Event.CREATE, instance_id=f"notebook-{job_id}"),
                    )
                    began = time.monotonic()
                    launcher.ledger.run(
                        calls.settle([report], AccountNews(), verify_delays=(5.0, 15.0, 45.0))
                    )
                    owner = children[ids.index(job_id) // share]
                    woken_id, _, woken = owner.read_line().partition(" ")
                    if woken_id != job_id:
                        raise RuntimeError("a poller woke up for a job that was not settled")
                    delays.append((float(woken) - began) * 1000)
                    time.sleep(0.05)
            finally:
                for child in children:
                    child.stop()
    result.rows = [
        Row(
            "pollers-wake-up", f"from settle to wake-up, {pollers:,} pollers waiting", "20 ms", delays, shown="{:.1f} ms", limit=20.0,
            sense="at most",
        ),
        Row(
            "pollers-commands", "Redis commands a second of a poller while nothing happens", "a loop that asks once a second",
            [idle / quiet / pollers], shown="{:.2f}", limit=0.5, sense="at most",
            detail="each looks at its job every 5 s, should its event have been missed, and blocks for 4 s at most",
        ),
    ]  # fmt: skip
    result.tables.append(
        Table(
            f"{pollers:,} pollers in {PROCESSES} processes",
            ["", ""],
            [
                ["from settle to wake-up, ms", spread(delays, "{:.1f}")],
                ["99 of 100 within, ms", f"{statistics.quantiles(delays, n=100)[98]:.1f}"],
                ["Redis commands a second while nothing happens", f"{idle / quiet:,.0f}"],
            ],
        )
    )
    bench.tell.step(f"wake-up after {statistics.median(delays):.1f} ms")
    return result


SCENARIO = Scenario("pollers", "Pollers", 9, measure)
