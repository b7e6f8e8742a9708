"""Asking for the catalogue, as a command does: once, with the API key or the token that the workers use."""

from __future__ import annotations

from config import Settings
from ledger import Ledger
from tasks.catalogue import Catalogue, read_catalogue
from tasks.listing import Unreadable
from worker.cloud import Cloud
from worker.instances import credential_of


async def ask_catalogue(settings: Settings, ledger: Ledger) -> Catalogue | Unreadable:
    """The catalogue, or why it is not to be had. It never logs in. LedgerError where a token is needed and Redis is away."""
    credential = credential_of(settings, ledger)
    if credential is None:
        return Unreadable("there is no token to ask with")
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        return read_catalogue(await cloud.catalogue(credential))
