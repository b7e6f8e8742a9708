"""The pages that show: overview, jobs, one job, batches, one batch, uncertain jobs, schedules, submit."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from launchq import schedules
from launchq.board.access import Admitted
from launchq.board.context import Board, TheBoard
from launchq.board.pages.render import HEIGHT, WIDTH, next_of, page, timeline
from ledger import calls
from tasks.jobs import KEY_LENGTH, Batch
from tasks.schedules import coming
from tasks.states import ENDS, State

router = APIRouter()

ROWS = 50
SHOWN_AT_ONCE = 200
"""Jobs of a batch that a picture or a table of errors is made of."""

EVENTS_COUNTED = 600
CALENDAR_DAYS = 7
CALENDAR_MOST = 2000


@router.get("/")
def overview(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Everything at a glance."""
    ledger = board.launcher.ledger
    account = board.launcher.account()
    launched = _launched_lately(ledger.latest_events(EVENTS_COUNTED), account.now)
    batches, _ = ledger.run(calls.batches(after="", limit=8))
    failures = ledger.page(state=State.FAILED, limit=5).jobs
    values = {
        "account": account,
        "counts": [(state, account.counts[state]) for state in State],
        "launched": launched,
        "batches": [_progress(batch) for batch in batches],
        "failures": failures,
        "addresses": [address.mark for address in board.settings.notify_addresses],
    }
    return page(request, board, visitor, "overview", values)


@router.get("/jobs")
def jobs(
    request: Request,
    board: TheBoard,
    visitor: Admitted,
    state: str = "",
    batch: Annotated[str, Query(max_length=KEY_LENGTH)] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Jobs, the latest change first, a page at a time."""
    known = State(state) if state in list(State) else None
    found = board.launcher.ledger.page(
        state=known, batch=batch or None, text=text, after=after if _is_cursor(after) else "", limit=ROWS
    )
    values = {
        "jobs": found.jobs,
        "states": list(State),
        "filters": {"state": known or "", "batch": batch, "text": text},
        "after": after,
        "more": found.more,
    }
    return page(request, board, visitor, "jobs", values)


@router.get("/jobs/{job_id:path}")
def job(request: Request, board: TheBoard, visitor: Admitted, job_id: str) -> Response:
    """One job: its story, its request, and what happens next."""
    one = board.launcher.job(job_id)
    document = one.document()
    what, at = next_of(one)
    values = {
        "job": one,
        "next_words": what,
        "next_at": at,
        "request_text": None
        if document["request"] is None
        else json.dumps(document["request"], ensure_ascii=False, indent=2),
    }
    return page(request, board, visitor, "job", values)


@router.get("/batches")
def batches(
    request: Request,
    board: TheBoard,
    visitor: Admitted,
    after: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Batches, the newest first."""
    cursor = after if _is_cursor(after) else ""
    found, more = board.launcher.ledger.run(calls.batches(after=cursor, limit=ROWS))
    values = {"batches": [_progress(batch) for batch in found], "more": more, "after": after}
    return page(request, board, visitor, "batches", values)


@router.get("/batches/{batch_id:path}")
def batch(request: Request, board: TheBoard, visitor: Admitted, batch_id: str) -> Response:
    """One batch: how far it is, and what goes wrong."""
    one = board.launcher.batch(batch_id)
    ledger = board.launcher.ledger
    latest = list(ledger.page(batch=batch_id, limit=SHOWN_AT_ONCE).jobs)
    failed = (
        ledger.page(batch=batch_id, state=State.FAILED, limit=SHOWN_AT_ONCE).jobs
        if one.counts[State.FAILED]
        else ()
    )
    errors = Counter(job.error.message for job in failed if job.error)
    values = {
        "batch": one,
        "progress": _progress(one),
        "counts": [(state, one.counts[state]) for state in State if one.counts[state]],
        "picture": timeline(latest, ZoneInfo(board.settings.timezone)) if latest else "",
        "size": (WIDTH, HEIGHT),
        "drawn": len(latest),
        "errors": errors.most_common(20),
        "jobs": latest[:ROWS],
    }
    return page(request, board, visitor, "batch", values)


@router.get("/uncertain")
def uncertain(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Jobs that wait for a person, with what was seen."""
    found = board.launcher.ledger.page(state=State.UNCERTAIN, limit=ROWS)
    return page(request, board, visitor, "uncertain", {"jobs": found.jobs, "more": found.more})


@router.get("/schedules")
def list_schedules(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Schedules, and when they come up in the next days."""
    found = schedules.list_schedules(board.launcher)
    return page(request, board, visitor, "schedules", {"schedules": found, "days": _calendar(board, found)})


@router.get("/submit")
def submit(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Where an input is pasted."""
    return page(request, board, visitor, "submit", {"given": {}, "problems": []})


def _launched_lately(events: list[tuple[str, dict[str, str]]], now: datetime) -> str:
    """How many jobs succeeded in the last minute. Where more has happened than these events, as many as at their rate."""
    at = [int(event_id.partition("-")[0]) / 1000 for event_id, _ in events]
    since = now.timestamp() - 60
    count = sum(
        time >= since and fields["state"] == State.SUCCEEDED
        for time, (_, fields) in zip(at, events, strict=True)
    )
    if len(events) < EVENTS_COUNTED or at[0] < since:
        return str(count)
    return f"~{count * 60 / max(1.0, now.timestamp() - at[0]):,.0f}"


def _progress(batch: Batch) -> dict[str, Any]:
    ended = sum(batch.counts[state] for state in ENDS)
    return {
        "id": batch.id,
        "total": batch.total,
        "ended": ended,
        "succeeded": batch.counts[State.SUCCEEDED],
        "failed": batch.counts[State.FAILED],
        "uncertain": batch.counts[State.UNCERTAIN],
        "done": batch.done,
        "held": batch.held,
        "created_at": batch.created_at,
    }


def _calendar(board: Board, found: list[Any]) -> list[tuple[datetime, list[tuple[str, list[datetime]]]]]:
    """For each of the next days: the schedules that come up, and when. Days are those of LAUNCHQ_TIMEZONE."""
    now, zone = datetime.now(UTC), ZoneInfo(board.settings.timezone)
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today + timedelta(days=number) for number in range(CALENDAR_DAYS)]
    end = days[-1] + timedelta(days=1)
    times: dict[datetime, dict[str, list[datetime]]] = {day: {} for day in days}
    for one in found:
        if one.paused:
            continue
        for number, at in enumerate(takewhile(lambda moment: moment < end, coming(one, now))):
            if number >= CALENDAR_MOST:
                break
            local = at.astimezone(zone)
            day = local.replace(hour=0, minute=0, second=0, microsecond=0)
            times.setdefault(day, {}).setdefault(one.name, []).append(local)
    return [(day, list(times[day].items())) for day in days]


def _is_cursor(text: str) -> bool:
    time, _, rest = text.partition("-")
    return bool(rest) and time.replace(".", "", 1).isdecimal()
