"""Long polls: an answer once something has ended, or the time is over. All of them listen to the one reader of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from launchq.board.events import Hub

T = TypeVar("T")

LONGEST = 120.0
"""Seconds that one request may wait."""

CHECK_SECONDS = 5.0
"""How often what is waited for is looked at itself, whatever the events say."""

REST = 0.1
"""Seconds between two looks: a batch under way has many events."""


async def until_ended(
    hub: Hub,
    look: Callable[[], Awaitable[T]],
    *,
    ended: Callable[[T], bool],
    concerns: Callable[[dict[str, str]], bool],
    patience: float,
) -> tuple[T, bool]:
    """What `look` finds once it has `ended`, or `patience` seconds are over; which of the two: True is too late.

    `concerns` says whether an event (by its fields) is a reason to look again.
    """
    deadline = time.monotonic() + patience
    with hub.watch() as watcher:
        while True:
            found = await look()
            if ended(found):
                return found, False
            left = deadline - time.monotonic()
            if left <= 0 or hub.closed:
                return found, True
            try:
                async with asyncio.timeout(min(left, CHECK_SECONDS)):
                    while (event := await watcher.next()) is not None and not concerns(event[1]):
                        pass
                    await asyncio.sleep(REST)
            except TimeoutError:
                continue
            if watcher.behind:
                await asyncio.sleep(min(left, CHECK_SECONDS))
