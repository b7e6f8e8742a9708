"""How a page is made: its language, its times, and what every page shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from markupsafe import Markup

from launchq.board.access import COOKIE, Visitor
from launchq.board.context import Board
from launchq.board.pages.words import LANGUAGES, word
from tasks.jobs import Job
from tasks.states import ENDS, State

LANGUAGE_COOKIE = "launchq_language"


def language_of(request: Request) -> str:
    """The language that was chosen, otherwise the browser's, otherwise English."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    first = request.headers.get("accept-language", "").partition(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"


def page(
    request: Request, board: Board, visitor: Visitor, name: str, values: Mapping[str, Any], status: int = 200
) -> Response:
    """One page. `visitor` says whether acts are shown."""
    language, zone = language_of(request), ZoneInfo(board.settings.timezone)

    def when(time: datetime | None, what: str = "%Y-%m-%d %H:%M:%S") -> str | Markup:
        if time is None:
            return "–"
        local = time.astimezone(zone)
        return Markup('<time datetime="{}">{}</time>').format(local.isoformat(), local.strftime(what))

    known = {
        "t": lambda key: word(key, language),
        "when": when,
        "link": lambda *parts: "/" + "/".join(quote(part, safe="") for part in parts),
        "language": language,
        "languages": LANGUAGES,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "section": name,
        "may_act": visitor.full,
        "logged_in": COOKIE in request.cookies,
        "zone": board.settings.timezone,
        **values,
    }
    response = board.templates.TemplateResponse(request, f"{name}.html", known, status)
    response.headers["Content-Language"] = "zh-CN" if language == "zh" else "en"
    return response


def next_of(job: Job) -> tuple[str, datetime | None]:
    """What happens next to a job: the key of the words, and when."""
    if job.state in ENDS:
        return "next_uncertain" if job.state is State.UNCERTAIN else "next_ended", None
    if job.state in {State.QUEUED, State.RETRYING} and job.error and job.error.category == "capacity":
        return "next_capacity", job.due_at
    if job.state in {State.SCHEDULED, State.RETRYING, State.VERIFYING}:
        return f"next_{job.state}", job.due_at
    return f"next_{job.state}", None


WIDTH, HEIGHT = 720, 160
PLOT = (44, 10, WIDTH - 10, HEIGHT - 24)
"""Left, top, right and bottom of what is drawn."""


def timeline(jobs: list[Job], zone: ZoneInfo) -> Markup:
    """A picture (SVG) of how many jobs had been entered, launched and failed at each moment."""
    lines = {
        "entered": sorted(job.created_at for job in jobs),
        "succeeded": sorted(job.updated_at for job in jobs if job.state is State.SUCCEEDED),
        "failed": sorted(job.updated_at for job in jobs if job.state is State.FAILED),
    }
    first = min(job.created_at for job in jobs)
    last = max(*(job.updated_at for job in jobs), first + timedelta(seconds=1))
    left, top, right, bottom = PLOT

    def x(time: datetime) -> float:
        return left + (right - left) * ((time - first) / (last - first))

    def y(count: int) -> float:
        return bottom - (bottom - top) * count / len(jobs)

    drawn = [Markup('<path class="axis" d="M{0} {1}V{3}H{2}"/>').format(left, top, right, bottom)]
    for name, times in lines.items():
        steps = [f"M{left} {bottom}"]
        for count, time in enumerate(times, start=1):
            steps.append(f"H{x(time):.1f}V{y(count):.1f}")
        if times:
            steps.append(f"H{right}")
            drawn.append(Markup('<path class="line {}" d="{}"/>').format(name, "".join(steps)))
    labels = [
        (left - 6, top + 8, "end", str(len(jobs))),
        (left - 6, bottom, "end", "0"),
        (left, HEIGHT - 6, "start", f"{first.astimezone(zone):%m-%d %H:%M:%S}"),
        (right, HEIGHT - 6, "end", f"{last.astimezone(zone):%m-%d %H:%M:%S}"),
    ]
    drawn += [Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(*label) for label in labels]
    return Markup("").join(drawn)
