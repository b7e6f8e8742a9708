"""Stock before probes: a thread in every worker that reads the console's catalogue before a sold-out lane is probed.

Where the catalogue shows that there is none, the probe, which is a create call, is put off for another interval; one of ten
is made all the same, since the catalogue is in no document of the API and may be wrong. Where it cannot be read, or does not
have the kind of instance, nothing is different: the probe goes when it is due, and nobody waits for the catalogue.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from config import Settings
from ledger import Ledger, stock
from tasks.catalogue import IN_STOCK, Catalogue, offer_of_lane
from tasks.errors import LedgerError
from worker.offers import ask_catalogue

logger = logging.getLogger("launchq.stock")

LOOK_SECONDS = 5.0
"""The longest time between two looks at the ledger, while no lane is sold out."""

LEAD_SECONDS = 2.0
"""So long before a probe the catalogue is read, at most; a quarter of the interval, where that is shorter."""

PUT_OFF_IN_A_ROW = 9
"""Of ten probes, so many may be put off."""

RETRY_SECONDS, RETRY_CAP_SECONDS = 60.0, 900.0
"""After a reading that failed, the next one; each failure in a row doubles it, up to the cap."""


class Stock(threading.Thread):
    """One worker's reader of the catalogue."""

    _running: Stock | None = None

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="launchq-stock", daemon=True)
        self._settings = settings
        self._interval = settings.capacity_interval
        self._ledger = Ledger.of(settings)
        self._stopping = threading.Event()

    @classmethod
    def start_one(cls, settings: Settings) -> None:
        """Start this process' reader."""
        cls._running = cls(settings)
        cls._running.start()

    @classmethod
    def stop_one(cls) -> None:
        """Stop this process' reader; one that is in the middle of a reading is left to end with the process."""
        if cls._running is not None:
            cls._running._stopping.set()
            cls._running = None

    def run(self) -> None:
        """Look until stopped."""
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.look()
            except LedgerError:
                wait = LOOK_SECONDS  # which the pulse has said
            except Exception:
                logger.exception("the catalogue's reader failed")
                wait = RETRY_SECONDS
        self._ledger.close()

    def look(self) -> float:
        """Read the catalogue if it is time; the seconds until the next look."""
        rate = self._settings.rate_limit
        rhythm = rhythm_of(self._interval, rate)
        longest = min(LOOK_SECONDS, max(self._interval / 4, 0.05))
        look = self._ledger.run(
            stock.take(
                lead=rhythm.lead,
                window=rhythm.window,
                lasts=self._settings.request_timeout + RETRY_SECONDS,
                rate=rate,
            )
        )
        if not look.lanes:
            return longest if look.wait is None else min(longest, look.wait)
        found = asyncio.run(ask_catalogue(self._settings, self._ledger))
        if isinstance(found, Catalogue):
            why, empty = "", {lane: self._interval * _jitter() for lane in without_stock(found, look.lanes)}
        else:
            why, empty = found.why, {}
            logger.info("the catalogue cannot be read, so stock is unknown: %s", why)
        put_off = self._ledger.run(
            stock.told(
                empty,
                why=why,
                rest=RETRY_SECONDS if why else rhythm.rest,
                longest=RETRY_CAP_SECONDS,
                in_a_row=PUT_OFF_IN_A_ROW,
            )
        )
        if put_off:
            logger.debug("%d probes put off: the catalogue shows no stock", put_off)
        return 0.0


@dataclass(frozen=True)
class Rhythm:
    """When the catalogue is read, in seconds: `lead` before a probe, `rest` after the last reading, for probes within `window`."""

    lead: float
    rest: float

    @property
    def window(self) -> float:
        """All that would be probed before the next reading could tell."""
        return self.rest + self.lead


def rhythm_of(interval: float, rate: float) -> Rhythm:
    """The rhythm for probes each `interval` seconds and a budget of `rate` calls a second; 0 is any number.

    Of a small budget no more than half goes into readings.
    """
    return Rhythm(min(LEAD_SECONDS, interval / 4), max(interval / 2, 2 / rate if rate else 0))


def without_stock(catalogue: Catalogue, lanes: Iterable[str]) -> Iterator[str]:
    """Those of these lanes that the catalogue has, and shows without stock."""
    for lane in lanes:
        offer = offer_of_lane(catalogue, lane)
        if offer is not None and offer.stock is not None and offer.stock != IN_STOCK:
            yield lane


def _jitter() -> float:
    return 0.9 + 0.2 * random.random()  # noqa: S311 (rhythm, not a secret)
