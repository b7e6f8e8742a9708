"""Sending notices: a thread in every worker that has addresses, beside the pulse and never in its way.

What is to be told stands in the ledger (lua/outbox.lua), and so does who sends it: each message goes through one worker at
a time, and again until the service has taken it. Only addresses and secrets are here, in the worker's settings: no log, no
error and nothing in Redis holds one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from config import Settings
from config.addresses import Address
from ledger import AsyncLedger
from ledger.notices import Message, posted, take_messages
from tasks.errors import LedgerError
from tasks.notices import Notice, read_notices
from tasks.retry import RETRY_AFTER_CAP, RetryPolicy
from tasks.webhooks import Outcome, Post, judge, post_for
from worker.cloud import retry_after
from worker.transport import (
    Call,
    Peer,
    Stage,
    aiohttp_transport,
    current_call,
    failed,
    out_of_time,
    read_answer,
)

logger = logging.getLogger("launchq.notices")

BEAT_SECONDS = 1.0
"""The longest time between two looks at the ledger; each is up to a third shorter by chance."""

POST_SECONDS = 10.0
"""For one POST, from the name's lookup to the answer's end."""

LEASE_SECONDS = POST_SECONDS + 5
"""For so long a message is its sender's: after that, another worker takes it for lost and sends it again."""

RETRIES = RetryPolicy(base=2.0, cap=600.0)
"""Seconds until the second try; each wait is twice the one before, up to the cap, and up to half shorter by chance."""

MAX_ANSWER = 1 << 16
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class _Receiver(Peer):
    """Whom a notice is for, without its name: an address is a secret."""

    def __str__(self) -> str:
        return "the receiver"


_RECEIVER = _Receiver("of the receiver", 0, POST_SECONDS, POST_SECONDS)


class Sender:
    """Sends notices to addresses: `async with Sender(prefix) as sender`. TLS is verified, no redirect is followed."""

    def __init__(self, prefix: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._prefix = prefix
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        transport = self._transport or aiohttp_transport(tls=True)
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def send(self, address: Address, notices: Sequence[Notice], message_id: str) -> Outcome:
        """One try to tell an address these notices. Never raises for what the network or the service does."""
        post = post_for(
            address.service,
            address.url,
            address.secret,
            notices,
            message_id=message_id,
            now=time.time(),
            prefix=self._prefix,
        )
        outcome = await self._post(address, post)
        return Outcome(outcome.what, _hidden(outcome.text, address), outcome.retry_after)

    async def _post(self, address: Address, post: Post) -> Outcome:
        assert self._client is not None, "a Sender sends only inside `async with`"
        call = Call()
        outer = current_call.set(call)
        try:
            async with asyncio.timeout(POST_SECONDS) as deadline:
                call.reached(Stage.HANDED_OVER)
                # Not the client's own request: that merges in cookies that an answer may have set.
                request = httpx.Request("POST", post.url, headers=post.headers, content=post.content)
                response = await self._client.send(request, stream=True)
                call.reached(Stage.ANSWERING)
                try:
                    body = (await read_answer(response, MAX_ANSWER))[:MAX_ANSWER]
                finally:
                    await response.aclose()
                return judge(address.service, response.status_code, body, retry_after(response.headers))
        except Exception as error:  # noqa: BLE001  whatever it is: the notice is not lost, and its text may hold the address
            if isinstance(error, TimeoutError) and deadline.expired():
                return Outcome("later", out_of_time(call, _RECEIVER).reason)
            return Outcome("later", failed(error, call, _RECEIVER).reason)
        finally:
            current_call.reset(outer)


class Notices(threading.Thread):
    """Sends what the ledger holds for one worker's addresses."""

    _running: Notices | None = None

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="launchq-notices", daemon=True)
        self._settings = settings
        self._addresses = {address.mark: address for address in settings.notify_addresses}
        self._stopping = threading.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    @classmethod
    def start_one(cls, settings: Settings) -> None:
        """Start this process' sender, if it has an address to send to."""
        if settings.notify_addresses:
            cls._running = cls(settings)
            cls._running.start()

    @classmethod
    def stop_one(cls) -> None:
        """Stop it. What is not sent stays in the ledger, for another worker or the next start."""
        if cls._running is not None:
            cls._running._stopping.set()
            cls._running.join(timeout=2 * BEAT_SECONDS)
            cls._running = None

    def run(self) -> None:
        """Look and send until stopped."""
        asyncio.run(self._live())

    async def _live(self) -> None:
        ledger = AsyncLedger.of(self._settings)
        try:
            async with Sender(self._settings.prefix) as sender:
                while not self._stopping.is_set():
                    await self._beat(ledger, sender)
                    await asyncio.sleep(BEAT_SECONDS * random.uniform(2 / 3, 1))  # noqa: S311 (rhythm, not a secret)
                if self._under_way:
                    await asyncio.wait(self._under_way, timeout=BEAT_SECONDS)
        finally:
            await ledger.close()

    async def _beat(self, ledger: AsyncLedger, sender: Sender) -> None:
        asker = uuid.uuid4().hex
        call = take_messages(asker, list(self._addresses), self._settings.notify_on, lasts=LEASE_SECONDS)
        try:
            messages = await ledger.run(call)
        except LedgerError:
            return  # the pulse says so
        except Exception as error:  # noqa: BLE001  as in _try
            logger.error("notices cannot be looked for: unexpected %s", type(error).__name__)
            return
        for message in messages:
            # Not waited for: a slow receiver holds up no other. Until this one has ended or its lease is over, nobody else
            # is handed a message to the same address.
            task = asyncio.create_task(self._deliver(ledger, sender, asker, message))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _deliver(self, ledger: AsyncLedger, sender: Sender, asker: str, message: Message) -> None:
        outcome = await self._try(sender, message)
        try:
            delay = min(max(_delay(message.tries), outcome.retry_after or 0), RETRY_AFTER_CAP)
            became, news = await ledger.run(
                posted(asker, message, outcome.what, text=outcome.text, delay=delay)
            )
        except LedgerError as error:
            logger.warning("what came of a notice to %s could not be written down: %s", message.mark, error)
            return
        if became and news and became != "sent":
            follows = {"later": "it is tried again"}.get(became, "it is given up")
            logger.warning("a notice to %s: %s; %s", message.mark, outcome.text, follows)

    async def _try(self, sender: Sender, message: Message) -> Outcome:
        try:
            notices = read_notices(message.documents)
            return await sender.send(self._addresses[message.mark], notices, message.id)
        except Exception as error:  # noqa: BLE001  a bug: its traceback could hold the address
            return Outcome("later", f"unexpected {type(error).__name__}")


def _delay(tries: int) -> float:
    return RETRIES.ceiling(tries) * random.uniform(0.5, 1)  # noqa: S311 (jitter, not a secret)


def _hidden(text: str, address: Address) -> str:
    """A service's own words, without what they may quote of the address."""
    for part in sorted((*re.split(r"[/?&=#]", address.url), address.secret), key=len, reverse=True):
        if len(part) >= 6:
            text = text.replace(part, "***")
    return text
