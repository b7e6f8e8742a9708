"""How long the command line takes to say something, whole process, beside a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.processes import clean_environment
from bench.results import Picture, Result, Row, Table, spread
from bench.scenario import Bench, Scenario
from bench.subjects import Launchq
from bench.world import body
from launchq import Launcher

TIMES = 21


def took(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Milliseconds of one whole process."""
    began = time.monotonic()
    subprocess.run(
        command, env=dict(environment), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return (time.monotonic() - began) * 1000


def measure(bench: Bench) -> Result:
    result = Result()
    times = bench.size(TIMES, 2)
    bench.tell.begin("commands", times)
    with bench.cloud() as cloud, bench.world(cloud=cloud) as world:
        subject = Launchq()
        environment = clean_environment(**subject.variables(world))
        with Launcher(subject.settings_for(world)) as launcher:
            job_id = launcher.submit(body("job")).id
        program = Path(sys.executable).parent / "launchq"
        launchq = [str(program)] if program.exists() else [sys.executable, "-m", "launchq"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "launchq --help": [*launchq, "--help"],
            "launchq status ID": [*launchq, "status", job_id],
            "launchq status ID --json": [*launchq, "status", job_id, "--json"],
        }
        measured: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(times):
            for name, command in commands.items():
                measured[name].append(took(command, environment))
            bench.tell.step(", ".join(f"{name} {many[-1]:.0f} ms" for name, many in measured.items()))
    nothing = measured["python -c pass"]
    for name in ("launchq --help", "launchq status ID"):
        above = [mine - least for mine, least in zip(measured[name], nothing, strict=True)]
        key = name.split()[1].strip("-")
        result.rows.append(
            Row(f"command-{key}", f"`{name}`, whole process", "`python -c pass`", above, shown="{:+.0f} ms", limit=150.0, sense="at most")
        )  # fmt: skip
    result.tables.append(
        Table(
            "Whole processes, ms",
            ["", "ms"],
            [[f"`{name}`", spread(many)] for name, many in measured.items()],
        )
    )
    result.pictures.append(Picture("commands", "Whole processes of the command line", "ms", "bars", measured))
    return result


SCENARIO = Scenario("commands", "The command line", 10, measure)
