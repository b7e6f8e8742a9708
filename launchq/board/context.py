"""What all routes of the board share, and how a route gets hold of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.templating import Jinja2Templates

from config import Settings
from launchq.board.events import Hub
from launchq.launcher import Launcher
from ledger import AsyncLedger

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Board:
    """One board. `launcher` is for routes that wait in a thread (plain `def`), `ledger` for those on the event loop.

    `is_open`: on this machine alone, everybody may do everything; otherwise each request needs a token.
    """

    settings: Settings
    launcher: Launcher
    ledger: AsyncLedger
    hub: Hub
    is_open: bool
    templates: Jinja2Templates = field(
        default_factory=lambda: Jinja2Templates(directory=HERE / "templates")  # escapes what it fills in
    )


def board_of(request: Request) -> Board:
    """The board that serves this request."""
    return cast("Board", request.app.state.board)


TheBoard = Annotated[Board, Depends(board_of)]
