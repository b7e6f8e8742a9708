"""What the commands print: one JSON document on stdout, or text for people; everything else goes to stderr."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import click

from config import SettingsError
from tasks.errors import InputError, LaunchqError, LedgerError, SealedError
from tasks.jobs import Job
from tasks.states import State
from tasks.verdicts import Verdict

if TYPE_CHECKING:
    from ledger.calls import Account, LaneView


WORKER_SILENCE = 10.0
"""Seconds of silence after which a worker does not count as alive."""


INTERRUPTED = "Interrupted. Jobs that were submitted go on; `launchq list` shows them."


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    UNEXPECTED = 1
    BAD_INPUT = 2
    JOB_FAILED = 3
    TIMED_OUT = 4
    UNCERTAIN = 5
    INTERRUPTED = 130


def print_json(document: Any) -> None:
    """One JSON document on stdout: with line breaks for a person at a terminal, on one line for a program."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def note(text: str) -> None:
    """A word for people, on stderr."""
    click.echo(text, err=True)


def complain(error: Exception, *, as_json: bool) -> Exit:
    """Say what went wrong, and with which exit code to leave."""
    problems: list[dict[str, str]] = []
    if isinstance(error, click.exceptions.Exit):
        return Exit(error.exit_code)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        note(INTERRUPTED)
        return Exit.INTERRUPTED
    if isinstance(error, click.ClickException):
        text, code = error.format_message(), Exit.BAD_INPUT
        if not as_json:
            error.show()
    elif isinstance(error, InputError):
        text, code = str(error), Exit.BAD_INPUT
        problems = [
            {"where": one.where, "path": one.path, "wrong": one.wrong, "right": one.right}
            for one in error.problems
        ]
        if not as_json:
            count = len(error.problems)
            note(
                f"Nothing was launched: {count} problem{'s' if count != 1 else ''}.\n"
                + _bullets(str(error).splitlines())
            )
    elif isinstance(error, LaunchqError | SettingsError):
        text, code = (
            str(error),
            (Exit.UNEXPECTED if isinstance(error, LedgerError | SealedError) else Exit.BAD_INPUT),
        )
        if not as_json:
            note(f"launchq: {text}")
    else:
        text, code = f"unexpected {type(error).__name__}: {error}", Exit.UNEXPECTED
        note(f"launchq: {text}\nThis is a bug in launchq; the traceback below belongs into its report.")
        traceback.print_exception(error, limit=-8, file=sys.stderr)
    if as_json:
        print_json({"error": {"message": text, "problems": problems}})
    return code


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def exit_code_of(jobs: Iterable[Job]) -> Exit:
    """How a command that waited for these jobs ends."""
    states = {job.state for job in jobs}
    if not all(job.ended for job in jobs):
        return Exit.TIMED_OUT
    if State.UNCERTAIN in states:
        return Exit.UNCERTAIN
    if states & {State.FAILED, State.CANCELLED}:
        return Exit.JOB_FAILED
    return Exit.DONE


def outcome_of(job: Job) -> str:
    """The one thing that matters about a job now: its instance, its error, or what it waits for."""
    if job.instance_id:
        return job.instance_id
    what = job.error.message if job.error else ""
    if job.error and job.error.category == Verdict.BLOCKED and not job.ended:
        what = f"waits until the account can pay: {what}"
    elif job.state is State.RETRYING and job.due_at is not None:
        again = "asked again" if job.reason == Verdict.NO_CAPACITY else "again"
        reason = (
            f"waits for capacity, attempt {job.attempts}" if job.reason == Verdict.NO_CAPACITY else job.reason
        )
        what = f"{reason}, {again} {_in(job.due_at)}" + (f": {what}" if what else "")
    elif job.state is State.QUEUED and job.due_at is not None and job.due_at > job.updated_at:
        # It is due already, but its lane is sold out, and another job asks for it; see read.lua.
        what = f"waits for capacity, its lane is asked again {_in(job.due_at)}" + (
            f": {what}" if what else ""
        )
    elif job.state is State.VERIFYING and job.due_at is not None:
        what = f"looked up {_in(job.due_at)}: {what}"
    return what


def _in(time: datetime) -> str:
    seconds = (time - datetime.now(UTC)).total_seconds()
    return "now" if seconds < 1 else f"in {seconds:.0f} s"


_COLOURS = {
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.UNCERTAIN: "bold magenta",
    State.CANCELLED: "dim",
    State.RETRYING: "yellow",
    State.VERIFYING: "yellow",
    State.SUBMITTING: "cyan",
}


def print_jobs(jobs: Sequence[Job]) -> None:
    """A table of jobs on stdout: drawn at a terminal, tab-separated lines when piped."""
    if not sys.stdout.isatty():
        for job in jobs:
            line = (job.id, job.name, str(job.state), str(job.attempts), outcome_of(job))
            click.echo("\t".join(" ".join(cell.split()) for cell in line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", no_wrap=True, max_width=36)
    table.add_column("name", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("instance or error", overflow="fold")
    for job in jobs:
        state = Text(str(job.state), style=_COLOURS.get(job.state, ""))
        table.add_row(Text(job.id), Text(job.name), state, str(job.attempts), Text(outcome_of(job)))
    Console().print(table)


def counts_line(counts: dict[State, int]) -> str:
    """`3 queued, 2 succeeded`"""
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no jobs"


def account_line(account: Account) -> str:
    """Whether the account is open, and if not, why and until when."""
    if account.state == "open":
        return "open"
    until = f", until {local(account.until)}" if account.until else ", until somebody acts"
    return f"{account.state} ({account.reason}{until}): {account.message}"


def ledger_line(account: Account) -> str | None:
    """What to know of the ledger's version: where a newer launchq uses it, this one may not read all of it."""
    from ledger import calls, version

    return None if account.version <= version.LEDGER_VERSION else calls.newer_ledger(account.version)


def lane_line(lane: LaneView) -> str:
    """What a lane that is not open waits for."""
    head = f"{lane.name}: {lane.due} jobs wait"
    if lane.probe_at is None:
        return (
            f"{head}, {lane.in_flight} of at most {lane.width} calls in flight, one more with each instance"
        )
    since = f" since {local(lane.since)}" if lane.since else ""
    empty = f" (at {local(lane.empty_at)} the catalogue showed none)" if lane.empty_at else ""
    return f"{head} for capacity{since}, asked again {_in(lane.probe_at)}{empty}: {lane.message or ''}"


def local(time: datetime | None) -> str:
    """A time as a person here reads it."""
    return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
