"""Who may do what: tokens and sessions, and what a browser is kept from doing for somebody else's page."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from launchq.board.context import Board, TheBoard
from launchq.board.problems import NotAdmittedError, NotAllowedError, problem
from launchq.inputs import INPUT_LIMIT
from ledger.passes import SESSION_SECONDS, Pass, digest_of
from tasks.errors import Problem

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE = "launchq_session"

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. What is not there need not be asked for: no inline script, nothing from anywhere else."""

SIMPLE_TYPES = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
"""What a form of another site's page can send without asking first."""

FILES = frozenset({"/api/v1/plan", "/api/v1/submit", "/submit"})
SMALL_BODY = 1024 * 1024
"""Bytes of a request's body, where it is no file."""

PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

ACTS = (100, 20.0)
"""Changes that one client may make at once, and a second."""

FAILED_LOGINS = (10, 0.1)
"""Tokens that are none, which one client may try at once, and a second."""

CLIENTS_KEPT = 10_000


@dataclass(frozen=True)
class Visitor:
    """Who asks, and whether they may change anything."""

    name: str
    full: bool


async def admitted(request: Request, board: TheBoard) -> Visitor:
    """Who asks. NotAdmittedError without a token, NotAllowedError where a token that may read only wants a change."""
    visitor = await _visitor(request, board)
    if not visitor.full and request.method not in SAFE:
        raise NotAllowedError(f"the token {visitor.name!r} may read only")
    return visitor


Admitted = Annotated[Visitor, Depends(admitted)]


async def _visitor(request: Request, board: TheBoard) -> Visitor:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        found = await _pass_of(token.strip(), request, board)
        if found is None:
            raise NotAdmittedError("this is no token of this board")
        return Visitor(found.name, found.full)
    if session := request.cookies.get(COOKIE):
        found = await board.ledger.pass_of_session(session)
        if found is not None:
            return Visitor(found.name, found.full)
    if board.is_open:
        return Visitor("somebody on this machine", full=True)
    raise NotAdmittedError("this board takes a token: Authorization: Bearer lqb_...")


async def _pass_of(token: str, request: Request, board: Board) -> Pass | None:
    """The pass that a token is. TooManyError where this client has tried too many that are none.

    A token that was good before is looked up all the same: many clients may come from one address, such as a proxy's, and
    nobody who guesses there shall lock out the others.
    """
    gate: Gate = request.app.state.gate
    client, digest = client_of(request.scope), digest_of(token)
    if digest not in gate.good and (wait := gate.failed.wait(client)):
        raise TooManyError(wait)
    found = await board.ledger.pass_of(token)
    if found is None:
        gate.good.pop(digest, None)
        gate.failed.take(client)
    else:
        gate.good[digest] = None
        if len(gate.good) > CLIENTS_KEPT:
            gate.good.popitem(last=False)
    return found


class TooManyError(Exception):
    """This client has done so too often; `wait`: seconds until it may again."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"too many; again in {wait:.0f} s")
        self.wait = wait


class Limiter:
    """Token buckets, one a client: so many at once, and so many a second. Those of clients long unheard are dropped."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until this client may do one more; 0 is now."""
        return max(0.0, (1.0 - self._level(client)) / self._rate)

    def take(self, client: str) -> float:
        """Count one. Seconds that it would have to wait; then it is not counted."""
        level = self._level(client)
        if level < 1.0:
            return (1.0 - level) / self._rate
        self._kept[client] = level - 1.0, time.monotonic()
        self._kept.move_to_end(client)
        if len(self._kept) > CLIENTS_KEPT:
            self._kept.popitem(last=False)
        return 0.0

    def _level(self, client: str) -> float:
        level, at = self._kept.get(client, (float(self._burst), 0.0))
        return min(self._burst, level + (time.monotonic() - at) * self._rate)


class Gate:
    """Which clients have tried tokens that are none, and (by their digests) which tokens have been good."""

    def __init__(self) -> None:
        self.failed = Limiter(*FAILED_LOGINS)
        self.good: OrderedDict[str, None] = OrderedDict()


def client_of(scope: Scope) -> str:
    """Who it is that asks, as far as the network knows."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class Guard:
    """Looks at every request before anything else does, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, *, is_open: bool, acts: Limiter) -> None:
        self.app, self.is_open, self.acts = app, is_open, acts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by itself where something is wrong."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, _bounded(receive, _body_limit(scope)), guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.is_open and (why := _not_local(headers)):
            return problem(421, why)
        if scope["method"] in SAFE:
            return None
        if why := _foreign(headers):
            return problem(403, why)
        sort = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if scope["path"].startswith("/api/") and has_body and sort in SIMPLE_TYPES:
            right = "Content-Type: application/json, application/yaml, text/csv or application/octet-stream"
            return problem(
                415, f"say what it is that you send: {right}", [Problem("", "no content type", right)]
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > _body_limit(scope):
            return problem(413, _too_large(_body_limit(scope)))
        if wait := self.acts.take(client_of(scope)):
            return problem(429, "too many changes", headers={"Retry-After": str(int(wait) + 1)})
        return None


def _body_limit(scope: Scope) -> int:
    is_file = scope["path"] in FILES or (
        scope["method"] == "PUT" and scope["path"].startswith("/api/v1/schedules/")
    )
    return INPUT_LIMIT if is_file else SMALL_BODY


def _too_large(limit: int) -> str:
    return f"the body is too large: at most {limit // 1024**2} MiB"


def _bounded(receive: Receive, limit: int) -> Receive:
    """What comes in, up to so many bytes, also where nobody said how many there would be."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return bounded


def _not_local(headers: Headers) -> str:
    """Why a request to a board without tokens did not come from this machine; "" where it did.

    A page whose name was made to point here (DNS rebinding) says that name in Host.
    """
    if (host := _host(headers.get("host", ""))) not in {"localhost", "127.0.0.1", "::1"}:
        return f"this board takes no tokens, so it answers to localhost only, not to {host[:100]!r}; see --require-token"
    if any(name in headers for name in PROXY_HEADERS):
        return "this came through a proxy, and this board takes no tokens: start it with --require-token"
    return ""


def _host(given: str) -> str:
    try:
        return urlsplit(f"//{given}").hostname or ""
    except ValueError:
        return ""


def _foreign(headers: Headers) -> str:
    """Why a change was asked for by another site's page; "" where it was not. What is no browser sends neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    elif origin is not None:
        own = urlsplit(origin).netloc == headers.get("host") if "://" in origin else False
    else:
        own = COOKIE not in headers.get("cookie", "")
    return "" if own else "another site's page may change nothing here"


router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(request: Request, board: TheBoard) -> Response:
    """The form that takes a token."""
    return board.templates.TemplateResponse(request, "login.html", {"failed": False})


@router.post("/login")
async def login(
    request: Request, board: TheBoard, token: Annotated[str, Form(max_length=200)] = ""
) -> Response:
    """Log a browser in: a cookie that stands for the token, which it does not hold."""
    found = await _pass_of(token.strip(), request, board)
    if found is None:
        return board.templates.TemplateResponse(request, "login.html", {"failed": True}, 401)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE,
        await board.ledger.begin_session(found),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/logout")
async def logout(request: Request, board: TheBoard) -> Response:
    """Log a browser out."""
    if session := request.cookies.get(COOKIE):
        await board.ledger.end_session(session)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
