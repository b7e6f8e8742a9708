"""Threads that wait for jobs, as users of `Launcher.wait` do: reads ids, tells when each wait came back."""

from __future__ import annotations

import sys
import threading
import time

from launchq import Launcher


def wait(launcher: Launcher, job_id: str) -> None:
    launcher.wait([job_id])
    # The lock of the stream keeps lines whole.
    sys.stdout.write(f"{job_id} {time.monotonic()}\n")
    sys.stdout.flush()


def main() -> None:
    ids = sys.stdin.readline().split()
    threading.stack_size(256 * 1024)
    with Launcher() as launcher:
        threads = [threading.Thread(target=wait, args=(launcher, job_id), daemon=True) for job_id in ids]
        for thread in threads:
            thread.start()
        sys.stdout.write("started\n")
        sys.stdout.flush()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
