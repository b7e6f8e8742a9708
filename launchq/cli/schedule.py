"""`schedule`: recurring launches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import click

from config import load
from launchq.cli.inputs import count_option, read_files, unknown_option
from launchq.cli.options import Duration, json_option, max_parallel_option, stop_after_option
from launchq.cli.output import note, print_json
from launchq.cli.plan import confirm
from tasks.jobs import rfc3339
from tasks.plan import grouped
from tasks.schedules import CatchUp, Overlap, Schedule, Timing, batch_of


@click.group("schedule")
def schedule_command() -> None:
    """Recurring launches: each time that a schedule comes up, the workers make one batch of it.

    \b
    Example:
      launchq schedule add nightly examples/nightly.yaml --cron "0 2 * * *"
    """


@schedule_command.command("add")
@click.argument("name", metavar="NAME")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--cron",
    required=True,
    metavar="FIELDS",
    help="When: minute, hour, day of the month, month, day of the week (Sunday is 0 or 7).",
)
@click.option("--tz", "zone", metavar="ZONE", help="The time zone of --cron. Default: LAUNCHQ_TIMEZONE.")
@click.option(
    "--deadline",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How late a missed run may still start.",
)
@click.option(
    "--overlap",
    type=click.Choice([str(one) for one in Overlap]),
    default=str(Overlap.ALLOW),
    show_default=True,
    help="Whether a run is made while the batch before is not done.",
)
@click.option(
    "--catch-up",
    type=click.Choice([str(one) for one in CatchUp]),
    default=str(CatchUp.LAST),
    show_default=True,
    help="Which missed runs are made once workers are there again.",
)
@count_option
@click.option(
    "--unique-names",
    is_flag=True,
    help="Add - and 8 characters of the job's id to the name sent: its instance is then known for certain.",
)
@max_parallel_option
@stop_after_option
@unknown_option
@click.option("--replace", "replaces", is_flag=True, help="Replace a schedule of this name.")
@click.option(
    "-y",
    "--yes",
    is_flag=True,
    help="Do not ask, where more than 100 instances, or billing by the week or month, would have to be confirmed.",
)
@json_option
def add_command(
    name: str,
    files: tuple[str, ...],
    cron: str,
    zone: str | None,
    deadline: float,
    overlap: str,
    catch_up: str,
    count: int,
    unique_names: bool,
    max_parallel: int | None,
    stop_after_failures: int | None,
    allow_unknown_fields: bool,
    replaces: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Store what FILE launches, and when. Each time makes a batch: NAME@2026-12-01T02:00+08:00.

    FILE is what `launchq submit` takes; it is read now, and not again. The same schedule again changes nothing; another
    one of the same name is refused without --replace.

    \b
    Example:
      launchq schedule add nightly examples/nightly.yaml --cron "0 2 * * *" --tz Asia/Shanghai
      launchq schedule add weekdays body.json --cron "30 8 * * 1-5" --deadline 20m --overlap skip
    """
    from launchq import schedules
    from launchq.launcher import Launcher
    from tasks.cron import read_cron

    settings = load()
    timing = Timing(
        read_cron(cron, zone or settings.timezone, now=datetime.now(UTC)),
        deadline,
        Overlap(overlap),
        CatchUp(catch_up),
        max_parallel or None,
        stop_after_failures or None,
    )
    inputs = read_files(files, count, allow_unknown_fields)
    entries = inputs.entries
    if unique_names:
        entries = tuple(replace(entry, policy=replace(entry.policy, unique_names=True)) for entry in entries)
    schedules.check(name, entries, timing)
    for warning in inputs.warnings(settings.api_url, unique_names=unique_names):
        note(f"warning: {warning.removesuffix('; --use-token uses it')}")
    if any(intake.batch for intake in inputs.intakes):
        note(f"the file's batch is not used: each run makes a batch of its own, {name}@...")
    confirm(grouped(entries), yes=yes)
    with Launcher(settings) as launcher:
        added = schedules.add(launcher, name, entries, timing, replace=replaces)
    if as_json:
        print_json({"result": added.what, "schedule": added.schedule.document()})
    else:
        click.echo(f"{name}\t{added.what}\t{_state(added.schedule)}")


