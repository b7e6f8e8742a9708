"""Processes that a benchmark starts, and what they use of the machine: CPU time and memory of whole process trees."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent


PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends, however that ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def clean_environment(**more: str) -> dict[str, str]:
    """This process' environment without any setting of launchq, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAUNCHQ_", "CELERY_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


class Child:
    """A process with all that it starts, in a session of its own; what it says goes to a log unless it is asked for."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        pipes: bool = False,
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                list(command),
                env=dict(environment) if environment is not None else clean_environment(),
                cwd=folder,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else stream,
                stderr=stream,
                text=True,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  no thread of ours holds a lock meanwhile
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process itself has ended."""
        return self._process.poll() is not None

    def ask(self, line: str) -> str:
        """Write one line to its standard input and read one from its standard output."""
        self._pipe(self._process.stdin).write(line + "\n")
        self._pipe(self._process.stdin).flush()
        return self.read_line()

    def read_line(self) -> str:
        """The next line of its standard output. RuntimeError where it ended instead."""
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"a process ended; its log ends with:\n{self.log_end()}")
        return line.strip()

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End the process and all that it started, by force where it takes over 10 s."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def log_end(self) -> str:
        """The last words of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None, "started without pipes"
        return pipe


def cpu_seconds(children: Sequence[Child]) -> float:
    """CPU time so far of these processes and their descendants, user and system."""
    total = 0.0
    for child in children:
        for process in child.tree():
            with suppress(psutil.NoSuchProcess):
                times: Any = process.cpu_times()
                total += times.user + times.system
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(child.pid).cpu_times()
            total += times.children_user + times.children_system
    return total


def cpu_of(pid: int) -> float:
    """CPU time so far of one process, in seconds."""
    times: Any = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def memory(children: Sequence[Child]) -> tuple[int, int]:
    """Resident and proportional (shared pages divided among those who share them) bytes of process trees."""
    resident = proportional = 0
    for child in children:
        for process in child.tree():
            with suppress(psutil.NoSuchProcess):
                info: Any = process.memory_full_info()
                resident += info.rss
                proportional += info.pss
    return resident, proportional


def wait_for(what: str, condition: Callable[[], T], *, timeout: float = 60.0, interval: float = 0.05) -> T:
    """The first true value of `condition`. RuntimeError after `timeout` seconds, saying `what` did not happen."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)
