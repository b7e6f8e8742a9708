"""Whether the board lives (`/healthz`), and whether it can do its work (`/readyz`)."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from launchq.board.context import TheBoard
from tasks.errors import LedgerError

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives. Asks nobody."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(board: TheBoard) -> JSONResponse:
    """Redis can be reached, and keeps what it is given."""
    try:
        why = board.launcher.ledger.evicts()
    except LedgerError:
        why = "Redis is out of reach"  # no more: whoever asks needs no token
    document = {"status": "unavailable", "why": why} if why else {"status": "ok"}
    return JSONResponse(document, 503 if why else 200)
