"""Keeping a turn in the ledger: short, so that a worker that dies holds up the others only a moment, and renewed meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from ledger import AsyncLedger, calls
from tasks.errors import LedgerError

logger = logging.getLogger("launchq.turns")

TURN_SECONDS = 5.0
"""How long a turn lasts unless it is renewed."""


@asynccontextmanager
async def kept(ledger: AsyncLedger, which: Literal["lookup", "login"], asker: str) -> AsyncIterator[None]:
    """Renew a turn of `TURN_SECONDS` while the block runs."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS / 3)
            try:
                await ledger.run(calls.keep_turn(which, asker, lasts=TURN_SECONDS))
            except LedgerError as error:
                logger.warning("cannot keep a turn: %s", error)

    keeper = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeper.cancel()
