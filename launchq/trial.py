"""A test message to every address that notifications go to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from config import Settings, SettingsError


async def send_trial(settings: Settings) -> list[dict[str, Any]]:
    """Send it, now and from here; for each address what came of it: `address` (as logs call it), `sent`, `message` (why not).

    Neither reads nor writes the ledger. SettingsError where there is no address.
    """
    from tasks.notices import trial
    from worker.notices import Sender

    addresses = settings.notify_addresses
    if not addresses:
        raise SettingsError("LAUNCHQ_NOTIFY: there is no address to send to, such as feishu:https://...")
    notice = trial(datetime.now(UTC))
    async with Sender(settings.prefix) as sender:
        outcomes = await asyncio.gather(
            *(sender.send(address, [notice], uuid4().hex) for address in addresses)
        )
    return [
        {"address": address.mark, "sent": outcome.what == "sent", "message": outcome.text or None}
        for address, outcome in zip(addresses, outcomes, strict=True)
    ]