@schedule_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Schedules: when they come up next, and what became of the last time.

    \b
    Example:
      launchq schedule list
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        found = schedules.list_schedules(launcher)
    if as_json:
        print_json({"schedules": [one.document() for one in found]})
    else:
        _print(found)


@schedule_command.command("next")
@click.argument("name", required=False, metavar="[NAME]")
@click.option(
    "-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many times."
)
@json_option
def next_command(name: str | None, count: int, as_json: bool) -> None:
    """The times at which a schedule, or any that is not paused, comes up next.

    \b
    Example:
      launchq schedule next nightly -n 10
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        found = schedules.triggers(launcher, name, count)
    if name is not None and found and found[0][0].paused:
        note(f"{name} is paused: it would come up then")
    if as_json:
        print_json(
            {
                "next": [
                    {"name": one.name, "at": rfc3339(at), "batchId": batch_of(one, at)} for one, at in found
                ]
            }
        )
        return
    for one, at in found:
        click.echo(f"{one.name}\t{_local(one, at)}")


@schedule_command.command("pause")
@click.argument("name", metavar="NAME")
@json_option
def pause_command(name: str, as_json: bool) -> None:
    """Trigger no more until `resume`. What is missed meanwhile is not caught up; batches go on.

    \b
    Example:
      launchq schedule pause nightly
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        _tell(schedules.pause(launcher, name), as_json=as_json)


@schedule_command.command("resume")
@click.argument("name", metavar="NAME")
@json_option
def resume_command(name: str, as_json: bool) -> None:
    """Trigger again, from now on.

    \b
    Example:
      launchq schedule resume nightly
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        _tell(schedules.resume(launcher, name), as_json=as_json)


@schedule_command.command("remove")
@click.argument("name", metavar="NAME")
@json_option
def remove_command(name: str, as_json: bool) -> None:
    """Forget a schedule. Its batches stay; `launchq cancel` takes them back.

    \b
    Example:
      launchq schedule remove nightly
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        schedules.remove(launcher, name)
    if as_json:
        print_json({"name": name, "result": "removed"})
    else:
        click.echo(f"{name}\tremoved")


@schedule_command.command("run")
@click.argument("name", metavar="NAME")
@json_option
def run_command(name: str, as_json: bool) -> None:
    """Make a batch now, paused or not: NAME@2026-12-01T09:41:07+08:00. When it comes up next stays as it is.

    \b
    Example:
      launchq schedule run nightly
    """
    from launchq import schedules
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        made = schedules.run(launcher, name)
    old = sum(receipt.duplicate for receipt in made.receipts)
    note(f"{len(made.receipts) - old} entered" + (f", {old} existed already" if old else ""))
    if as_json:
        print_json({"batchId": made.batch_id, "jobs": [receipt.document() for receipt in made.receipts]})
    else:
        click.echo(made.batch_id)


def _tell(one: Schedule, *, as_json: bool) -> None:
    if as_json:
        print_json({"schedule": one.document()})
    else:
        click.echo(f"{one.name}\t{_state(one)}")


def _local(one: Schedule, at: datetime) -> str:
    """A time as the schedule's zone has it: `2026-12-01 02:00+08:00`."""
    return at.astimezone(one.timing.cron.tz).isoformat(" ", "minutes")


def _state(one: Schedule) -> str:
    if one.paused:
        return "paused"
    return "never" if one.next is None else _local(one, one.next)


def _last(one: Schedule) -> str:
    last = one.last
    if one.error:
        return f"cannot be run: {one.error}"
    if last is None:
        return "-"
    what = last.batch_id or f"{_local(one, last.trigger)} {last.result}"
    return f"{what}: {last.message}" if last.message else what


def _print(found: Sequence[Schedule]) -> None:
    titles = ("name", "cron", "zone", "next", "jobs", "last")
    rows = [
        (
            one.name,
            one.timing.cron.expression,
            one.timing.cron.zone,
            _state(one),
            str(one.jobs),
            " ".join(_last(one).split()),
        )
        for one in found
    ]
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
