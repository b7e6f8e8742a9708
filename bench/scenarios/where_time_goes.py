"""Where the CPU time of one job goes, by sampling the workers while they launch."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.processes import Child
from bench.results import Picture, Result, Row, Table
from bench.runs import run
from bench.scenario import Bench, Scenario
from bench.subjects import Bare, Launchq
from bench.world import World

JOBS = 10_000
HERTZ = 400
SHOWN, BIN = 0.6, 0.01
"""Seconds of a run that are looked at closely, and of one step of that look."""

PHASES: tuple[tuple[str, str], ...] = (
    # What a stack is about is told by its frames from here outwards: the first row that fits is it.
    ("claim: talk to Redis", r"_claim \(worker/shift\.py"),
    ("settle: talk to Redis", r"_settle \(worker/shift\.py|on_disk \("),
    ("claim: start the calls", r"_act_on \(worker/shift\.py"),
    ("Redis' answers, as they arrive", r"asyncio/streams\.py|redis/asyncio"),
    ("connect", r"connect \(worker/transport\.py"),
    ("send", r"write_bytes \(aiohttp|_send \(aiohttp|send \(aiohttp/client_reqrep|write_headers \(aiohttp"),
    (
        "build the request",
        r"sent_body \(|_request \(worker/cloud\.py|__init__ \(aiohttp/client_reqrep|body \(ledger/calls",
    ),
    ("parse: HTTP", r"data_received \(aiohttp|start \(aiohttp/client_reqrep|feed_data \(aiohttp"),
    ("parse: what it means", r"judge \(tasks/verdicts|decide \(tasks/retry|document \(tasks/answers"),
    ("httpx and httpx-aiohttp around aiohttp", r"httpx/|httpx_aiohttp/"),
    ("aiohttp, the rest", r"aiohttp/"),
    (
        "the call's own code",
        r"worker/cloud\.py|_attempt \(worker/shift|_submit \(worker/shift|worker/transport",
    ),
    ("the shift's own code", r"worker/shift\.py|worker/lookup|worker/instances"),
    ("event loop", r"asyncio/|selectors\.py"),
    ("pulse", r"worker/pulse\.py"),
    ("Celery", r"celery/|kombu/|billiard/"),
)
REST = "the rest"

FOLDERS = re.compile(r"\([^();]*/(?=[\w.-]+/[\w.-]+\.py)")
"""What stands before the last folder of a file's path."""


def phase_of(stack: str) -> str:
    """The phase that a stack (frames from the outermost, separated by semicolons) belongs to."""
    for phase, pattern in PHASES:
        if re.search(pattern, stack):
            return phase
    return REST


def hottest(stack: str) -> str:
    """The innermost frame."""
    # A sample may have caught a thread with no Python frame at all.
    return re.sub(r":\d+\)$", ")", stack.rpartition(";")[2]) or "outside of Python"


def read(path: Path) -> Counter[str]:
    """Samples by stack, of what py-spy wrote in its `raw` format."""
    stacks: Counter[str] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[FOLDERS.sub("(", stack)] += int(count)
    return stacks


def scripts_run(world: World) -> dict[str, float]:
    """Calls of scripts so far, and the microseconds that they took."""
    said = [
        found
        for name, found in world.info("commandstats").items()
        if name in ("cmdstat_evalsha", "cmdstat_eval")
    ]
    return {what: sum(found[what] for found in said) for what in ("calls", "usec")}


