"""The pulse: the timer in every worker that starts a shift when something falls due.

There is no beat process to run beside the workers, and none to lose. It lives in the worker's main process, looks at
the ledger once a second (sooner when a job falls due sooner), and sends a wake-up that any idle child may take.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from config import Settings
from ledger import Ledger, calls
from tasks.errors import LedgerError, OutdatedError
from worker.claims import read_claims
from worker.tokens import fingerprint_of

logger = logging.getLogger("launchq.pulse")

BEAT_SECONDS = 1.0
"""The longest time between two beats. Each is up to a third shorter by chance: beats in step with the one-second reads of
Celery's workers would hand every wake-up to the same worker, even to one that can do nothing with it."""

SHORTEST_BEAT = 0.01
TIDY_SECONDS = 60.0
"""Between two looks at what is past its retention, and at whether Redis is still fit to keep the ledger."""


TIDY_AT_ONCE = 1000
"""Jobs that one script call forgets, so that it holds up nobody."""


class Pulse(threading.Thread):
    """One worker's pulse."""

    _running: Pulse | None = None

    def __init__(self, settings: Settings, *, wake_up: Callable[[], None]) -> None:
        super().__init__(name="launchq-pulse", daemon=True)
        self._settings = settings
        self._ledger = Ledger.of(settings)
        self._wake_up = wake_up
        self._stopping = threading.Event()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._lost = False
        self._greeted = False
        self._outdated = False
        self._tidied = float("-inf")

    @classmethod
    def start_one(cls, settings: Settings, *, wake_up: Callable[[], None]) -> None:
        """Start this process' pulse."""
        cls._running = cls(settings, wake_up=wake_up)
        cls._running.start()

    @classmethod
    def stop_one(cls) -> None:
        """Stop this process' pulse."""
        if cls._running is not None:
            cls._running.stop()
            cls._running = None

    def stop(self) -> None:
        """Beat no more; the worker is no longer listed."""
        self._stopping.set()
        self.join(timeout=2 * BEAT_SECONDS)
        with suppress(LedgerError):  # the list forgets a silent worker by itself, only later
            self._ledger.forget_worker(self._worker)
        self._ledger.close()

    def run(self) -> None:
        """Beat until stopped."""
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self._beat()
                if self._lost:
                    logger.warning("Redis is back")
                    self._lost = False
            except OutdatedError as error:
                if not self._outdated:
                    logger.warning(
                        "%s; until then it launches nothing new, it only ends what it has begun", error
                    )
                    self._outdated = True
                wait = BEAT_SECONDS
            except LedgerError as error:
                if not self._lost:
                    logger.warning("%s; the pulse goes on when it is back", error)
                    self._lost = True
                wait = BEAT_SECONDS

    def _beat(self) -> float:
        if not self._greeted:
            self._greet()
            self._greeted = True
        tidies = time.monotonic() - self._tidied > TIDY_SECONDS
        if tidies:
            self._look_at_redis()
            self._tidied = time.monotonic()
        wake, next_due = self._ledger.run(
            calls.tick(
                self._worker,
                credentials=fingerprint_of(self._settings),
                has_api_key=self._settings.api_key is not None,
                verify_delays=self._settings.verify_delays,
            )
        )
        if wake:
            self._send_wake_up()
        if (
            tidies
            and self._ledger.run(calls.tidy(self._settings.retention, limit=TIDY_AT_ONCE)) >= TIDY_AT_ONCE
        ):
            self._tidied = float("-inf")  # there is more, for the next beat
        beat = BEAT_SECONDS * random.uniform(2 / 3, 1)  # noqa: S311 (rhythm, not a secret)
        if next_due is None or next_due <= 0:
            return beat
        return min(beat, max(next_due, SHORTEST_BEAT))

    def _look_at_redis(self) -> None:
        """A Redis that began to evict stops all claims, for all to see, until it no longer does."""
        why = self._ledger.evicts()
        if self._ledger.run(calls.evicting(why)):
            logger.error("the account is blocked: %s", why) if why else logger.info("Redis evicts no longer")

    def _send_wake_up(self) -> None:
        try:
            self._wake_up()
        except Exception as error:  # noqa: BLE001 (each broker has errors of its own, and the next beat tries again)
            logger.warning("no wake-up could be sent: %s", error)

    def _greet(self) -> None:
        """New credentials or a new token in this worker's settings are put to use."""
        if self._ledger.run(calls.greet(fingerprint_of(self._settings))):
            logger.info("the account is open again: these credentials have not been refused yet")
        if self._settings.access_token is None:
            return
        token = self._settings.access_token.get_secret_value()
        ends = read_claims(token).get("exp")
        if ends is not None and ends <= self._ledger.time():  # not this machine's clock, which may be off
            logger.warning("LAUNCHQ_ACCESS_TOKEN has ended; it is not used")
            return
        adopt = hashlib.sha256(token.encode()).hexdigest()
        expires_at = None if ends is None else int(ends)
        vault = self._ledger.vault
        if self._ledger.run(
            calls.store_token(token, source="environment", vault=vault, expires_at=expires_at, adopt=adopt)
        ):
            logger.info("LAUNCHQ_ACCESS_TOKEN is now the token of all workers")
