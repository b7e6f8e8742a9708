"""The board's pages, for people: server-rendered, from `templates/` and `static/`."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
