"""Reading the whole list of the account's instances, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    stop_after_attempt,
    wait_random_exponential,
)

from config import Settings
from ledger import Ledger, calls
from ledger.calls import HeldToken
from tasks.listing import Page, Unreadable, read_page
from worker.cloud import Cloud, Credential

PAGE_SIZES = (100, 10)
"""Rows asked for in one page: many, and where the API refuses that, as many as its documents show."""

PAGES_AT_ONCE = 4
MOST_PAGES = 10_000
PAGE_TRIES = 3
"""How often one page is asked for."""
RENEWALS = 2
"""How often a token may end while one page is asked for."""


@dataclass(frozen=True)
class Listing:
    """All instances of the account: id -> name. `flaw` says why they may not be all; then nothing is concluded from it."""

    instances: Mapping[str, str] = field(default_factory=dict)
    flaw: str = ""
    unreadable: Unreadable | None = None


Renew = Callable[[], Awaitable[Credential | None]]
"""Gets another credential in place of one that was refused; None where there is none in time."""


async def list_all(cloud: Cloud, credential: Credential, renew: Renew | None = None) -> Listing:
    """Read every page of the list. A token that ends meanwhile is renewed, if there is a way to.

    Instances come and go while pages are read: a row that goes shifts the others, and one could be passed over between two
    pages. So there must be at least as many as the first page said, or it is read once more.
    """
    reader = _Reader(cloud, credential, renew)
    for _ in range(2):
        listing = await reader.read()
        if listing.unreadable is not None or not listing.flaw:
            break
    return listing


class _Reader:
    def __init__(self, cloud: Cloud, credential: Credential, renew: Renew | None) -> None:
        self._cloud = cloud
        self._credential = credential
        self._renew = renew
        self._renewing = asyncio.Lock()

    async def read(self) -> Listing:
        for size in PAGE_SIZES:
            first = await self._page(1, size)
            if isinstance(first, Page) or first.login or first.throttled:
                break
        if isinstance(first, Unreadable):
            return Listing(flaw=first.why, unreadable=first)
        found = dict(first.instances)
        rows, number, before = len(first.instances), 1, 0
        while (
            before < len(found) and number < MOST_PAGES and (first.total is None or len(found) < first.total)
        ):
            before = len(found)
            # How many are still to come is known only where the pager says so.
            left = 1 if first.total is None else -(-(first.total - len(found)) // rows)
            numbers = range(number + 1, number + 1 + min(PAGES_AT_ONCE, left))
            for page in await asyncio.gather(*(self._page(one, size) for one in numbers)):
                if isinstance(page, Unreadable):
                    return Listing(found, page.why, page)
                found.update(page.instances)
            number = numbers[-1]
        if first.total is not None and len(found) < first.total:
            return Listing(found, f"it says that there are {first.total} instances, but shows {len(found)}")
        return Listing(found)

    async def _page(self, number: int, size: int) -> Page | Unreadable:
        for _ in range(RENEWALS):
            used = self._credential
            page = await self._ask(number, size)
            if not (isinstance(page, Unreadable) and page.login and await self._renewed(used)):
                return page
        return await self._ask(number, size)

    async def _renewed(self, refused: Credential) -> bool:
        """Whether there is another credential than this one, which several pages may have been refused at once."""
        async with self._renewing:
            if self._credential is refused and self._renew is not None:
                self._credential = await self._renew() or refused
        return self._credential is not refused

    async def _ask(self, number: int, size: int) -> Page | Unreadable:
        async def once() -> Page | Unreadable:
            return read_page(await self._cloud.list_instances(number, size, self._credential))

        retrying = AsyncRetrying(
            stop=stop_after_attempt(PAGE_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            retry=retry_if_result(_worth_asking_again),
            retry_error_callback=_last_answer,
        )
        page: Page | Unreadable = await retrying(once)
        return page


def _last_answer(state: RetryCallState) -> Page | Unreadable:
    assert state.outcome is not None
    page: Page | Unreadable = state.outcome.result()
    return page


def _worth_asking_again(page: Page | Unreadable) -> bool:
    return isinstance(page, Unreadable) and not page.login and not page.throttled


def credential_for(api_key: Credential | None, token: HeldToken | None) -> Credential | None:
    """What a call proves itself with: the API key where there is one, otherwise the token; None where neither can be used."""
    if api_key is not None:
        return api_key
    try:
        return Credential.token(token.value) if token else None
    except ValueError:
        return None


def credential_of(settings: Settings, ledger: Ledger) -> Credential | None:
    """What a command asks with: the API key, or the token that the workers use; it never logs in."""
    if settings.api_key:
        return Credential.api_key(settings.api_key.get_secret_value())
    return credential_for(None, ledger.run(calls.held_token(vault=ledger.vault)))


async def ask_once(settings: Settings, ledger: Ledger) -> Listing:
    """The list as a command asks for it, with the API key or the token that the workers use; it never logs in."""
    credential = credential_of(settings, ledger)
    if credential is None:
        return Listing(flaw="there is no token to ask for it with")
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        return await list_all(cloud, credential)
