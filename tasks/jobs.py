"""A job and a batch as everybody outside sees them: frozen pictures of what the ledger held."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.bodies import merge, redacted
from tasks.errors import InputError, OutdatedError, Problem
from tasks.policy import DEFAULT, Policy
from tasks.states import ENDS, State

if TYPE_CHECKING:
    from tasks.request import LaunchRequest

_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

KEY_LENGTH = 200
"""Characters of an idempotency key or a batch's name, at most."""


class Choice(NamedTuple):
    """A fallback of a job: the body to send, in JSON, its lane, and how long after the job's start it may be used (seconds)."""

    lane: str
    after: float
    body: str


@dataclass(frozen=True)
class Submission:
    """One job on its way into the ledger.

    `body` is the request as it will be sent, in JSON; with `unique_names`, the name sent gets the job's tag on the way.
    `entry` says which entry of its batch it is; `key` is the producer's idempotency key. `policy` says when it is tried,
    and for how long; `lane` names the jobs that it competes with. `fallbacks` are sent, in this order, where there is no capacity.
    """

    id: str
    name: str
    body: str = field(repr=False)
    lane: str = ""
    entry: str = ""
    key: str = ""
    policy: Policy = DEFAULT
    fallbacks: tuple[Choice, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        request: LaunchRequest,
        job_id: str,
        *,
        entry: str = "",
        key: str | None = None,
        policy: Policy = DEFAULT,
        allow_unknown: bool = False,
    ) -> Submission:
        """A validated request on its way. InputError where the key or the policy cannot be used, or a fallback makes a request
        that cannot be sent (`allow_unknown` as in `parse_request`).

        An empty key is refused: it most likely is a variable that was never set, and would protect nothing.
        """
        problems = []
        if key is not None and not (
            isinstance(key, str) and key.strip() and key.isprintable() and len(key) <= KEY_LENGTH
        ):
            problems.append(
                Problem("", "the key cannot be used", f"1 to {KEY_LENGTH} printable characters", "key")
            )
        problems += policy.problems()
        if problems:
            raise InputError(problems)
        return cls(
            job_id,
            request.name,
            request.wire_json(),
            lane_of(request, waits=policy.waits(spot=request.is_spot_instance)),
            entry,
            key or "",
            policy.settled(spot=request.is_spot_instance),
            tuple(_choices(request, policy, allow_unknown)),
        )


def _choices(request: LaunchRequest, policy: Policy, allow_unknown: bool) -> Iterator[Choice]:
    if not policy.fallbacks:
        return
    from tasks.request import parse_request

    waits = policy.waits(spot=request.is_spot_instance)
    for number, fallback in enumerate(policy.fallbacks, start=1):
        changed = merge(request.wire(), fallback.overrides)
        other = parse_request(changed, allow_unknown=allow_unknown, where=f"fallback {number}")
        yield Choice(lane_of(other, waits=waits), fallback.after, other.wire_json())


SPOT, ON_DEMAND = "spot", "onDemand"


def lane_of(request: LaunchRequest, *, waits: bool) -> str:
    """The name of the lane of a request: the jobs that compete for the same capacity.

    Those that do not wait for it, but take the first answer, have a line of their own, which no sold-out lane holds up.
    """
    kind = SPOT if request.is_spot_instance else ON_DEMAND
    lane = f"{request.region}/{request.instance_type_id}/{kind}"
    return lane if waits else lane + "/once"


_NAMELESS = '{"name":""'


def nameless(body: str, name: str) -> str:
    """A body, in JSON, with an empty name in place of its own, so that jobs that differ in nothing else have the same one.

    As it is where it does not begin with that name.
    """
    head = f'{{"name":{json.dumps(name, ensure_ascii=False)}'
    return _NAMELESS + body[len(head) :] if body.startswith((head + ",", head + "}")) else body


def named(body: str, name: str) -> str:
    """The opposite of `nameless`."""
    if not body.startswith(_NAMELESS):
        return body
    return f'{{"name":{json.dumps(name, ensure_ascii=False)}' + body[len(_NAMELESS) :]


def sent_name(name: str, job_id: str, *, unique: bool) -> str:
    """The instance name that a job asks for: as given, or with `-` and eight characters that tell its job."""
    return f"{name}-{_tag(job_id)}" if unique else name


def sent_body(body: str, job_id: str, *, unique: bool) -> str:
    """The body that a job sends, in JSON."""
    if not unique:
        return body
    request = json.loads(body)
    request["name"] = sent_name(request["name"], job_id, unique=True)
    return json.dumps(request, ensure_ascii=False, separators=(",", ":"))


