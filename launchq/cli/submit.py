"""`plan` and `submit`: from files to jobs."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import click

from config import load
from launchq.cli.options import Duration, Patience, json_option, show_script_option
from launchq.cli.output import (
    INTERRUPTED,
    Exit,
    exit_code_of,
    note,
    print_jobs,
    print_json,
)
from tasks.errors import InputError, Problem
from tasks.intake import Entry, Intake, expand_count, identify, read_input
from tasks.request import redacted
from tasks.times import read_time

if TYPE_CHECKING:
    from launchq.launcher import Launcher

INPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of one input file, at most: larger ones are no lists of launch requests."""


files_argument = click.argument("files", nargs=-1, required=True, metavar="FILE...")
count_option = click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    metavar="N",
    help="N copies of each entry, named NAME-01, NAME-02, ...",
)
unknown_option = click.option(
    "--allow-unknown-fields",
    is_flag=True,
    help="Send fields that the API's document does not list, unchanged.",
)


@click.command("plan")
@files_argument
@count_option
@unknown_option
@show_script_option
@json_option
def plan_command(
    files: tuple[str, ...], count: int, allow_unknown_fields: bool, show_script: bool, as_json: bool
) -> None:
    """Check FILE and show what would be launched. Calls nobody: not the API, not Redis.

    FILE is a body exported by the console, a JSON array or JSON lines of bodies, or a pasted curl command;
    - reads standard input.

    \b
    Example:
      launchq plan body.json --count 50
    """
    intakes, entries = _read(files, count, allow_unknown_fields)
    for warning in _warnings(intakes):
        note(f"warning: {warning}")
    bodies = [entry.request.wire() for entry in entries]
    if as_json:
        jobs = [
            {
                "entry": entry.identity,
                "name": entry.request.name,
                "request": body if show_script else redacted(body),
            }
            for entry, body in zip(entries, bodies, strict=True)
        ]
        print_json({"jobs": jobs, "warnings": _warnings(intakes)})
        return
    _print_plan(entries)


