"""The board's ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from config import Settings
from launchq.board import access, api, health, metrics, pages, problems
from launchq.board.access import ACTS, FAILED_LOGINS, Guard, Limiter, TooManyError, admitted
from launchq.board.context import HERE, Board
from launchq.board.events import Hub
from launchq.launcher import Launcher
from ledger import AsyncLedger

SMALL_BODY = 1024 * 1024
"""Bytes of a request's body, where it is no file."""


def make_app(
    settings: Settings,
    *,
    is_open: bool,
    acts: tuple[int, float] = ACTS,
    on_start: Callable[[], None] | None = None,
) -> FastAPI:
    """The board of these settings' ledger. `is_open`: for this machine alone, without tokens.

    `acts`: changes that one client may make at once, and a second. `on_start` is called once it can answer.
    """
    ledger = AsyncLedger.of(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        board: Board = app.state.board
        await board.hub.start()
        if on_start is not None:
            on_start()
        try:
            yield
        finally:
            await board.hub.stop()
            await board.ledger.close()
            board.launcher.close()

    app = FastAPI(
        title="launchq",
        summary="Launches cloud instances: nothing lost, nothing bought twice.",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        max_body_size=SMALL_BODY,
    )
    app.state.board = Board(settings, Launcher(settings), ledger, Hub(ledger), is_open)
    app.state.failed_logins = Limiter(*FAILED_LOGINS)
    problems.install(app)
    app.add_exception_handler(TooManyError, _on_too_many)
    app.add_middleware(Guard, is_open=is_open, acts=Limiter(*acts))
    for router in (health.router, access.router, metrics.router, api.router):
        app.include_router(router)
    app.include_router(pages.router, dependencies=[Depends(admitted)])
    app.mount("/static", StaticFiles(directory=HERE / "static"), "static")
    return app


async def _on_too_many(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyError)
    return problems.problem(429, str(error), headers={"Retry-After": str(int(error.wait) + 1)})
