"""The pages' acts: each is a form that is posted, does what the command of that name does, and leads back to a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from launchq import schedules
from launchq.board.access import Admitted, Visitor
from launchq.board.context import Board, TheBoard
from launchq.board.given import PlanParameters, must_be_confirmed, read, warnings_of
from launchq.board.pages.render import LANGUAGE_COOKIE, language_of, page
from launchq.board.pages.words import LANGUAGES, word
from launchq.board.problems import NotConfirmedError
from launchq.evidence import must_exist
from launchq.inputs import INPUT_LIMIT
from launchq.orders import Order, Wishes, order_of
from launchq.plans import with_starts
from launchq.trial import send_trial
from tasks.cron import read_cron
from tasks.errors import InputError, LaunchqError
from tasks.plan import why_ask
from tasks.schedules import Timing
from tasks.states import State

router = APIRouter()
anybodys = APIRouter(include_in_schema=False)
"""What needs no token, and what one that may read only may do: it changes nothing but a cookie."""

RETRIED_AT_ONCE = 500
YEAR_SECONDS = 365 * 86_400

Where = Annotated[str, Form(max_length=2000)]


def _here(to: str) -> str:
    # Only a path of this board: a form of somebody else's page cannot get here, and this is for slips.
    return to if to.startswith("/") and not to.startswith("//") else "/"


def _back(to: str) -> Response:
    return RedirectResponse(_here(to), 303)


def _done(request: Request, board: Board, visitor: Visitor, to: str, do: Callable[[], object]) -> Response:
    """Do it and go back, or say why it was not done. A text that it returns is a warning, which is shown first."""
    try:
        warning = do()
    except LaunchqError as error:
        said = {"title": "wrong", "lines": [str(error)], "wrong": True, "to": _here(to)}
        return page(request, board, visitor, "said", said, 409)
    if isinstance(warning, str) and warning:
        return page(request, board, visitor, "said", {"title": "noted", "lines": [warning], "to": _here(to)})
    return _back(to)


def _who(visitor: Visitor) -> str:
    return f"{visitor.name}, at the board"


@anybodys.post("/language")
def language(choice: Annotated[str, Form()], to: Where = "/") -> Response:
    """Choose a language, in a cookie of a year."""
    response = _back(to)
    if choice in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, choice, max_age=YEAR_SECONDS, httponly=True, samesite="strict")
    return response


@router.post("/account/token")
def set_token(
    request: Request, board: TheBoard, visitor: Admitted, token: Annotated[str, Form(max_length=16_384)]
) -> Response:
    """Give the workers a token."""
    return _done(request, board, visitor, "/", lambda: board.launcher.set_token(token))


@router.post("/notify/test")
async def notify_test(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Send a test message to every address, and show what came of each."""
    choice = language_of(request)
    lines = [
        f"{one['address']}: "
        + (
            word("notify_sent", choice)
            if one["sent"]
            else f"{word('notify_not_sent', choice)}: {one['message']}"
        )
        for one in await send_trial(board.settings)
    ]
    return page(request, board, visitor, "said", {"title": "notified", "lines": lines, "to": "/"})


@router.post("/account/{what}")
def account(request: Request, board: TheBoard, visitor: Admitted, what: str, to: Where = "/") -> Response:
    """Pause or resume the account."""
    acts: dict[str, Callable[[], object]] = {
        "pause": lambda: board.launcher.pause(who=_who(visitor)),
        "resume": board.launcher.resume,
    }
    return _done(request, board, visitor, to, acts.get(what, lambda: None))


@router.post("/jobs/{job_id:path}/cancel")
def cancel(request: Request, board: TheBoard, visitor: Admitted, job_id: str, to: Where = "/") -> Response:
    """Take a job back."""
    return _done(request, board, visitor, to, lambda: board.launcher.cancel([job_id]))


@router.post("/jobs/{job_id:path}/retry")
def retry(request: Request, board: TheBoard, visitor: Admitted, job_id: str, to: Where = "/") -> Response:
    """Make a job due again."""
    return _done(request, board, visitor, to, lambda: board.launcher.retry([job_id]))