def _tag(job_id: str) -> str:
    if _RANDOM_ID.fullmatch(job_id):
        return job_id[:8]
    # A Celery producer may give its tasks ids of its own, whose first characters may all be the same.
    return hashlib.sha256(job_id.encode()).hexdigest()[:8]


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
class Happening:
    """One line of a job's history.

    `event` is what happened: an event of the states' table, or `lookup` (a look at the list of instances that settled
    nothing), `surplus` (an attempt that had been given up turned out to have created an instance) or `reason` (a person's
    words). `by` is a worker, `lookup`, or a person.
    """

    at: datetime
    event: str
    state: str
    attempt: int
    category: str | None
    message: str | None
    instance_id: str | None
    by: str | None

    @classmethod
    def from_json(cls, text: str) -> Happening:
        """Out of the Redis list of a job's history."""
        kept = json.loads(text)
        return cls(
            at=instant(kept["at"]),
            event=kept["event"],
            state=kept["state"],
            attempt=int(kept.get("attempt", 0)),
            category=kept.get("category"),
            message=kept.get("message"),
            instance_id=kept.get("instanceId"),
            by=kept.get("by"),
        )

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "at": rfc3339(self.at),
            "event": self.event,
            "state": self.state,
            "attempt": self.attempt,
            "category": self.category,
            "message": self.message,
            "instanceId": self.instance_id,
            "by": self.by,
        }


@dataclass(frozen=True)
class Job:
    """One launch job. `request` is the wire body as given, None where it is sealed with a key that this process does not
    have; times are aware, in UTC. `history` has the latest happenings, the oldest of them first. `fallback` says which of its
    fallbacks (from 1) the last attempt used, 0 is none, and `fallback_request` what that one's body is.
    """

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
    unique_names: bool = False
    history: tuple[Happening, ...] = field(default=(), repr=False)
    fallback: int = 0
    fallback_request: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def sent_name(self) -> str:
        """The name of its instance: look for it in the console."""
        return sent_name(self.name, self.id, unique=self.unique_names)

    @property
    def ended(self) -> bool:
        """Whether launchq does nothing more for this job by itself."""
        return self.state in ENDS

    @classmethod
    def from_redis(cls, job_id: str, fields: Mapping[str, str], history: Sequence[str] = ()) -> Job:
        """Out of the Redis hash of a job, and the list of its history. OutdatedError where a newer launchq wrote it."""
        state = state_of(job_id, fields["state"])
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
            created_at=instant(fields["createdAt"]),
            updated_at=instant(fields["updatedAt"]),
            request=json.loads(fields.get("request") or "{}"),
            unique_names=bool(fields.get("unique")),
            history=tuple(Happening.from_json(text) for text in history),
            fallback=int(fields.get("choice") or 0),
            fallback_request=json.loads(fields.get("fallbackRequest") or "null"),
        )

    def document(self, *, show_script: bool = False) -> dict[str, Any]:
        """The JSON form; the init script, which may hold secrets, only where asked for."""
        sent = self.fallback_request if self.fallback else self.request
        request = sent if show_script or sent is None else redacted(sent)
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
            "fallback": self.fallback or None,
            "dueAt": rfc3339(self.due_at),
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
            "request": request | {"name": self.sent_name} if request and self.unique_names else request,
            "history": [happening.document() for happening in self.history],
        }


@dataclass(frozen=True)
class Batch:
    """A named set of jobs. `counts` has a number for every state; `jobs` is filled by a submission only.

    `held`: none of its jobs is sent, since a `person` said so, or as many have failed (`failures`) as it bears: `stop_after`.
    `max_parallel`: calls in flight at once, None is any number.
    """

    id: str
    total: int
    counts: dict[State, int]
    created_at: datetime
    jobs: tuple[Receipt, ...] = ()
    held: str | None = None
    max_parallel: int | None = None
    stop_after: int | None = None

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
            "held": self.held,
            "maxParallel": self.max_parallel,
            "stopAfterFailures": self.stop_after,
        }


def state_of(job_id: str, word: str) -> State:
    """A state as the ledger holds it. OutdatedError for one that a newer launchq wrote: whether the job has ended, or may be
    tried again, only that one knows."""
    try:
        return State(word)
    except ValueError:
        text = f"job {job_id} is {word!r}, a state that only a newer launchq knows: upgrade this one"
        raise OutdatedError(text) from None


def moment(milliseconds: str | int | None) -> datetime | None:
    """Milliseconds since 1970 (as Redis keeps them) as a time in UTC; None and "" are None."""
    return None if milliseconds in (None, "") else instant(milliseconds)


def instant(milliseconds: str | float | None) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(int(milliseconds or 0) / 1000, tz=UTC)


def rfc3339(time: datetime | None) -> str | None:
    """`2026-11-23T18:00:00.123Z`"""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
