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
from collections.abc import Iterator, Sequence
from typing import TypeVar

from config import Settings
from ledger import AsyncLedger, calls
from ledger.calls import AccountNews, Doubt, Finding, HeldToken
from tasks.listing import Unreadable
from tasks.retry import RETRY_AFTER_CAP, RetryPolicy
from worker import clock
from worker.cloud import Cloud, Credential
from worker.instances import Listing, credential_for, list_all
from worker.turns import TURN_SECONDS, kept

T = TypeVar("T")

logger = logging.getLogger("launchq.lookup")

DOUBTS_AT_ONCE = 2000
"""Jobs that one lookup serves, at most."""

TOKEN_PATIENCE = 5.0
"""Seconds to wait for another token when one ends while the list is read."""

IDS_AT_ONCE = 5000
"""Ids of instances that one script call looks at, so that none holds up Redis for long."""

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
        turn = await self._ledger.run(
            calls.lookup_turn(
                asker,
                lasts=TURN_SECONDS,
                limit=DOUBTS_AT_ONCE,
                verify_delays=self._settings.verify_delays,
                api_key=self._key_mark,
                vault=self._ledger.vault,
            )
        )
        if not turn.mine:
            return
        credential = credential_for(self._api_key, turn.token)
        if credential is None:
            # Claims see to the token; a worker that cannot open it leaves the turn to others.
            await self._ledger.run(calls.listed(asker, (), end="given up"))
            return
        began = clock.now()
        async with kept(self._ledger, "lookup", asker):
            token = turn.token

            async def renew() -> Credential | None:
                nonlocal token
                token = await self._newer_token(token) if token is not None else None
                return credential_for(None, token)

            listing = await list_all(self._cloud, credential, renew)
            took = clock.now() - began
            await self._tell_of_throttling(listing.unreadable)
            for ids in _groups(list(listing.instances)):
                await self._ledger.run(calls.listed(asker, ids))
            await self._verify(asker, turn.doubts, listing)
        end = "failed" if listing.flaw else "whole"
        await self._ledger.run(calls.listed(asker, (), end=end, took=took))
        if listing.flaw:
            logger.warning("the list of instances could not be read: %s", listing.flaw)
        else:
            await self._ledger.forget_unseen(listing.instances)

    async def _newer_token(self, refused: HeldToken) -> HeldToken | None:
        """Tell everybody that this token is not taken, and wait a moment for the next: whoever claims makes one."""
        news = AccountNews(refused=refused.version)
        await self._ledger.run(calls.settle((), news, verify_delays=self._settings.verify_delays))
        until = clock.now() + TOKEN_PATIENCE
        while clock.now() < until:
            token = await self._ledger.run(calls.held_token(vault=self._ledger.vault))
            if token is not None and token.version != refused.version:
                return token
            await asyncio.sleep(TOKEN_PATIENCE / 100)
        return None

    async def _tell_of_throttling(self, why: Unreadable | None) -> None:
        """Too many calls are everybody's business."""
        if why is None or not why.throttled:
            return
        asked = why.retry_after
        pause = self._policy.ceiling(1) if asked is None else min(asked, RETRY_AFTER_CAP)
        news = AccountNews(pause=pause, message=why.why)
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
        for group in _light_groups(findings):
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


def _light_groups(findings: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Groups of few jobs with few ids in all: many jobs may have sent one and the same name, and each has all its instances."""
    group: list[Finding] = []
    weight = 0
    for finding in findings:
        if (group and weight + len(finding.instance_ids) > IDS_AT_ONCE) or len(group) == WRITTEN_AT_ONCE:
            yield group
            group, weight = [], 0
        group.append(finding)
        weight += len(finding.instance_ids)
    if group:
        yield group


def _groups(many: Sequence[T]) -> list[Sequence[T]]:
    return [many[at : at + WRITTEN_AT_ONCE] for at in range(0, len(many), WRITTEN_AT_ONCE)]
