"""The HTTP API, under /api/v1: the same functions as the command line's, the same documents."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, Field, SecretStr
from starlette.concurrency import run_in_threadpool

from config import seconds
from config.settings import patience
from launchq.board.access import Admitted, admitted
from launchq.board.context import Board, TheBoard
from launchq.board.events import follow
from launchq.board.given import (
    ALWAYS,
    INPUT,
    Name,
    Parameters,
    PlanParameters,
    Text,
    length,
    must_be_confirmed,
    printable,
    problems,
    read,
    warnings_of,
)
from launchq.board.models import (
    AccountDocument,
    ActsDocument,
    BatchDocument,
    BatchesDocument,
    ExportDocument,
    JobDocument,
    JobsDocument,
    PlanDocument,
    ResolvedDocument,
    SubmittedDocument,
    TrialDocument,
    WaitedBatchDocument,
    WaitedJobDocument,
)
from launchq.board.problems import NotAllowedError
from launchq.board.waiting import LONGEST, until_ended
from launchq.documents import account_document, event_document, export_csv, export_rows
from launchq.evidence import must_exist
from launchq.orders import Wishes, order_of
from launchq.plans import find_catalogue, plan_document, with_starts
from launchq.trial import send_trial
from ledger import calls
from ledger.calls import Done, Limits
from tasks.errors import InputError, LedgerError, NotFoundError, Problem, RefusedError
from tasks.jobs import KEY_LENGTH, Batch, Job
from tasks.plan import why_ask
from tasks.states import WATCHED, State

PAGE = 500
"""Jobs of one page, at most."""

STREAM_SECONDS = 900.0
"""How long one stream of events lasts; its client comes back with the last id that it saw."""

router = APIRouter(
    prefix="/api/v1",
    dependencies=[Depends(admitted)],
    responses=problems(*ALWAYS),
)


def _patience(value: str) -> str:
    patience(value)
    return value


def _cursor(value: str) -> str:
    time, _, _ = value.partition("-")
    if value and not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,10})?", time):
        raise ValueError("must be the `next` of the page before")
    return value


def _event_id(value: str) -> str:
    parts = value.split("-")
    if value and not (
        len(parts) <= 2 and all(part.isascii() and part.isdecimal() and int(part) < 1 << 64 for part in parts)
    ):
        raise ValueError("must be an event's id, such as 1795479214479-0")
    return value


Cursor = Annotated[str, Query(max_length=300), AfterValidator(_cursor)]
EventId = Annotated[str, Query(max_length=50), AfterValidator(_event_id)]
JobId = Annotated[str, Path(max_length=300, description="The job's id.")]
BatchId = Annotated[str, Path(max_length=KEY_LENGTH, description="The batch's name.")]
Wait = Annotated[float, Query(ge=0, le=LONGEST, description="Seconds to wait at the most.")]


def _scripts(
    visitor: Admitted,
    show_script: Annotated[
        bool,
        Query(
            alias="showScript", description="Show init scripts, which may hold secrets. Takes a full token."
        ),
    ] = False,
) -> bool:
    if show_script and not visitor.full:
        raise NotAllowedError(f"the token {visitor.name!r} may read only, and init scripts may hold secrets")
    return show_script


ShowScript = Annotated[bool, Depends(_scripts)]


# -- submitting ---------------------------------------------------------------------------------------------------------


class Plan(PlanParameters):
    """Parameters of a plan."""

    prices: bool = Field(False, description="Ask the cloud for stock and prices: one call, which only reads.")
    show_script: bool = False


class Submit(PlanParameters):
    """How an input is to be launched: as the options of `launchq submit`. They go over what a fleet file says."""

    batch: Annotated[str, AfterValidator(printable)] | None = Field(
        None,
        min_length=1,
        max_length=KEY_LENGTH,
        description="Make one batch of it; submitting it again enters only what is missing. Default: what a fleet file says.",
    )
    max_attempts: int | None = Field(
        None, ge=1, le=1_000_000, description="Tries that may fail for a passing reason."
    )
    unique_names: bool = False
    spot: bool | None = Field(
        None, description="Ask for spot instances, or for others, whatever the input says."
    )
    wait_capacity: bool | None = Field(
        None, description="Ask again while sold out; spot instances do so anyway."
    )
    until: Annotated[str, AfterValidator(_patience)] | None = Field(
        None, description="For how long it is tried: 30m, 6h, 7d, forever."
    )
    at: str | None = Field(
        None, max_length=100, description="Not before this time: 2026-12-01T02:00, or 02:00."
    )
    in_: Annotated[str, AfterValidator(length)] | None = Field(
        None, alias="in", description="Not before so long from now: 10m, 2h."
    )
    late_ok: bool = Field(False, description="A time in the past means now.")
    max_parallel: int | None = Field(
        None, ge=0, le=100_000, description="Calls of the batch in flight at once; 0 is any."
    )
    stop_after_failures: int | None = Field(
        None, ge=0, le=100_000, description="Failures after which the rest of the batch is held; 0 is never."
    )
    confirm: int | None = Field(
        None,
        description="The number of instances: demanded for more than 100, and for billing by the week or month.",
    )

    def wishes(self, key: str | None) -> Wishes:
        """The same, as the command line has them."""
        return Wishes(
            batch=self.batch,
            key=key,
            spot=self.spot,
            max_attempts=self.max_attempts,
            unique_names=self.unique_names,
            wait_for_capacity=self.wait_capacity,
            until=None if self.until is None else patience(self.until),
            at=self.at,
            delay=None if self.in_ is None else seconds(self.in_),
            late_ok=self.late_ok,
            limits=Limits(self.max_parallel, self.stop_after_failures),
            allow_unknown=self.allow_unknown_fields,
        )


@router.post(
    "/plan",
    response_model=PlanDocument,
    openapi_extra=INPUT,
    summary="What would be launched; launches nothing",
)
async def plan(board: TheBoard, text: Text, parameters: Annotated[Plan, Query()]) -> Any:
    """Check an input and show what it would launch. Calls nobody, unless prices=true."""
    return await run_in_threadpool(_plan, board, text, parameters)


def _plan(board: Board, text: bytes, parameters: Plan) -> dict[str, Any]:
    inputs, late = with_starts(read(text, parameters), board.settings.timezone)
    warnings = [*warnings_of(board, inputs, unique_names=False), *late]
    catalogue = None
    if parameters.prices:
        catalogue, why = find_catalogue(board.settings, board.launcher.ledger)
        warnings += [f"stock and prices are unknown: {why}"] if why else []
    document = plan_document(inputs, warnings, catalogue, show_script=parameters.show_script)
    order = order_of(inputs, Wishes(), board.settings.timezone, at_called="at")
    return document | {"confirm": len(inputs.entries) if why_ask(order.groups) else None}


@router.post(
    "/submit",
    response_model=SubmittedDocument,
    openapi_extra=INPUT,
    status_code=201,
    responses={
        200: {"model": SubmittedDocument, "description": "All of it existed before: nothing was entered."},
        **problems(409, 428),
    },
    summary="Enter jobs: all of the input or, where something is wrong, none",
)
async def submit(
    board: TheBoard,
    response: Response,
    text: Text,
    parameters: Annotated[Submit, Query()],
    idempotency_key: Annotated[
        str | None,
        Header(max_length=4 * KEY_LENGTH, description="The same key never launches a second time."),
    ] = None,
) -> Any:
    """Enter what an input says. Without a batch or an Idempotency-Key, what is submitted twice is launched twice."""
    key = None if idempotency_key is None else _unicode(idempotency_key)
    document = await run_in_threadpool(_submit, board, text, parameters, key)
    if all(job["duplicate"] for job in document["jobs"]):
        response.status_code = 200
    return document


def _submit(board: Board, text: bytes, parameters: Submit, key: str | None) -> dict[str, Any]:
    inputs = read(text, parameters)
    order = order_of(inputs, parameters.wishes(key), board.settings.timezone, at_called="at")
    must_be_confirmed(order.groups, parameters.confirm)
    warnings = warnings_of(board, inputs, unique_names=parameters.unique_names)
    receipts = order.enter(board.launcher)
    return {
        "batchId": order.batch,
        "jobs": [receipt.document() for receipt in receipts],
        "warnings": warnings,
    }


def _unicode(header: str) -> str:
    """A header's text: servers read it as Latin-1, whatever it is."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


