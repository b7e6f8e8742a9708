"""The ledger's events for all clients of the board: one reader of Redis, however many watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from ledger import AsyncLedger
from tasks.errors import LedgerError

logger = logging.getLogger("launchq.board")

Event = tuple[str, dict[str, str]]
"""Its id, and its fields; see docs/redis.md."""

BACKLOG = 2000
"""Events that may wait for one slow client; one that is further behind is let go, and comes back with the last id it saw."""

AGAIN = 1.0
"""Seconds after which a Redis that went away is asked again."""


class Watcher:
    """One client's share of the events. `behind`: it missed some."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        self.behind = False

    def put(self, event: Event | None) -> None:
        """Hand on one event, or (None) that there will be no more."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.behind = True

    async def next(self, patience: float | None = None) -> Event | None:
        """The next event; None where there will be no more. TimeoutError after that many seconds without one."""
        async with asyncio.timeout(patience):
            return None if self.behind and self._waiting.empty() else await self._waiting.get()


class Hub:
    """Reads the stream while the board runs, and hands each event to whoever watches."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._watchers: set[Watcher] = set()
        self._reader: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watchers)

    async def start(self) -> None:
        """Begin with what happens from now on."""
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """End the reading, and everybody's watching."""
        self.close()
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    def close(self) -> None:
        """Let all who watch go: the service is about to stop."""
        self.closed = True
        for watcher in self._watchers:
            watcher.put(None)

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """A share in all that happens from now on."""
        watcher = Watcher()
        self._watchers.add(watcher)
        if self.closed:
            watcher.put(None)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def _read(self) -> None:
        after = ""
        while True:
            try:
                after = after or await self._ledger.last_event()
                for event in await self._ledger.events(after, block=4.0):
                    after = event[0]
                    for watcher in self._watchers:
                        watcher.put(event)
            except LedgerError as error:
                logger.warning("the events cannot be read, asked again in %.0f s: %s", AGAIN, error)
                await asyncio.sleep(AGAIN)


async def follow(hub: Hub, ledger: AsyncLedger, after: str = "") -> AsyncIterator[Event]:
    """All events after this one, what has happened already first; with "", only what happens from now on."""
    with hub.watch() as watcher:
        last = after
        while last and (missed := await ledger.events(last)):
            for event in missed:
                yield event
                last = event[0]
        while (event_or_end := await watcher.next()) is not None:
            if not last or later(event_or_end[0], last):
                yield event_or_end


def later(one: str, other: str) -> bool:
    """Whether an event's id comes after another's."""
    return _numbers(one) > _numbers(other)


def _numbers(event_id: str) -> tuple[int, int]:
    time, _, sequence = event_id.partition("-")
    return int(time), int(sequence or 0)
