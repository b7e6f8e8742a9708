"""`submit`: from files to jobs."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import click

from config import load
from launchq.cli.inputs import count_option, read_files, unknown_option
from launchq.cli.options import Duration, Patience, json_option, max_parallel_option, stop_after_option
from launchq.cli.output import (
    INTERRUPTED,
    Exit,
    note,
    print_jobs,
    print_json,
)
from launchq.cli.plan import confirm
from tasks.intake import Intake


@click.command("submit")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--batch",
    metavar="NAME",
    help="Make one batch of it; submitting it again enters only what is missing. Default: what a fleet file says.",
)
@count_option
@click.option("--key", metavar="KEY", help="Idempotency key: the same key never launches a second time.")
@click.option(
    "--max-attempts", type=click.IntRange(1), metavar="N", help="Tries that may fail for a passing reason."
)
@click.option(
    "--unique-names",
    is_flag=True,
    help="Add - and 8 characters of the job's id to the name sent: its instance is then known for certain.",
)
@click.option(
    "--spot/--on-demand",
    "spot",
    default=None,
    help="Ask for spot instances, or for others, whatever FILE says.",
)
@click.option(
    "--wait-capacity/--no-wait-capacity",
    "wait_capacity",
    default=None,
    help="Ask again while sold out; spot instances do so anyway.",
)
@click.option(
    "--until",
    type=Patience(),
    metavar="TIME",
    help="For how long it is tried (30m, 6h, 7d, forever). Default: 1d where it waits for capacity.",
)
@click.option(
    "--at", metavar="TIME", help="Not before this time: 2026-12-01T02:00, or 02:00 for the next two o'clock."
)
@click.option("--in", "in_", type=Duration(), metavar="TIME", help="Not before so long from now: 10m, 2h.")
@click.option("--late-ok", is_flag=True, help="With --at: a time in the past means now.")
@max_parallel_option
@stop_after_option
@unknown_option
@click.option(
    "--use-token", is_flag=True, help="Use the token of a pasted curl command for all workers from now on."
)
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait until every job has ended, and show how.")
@click.option(
    "--timeout", type=Duration(), metavar="TIME", help="With --wait: no longer than this (30s, 10m, 6h)."
)
@click.option(
    "-y",
    "--yes",
    is_flag=True,
    help="Do not ask, where more than 100 instances, or billing by the week or month, would have to be confirmed.",
)
@json_option
def submit_command(
    files: tuple[str, ...],
    batch: str | None,
    count: int,
    key: str | None,
    max_attempts: int | None,
    unique_names: bool,
    spot: bool | None,
    wait_capacity: bool | None,
    until: float | None,
    at: str | None,
    in_: float | None,
    late_ok: bool,
    max_parallel: int | None,
    stop_after_failures: int | None,
    allow_unknown_fields: bool,
    use_token: bool,
    wait_for_end: bool,
    timeout: float | None,
    yes: bool,
    as_json: bool,
) -> Exit:
    """Enter the launch requests of FILE as jobs: all of them or, where something is wrong, none.

    FILE is what `launchq plan` takes; - reads standard input. Use a batch or a key for what you may submit again:
    without one of them, submitting twice launches twice. Options go over what a fleet file says of its launches.

    \b
    Example:
      launchq submit body.json --batch nightly --count 50 --wait
      launchq submit body.json --batch tonight --at 02:00
      launchq submit body.json --spot --until 6h
    """
    if at is not None and in_ is not None:
        raise click.UsageError("either --at or --in")
    if timeout is not None and not wait_for_end:
        raise click.UsageError("--timeout goes with --wait")
    from launchq.launcher import Launcher
    from launchq.orders import Wishes, order_of
    from ledger.calls import Limits
    from tasks.jobs import Job

    settings = load()
    # Nothing of what is read and entered is garbage: to look for some again and again takes a tenth of a large file's time.
    gc.disable()
    click.get_current_context().call_on_close(gc.enable)
    inputs = read_files(files, count, allow_unknown_fields)
    limits = Limits(max_parallel, stop_after_failures)
    if inputs.batch(batch) is None and limits != Limits():
        raise click.UsageError("--max-parallel and --stop-after-failures go with a batch: give --batch NAME")
    wishes = Wishes(
        batch=batch,
        key=key,
        spot=spot,
        max_attempts=max_attempts,
        unique_names=unique_names,
        wait_for_capacity=wait_capacity,
        until=until,
        at=at,
        delay=in_,
        late_ok=late_ok,
        limits=limits,
        allow_unknown=allow_unknown_fields,
    )
    order = order_of(inputs, wishes, settings.timezone)
    for warning in inputs.warnings(settings.api_url, token_used=use_token, unique_names=unique_names):
        note(f"warning: {warning}")
    confirm(order.groups, yes=yes)
    with Launcher() as launcher:
        if use_token:
            _use_token(launcher, inputs.intakes)
        receipts = order.enter(launcher)
        documents = [receipt.document() for receipt in receipts]
        gc.freeze()  # nor is it at the end of the process
        gc.enable()
        old = sum(receipt.duplicate for receipt in receipts)
        note(f"{len(receipts) - old} entered" + (f", {old} existed already" if old else ""))
        code = Exit.DONE
        if wait_for_end:
            from launchq.cli.follow import follow, how_it_ended

            ids = [receipt.id for receipt in receipts]
            jobs: dict[str, Job] = {}
            try:
                follow(launcher, ids, timeout=timeout, quiet=as_json, latest=jobs)
                code = how_it_ended(launcher, jobs.values())
            except KeyboardInterrupt:
                # The ids of what was entered must not get lost with the wait.
                note(INTERRUPTED)
                code = Exit.INTERRUPTED
            for document in documents:
                known: dict[str, Any] = {"instanceId": None, "error": None}
                if document["id"] in jobs:
                    known = jobs[document["id"]].document()
                document.update(
                    (name, known[name]) for name in ("state", "instanceId", "error") if name in known
                )
            if not as_json:
                print_jobs([jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in jobs])
            if code is Exit.TIMED_OUT:
                note("still under way; `launchq wait` goes on waiting, `launchq list` shows where they stand")
        elif not as_json:
            for receipt in receipts:
                click.echo(
                    f"{receipt.id}\t{receipt.name}\t{receipt.state}"
                    + ("\tduplicate" if receipt.duplicate else "")
                )
    if as_json:
        print_json({"batchId": order.batch, "jobs": documents})
    return code


def _use_token(launcher: Any, intakes: Sequence[Intake]) -> None:
    tokens = {intake.token for intake in intakes if intake.token}
    if len(tokens) != 1:
        why = "there is none in what was given" if not tokens else "what was given holds several"
        raise click.UsageError(
            f"--use-token: {why}; a token stands in a curl command, behind -b 'AccessToken=...'"
        )
    [token] = tokens
    launcher.set_token(token)
