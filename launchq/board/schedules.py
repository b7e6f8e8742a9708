"""Recurring schedules over HTTP: the functions of `launchq schedule`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, Field
from starlette.concurrency import run_in_threadpool

from config import seconds
from launchq import schedules
from launchq.board.access import admitted
from launchq.board.context import Board, TheBoard
from launchq.board.given import (
    ALWAYS,
    INPUT,
    PlanParameters,
    Text,
    length,
    must_be_confirmed,
    problems,
    read,
    warnings_of,
)
from launchq.board.models import Document, Moment, ReceiptDocument
from tasks.cron import read_cron
from tasks.jobs import rfc3339
from tasks.plan import grouped
from tasks.schedules import CatchUp, Overlap, Timing, batch_of

router = APIRouter(prefix="/api/v1", dependencies=[Depends(admitted)], responses=problems(*ALWAYS))

Name = Annotated[str, Path(max_length=100, description="The schedule's name.")]


class LastDocument(Document):
    """The last trigger, or the last run by hand."""

    trigger: Moment
    at: Moment
    result: str = Field(description="ran, skipped, missed or failed")
    message: str | None
    batch_id: str | None


class ScheduleDocument(Document):
    """One schedule."""

    name: str
    cron: str
    timezone: str
    deadline: float
    overlap: Overlap
    catch_up: CatchUp
    max_parallel: int | None
    stop_after_failures: int | None
    paused: bool
    next: Moment | None
    last: LastDocument | None
    last_batch_id: str | None
    error: str | None
    jobs: int
    created_at: Moment | None
    updated_at: Moment | None


class SchedulesDocument(Document):
    """All schedules, those with the next trigger first."""

    schedules: list[ScheduleDocument]


class AddedDocument(Document):
    """What became of a schedule that was put."""

    result: Literal["added", "replaced", "unchanged"]
    schedule: ScheduleDocument
    warnings: list[str]


class TriggerDocument(Document):
    """A time at which a schedule comes up, and the batch that it makes then."""

    name: str
    at: Moment
    batch_id: str


class TriggersDocument(Document):
    """The next triggers, in their order."""

    next: list[TriggerDocument]


class RunDocument(Document):
    """The batch that was made by hand."""

    batch_id: str
    jobs: list[ReceiptDocument]


class RemovedDocument(Document):
    """A schedule that is gone."""

    name: str
    removed: bool


class Put(PlanParameters):
    """When a schedule comes up, and how its input is read: as the options of `launchq schedule add`."""

    cron: str = Field(
        max_length=200,
        description="Minute, hour, day of the month, month, day of the week (Sunday is 0 or 7).",
    )
    tz: str | None = Field(None, max_length=100, description="The time zone of cron.")
    deadline: Annotated[str, AfterValidator(length)] = Field(
        "1h", description="How late a missed run may still start."
    )
    overlap: Overlap = Field(
        Overlap.ALLOW, description="Whether a run is made while the batch before is not done."
    )
    catch_up: CatchUp = Field(
        CatchUp.LAST, description="Which missed runs are made once workers are there again."
    )
    max_parallel: int | None = Field(
        None, ge=0, le=100_000, description="At most so many calls of a batch in flight; 0 is any number."
    )
    stop_after_failures: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="Hold the rest of a batch once so many of its jobs have failed; 0 is never.",
    )
    unique_names: bool = False
    replace: bool = Field(False, description="Replace a schedule of this name.")
    confirm: int | None = Field(
        None,
        description="The number of instances of a run: demanded for more than 100, and for billing by the week or month.",
    )


@router.get(
    "/schedules", response_model=SchedulesDocument, summary="All schedules, the next to come up first"
)
def list_schedules(board: TheBoard) -> Any:
    """When they come up next, and what became of the last time."""
    return {"schedules": [one.document() for one in schedules.list_schedules(board.launcher)]}


@router.get(
    "/triggers",
    response_model=TriggersDocument,
    responses=problems(404),
    summary="The times at which schedules come up next",
)
def triggers(
    board: TheBoard,
    name: Annotated[
        str | None, Query(max_length=100, description="Of this schedule only, paused or not.")
    ] = None,
    count: Annotated[int, Query(ge=1, le=1000)] = 5,
) -> Any:
    """Of one schedule, or of all that are not paused."""
    found = schedules.triggers(board.launcher, name, count)
    return {
        "next": [{"name": one.name, "at": rfc3339(at), "batchId": batch_of(one, at)} for one, at in found]
    }


@router.get(
    "/schedules/{name}", response_model=ScheduleDocument, responses=problems(404), summary="One schedule"
)
def schedule(board: TheBoard, name: Name) -> Any:
    """One schedule, as it is now."""
    return schedules.schedule(board.launcher, name).document()


@router.put(
    "/schedules/{name}",
    response_model=AddedDocument,
    status_code=201,
    responses={
        200: {"model": AddedDocument, "description": "It was there already, or was replaced."},
        **problems(409, 428),
    },
    openapi_extra=INPUT,
    summary="Store what an input launches, and when",
)
async def put_schedule(
    board: TheBoard, response: Response, name: Name, text: Text, parameters: Annotated[Put, Query()]
) -> Any:
    """The input is read now, and not again. The same schedule again changes nothing; another one of its name takes
    replace=true."""
    document = await run_in_threadpool(_put, board, name, text, parameters)
    if document["result"] != "added":
        response.status_code = 200
    return document


def _put(board: Board, name: str, text: bytes, parameters: Put) -> dict[str, Any]:
    timing = Timing(
        read_cron(parameters.cron, parameters.tz or board.settings.timezone, now=datetime.now(UTC)),
        seconds(parameters.deadline),
        parameters.overlap,
        parameters.catch_up,
        parameters.max_parallel or None,
        parameters.stop_after_failures or None,
    )
    inputs = read(text, parameters)
    entries = inputs.entries
    if parameters.unique_names:
        entries = tuple(replace(entry, policy=replace(entry.policy, unique_names=True)) for entry in entries)
    schedules.check(name, entries, timing)
    must_be_confirmed(grouped(entries), parameters.confirm)
    warnings = warnings_of(board, inputs, unique_names=parameters.unique_names)
    if any(intake.batch for intake in inputs.intakes):
        warnings.append(f"the file's batch is not used: each run makes a batch of its own, {name}@...")
    added = schedules.add(board.launcher, name, entries, timing, replace=parameters.replace)
    return {"result": added.what, "schedule": added.schedule.document(), "warnings": warnings}


@router.post(
    "/schedules/{name}/pause",
    response_model=ScheduleDocument,
    responses=problems(404),
    summary="Trigger no more until it is resumed",
)
def pause_schedule(board: TheBoard, name: Name) -> Any:
    """What is missed meanwhile is not caught up; batches go on."""
    return schedules.pause(board.launcher, name).document()


@router.post(
    "/schedules/{name}/resume",
    response_model=ScheduleDocument,
    responses=problems(404),
    summary="Trigger again, from now on",
)
def resume_schedule(board: TheBoard, name: Name) -> Any:
    """After a pause."""
    return schedules.resume(board.launcher, name).document()


@router.post(
    "/schedules/{name}/run",
    response_model=RunDocument,
    responses=problems(404, 409),
    summary="Make a batch of it now",
)
def run_schedule(board: TheBoard, name: Name) -> Any:
    """Paused or not. Twice within one second makes one."""
    made = schedules.run(board.launcher, name)
    return {"batchId": made.batch_id, "jobs": [receipt.document() for receipt in made.receipts]}


@router.delete(
    "/schedules/{name}", response_model=RemovedDocument, responses=problems(404), summary="Forget a schedule"
)
def remove_schedule(board: TheBoard, name: Name) -> Any:
    """Its batches stay."""
    schedules.remove(board.launcher, name)
    return {"name": name, "removed": True}
