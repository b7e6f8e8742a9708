"""The door for producers that only have Celery: a message becomes a job in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from config.settings import patience
from ledger import Ledger, calls
from ledger.vault import SEALED, Vault
from tasks.errors import InputError, Problem, RefusedError, SealedError
from tasks.intake_json import json_flaws, read_json
from tasks.jobs import Submission
from tasks.policy import Policy

logger = logging.getLogger("launchq.worker")

FERNET = "gAAAAA"
"""What every Fernet token begins with until the year 2106: its version, and the first bytes of its time."""


def enter(
    ledger: Ledger,
    job_id: str,
    body: Any,
    *,
    key: Any,
    policy: Mapping[str, Any],
    allow_unknown: bool,
    strange: Sequence[str],
) -> bool:
    """Enter one job and say whether a wake-up is wanted.

    `body` may be sealed: a Fernet token of its JSON text, made with a key that the workers have.
    The producer has gone by now, so what cannot be launched (`strange`: or holds what nobody knows) is kept as a job
    that failed, for whoever reads it.
    LedgerError where Redis is out of reach: then the message must stay.
    """
    from tasks.request import parse_request

    try:
        if strange:
            raise InputError(
                [
                    Problem(
                        "",
                        f"not understood: {', '.join(strange)}",
                        f"one body, and key, {', '.join(policy)} or allowUnknownFields",
                    )
                ]
            )
        if isinstance(body, str) and body.startswith(FERNET):
            body = _opened(body, ledger.vault)
        request = parse_request(body, allow_unknown=allow_unknown)
        entered = ledger.enqueue([Submission.of(request, job_id, key=key, policy=_policy(policy))])
    except (InputError, RefusedError) as error:
        name = body.get("name") if isinstance(body, dict) else None
        ledger.run(calls.refuse(job_id, name=name if isinstance(name, str) else "", message=str(error)))
        logger.warning("job %s cannot be launched: %s", job_id, error)
        return False
    [receipt] = entered.receipts
    if receipt.duplicate:
        logger.info("job %s stands for this key already; task %s enters nothing", receipt.id, job_id)
    return entered.wake


def _policy(given: Mapping[str, Any]) -> Policy:
    """The job's policy out of the message's arguments; InputError where one cannot be used."""
    waits = given["waitForCapacity"]
    problems = [
        Problem("", "is neither true nor false", "true or false", name)
        for name in ("uniqueNames", "waitForCapacity")
        if given[name] not in (True, False, None)
    ]
    until = None
    try:
        until = None if given["until"] is None else patience(given["until"])
    except ValueError as error:
        problems.append(Problem("", str(error), "30m, 6h, 7d or forever", "until"))
    if problems:
        raise InputError(problems)
    return Policy(given["maxAttempts"], given["uniqueNames"] is True, waits, until)


def _opened(token: str, vault: Vault) -> Any:
    """The body inside; InputError where no key fits, or it holds no JSON."""
    try:
        text = vault.open(SEALED + token)
    except SealedError as error:
        right = "seal it with the newest key of the workers' LAUNCHQ_SECRET_KEY"
        raise InputError([Problem("", f"the body cannot be opened: {error}", right)]) from None
    body = read_json(text, where="sealed body")
    if flaws := json_flaws(body, where="sealed body"):
        raise InputError(flaws)
    return body
