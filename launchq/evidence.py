"""What a person says of an uncertain job is compared with the account's list of instances, where that can be read."""

from __future__ import annotations

import asyncio

from config import Settings
from ledger import Ledger
from tasks.errors import RefusedError


def must_exist(settings: Settings, ledger: Ledger, instance_id: str) -> str:
    """Look for an instance in the account's list. RefusedError where it is not in it; a warning, or "" where it is.

    Calls the API from here, with the token that the workers use.
    """
    from worker.instances import ask_once

    listing = asyncio.run(ask_once(settings, ledger))
    if instance_id in listing.instances:
        return ""
    if listing.flaw:
        return f"it could not be checked that {instance_id} exists: {listing.flaw}"
    raise RefusedError(
        f"the account has no instance {instance_id}: its list shows {len(listing.instances)} others. Nothing was changed"
    )
