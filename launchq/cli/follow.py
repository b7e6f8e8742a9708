"""Watching jobs until they end: a progress bar at a terminal, a line for each change when piped. All on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from launchq.cli.output import counts_line, note, outcome_of
from launchq.launcher import Launcher
from tasks.jobs import Job


def follow(
    launcher: Launcher,
    ids: Iterable[str],
    *,
    timeout: float | None,
    quiet: bool,
    latest: dict[str, Job] | None = None,
) -> list[Job]:
    """The jobs as they stand when all have ended, or after `timeout` seconds. `quiet` shows nothing on the way.

    `latest` is filled by id as they change: who is interrupted finds there what is known.
    """
    changes = launcher.watch(ids, timeout=timeout)
    latest = {} if latest is None else latest
    if quiet:
        latest.update((job.id, job) for job in changes)
    elif sys.stderr.isatty():
        _with_bar(changes, latest, launcher.resolve_ids(ids))
    else:
        for job in changes:
            latest[job.id] = job
            note(f"{job.name}\t{job.state}\t{outcome_of(job)}".rstrip())
    return list(latest.values())


def _with_bar(changes: Iterable[Job], latest: dict[str, Job], ids: list[str]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task("", total=len(ids))
        for job in changes:
            latest[job.id] = job
            counts = Counter(one.state for one in latest.values())
            progress.update(
                task,
                completed=sum(one.ended for one in latest.values()),
                description=counts_line(dict(counts)),
            )
