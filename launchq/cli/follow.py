"""Watching jobs until they end: a live picture at a terminal, a line for each change when piped. All on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from launchq.cli.output import Exit, counts_line, exit_code_of, note, outcome_of
from launchq.launcher import Launcher
from tasks.jobs import Job
from tasks.states import ENDS, State

if TYPE_CHECKING:
    from rich.console import RenderableType

WINDOW = 30.0
"""Seconds that the rate looks back on."""

ERRORS_SHOWN = 5


class Tally:
    """Where jobs stand: counts, the rate at which they end, and their errors. `now` is in seconds of any steady clock."""

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.began = now
        self.latest: dict[str, Job] = {}
        self.counts: Counter[State] = Counter()
        self.errors: dict[str, int] = {}
        """Message -> how many jobs have it now; the one that came up last is the last."""
        self._ends: deque[float] = deque()

    def update(self, job: Job, now: float) -> None:
        """Take in a job as it is now."""
        old = self.latest.get(job.id)
        self.latest[job.id] = job
        if old is not None:
            self.counts[old.state] -= 1
            message = _message(old)
            if message in self.errors:
                self.errors[message] -= 1
                if not self.errors[message]:
                    del self.errors[message]
            if job.ended and not old.ended:
                self._ends.append(now)
        self.counts[job.state] += 1
        if message := _message(job):
            self.errors[message] = self.errors.pop(message, 0) + 1

    @property
    def by_state(self) -> dict[State, int]:
        """How many jobs are in each state, in the order of the table of states."""
        return {state: self.counts[state] for state in State if self.counts[state]}

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return sum(count for state, count in self.counts.items() if state in ENDS)

    def rate(self, now: float) -> float:
        """Jobs that ended in a second, lately."""
        while self._ends and self._ends[0] < now - WINDOW:
            self._ends.popleft()
        return len(self._ends) / max(1.0, min(WINDOW, now - self.began))

    def left(self, now: float) -> float | None:
        """Seconds until all have ended, if it goes on like this; None where that cannot be said."""
        rate = self.rate(now)
        return (self.total - self.ended) / rate if rate else None

    def latest_errors(self) -> list[tuple[str, int]]:
        """Messages, the latest first, and how many jobs have each."""
        return list(self.errors.items())[: -ERRORS_SHOWN - 1 : -1]


def _message(job: Job) -> str:
    return " ".join(job.error.message.split()) if job.error and job.state is not State.SUCCEEDED else ""


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
    ids = list(ids)
    changes = launcher.watch(ids, timeout=timeout)
    latest = {} if latest is None else latest
    if quiet:
        latest.update((job.id, job) for job in changes)
    elif sys.stderr.isatty():
        _live(changes, len(launcher.resolve_ids(ids)), latest)
    else:
        for job in changes:
            latest[job.id] = job
            note(f"{job.name}\t{job.state}\t{outcome_of(job)}".rstrip())
    return list(latest.values())


def how_it_ended(launcher: Launcher, jobs: Iterable[Job]) -> Exit:
    """The exit code of a command that waited for these jobs. Says so where the rest of them is held."""
    jobs = list(jobs)
    waiting = [job for job in jobs if not job.ended]
    held = launcher.held_after_failures(waiting) if waiting else []
    if not held:
        return exit_code_of(jobs)
    words = " ".join(held)
    note(
        f"{len(waiting)} jobs are held, since too many of {words} failed: `launchq resume {words}` has the rest go on, "
        f"`launchq retry {words}` tries those that failed again too, `launchq cancel {words}` takes the rest back"
    )
    return Exit.JOB_FAILED


def _live(changes: Iterable[Job], total: int, latest: dict[str, Job]) -> None:
    from rich.console import Console
    from rich.live import Live

    tally = Tally(total, time.monotonic())
    # The picture is drawn by a thread of its own, so that the time goes on while nothing happens.
    lock = threading.Lock()

    def picture() -> RenderableType:
        with lock:
            return _picture(tally, time.monotonic())

    with Live(console=Console(stderr=True), get_renderable=picture, refresh_per_second=4):
        for job in changes:
            with lock:
                tally.update(job, time.monotonic())
            latest[job.id] = job


def _picture(tally: Tally, now: float) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done = tally.ended >= tally.total
    words = [
        f"{tally.ended}/{tally.total}",
        clock(now - tally.began),
        counts_line(tally.by_state),
    ]
    if not done:
        left = tally.left(now)
        words.append(f"{tally.rate(now):.1f}/s" + (f", about {clock(left)} left" if left is not None else ""))
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(total=max(1, tally.total), completed=tally.ended, width=40), Text(" ".join(words))
    )
    # Once all have ended, whoever watched shows how, and the errors are not said twice.
    errors = [] if done else [Text(f"{count} × {message}") for message, count in tally.latest_errors()]
    return Group(line, *errors)


def clock(seconds: float) -> str:
    """`0:02:30`"""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
