"""What a run shows: a line of progress while it goes on, and a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from chaos.run import Result
from chaos.tally import UNCERTAIN_AT_MOST

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress where no terminal is."""

ROWS: Sequence[tuple[str, Callable[[Result], Any]]] = (
    ("names", lambda run: run.names),
    ("jobs asked for", lambda run: run.tally.asked),
    ("succeeded", lambda run: run.tally.succeeded),
    ("failed", lambda run: run.tally.failed),
    ("uncertain", lambda run: run.tally.uncertain),
    ("not ended", lambda run: run.tally.not_ended),
    ("instances in the cloud", lambda run: run.tally.instances),
    ("jobs LOST", lambda run: len(run.tally.lost)),
    ("jobs bought TWICE", lambda run: len(run.tally.twice)),
    ("  instances too many", lambda run: run.tally.surplus),
    ("instances nobody knows", lambda run: len(run.tally.orphans)),
    ("create calls", lambda run: run.cloud["creates"]),
    ("  that met a fault", lambda run: _share(run.faults_met, run.cloud["creates"])),
    ("list calls", lambda run: run.cloud["calls"].get("list", 0)),
    ("logins", lambda run: run.cloud["logins"]["ok"]),
    ("workers killed", lambda run: run.blows.workers_killed),
    ("  ended by themselves", lambda run: run.blows.workers_ended),
    ("Redis killed", lambda run: run.blows.redis_killed),
    ("seconds", lambda run: f"{run.seconds:.0f}{' (hard end)' if run.timed_out else ''}"),
    ("promise", lambda run: "broken" if run.broken else "kept"),
)
"""The rows of the table, and where each takes its cell from."""


def print_table(runs: Sequence[Result]) -> None:
    """All runs side by side: drawn at a terminal, tab-separated when piped."""
    head = ["", *(run.subject for run in runs)]
    rows = [[title, *(str(cell(run)) for run in runs)] for title, cell in ROWS]
    if not sys.stdout.isatty():
        for row in (head, *rows):
            click.echo("\t".join(row))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, title in enumerate(head):
            table.add_column(title, justify="right" if number else "left")
        for row in rows:
            capitals = any(word.isupper() for word in row[0].split())
            bad = capitals and any(cell != "0" for cell in row[1:])
            table.add_row(*row, style="bold red" if bad else "bold" if capitals else "")
        Console().print(table)
    for run in runs:
        for line in run.broken:
            click.echo(f"{run.subject}, {run.names} names: {line}")
    if any(run.subject == "launchq" and run.names == "unique" for run in runs):
        click.echo(
            f"The promise: 0 lost, 0 bought twice, no instance that nobody knows; with unique names "
            f"at most {UNCERTAIN_AT_MOST:.0%} uncertain."
        )


class Progress:
    """A context manager; what it gives is called with seconds, jobs by state, and workers killed. Writes to stderr."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = -PLAIN_EVERY
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, seconds: float, counts: Mapping[str, int], killed: int) -> None:
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()) if number)
        line = f"{self._title}: {seconds:.0f} s, {killed} workers killed; {states}"
        if self._live is not None:
            self._live.update(line, refresh=True)
        elif seconds - self._last >= PLAIN_EVERY:
            self._last = seconds
            click.echo(line, err=True)


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if whole else "0"
