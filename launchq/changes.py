"""Changes of jobs, told to the threads that wait for them: one reader of the ledger's events for all of them."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from ledger import Ledger
from tasks.errors import LedgerError

BLOCK_SECONDS = 4.0
"""How long one read waits for the next event. A reader that nobody needs any more ends within this time."""


class Watcher:
    """One thread that waits."""

    def __init__(self) -> None:
        self._told: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def tell(self, news: list[str] | Exception) -> None:
        """That these jobs have changed, or why no more will be told."""
        self._told.put(news)

    def wait(self, seconds: float) -> set[str]:
        """The ids of the jobs that have changed since the last time; waits for the first of them so long at the most.

        LedgerError where the events can no longer be read.
        """
        changed: set[str] = set()
        until = time.monotonic() + seconds
        while True:
            try:
                news = self._told.get(timeout=0.0 if changed else max(0.0, until - time.monotonic()))
            except Empty:
                return changed
            if isinstance(news, Exception):
                raise LedgerError(str(news)) from news
            changed.update(news)


class Changes:
    """The changes of a ledger's jobs, read while anybody watches. Safe to share between threads, and to take through a fork."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)  # of each job
        self._reading = False

    @contextmanager
    def of(self, job_ids: Iterable[str]) -> Iterator[Watcher]:
        """Within it, the watcher is told every change of these jobs, those before its first `wait` too.

        LedgerError where Redis is out of reach.
        """
        if self._process != os.getpid():  # the reader stayed with the parent
            self._begin()
        watched, watcher = set(job_ids), Watcher()
        with self._lock:
            if not self._reading:
                # The thread waits for the lock before it looks whether anybody watches.
                last = self._ledger.last_event()
                threading.Thread(target=self._read, args=(last,), name="launchq-events", daemon=True).start()
                self._reading = True
            for job_id in watched:
                self._watchers[job_id].add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                for job_id in watched & self._watchers.keys():
                    self._watchers[job_id].discard(watcher)
                    if not self._watchers[job_id]:
                        del self._watchers[job_id]

    def _read(self, after: str) -> None:
        while True:
            with self._lock:
                if not self._watchers:
                    self._reading = False
                    return
            try:
                events = self._ledger.events(after, block=BLOCK_SECONDS)
            except Exception as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
                with self._lock:
                    watchers = set().union(*self._watchers.values())
                    self._watchers.clear()
                    self._reading = False
                for watcher in watchers:
                    watcher.tell(error)
                return
            after = events[-1][0] if events else after
            news: defaultdict[Watcher, list[str]] = defaultdict(list)
            with self._lock:
                for _, fields in events:
                    job_id = fields.get("job", "")
                    for watcher in self._watchers.get(job_id, ()):
                        news[watcher].append(job_id)
            for watcher, changed in news.items():
                watcher.tell(changed)