def measure(bench: Bench) -> Result:
    result = Result()
    spy = Path(sys.executable).parent / "py-spy"
    program = str(spy) if spy.exists() else shutil.which("py-spy")
    jobs = bench.jobs or bench.size(JOBS, 300)
    bench.tell.begin("where time goes", 2)
    arrivals: dict[str, list[float]] = {}
    with bench.cloud() as cloud:
        with bench.world(cloud=cloud) as world:
            run(Bare(), world, jobs)
            arrivals["bare aiohttp script"] = sorted(cloud.arrivals().values())
        with bench.world(cloud=cloud) as world:
            before: dict[str, float] = {}
            plain = run(Launchq(), world, jobs, meanwhile=lambda _: before.update(scripts_run(world)))
            arrivals["launchq"] = sorted(cloud.arrivals().values())
            # Nobody else runs scripts by then: the queue was filled before.
            calls, micro = (scripts_run(world)[what] - before[what] for what in ("calls", "usec"))
            bench.tell.step(f"unwatched: {plain.rate:,.0f} jobs/s, {plain.worker_cpu:.2f} ms CPU a job")
        result.runs.append(plain.document())
        stacks: Counter[str] = Counter()
        if program is None:
            result.notes.append("py-spy is not installed here, so nothing was sampled.")
        else:
            with bench.world(cloud=cloud) as world:
                stacks = _sampled(program, bench, jobs, world, result)
    total = stacks.total()
    rows, bars = [], {}
    if total:
        by_phase = Counter({phase: 0 for phase, _ in PHASES} | {REST: 0})
        for stack, count in stacks.items():
            by_phase[phase_of(stack)] += count
        for phase, count in by_phase.items():
            spent = count / total * plain.worker_cpu * 1000
            if spent >= 0.5:
                rows.append([phase, f"{spent:,.0f}", f"{count / total:.1%}"])
                bars[phase] = [spent]
    slot = 200 / plain.rate
    rows += [
        ["**all of a worker's processes**", f"{plain.worker_cpu * 1000:,.0f}", "100%"],
        ["Redis' process", f"{plain.redis_cpu * 1000:,.0f}", ""],
        ["– of it in scripts", f"{micro / jobs:,.0f}", ""],
        ["the wait for the answer (no CPU)", f"{100_000:,}", ""],
        ["one call in flight to the next in its place, in all", f"{slot * 1e6:,.0f}", ""],
    ]
    result.tables.append(
        Table("Where the time of one job goes, microseconds", ["", "µs a job", "of the workers' CPU"], rows)
    )
    result.tables.append(
        Table(
            "The hottest functions",
            ["", "µs a job"],
            [
                [f"`{name}`", f"{count / total * plain.worker_cpu * 1000:,.0f}"]
                for name, count in _by_function(stacks).most_common(25)
            ],
        )
    )
    result.rows = [
        Row("slot", "from one call to the next in its place, beyond the cloud's 100 ms", "", [slot * 1000 - 100], shown="{:.1f} ms"),
        Row("script-calls", "scripts that workers run in Redis, a job", "", [calls / jobs], shown="{:.2f}"),
    ]  # fmt: skip
    result.pictures.append(_arrivals(arrivals))
    if bars:
        result.pictures.append(
            Picture("where-time-goes", "Where the CPU time of one job goes", "µs", "bars", bars)
        )
    return result


def _arrivals(arrivals: dict[str, list[float]]) -> Picture:
    """How evenly calls arrive in the middle of a run: bursts show that something makes all calls wait for each other."""
    bins = range(int(SHOWN / BIN))
    series = {}
    for name, times in arrivals.items():
        middle = times[len(times) // 2]
        counts = Counter(int((time - middle) / BIN) for time in times if 0 <= time - middle < SHOWN)
        series[name] = [float(counts[number]) for number in bins]
    return Picture(
        "arrivals", "How evenly calls arrive at the cloud, in the middle of a run", f"calls in {BIN * 1000:.0f} ms", "lines", series,
        x=[number * BIN * 1000 for number in bins], x_axis="ms",
    )  # fmt: skip


def _by_function(stacks: Counter[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[hottest(stack)] += count
    return found


def _sampled(program: str, bench: Bench, jobs: int, world: World, result: Result) -> Counter[str]:
    raw = bench.folder / "stacks"
    raw.mkdir(parents=True, exist_ok=True)
    spies: list[tuple[subprocess.Popen[bytes], Path]] = []

    def watch(children: list[Child]) -> None:
        for child in children:
            for process in child.tree():
                path = raw / f"{process.pid}.txt"
                command = [
                    program, "record", "--pid", str(process.pid), "--rate", str(HERTZ), "--format", "raw",
                    "--duration", "unlimited", "--nonblocking", "--full-filenames", "--output", str(path),
                ]  # fmt: skip
                spies.append(
                    (
                        subprocess.Popen(
                            command,
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL,
                        ),
                        path,
                    )
                )

    def end() -> None:
        for spy, _ in spies:
            _end(spy)

    try:
        watched = run(Launchq(), world, jobs, meanwhile=watch, afterwards=end)
    finally:
        end()
    bench.tell.step(f"watched: {watched.rate:,.0f} jobs/s")
    stacks: Counter[str] = Counter()
    for _, path in spies:
        if path.is_file():
            stacks += read(path)
            path.unlink()
    if not stacks:
        result.notes.append(
            "py-spy could not read the workers' stacks here (it needs the right to trace processes)."
        )
    return stacks


def _end(spy: subprocess.Popen[bytes]) -> None:
    if spy.poll() is None:
        spy.send_signal(signal.SIGINT)  # upon which it writes what it has
        try:
            spy.wait(10)
        except subprocess.TimeoutExpired:
            spy.kill()
            spy.wait()


SCENARIO = Scenario("where_time_goes", "Where the time of one job goes", 13, measure)
