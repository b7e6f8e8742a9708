"""A job and a batch as everybody outside sees them: frozen pictures of what the ledger held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.errors import InputError, Problem
from tasks.request import LaunchRequest, redacted
from tasks.states import ENDS, State

KEY_LENGTH = 200
"""Characters of an idempotency key or a batch's name, at most."""


@dataclass(frozen=True)
class Submission:
    """One job on its way into the ledger.

    `body` is the request as it will be sent, in JSON. `entry` says which entry of its batch it is; `key` is the
    producer's idempotency key. `max_attempts` None leaves the number to the worker's settings.
    """

    id: str
    name: str
    body: str = field(repr=False)
    spot: bool = False
    entry: str = ""
    key: str = ""
    max_attempts: int | None = None

    @classmethod
    def of(
        cls,
        request: LaunchRequest,
        job_id: str,
        *,
        entry: str = "",
        key: str | None = None,
        max_attempts: int | None = None,
    ) -> Submission:
        """A validated request on its way. InputError where the key or the number of attempts cannot be used.

        An empty key is refused: it most likely is a variable that was never set, and would protect nothing.
        """
        problems = []
        if key is not None and not (
            isinstance(key, str) and key.strip() and key.isprintable() and len(key) <= KEY_LENGTH
        ):
            problems.append(
                Problem("", "the key cannot be used", f"1 to {KEY_LENGTH} printable characters", "key")
            )
        if max_attempts is not None and (
            isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
        ):
            problems.append(
                Problem("", "the number of attempts cannot be used", "a whole number from 1", "maxAttempts")
            )
        if problems:
            raise InputError(problems)
        return cls(
            job_id,
            request.name,
            request.wire_json(),
            request.is_spot_instance,
            entry,
            key or "",
            max_attempts,
        )


@dataclass(frozen=True)
class Receipt:
    """What became of a submission: the job that stands for it, which may have existed before (`duplicate`)."""

    id: str
    name: str
    state: State
    duplicate: bool

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {"id": self.id, "name": self.name, "state": str(self.state), "duplicate": self.duplicate}


@dataclass(frozen=True)
class JobError:
    """Why a job has no instance (yet). `message` is the API's own text wherever there is one."""

    category: str
    message: str


@dataclass(frozen=True)
class Job:
    """One launch job. `request` is the wire body, None where it is sealed with a key that this process does not have;
    times are aware, in UTC."""

    id: str
    batch_id: str | None
    name: str
    state: State
    reason: str | None
    instance_id: str | None
    error: JobError | None
    attempts: int
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    request: dict[str, Any] | None = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether launchq does nothing more for this job by itself."""
        return self.state in ENDS

    @classmethod
    def from_fields(cls, job_id: str, fields: Mapping[str, str]) -> Job:
        """Out of the Redis hash of a job."""
        state = State(fields["state"])
        message = fields.get("message", "")
        category = fields.get("category", "")
        return cls(
            id=job_id,
            batch_id=fields.get("batchId") or None,
            name=fields.get("name", ""),
            state=state,
            reason=fields.get("reason") or None,
            instance_id=fields.get("instanceId") or None,
            error=JobError(category, message) if message or category else None,
            attempts=int(fields.get("attempts", 0)),
            due_at=None if state in ENDS else moment(fields.get("dueAt")),
            created_at=_moment(fields["createdAt"]),
            updated_at=_moment(fields["updatedAt"]),
            request=json.loads(fields.get("request") or "{}"),
        )

    def document(self, *, show_script: bool = False) -> dict[str, Any]:
        """The JSON form; the init script, which may hold secrets, only where asked for."""
        return {
            "id": self.id,
            "batchId": self.batch_id,
            "name": self.name,
            "state": str(self.state),
            "reason": self.reason,
            "instanceId": self.instance_id,
            "error": None
            if self.error is None
            else {"category": self.error.category, "message": self.error.message},
            "attempts": self.attempts,
            "dueAt": rfc3339(self.due_at),
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
            "request": self.request if show_script or self.request is None else redacted(self.request),
        }


@dataclass(frozen=True)
class Batch:
    """A named set of jobs. `counts` has a number for every state; `jobs` is filled by a submission only."""

    id: str
    total: int
    counts: dict[State, int]
    created_at: datetime
    jobs: tuple[Receipt, ...] = ()

    @property
    def done(self) -> bool:
        """Whether every job of the batch has ended."""
        return sum(self.counts[state] for state in ENDS) >= self.total

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "id": self.id,
            "total": self.total,
            "counts": {str(state): count for state, count in self.counts.items()},
            "createdAt": rfc3339(self.created_at),
            "done": self.done,
        }


def moment(milliseconds: str | int | None) -> datetime | None:
    """Milliseconds since 1970 (as Redis keeps them) as a time in UTC; None and "" are None."""
    return None if milliseconds in (None, "") else _moment(milliseconds)


def _moment(milliseconds: str | int | None) -> datetime:
    return datetime.fromtimestamp(int(milliseconds or 0) / 1000, tz=UTC)


def rfc3339(time: datetime | None) -> str | None:
    """`2026-11-23T18:00:00.123Z`"""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