# -- jobs ---------------------------------------------------------------------------------------------------------------


@router.get("/jobs", response_model=JobsDocument, summary="Jobs, the latest change first, a page at a time")
def jobs(
    board: TheBoard,
    show_script: ShowScript,
    state: State | None = None,
    batch: Annotated[str | None, Query(max_length=KEY_LENGTH)] = None,
    text: Annotated[str, Query(max_length=200, description="Part of the name, in any case.")] = "",
    after: Cursor = "",
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 50,
) -> Any:
    """Jobs in one state, of one batch, with a text in their names; all filters hold together."""
    page = board.launcher.ledger.page(state=state, batch=batch, text=text, after=after, limit=limit)
    return {"jobs": [job.document(show_script=show_script) for job in page.jobs], "next": page.more}


@router.post(
    "/cancel", response_model=ActsDocument, responses=problems(404), summary="Take jobs or batches back"
)
def cancel_many(
    board: TheBoard, ids: Annotated[list[Name], Body(embed=True, min_length=1, max_length=10_000)]
) -> Any:
    """Take back what has not been sent, of all these jobs and batches. What is being sent ends as it ends."""
    return _acts(board.launcher.cancel(ids))


@router.post("/retry", response_model=ActsDocument, responses=problems(404), summary="Make jobs due again")
def retry_many(
    board: TheBoard, ids: Annotated[list[Name], Body(embed=True, min_length=1, max_length=10_000)]
) -> Any:
    """Make due again what failed or was cancelled, of all these jobs and batches. No other state can be retried."""
    return _acts(board.launcher.retry(ids))


