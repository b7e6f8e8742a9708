"""Threads that wait for jobs, as users of `Launcher` do: reads ids, tells which wait, and when each wait came back.

The argument is how many threads share a `Launcher`. A wait that fails is told as one that came back with `failed`.
"""

from __future__ import annotations

import sys
import threading
import time

from launchq import Launcher
from tasks.errors import LaunchqError


def wait(launcher: Launcher, job_id: str) -> None:
    try:
        for job in launcher.watch([job_id]):
            if not job.ended:
                tell(f"{job_id} waits")
        came_back = str(time.monotonic())
    except LaunchqError as error:
        came_back = "failed"
        sys.stderr.write(f"{error}\n")
    tell(f"{job_id} {came_back}")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")  # in one go, so that lines stay whole
    sys.stdout.flush()


def main() -> None:
    ids = sys.stdin.readline().split()
    threading.stack_size(256 * 1024)
    share = int(sys.argv[1])
    launchers = [Launcher() for _ in range(0, len(ids), share)]
    threads = [
        threading.Thread(target=wait, args=(launchers[number // share], job_id), daemon=True)
        for number, job_id in enumerate(ids)
    ]
    tell("started")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
