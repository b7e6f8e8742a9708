"""Progress: a bar at a terminal, a line for each step elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """A `Teller` for people."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._title = ""
        self._began = time.monotonic()
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[step]}"),
            )  # fmt: skip
            self._progress = Progress(*columns, console=self._console)

    def begin(self, title: str, steps: int) -> None:
        """A scenario of so many steps begins."""
        self._title = title
        if self._progress is not None:
            self._tasks = self._progress.add_task(title, total=max(1, steps), step="")
        else:
            self.line(f"{title}: {steps} steps")

    def step(self, text: str) -> None:
        """A step is done, and this came of it."""
        if self._progress is not None:
            self._progress.update(self._tasks, advance=1, step=text)
        else:
            self.line(f"{self._title}: {text}")

    def line(self, text: str) -> None:
        """Something to be read, with the seconds since the beginning in front."""
        self._console.print(
            f"{time.monotonic() - self._began:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