@router.post("/jobs/{job_id:path}/resolve")
def resolve(
    request: Request,
    board: TheBoard,
    visitor: Admitted,
    job_id: str,
    what: Annotated[str, Form()],
    created: Annotated[str, Form(max_length=300)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
    to: Where = "/uncertain",
) -> Response:
    """Say what happened to an uncertain job."""

    def do() -> str:
        warning, instance = "", created.strip() if what == "created" else None
        if instance is not None:
            warning = must_exist(board.settings, board.launcher.ledger, instance)
        board.launcher.resolve(job_id, created=instance, reason=reason, who=_who(visitor))
        return warning

    return _done(request, board, visitor, to, do)


@router.post("/batches/{batch_id:path}/retry")
def retry_batch(
    request: Request,
    board: TheBoard,
    visitor: Admitted,
    batch_id: str,
    message: Annotated[str | None, Form(max_length=20_000)] = None,
    to: Where = "/",
) -> Response:
    """Make due again what failed of a batch: all, or what failed with one message."""

    def do() -> None:
        ids = [batch_id]
        if message is not None:
            found = board.launcher.ledger.page(batch=batch_id, state=State.FAILED, limit=RETRIED_AT_ONCE).jobs
            # A form's text has CRLF where the message has a line's end.
            ids = [job.id for job in found if job.error and _plain(job.error.message) == _plain(message)]
        if ids:
            board.launcher.retry(ids)

    return _done(request, board, visitor, to, do)


def _plain(text: str) -> str:
    return " ".join(text.split())


@router.post("/batches/{batch_id:path}/{what}")
def batch(
    request: Request, board: TheBoard, visitor: Admitted, batch_id: str, what: str, to: Where = "/"
) -> Response:
    """Cancel, hold or have go on a batch."""
    acts: dict[str, Callable[[], object]] = {
        "cancel": lambda: board.launcher.cancel([batch_id]),
        "pause": lambda: board.launcher.pause(batch_id, who=_who(visitor)),
        "resume": lambda: board.launcher.resume(batch_id),
    }
    return _done(request, board, visitor, to, acts.get(what, lambda: None))


@router.post("/schedules/{name}/{what}")
def schedule(
    request: Request, board: TheBoard, visitor: Admitted, name: str, what: str, to: Where = "/schedules"
) -> Response:
    """Pause, resume, run or remove a schedule."""
    acts: dict[str, Callable[..., object]] = {
        "pause": schedules.pause,
        "resume": schedules.resume,
        "run": schedules.run,
        "remove": schedules.remove,
    }
    act = acts.get(what)
    return _done(request, board, visitor, to, (lambda: act(board.launcher, name)) if act else (lambda: None))


@router.post("/submit")
async def submit(request: Request, board: TheBoard, visitor: Admitted) -> Response:
    """Show the plan of an input, or launch it."""
    async with request.form(max_part_size=INPUT_LIMIT) as form:
        file = form.get("file")
        text = await file.read() if isinstance(file, UploadFile) else b""
        given = {name: str(value) for name, value in form.items() if name != "file"}
    return await run_in_threadpool(
        _submit, request, board, visitor, given, text or given.get("text", "").encode()
    )


def _submit(request: Request, board: Board, visitor: Visitor, given: dict[str, str], text: bytes) -> Response:
    def again(problems: list[Any], status: int = 422, **more: Any) -> Response:
        values = {"given": {**given, "text": text.decode(errors="replace")}, "problems": problems, **more}
        return page(request, board, visitor, "submit", values, status)

    count, unique = given.get("count", "1").strip() or "1", given.get("unique") == "on"
    if not count.isdecimal() or not 1 <= int(count) <= 100_000:
        return again([f"{count!r}: 1 … 100000"])
    order: Order | None = None
    try:
        inputs, late = with_starts(read(text, PlanParameters(count=int(count))), board.settings.timezone)
        wishes = Wishes(batch=given.get("batch", "").strip() or None, unique_names=unique)
        order = order_of(inputs, wishes, board.settings.timezone, at_called="at")
        if given.get("action") in {"launch", "schedule"}:
            typed = given.get("confirm", "").strip()
            must_be_confirmed(order.groups, int(typed) if typed.isdecimal() else None)
        if given.get("action") == "schedule":
            zone = given.get("zone", "").strip() or board.settings.timezone
            cron = read_cron(given.get("cron", ""), zone, now=datetime.now(UTC))
            schedules.add(board.launcher, given.get("schedule", "").strip(), order.entries, Timing(cron))
            return RedirectResponse("/schedules", 303)
        if given.get("action") == "launch":
            receipts = order.enter(board.launcher)
            if order.batch:
                return RedirectResponse(f"/batches/{quote(order.batch, safe='')}", 303)
            if len(receipts) == 1:
                return RedirectResponse(f"/jobs/{quote(receipts[0].id, safe='')}", 303)
            return page(request, board, visitor, "submitted", {"receipts": receipts[:1000]})
    except NotConfirmedError as error:
        assert order is not None
        return again([str(error)], 428, order=order, reason=why_ask(order.groups), warnings=[])
    except InputError as error:
        # What is wrong with a schedule is said beside the plan: the input itself is in order.
        problems = list(error.problems)
        if order is None:
            return again(problems)
        return again(problems, order=order, reason=why_ask(order.groups), warnings=[])
    except LaunchqError as error:
        return again([str(error)], 409)
    warnings = [*warnings_of(board, inputs, unique_names=unique), *late]
    return again([], 200, order=order, reason=why_ask(order.groups), warnings=warnings)
