"""The HTTP API, under /api/v1: the same functions as the command line's, the same documents."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from launchq.board.access import admitted

router = APIRouter(prefix="/api/v1", dependencies=[Depends(admitted)])
