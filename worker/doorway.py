"""The door for producers that only have Celery: a message becomes a job in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ledger import Ledger, calls
from tasks.errors import InputError, Problem, RefusedError
from tasks.jobs import Submission
from tasks.request import parse_request

logger = logging.getLogger("launchq.worker")


def enter(
    ledger: Ledger,
    job_id: str,
    body: Any,
    *,
    key: Any,
    max_attempts: Any,
    unique_names: bool,
    allow_unknown: bool,
    strange: Sequence[str],
) -> bool:
    """Enter one job and say whether a wake-up is wanted.

    The producer has gone by now, so what cannot be launched (`strange`: or holds what nobody knows) is kept as a job
    that failed, for whoever reads it.
    LedgerError where Redis is out of reach: then the message must stay.
    """
    try:
        if strange:
            raise InputError(
                [
                    Problem(
                        "",
                        f"not understood: {', '.join(strange)}",
                        "one body, and key, maxAttempts, uniqueNames or allowUnknownFields",
                    )
                ]
            )
        request = parse_request(body, allow_unknown=allow_unknown)
        entered = ledger.enqueue(
            [Submission.of(request, job_id, key=key, max_attempts=max_attempts, unique_names=unique_names)]
        )
    except (InputError, RefusedError) as error:
        name = body.get("name") if isinstance(body, dict) else None
        ledger.run(calls.refuse(job_id, name=name if isinstance(name, str) else "", message=str(error)))
        logger.warning("job %s cannot be launched: %s", job_id, error)
        return False
    [receipt] = entered.receipts
    if receipt.duplicate:
        logger.info("job %s stands for this key already; task %s enters nothing", receipt.id, job_id)
    return entered.wake
