"""The producer of every peer: runs in the peer's own environment and folder, and enqueues through its `app.enqueue(body)`.

`produce.py fill N` enqueues N jobs in a loop and prints the seconds that the loop took. `produce.py one` reads names from
standard input, enqueues one job for each, and prints the machine's monotonic clock from right before.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())

import app

template = json.loads(Path(os.environ["BENCH_TEMPLATE"]).read_text(encoding="utf-8"))


async def enqueue(name: str) -> None:
    """Enqueue one job by whatever the peer has."""
    put: Callable[[Any], Awaitable[None] | None] = app.enqueue
    if inspect.isawaitable(waiting := put({**template, "name": name})):
        await waiting


async def run(what: str, jobs: int) -> None:
    if hasattr(app, "connect"):
        await app.connect()
    if what == "fill":
        began = time.monotonic()
        for number in range(jobs):
            await enqueue(f"job-{number:07d}")
        print(time.monotonic() - began, flush=True)
    else:
        for line in iter(sys.stdin.readline, ""):
            began = time.monotonic()
            await enqueue(line.strip())
            print(began, flush=True)
    if hasattr(app, "disconnect"):
        await app.disconnect()


asyncio.run(run(sys.argv[1], int((sys.argv[2:] or ["0"])[0])))
