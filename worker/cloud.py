"""The cloud's HTTP API as this project uses it: one method a call, and an honest word on how it ended.

The create call costs money and takes no idempotency token, so a call that failed is one of two things: no byte of it
left this machine, and it may be made again, or it may have been obeyed, and must be looked up first.
`NoAnswer.sent` says which, and in any doubt it says that it was sent. Nothing in here ever sends a request twice.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import metadata
from types import TracebackType
from typing import Self

import httpx

from tasks.answers import Answer, NoAnswer, Reply
from worker import clock
from worker.claims import fits_a_header
from worker.transport import (
    Call,
    Peer,
    Stage,
    aiohttp_transport,
    current_call,
    failed,
    out_of_time,
    read_answer,
)

CREATE, LIST, LOGIN, BALANCE = "/instance/create", "/instance/list", "/user/login", "/balance"
CATALOGUE = "/resource/user/instance/list"

MAX_ANSWER = 1 << 20
"""Bytes of an answer that are read. The API's own are a few hundred; something larger is not from it."""

CONNECT_TIMEOUT = 10.0
"""Seconds for name, connection and TLS together, unless told. A lost SYN is sent again after 1, 3 and 7 s."""

READ_TIMEOUT = 10.0
"""Seconds for a call that only reads, where a create call may take longer."""

HELD_UP = 1.0
"""Seconds by which a request may leave later than its connection may take, on a busy machine."""

_DELAY_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, repr=False)
class Credential:
    """What a call proves itself with: one header. Shown nowhere, neither by `repr` nor by `str`."""

    header: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.header not in ("Cookie", "X-API-Key"):
            raise ValueError("a credential goes as the header Cookie or X-API-Key")
        if not fits_a_header(self.value.removeprefix("AccessToken=")):
            # The value stays out of the message: it would reach logs and error reports.
            raise ValueError(
                "this credential holds characters that no token or key has (spaces, line breaks, "
                "control characters, quotes, commas, semicolons or letters outside ASCII), or it is empty"
            )

    @classmethod
    def token(cls, value: str) -> Self:
        """An access token, from a login or pasted from the console: goes as a cookie."""
        return cls("Cookie", f"AccessToken={value}")

    @classmethod
    def api_key(cls, value: str) -> Self:
        """A console API key, where the cloud takes one."""
        return cls("X-API-Key", value)

    def __repr__(self) -> str:
        return f"Credential({self.header}: hidden)"


