"""The lookup: one pass over the list of the account's instances, for all jobs that do not know what their last call did.

The create call cannot be asked whether it was obeyed, but the account can be asked what it has. A pass serves every job
whose lookup is due; which instance belongs to which job, and what follows, is decided in the ledger (lua/verify.lua), in
one step. Each pass is also the listing by which later attempts tell new instances from old ones.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from config import Settings
from ledger import AsyncLedger, calls
from ledger.calls import AccountNews, Doubt, Finding, HeldToken
from tasks.errors import LedgerError
from tasks.retry import RETRY_AFTER_CAP, RetryPolicy
from worker import clock
from worker.cloud import Cloud, Credential
from worker.instances import Listing, credential_for, list_all

T = TypeVar("T")

logger = logging.getLogger("launchq.lookup")

TURN_SECONDS = 5.0
"""How long the turn to list lasts unless it is renewed: so long does a worker that dies meanwhile hold up the others."""

DOUBTS_AT_ONCE = 2000
"""Jobs that one lookup serves, at most."""

WRITTEN_AT_ONCE = 500
"""Jobs, or instances, that one script call writes."""


class Lookup:
    """Makes lookups for one shift. `api_key` goes before the shared token, as in the create calls."""

    def __init__(
        self,
        settings: Settings,
        ledger: AsyncLedger,
        cloud: Cloud,
        *,
        policy: RetryPolicy,
        api_key: Credential | None,
        key_mark: str,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._cloud = cloud
        self._policy = policy
        self._api_key = api_key
        self._key_mark = key_mark

    async def make(self) -> None:
        """One lookup, if the turn is to be had. LedgerError where Redis is out of reach."""
        asker = uuid.uuid4().hex
        turn = await self._ledger.run(self._turn(asker))
        if not turn.mine:
            return
        credential = credential_for(self._api_key, turn.token)
        if credential is None:
            return  # the turn ends by itself; claims see to the token
        began = clock.now()
        async with self._keeping_the_turn(asker):
            listing = await list_all(self._cloud, credential)
            took = clock.now() - began
            await self._tell_account(listing, turn.token)
            for ids in _groups(list(listing.instances)):
                await self._ledger.run(calls.listed(asker, ids))
            await self._verify(asker, turn.doubts, listing)
        end = "failed" if listing.flaw else "whole"
        await self._ledger.run(calls.listed(asker, (), end=end, took=took))
        if listing.flaw:
            logger.warning("the list of instances could not be read: %s", listing.flaw)
        else:
            await self._ledger.forget_unseen(listing.instances)

    def _turn(self, asker: str) -> calls.Call[calls.Turn]:
        return calls.lookup_turn(
            asker,
            lasts=TURN_SECONDS,
            limit=DOUBTS_AT_ONCE,
            verify_delays=self._settings.verify_delays,
            api_key=self._key_mark,
        )

    @asynccontextmanager
    async def _keeping_the_turn(self, asker: str) -> AsyncIterator[None]:
        async def keep() -> None:
            while True:
                await asyncio.sleep(TURN_SECONDS / 3)
                try:
                    await self._ledger.run(self._turn(asker))
                except LedgerError as error:
                    logger.warning("cannot keep the turn to list: %s", error)

        keeper = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeper.cancel()

    async def _tell_account(self, listing: Listing, token: HeldToken | None) -> None:
        """A token that is not taken, or too many calls, is everybody's business."""
        why = listing.unreadable
        if why is None or not (why.login or why.throttled):
            return
        pause = 0.0
        if why.throttled:
            asked = why.retry_after
            pause = self._policy.ceiling(1) if asked is None else min(asked, RETRY_AFTER_CAP)
        refused = token.version if why.login and token is not None else ""
        news = AccountNews(refused=refused, pause=pause, message=why.why)
        await self._ledger.run(calls.settle((), news, verify_delays=self._settings.verify_delays))

    async def _verify(self, asker: str, doubts: Sequence[Doubt], listing: Listing) -> None:
        by_name: dict[str, list[str]] = defaultdict(list)
        for instance_id, name in listing.instances.items():
            by_name[name].append(instance_id)
        findings = [
            Finding(
                doubt,
                by_name.get(doubt.name, ()),
                self._policy.backoff(doubt.tries, random.random()),  # noqa: S311 (jitter, not a secret)
            )
            for doubt in doubts
        ]
        for group in _groups(findings):
            states = await self._ledger.run(
                calls.verify(
                    asker,
                    group,
                    verify_delays=self._settings.verify_delays,
                    max_attempts=self._policy.max_attempts,
                    flaw=listing.flaw,
                )
            )
            for finding, state in zip(group, states, strict=False):
                if state != "verifying":
                    logger.info("job %s looked up: %s", finding.doubt.id, state)


def _groups(many: Sequence[T]) -> list[Sequence[T]]:
    return [many[at : at + WRITTEN_AT_ONCE] for at in range(0, len(many), WRITTEN_AT_ONCE)]