@router.get(
    "/jobs/{job_id:path}/wait",
    response_model=WaitedJobDocument,
    responses=problems(404),
    summary="One job, once it has ended (long poll)",
)
async def wait_for_job(board: TheBoard, show_script: ShowScript, job_id: JobId, timeout: Wait = 30.0) -> Any:  # noqa: ASYNC109
    """Answers at once where the job has ended, and otherwise when it does, or when the time is over."""

    async def look() -> Job:
        [job] = await board.ledger.run(calls.read([job_id], vault=board.ledger.vault))
        if job is None:
            raise NotFoundError(f"no job has the id {job_id}")
        return job

    job, late = await until_ended(
        board.hub,
        look,
        ended=lambda job: job.ended,
        concerns=lambda event: event.get("job") == job_id,
        patience=timeout,
    )
    return {"job": job.document(show_script=show_script), "timedOut": late}


@router.post(
    "/jobs/{job_id:path}/cancel",
    response_model=ActsDocument,
    responses=problems(404),
    summary="Take a job back",
)
def cancel_job(board: TheBoard, job_id: JobId) -> Any:
    """As POST /cancel."""
    board.launcher.job(job_id)
    return _acts(board.launcher.cancel([job_id]))


@router.post(
    "/jobs/{job_id:path}/retry",
    response_model=ActsDocument,
    responses=problems(404),
    summary="Make a job due again",
)
def retry_job(board: TheBoard, job_id: JobId) -> Any:
    """As POST /retry."""
    board.launcher.job(job_id)
    return _acts(board.launcher.retry([job_id]))


class Resolution(Parameters):
    """What happened to an uncertain job: either the instance that was created, or that none was."""

    created: Name | None = Field(
        None, max_length=KEY_LENGTH, description="The id of the instance that is the job's."
    )
    not_created: bool = False
    reason: Name = Field("", max_length=500, description="Why; kept with the job.")


