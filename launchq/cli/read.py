"""`status`, `list`, `wait` and `events`: reading what the ledger holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from launchq.cli.options import Duration, EventId, json_option, show_script_option
from launchq.cli.output import (
    INTERRUPTED,
    Exit,
    account_line,
    counts_line,
    lane_line,
    ledger_line,
    local,
    note,
    outcome_of,
    print_jobs,
    print_json,
)
from launchq.documents import account_document, event_document
from launchq.launcher import Launcher
from tasks.bodies import request_differences
from tasks.errors import NotFoundError
from tasks.jobs import Batch, Job, moment
from tasks.states import IN_DOUBT, State

if TYPE_CHECKING:
    from ledger.calls import Account


@click.command("status")
@click.argument("id_", metavar="[ID]", required=False)
@click.option(
    "--history", is_flag=True, help="Show all that happened to the job: when, what was seen, who acted."
)
@show_script_option
@json_option
def status_command(id_: str | None, history: bool, show_script: bool, as_json: bool) -> None:
    """Show a job or a batch; without ID, the account: open, paused or blocked and why, counts, workers.

    A job's JSON document has its history in any case.

    \b
    Example:
      launchq status nightly
    """
    with Launcher() as launcher:
        if id_ is None:
            account = launcher.account()
            print_json(account_document(account)) if as_json else _print_account(account)
            return
        found = _job_or_batch(launcher, id_)
        if isinstance(found, Batch):
            if as_json:
                print_json(found.document())
                return
            note(f"batch {found.id}: {counts_line(found.counts)}; {_where(found)}")
            print_jobs(sorted(launcher.list_jobs(batch=found.id, limit=0), key=lambda job: job.name))
        elif as_json:
            print_json(found.document(show_script=show_script))
        else:
            _print_job(found, show_script=show_script)
            if history:
                _print_history(found)


@click.command("list")
@click.option("--state", type=click.Choice([str(state) for state in State]), help="Only jobs in this state.")
@click.option("--batch", metavar="NAME", help="Only jobs of this batch.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    metavar="N",
    help="At most N jobs; 0 is all.",
)
@show_script_option
@json_option
def list_command(state: str | None, batch: str | None, limit: int, show_script: bool, as_json: bool) -> None:
    """List jobs, the latest change first.

    With --state uncertain or verifying, what was seen is told below each job: look for its name in the console, then use
    `launchq resolve`.

    \b
    Example:
      launchq list --state uncertain
    """
    with Launcher() as launcher:
        jobs = launcher.list_jobs(state=State(state) if state else None, batch=batch, limit=limit)
        account = launcher.account()
    if as_json:
        documents = [job.document(show_script=show_script) for job in jobs]
        print_json({"jobs": documents, "account": account_document(account)["account"]})
        return
    if account.state != "open":
        note(f"account: {account_line(account)}")
    print_jobs(jobs)
    for job in jobs:
        if state in IN_DOUBT:
            click.echo(f"\n{job.id}, sent as {job.sent_name}")
            _print_history(job)


@click.command("wait")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    help="No longer than this (30s, 10m, 6h); default: for ever.",
)
@show_script_option
@json_option
def wait_command(ids: tuple[str, ...], timeout: float | None, show_script: bool, as_json: bool) -> Exit:
    """Wait until jobs (or all jobs of batches) have ended.

    Exit code: 0 all succeeded, 3 one failed or was cancelled, 4 time is over, 5 one is uncertain.

    \b
    Example:
      launchq wait nightly --timeout 10m
    """
    from launchq.cli.follow import follow, how_it_ended

    latest: dict[str, Job] = {}
    with Launcher() as launcher:
        try:
            code = how_it_ended(
                launcher, follow(launcher, ids, timeout=timeout, quiet=as_json, latest=latest)
            )
        except KeyboardInterrupt:
            note(INTERRUPTED)
            code = Exit.INTERRUPTED
    jobs = list(latest.values())
    if as_json:
        documents = [job.document(show_script=show_script) for job in jobs]
        print_json({"jobs": documents, "timedOut": code is Exit.TIMED_OUT})
    else:
        print_jobs(jobs)
    return code


@click.command("events")
@click.option(
    "--after",
    type=EventId(),
    metavar="EVENT",
    default="",
    help="Only events after this one (an event's id).",
)
@click.option(
    "-n", "count", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The last N events."
)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with new ones until interrupted.")
@json_option
def events_command(after: str, count: int, following: bool, as_json: bool) -> None:
    """Show the changes of jobs' states, the oldest first.

    With --json and --follow, one JSON document a line.

    \b
    Example:
      launchq events --follow
    """
    with Launcher() as launcher:
        ledger = launcher.ledger
        events = ledger.events(after, count=count) if after else ledger.latest_events(count)
        if as_json and not following:
            print_json({"events": [event_document(*event) for event in events]})
            return
        last = events[-1][0] if events else after or ledger.last_event()
        while True:
            for event_id, fields in events:
                _print_event(event_id, fields, as_json=as_json)
            if not following:
                return
            events = ledger.events(last, block=4.0)
            last = events[-1][0] if events else last


def _job_or_batch(launcher: Launcher, id_: str) -> Job | Batch:
    try:
        return launcher.job(id_)
    except NotFoundError:
        try:
            return launcher.batch(id_)
        except NotFoundError:
            raise NotFoundError(f"no job or batch has the id {id_}") from None


def _where(batch: Batch) -> str:
    if batch.done:
        return "done"
    why = {None: "under way", "person": "held", "failures": "held, since too many of its jobs failed"}[
        batch.held
    ]
    return why if batch.held is None else f"{why}: `launchq resume {batch.id}` has it go on"


def _print_account(account: Account) -> None:
    click.echo(f"account: {account_line(account)}")
    if newer := ledger_line(account):
        click.echo(f"version: {newer}")
    token = account.token
    ends = f", ends {local(token['expiresAt'])}" if token["expiresAt"] else ""
    click.echo(f"token: from {token['source']}{ends}" if token["present"] else "token: none yet")
    click.echo(f"jobs: {counts_line(account.counts)}")
    for lane in account.lanes:
        if lane.state != "open":
            click.echo(f"lane: {lane_line(lane)}")
    if account.next_due:
        click.echo(f"next due: {local(account.next_due)}")
    for name, age in account.workers.items():
        click.echo(f"worker: {name}, heard {age:.0f} s ago")
    if not account.workers:
        click.echo("worker: none; start one with `launchq worker`")


def _print_job(job: Job, *, show_script: bool) -> None:
    rows = {
        "job": job.id,
        "name": job.name,
        "sent as": job.sent_name if job.unique_names else None,
        "state": str(job.state) + (f" ({job.reason})" if job.reason else ""),
        "instance": job.instance_id,
        "error": f"[{job.error.category}] {job.error.message}" if job.error else None,
        "waits": outcome_of(job) if job.state in {State.QUEUED, State.RETRYING, State.VERIFYING} else None,
        "attempts": str(job.attempts),
        "fallback": _fallback(job),
        "batch": job.batch_id,
        "created": local(job.created_at),
        "updated": local(job.updated_at),
    }
    for title, text in rows.items():
        if text:
            click.echo(f"{title + ':':<10}{text}")
    if sys.stdout.isatty() or show_script:
        import json

        click.echo(
            "request:  " + json.dumps(job.document(show_script=show_script)["request"], ensure_ascii=False)
        )


def _fallback(job: Job) -> str | None:
    """Which of its fallbacks the last attempt used, and what that changes."""
    if not job.fallback:
        return None
    if job.request is None or job.fallback_request is None:
        return str(job.fallback)
    return (
        f"{job.fallback}, which changes {', '.join(request_differences(job.request, job.fallback_request))}"
    )


def _print_history(job: Job) -> None:
    for one in job.history or ():
        about = " ".join(
            text
            for text in (
                f"attempt {one.attempt}:" if one.attempt else "",
                f"{one.event} -> {one.state}",
                one.instance_id or "",
                f"[{one.category}]" if one.category else "",
                " ".join((one.message or "").split()),
                f"({one.by})" if one.by else "",
            )
            if text
        )
        click.echo(f"  {local(one.at)}  {about}")


def _print_event(event_id: str, fields: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(event_document(event_id, fields), ensure_ascii=False))
        return
    rest = "\t".join(
        f"{name}={fields[name]}" for name in ("reason", "instanceId", "batchId") if name in fields
    )
    time = local(moment(event_id.partition("-")[0]))
    click.echo(f"{time}\t{fields.get('job', '')}\t{fields.get('state', '')}\t{rest}".rstrip())
