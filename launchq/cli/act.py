"""`cancel` and `retry`: acting on jobs."""

from __future__ import annotations

import click

from launchq.cli.options import json_option
from launchq.cli.output import Exit, note, print_json
from launchq.launcher import Launcher
from ledger.calls import Done

_SAID = {
    "cancelled": "cancelled",
    "requested": "a create call is under way and ends as it ends; it is not tried again",
    "ended": "too late: it is {state}",
    "rearmed": "due again",
    "refused": "not retried: it is {state}",
}


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def cancel_command(ids: tuple[str, ...], as_json: bool) -> Exit:
    """Take back jobs, or batches, that have not been sent. What is being sent ends as it ends.

    Exit code 2 where a job named by its own id had ended already.

    \b
    Example:
      launchq cancel nightly
    """
    with Launcher() as launcher:
        return _tell(ids, launcher.cancel(ids), too_late="ended", as_json=as_json)


@click.command("retry")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def retry_command(ids: tuple[str, ...], as_json: bool) -> Exit:
    """Make jobs due again that failed or were cancelled; of a batch, all such jobs.

    An uncertain job is never retried: its instance may exist. Look in the console first.
    Exit code 2 where a job named by its own id cannot be retried.

    \b
    Example:
      launchq retry nightly
    """
    with Launcher() as launcher:
        return _tell(ids, launcher.retry(ids), too_late="refused", as_json=as_json)


def _tell(ids: tuple[str, ...], results: dict[str, Done], *, too_late: str, as_json: bool) -> Exit:
    if as_json:
        print_json(
            {
                "jobs": [
                    {"id": job_id, "state": done.state, "result": done.what}
                    for job_id, done in results.items()
                ]
            }
        )
    else:
        for job_id, done in results.items():
            click.echo(f"{job_id}\t{_SAID[done.what].format(state=done.state)}")
    uncertain = [
        job_id for job_id, done in results.items() if too_late == "refused" and done.state == "uncertain"
    ]
    if uncertain:
        note(
            f"{len(uncertain)} uncertain: the instance may exist. Look in the console; if it does not exist, submit the "
            "request again as a new job"
        )
    return (
        Exit.BAD_INPUT if any(results[one].what == too_late for one in ids if one in results) else Exit.DONE
    )
