"""The documents of the API, as OpenAPI describes them. Jobs, batches and the account are those of the command line's --json."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tasks.states import State

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in UTC, as the command line writes it."""


class Document(BaseModel):
    """Names are the API's: camelCase."""

    # What a document has that is not listed yet is passed on; a test compares the two.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


class ErrorDocument(Document):
    """Why a job has no instance (yet)."""

    category: str
    message: str = Field(description="The cloud's own text wherever there is one.")


class HappeningDocument(Document):
    """One line of a job's history."""

    at: Moment
    event: str
    state: str
    attempt: int
    category: str | None
    message: str | None
    instance_id: str | None
    by: str | None


class JobDocument(Document):
    """One job."""

    id: str
    batch_id: str | None
    name: str
    state: State
    reason: str | None = Field(description="What a retrying job waits for.")
    instance_id: str | None
    error: ErrorDocument | None
    attempts: int
    fallback: int | None
    due_at: Moment | None
    created_at: Moment
    updated_at: Moment
    request: dict[str, Any] | None = Field(
        description="What is sent. The init script in it is hidden, unless showScript=true with a full token. "
        "null: it is sealed, and the board does not have the key."
    )
    history: list[HappeningDocument]


class ResolvedDocument(JobDocument):
    """A job after somebody said what had happened."""

    warnings: list[str] = Field(description="What could not be checked of it.")


class JobsDocument(Document):
    """A page of jobs, the latest change first."""

    jobs: list[JobDocument]
    next: str | None = Field(
        description="`after` of the next page; null: this was the last. A page may be short, or empty, and not the last."
    )


class BatchDocument(Document):
    """One batch."""

    id: str
    total: int
    counts: dict[State, int]
    created_at: Moment
    done: bool
    held: str | None = Field(description="Why nothing of it is sent: person or failures.")
    max_parallel: int | None
    stop_after_failures: int | None


class BatchesDocument(Document):
    """A page of batches, the newest first."""

    batches: list[BatchDocument]
    next: str | None


class ReceiptDocument(Document):
    """What became of one entry of a submission."""

    id: str
    name: str
    state: State
    duplicate: bool = Field(description="The job existed before: nothing was entered.")


class SubmittedDocument(Document):
    """What became of a submission."""

    batch_id: str | None
    jobs: list[ReceiptDocument]
    warnings: list[str]


class PlannedJobDocument(Document):
    """One job that would be entered."""

    entry: str
    name: str
    policy: dict[str, Any]
    request: dict[str, Any]


class GroupDocument(Document):
    """Instances of one kind; stock and prices with prices=true only."""

    count: int
    instance_type_id: str
    region: str
    billing: dict[str, Any]
    is_spot_instance: bool
    first_name: str
    last_name: str


class PlanDocument(Document):
    """What would be launched."""

    batch_id: str | None
    jobs: list[PlannedJobDocument]
    groups: list[GroupDocument]
    warnings: list[str]
    confirm: int | None = Field(
        description="The number that submitting this demands as `confirm`; null: none."
    )


class ActDocument(Document):
    """What became of one job."""

    id: str
    state: str
    result: str = Field(
        description="cancelled, requested (a call is under way; it is not tried again), ended (too late), rearmed, refused or absent"
    )


class ActsDocument(Document):
    """What became of each job."""

    jobs: list[ActDocument]


class AccountStateDocument(Document):
    """Whether calls are made."""

    state: str = Field(description="open, paused or blocked")
    reason: str | None
    message: str | None
    since: Moment | None
    until: Moment | None


class TokenDocument(Document):
    """The workers' token."""

    present: bool
    source: str | None
    stored_at: Moment | None
    expires_at: Moment | None


class WorkerDocument(Document):
    """One worker."""

    name: str
    last_seen_seconds: float


class LaneDocument(Document):
    """Jobs that compete for the same capacity."""

    name: str
    state: str
    due: int
    width: int | None
    in_flight: int
    probe_at: Moment | None
    since: Moment | None
    message: str | None
    empty_at: Moment | None


class AccountDocument(Document):
    """The account at a glance."""

    account: AccountStateDocument
    token: TokenDocument
    counts: dict[State, int]
    workers: list[WorkerDocument]
    next_due_at: Moment | None
    lanes: list[LaneDocument]
    ledger_version: int


class TrialDocument(Document):
    """What came of a test message to one address."""

    address: str = Field(
        description="The service and a mark that stands for the address, as in logs: the address is secret."
    )
    sent: bool
    message: str | None = Field(description="Why it was not taken.")


class WaitedJobDocument(Document):
    """A job after a wait."""

    job: JobDocument
    timed_out: bool


class WaitedBatchDocument(Document):
    """A batch after a wait."""

    batch: BatchDocument
    timed_out: bool


class EventDocument(Document):
    """One change of one job's state: the `data` of an event."""

    id: str
    at: Moment
    job: str
    state: str
    attempt: str
    reason: str | None = None
    batch_id: str | None = None
    instance_id: str | None = None


class ExportDocument(Document):
    """What came of a batch."""

    batch_id: str
    jobs: list[dict[str, str | None]]