@router.post(
    "/jobs/{job_id:path}/resolve",
    response_model=ResolvedDocument,
    responses=problems(404, 409),
    summary="Say what happened to an uncertain job",
)
def resolve_job(board: TheBoard, visitor: Admitted, job_id: JobId, what: Resolution) -> Any:
    """With `created` it has succeeded; where the list of instances can be read, the instance must be in it.

    With `notCreated` it has failed, and may be retried. Who said so, when and why is kept.
    """
    if (what.created is None) is not what.not_created:
        raise InputError([Problem("", "it must be one of two", "either created, or notCreated: true")])
    board.launcher.job(job_id)
    warning = ""
    if what.created is not None:
        warning = must_exist(board.settings, board.launcher.ledger, what.created)
    job = board.launcher.resolve(job_id, created=what.created, reason=what.reason, who=_who(visitor.name))
    return job.document() | {"warnings": [warning] if warning else []}


@router.get(
    "/jobs/{job_id:path}",
    response_model=JobDocument,
    responses=problems(404),
    summary="One job, with its history",
)
def job(board: TheBoard, show_script: ShowScript, job_id: JobId) -> Any:
    """One job, as it is now."""
    return board.launcher.job(job_id).document(show_script=show_script)


# -- batches ------------------------------------------------------------------------------------------------------------


@router.get("/batches", response_model=BatchesDocument, summary="Batches, the newest first, a page at a time")
def batches(board: TheBoard, after: Cursor = "", limit: Annotated[int, Query(ge=1, le=PAGE)] = 50) -> Any:
    """All batches that are kept."""
    found, more = board.launcher.ledger.run(calls.batches(after=after, limit=limit))
    return {"batches": [one.document() for one in found], "next": more}


@router.get(
    "/batches/{batch_id:path}/wait",
    response_model=WaitedBatchDocument,
    responses=problems(404),
    summary="One batch, once all its jobs have ended (long poll)",
)
async def wait_for_batch(board: TheBoard, batch_id: BatchId, timeout: Wait = 30.0) -> Any:  # noqa: ASYNC109
    """Also where nothing more can happen, since the batch is held after failures."""

    async def look() -> Batch:
        batch = await board.ledger.run(calls.batch(batch_id))
        if batch is None:
            raise NotFoundError(f"no batch has the id {batch_id}")
        return batch

    def ended(batch: Batch) -> bool:
        flying = sum(batch.counts[state] for state in WATCHED)
        return batch.done or (batch.held == "failures" and not flying)

    batch, late = await until_ended(
        board.hub,
        look,
        ended=ended,
        concerns=lambda event: event.get("batchId") == batch_id,
        patience=timeout,
    )
    return {"batch": batch.document(), "timedOut": late}


@router.get(
    "/batches/{batch_id:path}/export",
    response_model=ExportDocument,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(404),
    },
    summary="What came of a batch: names, instances, errors",
)
def export(board: TheBoard, batch_id: BatchId, format: Literal["json", "csv"] = "json") -> Any:  # noqa: A002
    """For each job its name, its instance's name and id, and its error, in the order of the names."""
    batch = board.launcher.batch(batch_id)
    rows = export_rows(board.launcher.list_jobs(batch=batch.id, limit=0))
    if format == "csv":
        return Response(export_csv(rows), media_type="text/csv")
    return {"batchId": batch.id, "jobs": rows}


@router.post(
    "/batches/{batch_id:path}/cancel",
    response_model=ActsDocument,
    responses=problems(404),
    summary="Take a batch back",
)
def cancel_batch(board: TheBoard, batch_id: BatchId) -> Any:
    """As POST /cancel."""
    return _acts(board.launcher.cancel([board.launcher.batch(batch_id).id]))


@router.post(
    "/batches/{batch_id:path}/retry",
    response_model=ActsDocument,
    responses=problems(404),
    summary="Make a batch's failed and cancelled jobs due again",
)
def retry_batch(board: TheBoard, batch_id: BatchId) -> Any:
    """As POST /retry."""
    return _acts(board.launcher.retry([board.launcher.batch(batch_id).id]))


@router.post(
    "/batches/{batch_id:path}/pause",
    response_model=BatchDocument,
    responses=problems(404),
    summary="Hold a batch",
)
def pause_batch(board: TheBoard, batch_id: BatchId) -> Any:
    """Send nothing more of it until it is resumed. Calls in flight end as they end."""
    board.launcher.pause(batch_id)
    return board.launcher.batch(batch_id).document()


