"""Errors as `application/problem+json` (RFC 9457), with the same words and field paths as on the command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from config import SettingsError
from tasks.errors import (
    InputError,
    LaunchqError,
    LedgerError,
    NotFoundError,
    Problem,
    RefusedError,
    SealedError,
)

logger = logging.getLogger("launchq.board")

MEDIA_TYPE = "application/problem+json"


class ProblemModel(BaseModel):
    """One thing that is wrong: in which field, in which file and entry, and what would be right."""

    path: str = Field(
        description="The field in the API's own spelling, such as billing.chargeMode; may be empty."
    )
    wrong: str
    right: str
    where: str = Field(description="The file and the entry, where there are several; may be empty.")


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    problems: list[ProblemModel] = []


class NotAdmittedError(LaunchqError):
    """Without a token, or with one that is none."""


class NotAllowedError(LaunchqError):
    """The token may read only."""


class NotConfirmedError(InputError):
    """What would cost much must be confirmed by its number."""

    def __init__(self, reason: str, total: int) -> None:
        super().__init__([Problem("confirm", reason, f"to launch them, send confirm={total}")])


STATUS: dict[type[Exception], HTTPStatus] = {
    NotConfirmedError: HTTPStatus.PRECONDITION_REQUIRED,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RefusedError: HTTPStatus.CONFLICT,
    NotAdmittedError: HTTPStatus.UNAUTHORIZED,
    NotAllowedError: HTTPStatus.FORBIDDEN,
    LedgerError: HTTPStatus.SERVICE_UNAVAILABLE,
    SealedError: HTTPStatus.SERVICE_UNAVAILABLE,
    SettingsError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Error -> the status that it is answered with; the first that fits, by class."""


def problem(
    status: int, detail: str, problems: Sequence[Problem] = (), headers: dict[str, str] | None = None
) -> Response:
    """The answer that says what went wrong."""
    document = ProblemDocument(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        problems=[
            ProblemModel(path=one.path, wrong=one.wrong, right=one.right, where=one.where) for one in problems
        ],
    )
    return JSONResponse(document.model_dump(), status, headers, media_type=MEDIA_TYPE)


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks for a page, and not a program for data."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


async def _on_error(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    if status is HTTPStatus.UNAUTHORIZED:
        if wants_page(request) and request.method == "GET":
            return RedirectResponse(request.url_for("login_page"), 303)
        return problem(status, str(error), headers={"WWW-Authenticate": 'Bearer realm="launchq"'})
    problems = error.problems if isinstance(error, InputError) else ()
    return problem(status, str(error), problems)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    # FastAPI's word for a body that is no JSON, or no text.
    status = 422 if error.status_code == 400 else error.status_code
    return problem(status, error.detail, headers=headers)


async def _on_misuse(_: Request, error: Exception) -> Response:
    """What FastAPI's own check of parameters found. Never with what was given: that may be secret."""
    assert isinstance(error, RequestValidationError)
    problems = [_problem_of(one) for one in error.errors()]
    return problem(422, "\n".join(map(str, problems)), problems)


def _problem_of(error: dict[str, Any]) -> Problem:
    place, *path = error["loc"]
    if error["type"] == "json_invalid":
        return Problem("", "is no JSON", "a JSON object")
    text = str(error["msg"]).removeprefix("Value error, ")
    return Problem(
        ".".join(map(str, path)), text[:1].lower() + text[1:], where="" if place == "body" else str(place)
    )


async def _on_bug(_: Request, error: Exception) -> Response:
    logger.error("unexpected %s: a bug in launchq", type(error).__name__, exc_info=error)
    return problem(500, "unexpected: a bug in launchq; the board's log has more")


def install(app: FastAPI) -> None:
    """Have the app answer errors like this."""
    for kind in STATUS:
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_misuse)
    app.add_exception_handler(Exception, _on_bug)
