"""The JSON documents that the command line and the board have in common, beside those that jobs and batches make of themselves."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.jobs import Job, moment, rfc3339

if TYPE_CHECKING:
    from ledger.calls import Account

EXPORT_COLUMNS = ("name", "instanceName", "id", "state", "instanceId", "category", "message")


def account_document(account: Account) -> dict[str, Any]:
    """The account at a glance, in JSON."""
    return {
        "account": {
            "state": account.state,
            "reason": account.reason,
            "message": account.message,
            "since": rfc3339(account.since),
            "until": rfc3339(account.until),
        },
        "token": {
            "present": account.token["present"],
            "source": account.token["source"],
            "storedAt": rfc3339(account.token["storedAt"]),
            "expiresAt": rfc3339(account.token["expiresAt"]),
        },
        "counts": {str(state): count for state, count in account.counts.items()},
        "workers": [
            {"name": name, "lastSeenSeconds": round(age, 1)} for name, age in account.workers.items()
        ],
        "nextDueAt": rfc3339(account.next_due),
        "lanes": [
            {
                "name": lane.name,
                "state": lane.state,
                "due": lane.due,
                "width": lane.width,
                "inFlight": lane.in_flight,
                "probeAt": rfc3339(lane.probe_at),
                "since": rfc3339(lane.since),
                "message": lane.message,
                "emptyAt": rfc3339(lane.empty_at),
            }
            for lane in account.lanes
        ],
        "ledgerVersion": account.version,
    }


def event_document(event_id: str, fields: dict[str, str]) -> dict[str, Any]:
    """One event of the ledger's stream."""
    return {"id": event_id, "at": rfc3339(moment(event_id.partition("-")[0])), **fields}


def export_rows(jobs: Sequence[Job]) -> list[dict[str, str | None]]:
    """What came of these jobs, by EXPORT_COLUMNS, in the order of their names."""
    return [
        {
            "name": job.name,
            "instanceName": job.sent_name,
            "id": job.id,
            "state": str(job.state),
            "instanceId": job.instance_id,
            "category": job.error.category if job.error else None,
            "message": job.error.message if job.error else None,
        }
        for job in sorted(jobs, key=lambda job: (_by_number(job.name), job.created_at, job.id))
    ]


def export_csv(rows: Sequence[dict[str, str | None]]) -> str:
    """The rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, EXPORT_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _by_number(name: str) -> list[tuple[int, str]]:
    """What sorts `a-9` before `a-10`."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]{1,18})", name)]