@router.post(
    "/batches/{batch_id:path}/resume",
    response_model=BatchDocument,
    responses=problems(404),
    summary="Have a batch go on",
)
def resume_batch(board: TheBoard, batch_id: BatchId) -> Any:
    """After a pause, or after it was held since too many of its jobs failed."""
    board.launcher.resume(batch_id)
    return board.launcher.batch(batch_id).document()


@router.get(
    "/batches/{batch_id:path}", response_model=BatchDocument, responses=problems(404), summary="One batch"
)
def batch(board: TheBoard, batch_id: BatchId) -> Any:
    """One batch, as it is now."""
    return board.launcher.batch(batch_id).document()


# -- the account and events ---------------------------------------------------------------------------------------------


@router.get("/account", response_model=AccountDocument, summary="The account at a glance")
def account(board: TheBoard) -> Any:
    """Whether calls are made and why not, the token's life, counts, workers, lanes."""
    return account_document(board.launcher.account())


@router.post("/account/pause", response_model=AccountDocument, summary="Send nothing at all")
def pause_account(board: TheBoard, visitor: Admitted) -> Any:
    """Until it is resumed. Calls in flight end as they end."""
    board.launcher.pause(who=_who(visitor.name))
    return account_document(board.launcher.account())


@router.post("/account/resume", response_model=AccountDocument, summary="Have the account go on")
def resume_account(board: TheBoard) -> Any:
    """After a pause by a person."""
    board.launcher.resume()
    return account_document(board.launcher.account())


class NewToken(Parameters):
    """A token of the cloud's."""

    token: SecretStr = Field(
        max_length=16_384, description="The value of AccessToken, as the console's requests have it."
    )


@router.put("/account/token", response_model=AccountDocument, summary="Give the workers a token")
def set_token(board: TheBoard, given: NewToken) -> Any:
    """All workers use it from now on. An account that was blocked for want of one is open again at once."""
    board.launcher.set_token(given.token.get_secret_value())
    return account_document(board.launcher.account())


@router.post(
    "/notify/test",
    response_model=list[TrialDocument],
    responses=problems(409),
    summary="Send a test message to every address",
)
async def notify_test(board: TheBoard) -> Any:
    """To those in the board's own LAUNCHQ_NOTIFY, now, and from where the board runs. 409 where it has none."""
    if not board.settings.notify_addresses:
        raise RefusedError("this board has no address to send to: LAUNCHQ_NOTIFY is not set where it runs")
    return await send_trial(board.settings)


@router.get(
    "/events",
    response_class=EventSourceResponse,
    summary="Changes of jobs' states as they happen (server-sent events)",
)
async def events(
    board: TheBoard,
    batch: Annotated[str | None, Query(max_length=KEY_LENGTH, description="Only of this batch.")] = None,
    job: Annotated[str | None, Query(max_length=300, description="Only of this job.")] = None,
    after: EventId = "",
    last_event_id: Annotated[
        str | None,
        Header(max_length=50, description="What a browser sends when it comes back; goes before `after`."),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Each event is named `change`, and its data is a JSON document. A client that comes back with the last id it saw misses
    nothing, as long as the stream still has it: the latest 100,000 events or so."""
    since = last_event_id if last_event_id and _is_event_id(last_event_id) else after
    try:
        async with asyncio.timeout(STREAM_SECONDS):
            async for event_id, fields in follow(board.hub, board.ledger, since):
                if batch in (None, fields.get("batchId")) and job in (None, fields.get("job")):
                    text = json.dumps(event_document(event_id, fields), ensure_ascii=False)
                    yield ServerSentEvent(raw_data=text, event="change", id=event_id)
    except (TimeoutError, LedgerError):
        return


def _is_event_id(text: str) -> bool:
    try:
        return bool(_event_id(text))
    except ValueError:
        return False


# -- -------------------------------------------------------------------------------------------------------------------


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """What all of this looks like."""
    return JSONResponse(request.app.openapi())


def _acts(results: dict[str, Done]) -> dict[str, Any]:
    return {
        "jobs": [{"id": job_id, "state": done.state, "result": done.what} for job_id, done in results.items()]
    }


def _who(visitor: str) -> str:
    return f"{visitor}, at the board"
