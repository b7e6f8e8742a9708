"""`demo`: a small fleet on a simulated cloud, with things going wrong on purpose."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from launchq.cli.local import board_option, world
from launchq.cli.options import json_option
from launchq.cli.output import Exit, note, print_jobs, print_json
from tasks.jobs import Batch, Job
from tasks.states import State

FLEET = 6
"""Instances of the demo's fleet, beside the example of the API's document and the one that is rejected."""

FLEET_SHOWN = 24
"""The same with the board: so many, one a second, that there is something to look at."""

LONGEST = 120.0
"""Seconds after which the demo gives up."""


@click.command("demo")
@board_option
@json_option
def demo_command(with_board: bool, as_json: bool) -> Exit:
    """Launch a small fleet on a simulated cloud, watch it to its end, and stop everything again.

    Needs no account and reaches no network: Redis, the cloud and the worker run on this machine while it lasts.
    On purpose, one call is throttled, one answer is lost, the login expires once, and the API rejects one request.
    With --board the fleet is larger and takes its time, everything stays until Ctrl-C, and the board shows it.

    \b
    Example:
      launchq demo
    """
    with tempfile.TemporaryDirectory(prefix="launchq-demo-") as folder:
        log = Path(folder) / "worker.log"
        with world(
            with_sandbox=True,
            processes=2,
            log_level="info",
            fresh=True,
            log_file=str(log),
            verify_delays="1,2,4",
            with_board=with_board,
            rate_limit="1/s" if with_board else "",
        ) as running:
            assert running.sandbox is not None
            os.environ.update(running.environment)
            running.sandbox.script_faults("expired", name="trainer-02")
            running.sandbox.script_faults(
                'message:字段 "instanceConfiguration.enableDocker" 未设置', name="rejected-on-purpose"
            )
            running.sandbox.script_faults("429:1", name="trainer-04")
            running.sandbox.script_faults("close-after", name="trainer-05")
            from launchq.cli.follow import follow
            from launchq.launcher import Launcher

            with Launcher() as launcher:
                fleet = FLEET_SHOWN if with_board else FLEET
                batch = launcher.submit_many(_bodies(fleet), batch="demo")
                note(
                    f"{batch.total} jobs entered. Going wrong on purpose: an expired login, a throttled call, a lost answer, "
                    "a rejection."
                )
                jobs = follow(launcher, [batch.id], timeout=LONGEST, quiet=as_json)
            if not all(job.ended for job in jobs):
                note(log.read_text(encoding="utf-8", errors="replace"))
            as_planned = _tell(batch, jobs, len(running.sandbox.instances()), fleet, as_json=as_json)
            if with_board:
                note("The board stays, and takes more: Ctrl-C stops everything.")
                with suppress(KeyboardInterrupt):
                    running.worker.wait()
    return Exit.DONE if as_planned else Exit.UNEXPECTED


def _tell(batch: Batch, jobs: list[Job], created: int, fleet: int, *, as_json: bool) -> bool:
    """Show how it ended; whether that is as it was planned."""
    order = {receipt.id: place for place, receipt in enumerate(batch.jobs)}
    jobs.sort(key=lambda job: order[job.id])
    if as_json:
        print_json({"jobs": [job.document() for job in jobs], "instancesCreated": created})
    else:
        print_jobs(jobs)
    launched = sum(job.state is State.SUCCEEDED for job in jobs)
    failed = sum(job.state is State.FAILED for job in jobs)
    note(
        f"{launched} launched, {failed} rejected as planned; the simulated cloud counts {created} instances."
    )
    return launched == fleet + 1 and failed == 1 and created == launched


def _bodies(size: int) -> list[dict[str, Any]]:
    import json

    example: dict[str, Any] = json.loads(
        files("launchq").joinpath("example.json").read_text(encoding="utf-8")
    )
    fleet = [
        {**example, "name": f"trainer-{number:02}", "isSpotInstance": number > 3}
        for number in range(1, size + 1)
    ]
    return [example, *fleet, {**example, "name": "rejected-on-purpose"}]
