"""The board's ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema

from config import Settings, traces
from launchq.board import access, api, health, metrics, models, pages, problems, schedules
from launchq.board.access import ACTS, Gate, Guard, Limiter, TooManyError, admitted
from launchq.board.context import HERE, Board
from launchq.board.events import Hub
from launchq.launcher import Launcher
from ledger import AsyncLedger

DESCRIPTION = (
    "Everything that the command line does. Documents and field paths are the same. On 127.0.0.1 no token is needed, unless "
    "the board was started with --require-token; elsewhere: Authorization: Bearer lqb_..."
)


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
    traces.begin(settings.traces, "launchq-board")
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
        # Its spans stand above a submission's. Nothing more: its logs would tell what was given.
        telemetry={"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )
    app.state.board = Board(settings, Launcher(settings), ledger, Hub(ledger), is_open)
    app.state.gate = Gate()
    problems.install(app)
    app.add_exception_handler(TooManyError, _on_too_many)
    app.add_middleware(Guard, is_open=is_open, acts=Limiter(*acts))
    for router in (health.router, access.router, metrics.router, api.router, schedules.router):
        app.include_router(router)
    app.include_router(pages.anybodys)
    app.include_router(pages.router, dependencies=[Depends(admitted)])
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.mount("/static", StaticFiles(directory=HERE / "static"), "static")
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, with the documents that no route names as its own: errors, and events."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
            description=DESCRIPTION,
        )
        _, more = models_json_schema(
            [(problems.ProblemDocument, "serialization"), (models.EventDocument, "serialization")],
            ref_template="#/components/schemas/{model}",
        )
        components = made.setdefault("components", {})
        components.setdefault("schemas", {}).update(more["$defs"])
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
        app.openapi_schema = made
    return app.openapi_schema


async def _on_too_many(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyError)
    return problems.problem(429, str(error), headers={"Retry-After": str(int(error.wait) + 1)})
