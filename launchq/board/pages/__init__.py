"""The board's pages, for people: server-rendered, from `templates/` and `static/`; `static/board.js` keeps them fresh."""

from __future__ import annotations

from fastapi import APIRouter

from launchq.board.pages import acts, views

router = APIRouter(include_in_schema=False)
router.include_router(acts.router)
anybodys = acts.anybodys
router.include_router(views.router)
