"""`watch` and `export`: a batch while it is under way, and what came of it."""

from __future__ import annotations

import time
from collections import Counter

import click

from launchq.cli.follow import Tally, follow, how_it_ended
from launchq.cli.options import Duration, json_option
from launchq.cli.output import Exit, counts_line, print_json
from launchq.documents import export_csv, export_rows
from launchq.launcher import Launcher


@click.command("watch")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--timeout",
    type=Duration(),
    metavar="TIME",
    help="No longer than this (30s, 10m, 6h); default: for ever.",
)
@json_option
def watch_command(ids: tuple[str, ...], timeout: float | None, as_json: bool) -> Exit:
    """Watch batches (or jobs) until all have ended: how far they are, how fast, and what goes wrong.

    At a terminal a live picture, otherwise a line for each change; in the end the counts, and the errors by message.
    Ctrl-C stops the watching, not the jobs. Exit codes are those of `launchq wait`.

    \b
    Example:
      launchq watch nightly
    """
    with Launcher() as launcher:
        jobs = follow(launcher, ids, timeout=timeout, quiet=as_json)
        code = how_it_ended(launcher, jobs)
    tally = Tally(len(jobs), time.monotonic())
    for job in jobs:
        tally.update(job, tally.began)
    errors = Counter(tally.errors).most_common()
    if as_json:
        print_json(
            {
                "total": tally.total,
                "counts": {str(state): count for state, count in tally.by_state.items()},
                "errors": [{"message": message, "count": count} for message, count in errors],
                "timedOut": code is Exit.TIMED_OUT,
            }
        )
        return code
    click.echo(counts_line(tally.by_state))
    for message, count in errors:
        click.echo(f"{count} × {message}")
    return code


@click.command("export")
@click.argument("id_", metavar="BATCH")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="CSV with a header, or one JSON document.",
)
@json_option
def export_command(id_: str, form: str, as_json: bool) -> None:
    """Print what came of a batch: for each job its name, its instance's name and id, and its error.

    In the order of the names. --json is --format json.

    \b
    Example:
      launchq export nightly > nightly.csv
    """
    with Launcher() as launcher:
        batch = launcher.batch(id_)
        jobs = launcher.list_jobs(batch=batch.id, limit=0)
    rows = export_rows(jobs)
    if as_json or form == "json":
        print_json({"batchId": batch.id, "jobs": rows})
        return
    click.echo(export_csv(rows), nl=False)
