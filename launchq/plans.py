"""What would be launched, as a document, and what the cloud says of stock and prices."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from config import Settings
from launchq.inputs import Inputs
from ledger import Ledger
from tasks.bodies import redacted
from tasks.catalogue import Catalogue, estimate
from tasks.entries import Entry, placed
from tasks.errors import LedgerError
from tasks.plan import Group, grouped


def plan_document(
    inputs: Inputs, warnings: list[str], catalogue: Catalogue | None, *, show_script: bool
) -> dict[str, Any]:
    """What would be launched, each and by kind; with a catalogue, also what it would cost."""
    return {
        "batchId": inputs.batch(None),
        "jobs": [_job(entry, show_script=show_script) for entry in inputs.entries],
        "groups": [_group(group, catalogue) for group in grouped(inputs.entries)],
        "warnings": warnings,
    }


def with_starts(inputs: Inputs, timezone: str) -> tuple[Inputs, list[str]]:
    """The inputs with the times at which they start read, and warnings of times that lie in the past by this machine's clock.

    InputError where a text is no time. A time without an offset is one of the zone of that IANA name.
    """
    zone, now = ZoneInfo(timezone), datetime.now(UTC)
    entries, past = [], []
    for entry in placed(inputs.entries, zone=zone, now=now, late_ok=True):
        start = entry.policy.not_before
        if not isinstance(start, datetime):
            entries.append(entry)
            continue
        local = start.astimezone(zone)
        entries.append(replace(entry, policy=replace(entry.policy, not_before=local)))
        if start < now:
            past.append(f"the start of {entry.identity}, {local.isoformat()}, lies in the past")
    more = f", as do those of {len(past) - 1} more" if len(past) > 1 else ""
    warnings = [f"{past[0]}{more}: submit refuses that without --late-ok"] if past else []
    return replace(inputs, entries=tuple(entries)), warnings


def find_catalogue(settings: Settings, ledger: Ledger) -> tuple[Catalogue, str]:
    """Stock and prices; an empty catalogue where they are not to be had, and why. One call to the cloud, which only reads."""
    from worker.offers import ask_catalogue

    try:
        found = asyncio.run(ask_catalogue(settings, ledger))
    except LedgerError as error:
        return Catalogue({}), f"there is no token to ask with, {error}"
    return (found, "") if isinstance(found, Catalogue) else (Catalogue({}), found.why)


def _job(entry: Entry, *, show_script: bool) -> dict[str, Any]:
    body = entry.request.wire()
    return {
        "entry": entry.identity,
        "name": entry.request.name,
        "policy": entry.policy.document(show_script=show_script),
        "request": body if show_script else redacted(body),
    }


def _group(group: Group, catalogue: Catalogue | None) -> dict[str, Any]:
    request = group.request
    document: dict[str, Any] = {
        "count": group.count,
        "instanceTypeId": request.instance_type_id,
        "region": request.region,
        "billing": request.wire()["billing"],
        "isSpotInstance": request.is_spot_instance,
        "firstName": request.name,
        "lastName": group.last,
    }
    if catalogue is not None:
        offer = catalogue.offer(request)
        cost = estimate(offer, request, group.count)
        document |= {"stock": offer.stock, "pricePerHour": cost.per_hour, "priceOfPeriod": cost.period}
    return document
