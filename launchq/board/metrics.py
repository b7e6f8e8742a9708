"""`/metrics`: what the ledger can say cheaply at the moment of asking, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from launchq.board.access import admitted

router = APIRouter(include_in_schema=False, dependencies=[Depends(admitted)])
