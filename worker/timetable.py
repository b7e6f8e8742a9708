"""The timetable: the thread in every worker that makes the batches of recurring schedules when their time has come.

It stands beside the pulse, so that a large fleet does not hold up the pulse's beats. A trigger makes one batch however many
workers see it: the batch's name is the trigger's, and entering an entry that its batch has already enters nothing. Whoever
comes after a worker that died half-way so enters the other half, and a schedule moves on only from the trigger that was run.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from config import Settings
from ledger import Ledger, calls, schedules
from ledger.schedules import Taken
from tasks.errors import InputError, LedgerError, OutdatedError, RefusedError
from tasks.schedules import Decision, Result, batch_of, decide, submissions

logger = logging.getLogger("launchq.timetable")

LOOK_SECONDS = 1.0
"""The longest time between two looks; each is up to a third shorter by chance, so that workers do not look in step."""

SHORTEST_LOOK = 0.01
TURN_SECONDS = 2.0
"""How long a turn to run a schedule lasts unless it is kept. Others wait no longer for a worker that died in it."""

RETRY_SECONDS = 10.0
"""After this, a worker tries again to run what it could not. Others may try meanwhile: they may have the key that it lacks."""


class Timetable(threading.Thread):
    """One worker's timetable."""

    _running: Timetable | None = None

    def __init__(self, settings: Settings, *, wake_up: Callable[[], None]) -> None:
        super().__init__(name="launchq-timetable", daemon=True)
        self._settings = settings
        self._ledger = Ledger.of(settings)
        self._wake_up = wake_up
        self._stopping = threading.Event()
        self._asker = f"{socket.gethostname()}:{os.getpid()}"
        self._put_off: dict[str, float] = {}
        self._lost = False

    @classmethod
    def start_one(cls, settings: Settings, *, wake_up: Callable[[], None]) -> None:
        """Start this process' timetable."""
        cls._running = cls(settings, wake_up=wake_up)
        cls._running.start()

    @classmethod
    def stop_one(cls) -> None:
        """Stop this process' timetable."""
        if cls._running is not None:
            cls._running.stop()
            cls._running = None

    def stop(self) -> None:
        """Run no more schedules. One that is being run is left half-way, for another worker or for later."""
        self._stopping.set()
        self.join(timeout=2 * LOOK_SECONDS)
        self._ledger.close()

    def run(self) -> None:
        """Look until stopped."""
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.look()
                self._lost = False
            except OutdatedError:
                wait = LOOK_SECONDS  # which the pulse has said
            except LedgerError as error:
                if not self._lost:
                    logger.warning("schedules wait: %s", error)
                    self._lost = True
                wait = LOOK_SECONDS

    def look(self) -> float:
        """Run all that is due; the seconds until the next look."""
        while not self._stopping.is_set():
            now = time.monotonic()
            self._put_off = {name: until for name, until in self._put_off.items() if until > now}
            taken, wait = self._ledger.run(
                schedules.take(self._asker, lasts=TURN_SECONDS, without=self._put_off)
            )
            if taken is None:
                longest = LOOK_SECONDS * random.uniform(2 / 3, 1)  # noqa: S311 (rhythm, not a secret)
                return longest if wait is None else min(longest, max(wait, SHORTEST_LOOK))
            self._settle(taken)
        return 0.0

    def _settle(self, taken: Taken) -> None:
        """Run one trigger, or note why not."""
        name, batch = taken.schedule.name, batch_of(taken.schedule, taken.trigger)
        try:
            begun = self._ledger.run(calls.batch(batch)) is not None
            decision = decide(
                taken.schedule,
                taken.trigger,
                taken.now,
                begun=begun,
                busy=taken.busy,
                longest=self._settings.retention,
            )
            if decision.result is Result.RAN:
                try:
                    if not self._enter(taken, batch):
                        self._ledger.run(schedules.let_go(taken, asker=self._asker))
                        return
                except (RefusedError, InputError) as error:
                    # No later try ends otherwise: somebody has made a batch of this name with other contents.
                    decision = Decision(Result.FAILED, str(error), decision.next)
            if self._ledger.run(schedules.move(taken, decision, asker=self._asker, batch=batch)):
                logger.info("schedule %s: %s %s %s", name, batch, decision.result, decision.message)
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 (one schedule must not stop the others)
            logger.warning("schedule %s cannot be run: %s", name, error)
            self._put_off[name] = time.monotonic() + RETRY_SECONDS
            self._ledger.run(schedules.let_go(taken, asker=self._asker, error=str(error) or repr(error)))

    def _enter(self, taken: Taken, batch: str) -> bool:
        """Enter the jobs of a run, a part at a time. False where that ends half-way: the turn is over, or the worker."""
        for index in range(taken.schedule.parts):
            keep = schedules.part(taken.schedule, index, asker=self._asker, lasts=TURN_SECONDS)
            sealed = None if self._stopping.is_set() else self._ledger.run(keep)
            if sealed is None:
                return False
            text = self._ledger.vault.open(sealed)
            jobs = submissions(text, late=taken.now - taken.trigger, new_id=lambda: str(uuid.uuid4()))
            if self._ledger.enqueue(jobs, batch=batch, limits=schedules.limits_of(taken.schedule)).wake:
                # Without it, a pulse finds them.
                with suppress(Exception):
                    self._wake_up()
        return True
