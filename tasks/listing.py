"""Reading the answers of `POST /instance/list`: which instances the account has, and under which names.

The path and the pager are in the API's documents; the fields of a row come from a public third-party client that
says it saw them. So nothing here is taken for granted: what cannot be read is said, and then nothing is concluded from
an instance's absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.answers import NoAnswer, Reply
from tasks.verdicts import is_login_error, message_of


@dataclass(frozen=True)
class Page:
    """One page of the list. `instances` is id -> name; `total` is what the pager says that there are in all."""

    instances: Mapping[str, str] = field(default_factory=dict)
    total: int | None = None


@dataclass(frozen=True)
class Unreadable:
    """A page that cannot be read, and why. `login`: the token was not taken; `throttled`: too many calls.

    `retry_after` is in seconds, None where the API did not say.
    """

    why: str
    login: bool = False
    throttled: bool = False
    retry_after: float | None = None


def read_page(reply: Reply) -> Page | Unreadable:
    """What one answer of the list says."""
    if isinstance(reply, NoAnswer):
        return Unreadable(reply.reason)
    document = reply.document()
    if is_login_error(reply.status, document):
        return Unreadable(message_of(reply), login=True)
    if reply.status == 429:
        return Unreadable(message_of(reply), throttled=True, retry_after=reply.retry_after)
    rows = document.get("instances")
    if rows is None and "pager" in document and reply.status < 400:
        rows = []  # an account without instances may well answer null
    if not isinstance(rows, list) or reply.status >= 400:
        return Unreadable(
            f"HTTP {reply.status}: {message_of(reply)}" if reply.status >= 400 else message_of(reply)
        )
    instances = {}
    for row in rows:
        metadata = row.get("instanceMetadata") if isinstance(row, dict) else None
        if not isinstance(metadata, dict):
            return Unreadable("a row of it has no instanceMetadata")
        instance_id, name = metadata.get("instanceId"), metadata.get("instanceName", metadata.get("name"))
        if not isinstance(instance_id, str) or not instance_id or not isinstance(name, str):
            return Unreadable("a row of it has no instanceId, or no instanceName")
        instances[instance_id] = name
    pager = document.get("pager")
    total = pager.get("totalEntries") if isinstance(pager, dict) else None
    return Page(instances, total if isinstance(total, int) and not isinstance(total, bool) else None)