class Cloud:
    """The API at one address, with connections of its own: `async with Cloud(url, timeout=30) as cloud`.

    `timeout` is for a whole call, in seconds, from the name's lookup to the answer's last byte, so a server that
    drips bytes cannot hold a call for ever. Making one is cheap. All calls must have ended before it is left.
    No method raises for what the network or the server does; a cancellation passes through.

    `transport` replaces the real network in tests. What such a transport raises always counts as sent:
    only our own connector can say that nothing left.
    """

    def __init__(
        self,
        api_url: str,
        *,
        timeout: float,
        connect_timeout: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if connect_timeout is None:
            connect_timeout = min(timeout, CONNECT_TIMEOUT)
        for seconds in (timeout, connect_timeout):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"a timeout must be a positive number of seconds, not {seconds!r}")
        base = _base(api_url)
        self._tls = base.scheme == "https"
        self._urls = {path: _join(base, path) for path in (CREATE, LIST, LOGIN, BALANCE, CATALOGUE)}
        self._peer = Peer(
            host=base.host,
            port=base.port or (443 if self._tls else 80),
            timeout=timeout,
            connect_timeout=connect_timeout,
        )
        self._reading_peer = replace(self._peer, timeout=min(timeout, READ_TIMEOUT))
        self._timeouts = httpx.Timeout(
            connect=connect_timeout, pool=connect_timeout, read=timeout, write=timeout
        ).as_dict()
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        self._entered = True
        # Its client is made while whoever enters waits for something else, which most often is the claim of a job.
        asyncio.get_running_loop().call_soon(lambda: self._entered and self._ready())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client, self._client, self._entered = self._client, None, False
        if client is not None:
            await client.aclose()

    def _ready(self) -> httpx.AsyncClient:
        if not self._entered:
            raise RuntimeError("a Cloud makes calls only inside `async with`")
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport or aiohttp_transport(tls=self._tls),
                trust_env=False,
                follow_redirects=False,
                # A jar that takes nothing in: no cookie of the server's is kept, let alone sent beside a token.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._client

    async def create(self, body: bytes, credential: Credential) -> Reply:
        """Ask for one instance: `POST /instance/create` with exactly these bytes. It costs money."""
        return await self._call("POST", CREATE, body, credential)

    async def login(self, username: str, password: str) -> Reply:
        """Ask for an access token: `POST /user/login`."""
        body = json.dumps({"username": username, "password": password}, ensure_ascii=False)
        # A lone surrogate, which no password has but a broken environment may, must not raise.
        return await self._call("POST", LOGIN, body.encode(errors="replace"))

    async def list_instances(self, page: int, size: int, credential: Credential) -> Reply:
        """Ask for one page of the account's instances: `POST /instance/list`; pages count from 1."""
        body = json.dumps({"pager": {"currentPage": page, "pageSize": size}})
        return await self._call("POST", LIST, body.encode(), credential, reading=True)

    async def catalogue(self, credential: Credential) -> Reply:
        """Ask what can be rented, and at what price: `POST /resource/user/instance/list`."""
        return await self._call("POST", CATALOGUE, b"{}", credential, reading=True)

    async def reachable(self, credential: Credential | None = None) -> Reply:
        """A harmless question, `GET /balance`: an answer of any kind means that the API can be reached."""
        return await self._call("GET", BALANCE, b"", credential, reading=True)

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes,
        credential: Credential | None = None,
        *,
        reading: bool = False,
    ) -> Reply:
        client = self._ready()
        peer = self._reading_peer if reading else self._peer
        call = Call(send_before=clock.now() + peer.connect_timeout + HELD_UP)
        outer = current_call.set(call)
        answered = False
        try:
            async with asyncio.timeout(peer.timeout) as deadline:
                request = self._request(method, path, body, credential)
                call.reached(Stage.HANDED_OVER)
                reply = await self._exchange(client, request, call)
                answered = isinstance(reply, Answer)
                return reply
        except Exception as exc:  # noqa: BLE001  whatever it is, it must come back as "may have been sent"
            if isinstance(exc, TimeoutError) and deadline.expired():
                return out_of_time(call, peer)
            return failed(exc, call, peer)
        finally:
            if not answered:
                call.abandon()
            current_call.reset(outer)

    def _request(self, method: str, path: str, body: bytes, credential: Credential | None) -> httpx.Request:
        headers = {
            "Accept": "application/json",
            # Answers are a few hundred bytes: not worth a decompressor between us and what was said.
            "Accept-Encoding": "identity",
            "User-Agent": _user_agent(),
        }
        if body:
            headers["Content-Type"] = "application/json"
        if credential is not None:
            headers[credential.header] = credential.value
        # Not the client's build_request: that merges in cookies and defaults; this is the request and no more.
        return httpx.Request(
            method,
            self._urls[path],
            headers=headers,
            content=body,
            extensions={"timeout": self._timeouts},
        )

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request, call: Call) -> Reply:
        response = await client.send(request, stream=True)
        try:
            call.reached(Stage.ANSWERING)
            body = await read_answer(response, MAX_ANSWER)
        finally:
            await response.aclose()
        if len(body) > MAX_ANSWER:
            return NoAnswer(True, self._peer.says("the answer of {peer} is larger than the API ever gives"))
        return Answer(response.status_code, body, retry_after(response.headers))


def _base(api_url: str) -> httpx.URL:
    """The API's address, checked here once, so that no call can fail for it."""
    try:
        url = httpx.URL(api_url.strip())
    except httpx.InvalidURL as exc:
        raise ValueError(f"the API's address is not a URL: {exc}") from None
    if url.userinfo:
        # Not shown: it holds a password.
        raise ValueError("the API's address must not hold a user name or password")
    if url.scheme not in ("http", "https") or not url.host or b"?" in url.raw_path or url.fragment:
        raise ValueError("the API's address must look like https://host/api")
    return url


def _join(base: httpx.URL, path: str) -> httpx.URL:
    return base.copy_with(raw_path=base.raw_path.rstrip(b"/") + path.encode())


def retry_after(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds, RFC 9110 10.2.3: a number, or a date, which counts from the answer's own `Date`."""
    value = headers.get("retry-after", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    # The answer's own clock where it has one: ours may be off, and only the difference counts.
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    seconds = (until - now).total_seconds()
    return seconds if seconds >= 0 else None


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


@functools.cache
def _user_agent() -> str:
    try:
        return f"launchq/{metadata.version('launchq')}"
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "launchq/dev"