@click.command("submit")
@files_argument
@click.option(
    "--batch", metavar="NAME", help="Make one batch of it; submitting it again enters only what is missing."
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
@unknown_option
@click.option(
    "--use-token", is_flag=True, help="Use the token of a pasted curl command for all workers from now on."
)
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait until every job has ended, and show how.")
@click.option(
    "--timeout", type=Duration(), metavar="TIME", help="With --wait: no longer than this (30s, 10m, 6h)."
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
    allow_unknown_fields: bool,
    use_token: bool,
    wait_for_end: bool,
    timeout: float | None,
    as_json: bool,
) -> Exit:
    """Enter the launch requests of FILE as jobs: all of them or, where something is wrong, none.

    FILE is what `launchq plan` takes; - reads standard input. Use --batch or --key for what you may submit again:
    without one of them, submitting twice launches twice.

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
    from launchq.launcher import Launcher, checked_batch, new_id
    from tasks.jobs import Job, Submission
    from tasks.policy import Policy

    intakes, entries = _read(files, count, allow_unknown_fields)
    warnings = _warnings(intakes, token_used=use_token)
    if batch is not None:
        checked_batch(batch)
    keys: list[str | None] = [None] * len(entries)
    if key is not None:
        # The first entry has the key itself, so that a file that has grown finds the job of its first submission.
        keys = [key, *(f"{key}:{entry.identity}" if key else key for entry in entries[1:])]
    if spot is not None:
        entries = tuple(
            replace(entry, request=entry.request.model_copy(update={"is_spot_instance": spot}))
            for entry in entries
        )
    policy = Policy(
        max_attempts, unique_names, wait_capacity, until, None if in_ is None else timedelta(seconds=in_)
    )

    def submissions(policy: Policy) -> list[Submission]:
        return [
            Submission.of(
                entry.request, new_id(), entry=entry.identity if batch else "", key=one, policy=policy
            )
            for entry, one in zip(entries, keys, strict=True)
        ]

    submissions(policy)  # what is wrong is said before Redis is asked for anything
    for warning in warnings:
        note(f"warning: {warning}")
    with Launcher() as launcher:
        if at is not None:
            policy = replace(policy, not_before=_start(at, launcher, late_ok=late_ok))
        if use_token:
            _use_token(launcher, intakes)
        receipts = launcher.enqueue(submissions(policy), batch=batch or "")
        documents = [receipt.document() for receipt in receipts]
        old = sum(receipt.duplicate for receipt in receipts)
        note(f"{len(receipts) - old} entered" + (f", {old} existed already" if old else ""))
        code = Exit.DONE
        if wait_for_end:
            from launchq.cli.follow import follow

            ids = [receipt.id for receipt in receipts]
            jobs: dict[str, Job] = {}
            try:
                follow(launcher, ids, timeout=timeout, quiet=as_json, latest=jobs)
                code = exit_code_of(jobs.values())
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
        print_json({"batchId": batch, "jobs": documents})
    return code


def _start(text: str, launcher: Launcher, *, late_ok: bool) -> datetime:
    """A time that has not passed by Redis' clock, which decides what is due."""
    now = datetime.fromtimestamp(launcher.ledger.time(), UTC)
    start = read_time(text, zone=ZoneInfo(launcher.settings.timezone), now=now, path="--at")
    if start < now and not late_ok:
        wrong = f"lies in the past: it is {now.astimezone(ZoneInfo(launcher.settings.timezone)):%Y-%m-%dT%H:%M:%S%z}"
        raise InputError([Problem("--at", wrong, "a later time, or --late-ok for now")])
    return start


def _read(files: tuple[str, ...], count: int, allow_unknown: bool) -> tuple[list[Intake], tuple[Entry, ...]]:
    """Every file, read and checked; InputError with the problems of all of them."""
    intakes: list[Intake] = []
    problems: list[Problem] = []
    if files.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    for file in files:
        try:
            text = _text_of(file)
            source = "standard input" if file == "-" else file
            intakes.append(read_input(text, source=source, allow_unknown=allow_unknown))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return intakes, expand_count(identify(entry for intake in intakes for entry in intake.entries), count)


def _text_of(file: str) -> bytes:
    try:
        if file == "-":
            text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
        else:
            with Path(file).open("rb") as stream:
                text = stream.read(INPUT_LIMIT + 1)
    except OSError as error:
        raise InputError(
            [
                Problem(
                    "",
                    f"cannot be read: {error.strerror}",
                    "give a file that exists, or - for standard input",
                    file,
                )
            ]
        ) from None
    if len(text) > INPUT_LIMIT:
        raise InputError([Problem("", "is too large", f"at most {INPUT_LIMIT // 1024**2} MiB", file)])
    return text


def _warnings(intakes: list[Intake], *, token_used: bool = False) -> list[str]:
    found = [
        warning
        for intake in intakes
        for warning in intake.warnings
        if not (token_used and "--use-token" in warning)
    ]
    api = urlsplit(load().api_url)
    for intake in intakes:
        given = urlsplit(intake.curl_url or "")
        if given.hostname and given.hostname != api.hostname:
            found.append(
                f"the curl command names {given.hostname}, but the workers call {api.hostname} (LAUNCHQ_API_URL)"
            )
    return found


def _use_token(launcher: Any, intakes: list[Intake]) -> None:
    tokens = {intake.token for intake in intakes if intake.token}
    if len(tokens) != 1:
        why = "there is none in what was given" if not tokens else "what was given holds several"
        raise click.UsageError(
            f"--use-token: {why}; a token stands in a curl command, behind -b 'AccessToken=...'"
        )
    [token] = tokens
    launcher.set_token(token)


def _print_plan(entries: tuple[Entry, ...]) -> None:
    rows = [
        (
            entry.request.name,
            entry.request.instance_type_id,
            entry.request.region,
            f"{entry.request.billing.charge_mode} x {entry.request.billing.duration}",
            "spot" if entry.request.is_spot_instance else "on demand",
        )
        for entry in entries
    ]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("name", "instance type", "region", "billing", "capacity"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
    else:
        for row in rows:
            click.echo("\t".join(row))
    note(f"{len(rows)} instance{'s' if len(rows) != 1 else ''} would be launched. Nothing was.")
