"""One HTTP exchange over a fast transport, and how much of it may have reached the other side.

httpx's own connection pool does work that grows with the square of the connections in flight, so httpx runs here
over aiohttp's (`httpx-aiohttp`). That road blurs what matters most: it reports a connection refused and a
connection reset after the request was sent as the same `httpx.ConnectTimeout`, and lets some of aiohttp's
exceptions through bare. So nothing here is concluded from an exception alone. The connector below notes the one
moment before which no byte of a request can have left: when a connection is handed over to be written to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import math
import os
import select
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, cast

import aiohttp
import aiohttp.client_exceptions as aio
import aiohttp.http_exceptions as wire
import httpx
from httpx_aiohttp import AiohttpTransport

from tasks.answers import NoAnswer
from worker import clock

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

KEEPALIVE = 2.0
"""Seconds an idle connection may be used again.

A server closes idle connections too (common defaults: 5 s Node.js, Apache and uvicorn, 75 s nginx), and a request written onto a
connection that is just being closed ends with nobody knowing whether it was read. Staying well below the
shortest of them leaves reuse to busy times, when it pays, and away from the moment of closing.
"""

UNDELIVERED_MS = 20_000
"""Milliseconds after which the kernel gives up on bytes that the server has not acknowledged."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Stage(IntEnum):
    """How far a call got. It only ever grows."""

    BUILDING = 0  # nothing has been handed to httpx
    HANDED_OVER = 1  # somewhere inside httpx or a transport that tells us nothing
    CONNECTING = 2  # our connector is looking for a connection, or making one
    CONNECTED = 3  # a connection was handed over: from here on bytes may have left
    ANSWERING = 4  # the head of an answer came back


@dataclass(slots=True)
class Call:
    """What is known about one call while it runs."""

    stage: Stage = Stage.BUILDING
    send_before: float = math.inf
    """By `clock.now()`: later than this, the request must not leave any more."""
    _connection: Connection | None = None
    _transport: asyncio.Transport | None = None

    def reached(self, stage: Stage) -> None:
        """Note progress; never step back, as aiohttp may connect twice for one idempotent request."""
        self.stage = max(self.stage, stage)

    def got(self, connection: Connection) -> None:
        """The connection that the request is about to be written to."""
        self.reached(Stage.CONNECTED)
        self._connection, self._transport = connection, connection.transport

    def abandon(self) -> None:
        """Make sure that nothing more of this request leaves. Never raises.

        A closed transport still delivers what was buffered, ours and the kernel's, for as long as the server takes to read
        it: a request could arrive complete, and be obeyed, minutes after its end was reported. A reset drops it (see
        `_close_hard`).
        """
        connection, transport = self._connection, self._transport
        self._connection = self._transport = None
        if connection is None or transport is None:
            return
        # Closed from the other side, any of this may be gone: then nothing can leave either.
        with contextlib.suppress(Exception):
            if connection.protocol is None and not transport.is_closing():
                # Given back in good order, as the answer had been received to its end: another call may be on it.
                return
            transport.abort()


current_call: ContextVar[Call] = ContextVar("current_call")
"""The call that the running task is making: httpx-aiohttp has no way to hand it through to the connector."""


class TooLateError(Exception):
    """The process was held up (stopped, suspended, starved) between the call and its connection."""


class Connector(aiohttp.TCPConnector):
    """Notes when a request gets its connection, and never hands over a used one that has gone bad, or any too late."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        # limit=0: how many calls are in flight is decided by whoever makes them, and a wait for a free
        # connection in here would only eat their time.
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE, ssl=True if tls is None else tls)
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109  aiohttp's signature
    ) -> Connection:
        """A connection for this request. aiohttp writes nothing before this returns."""
        call = current_call.get(None)
        if call is not None:
            call.reached(Stage.CONNECTING)
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                break
            if not _gone_bad(connection):
                break
            # Nothing was written to it for this request, so taking another is no second attempt.
            connection.close()
        if protocol is not None and protocol not in self._used:
            self._used.add(protocol)
            _close_hard(connection)
        if call is not None and clock.now() > call.send_before:
            # The last look before bytes leave: whoever gave us this time may have given the job to somebody else since.
            connection.close()
            raise TooLateError
        if call is not None:
            call.got(connection)
        return connection


def _close_hard(connection: Connection) -> None:
    """Let this connection drop what it has not delivered when it is closed, also when the process is killed.

    And let the kernel give up on undelivered bytes in the end where the process cannot: it may be stopped.
    """
    sock = connection.transport.get_extra_info("socket") if connection.transport is not None else None
    if sock is not None:
        # Closed from the other side already, it may refuse; then nothing can leave either.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNDELIVERED_MS)


def _gone_bad(connection: Connection) -> bool:
    """Whether an idle connection has something to read: its end, or an answer to no question of ours.

    The first would lose the request. The second would be taken for the answer to it, and an instance
    that belongs to nobody would be entered as the job's. aiohttp looks only at what its loop has
    already noticed, and not at stray answers at all.
    """
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The process's TLS settings: certificates and names are verified.

    Cached, since reading the certificates takes some 10 ms and a client is made for every shift. Authorities are certifi's,
    or those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, as httpx documents it.
    """
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _trusts_nobody() -> ssl.SSLContext:
    """For plain http: httpx-aiohttp would load all certificates just to hold them."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def aiohttp_transport(*, tls: bool) -> httpx.AsyncBaseTransport:
    """The transport of a client; needs a running event loop. Closing it closes its connections."""
    context = tls_context() if tls else None
    session = aiohttp.ClientSession(
        connector=Connector(context),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # The caller's deadline rules; aiohttp's own of five minutes would be a second one.
        timeout=aiohttp.ClientTimeout(total=None),
    )
    return AiohttpTransport(verify=context or _trusts_nobody(), client=session)


async def read_answer(response: httpx.Response, most: int) -> bytes:
    """The body of a streamed answer. Longer than `most` bytes, it is not read to its end: what comes back is longer too."""
    body = bytearray()
    # Closed in order where the loop is left early; httpx declares less than the generator that it is.
    generator = cast("AsyncGenerator[bytes]", response.aiter_bytes())
    async with contextlib.aclosing(generator) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                break
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a call is for, and its limits in seconds, as the texts below name them."""

    host: str
    port: int
    timeout: float
    connect_timeout: float

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def says(self, text: str, **more: str) -> str:
        """A text of the table with its places filled in."""
        return text.format(
            peer=self, host=self.host, timeout=self.timeout, connect_timeout=self.connect_timeout, **more
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    early: bool
    """Raised only while a connection is being made. Believed only where the connector says so too."""
    text: str


_NO_CONNECTION = "cannot connect to {peer}{why}"
_NOT_TRUSTED = "the certificate of {peer} is not trusted{why}"
_NO_HANDSHAKE = "the TLS handshake with {peer} failed{why}"
_NO_ADDRESS = "{host} is not an address that can be called"
_BROKE = "the connection to {peer} broke before the answer was complete"
_CLOSED = "{peer} closed the connection without an answer"
_CUT_OFF = "the answer of {peer} broke off or cannot be read"
_NOT_HTTP = "{peer} answered something that is not HTTP"
_NOT_DECODED = "the answer of {peer} cannot be decompressed"
_SILENT = "no answer from {peer} within {timeout:g} s"
_OTHER = "the call to {peer} failed ({kind})"

_EARLY: Sequence[tuple[str, Sequence[type[BaseException]]]] = (
    ("the name {host} does not resolve", (aio.ClientConnectorDNSError,)),
    (
        _NO_CONNECTION,
        (
            aio.ClientConnectorError,
            aio.UnixClientConnectorError,
            aio.ClientProxyConnectionError,
            httpx.ConnectError,
            httpx.ProxyError,
        ),
    ),
    (_NOT_TRUSTED, (aio.ClientConnectorCertificateError, aio.ServerFingerprintMismatch)),
    (_NO_HANDSHAKE, (aio.ClientSSLError, aio.ClientConnectorSSLError)),
    ("no connection to {peer} within {connect_timeout:g} s", (aio.ConnectionTimeoutError,)),
    ("no free connection to {peer}", (httpx.PoolTimeout,)),
    (
        _NO_ADDRESS,
        (
            aio.InvalidURL,
            aio.InvalidUrlClientError,
            aio.NonHttpUrlClientError,
            httpx.InvalidURL,
            httpx.UnsupportedProtocol,
        ),
    ),
    ("the request to {peer} is not valid HTTP", (httpx.LocalProtocolError,)),
    ("held back: this process was held up before it could call {peer}", (TooLateError,)),
)

_LATE: Sequence[tuple[str, Sequence[type[BaseException]]]] = (
    (_CLOSED, (aio.ServerDisconnectedError,)),
    (
        _BROKE,
        (
            OSError,
            aio.ServerConnectionError,
            aio.ClientOSError,
            aio.ClientConnectionResetError,
            aio.ClientConnectionError,
            aio.UploadAbortedError,
            httpx.CloseError,
            # httpx-aiohttp's name for nearly everything, after the request was sent as well: never early.
            httpx.ConnectTimeout,
            httpx.NetworkError,
            httpx.ReadError,
            httpx.WriteError,
        ),
    ),
    (
        _CUT_OFF,
        (
            aio.ClientPayloadError,
            wire.PayloadEncodingError,
            wire.TransferEncodingError,
            wire.ContentLengthError,
        ),
    ),
    (
        _NOT_HTTP,
        (
            aio.ClientResponseError,
            wire.HttpProcessingError,
            wire.BadHttpMessage,
            wire.HttpBadRequest,
            wire.LineTooLong,
            wire.InvalidHeader,
            wire.BadStatusLine,
            wire.BadHttpMethod,
            wire.InvalidURLError,
            httpx.ProtocolError,
            httpx.RemoteProtocolError,
        ),
    ),
    (
        _NOT_DECODED,
        (wire.ContentEncodingError, wire.DecompressSizeError, httpx.DecodingError),
    ),
    (
        _SILENT,
        (
            TimeoutError,
            aio.ServerTimeoutError,
            aio.SocketTimeoutError,
            httpx.TimeoutException,
            httpx.ReadTimeout,
            httpx.WriteTimeout,
        ),
    ),
    (
        "{peer} answered with a redirect that leads nowhere",
        (
            aio.RedirectClientError,
            aio.InvalidUrlRedirectClientError,
            aio.NonHttpUrlRedirectClientError,
            aio.TooManyRedirects,
            httpx.TooManyRedirects,
        ),
    ),
    (
        # What has no business here. Named by its class, for whoever has to look into it.
        _OTHER,
        (
            Exception,
            aio.ClientError,
            aio.ClientHttpProxyError,
            aio.ContentTypeError,
            aio.WSMessageTypeError,
            aio.WSServerHandshakeError,
            httpx.CookieConflict,
            httpx.HTTPError,
            httpx.HTTPStatusError,
            httpx.RequestError,
            httpx.RequestNotRead,
            httpx.ResponseNotRead,
            httpx.StreamClosed,
            httpx.StreamConsumed,
            httpx.StreamError,
            httpx.TransportError,
        ),
    ),
)

FAILURES: dict[type[BaseException], _Failure] = {
    kind: _Failure(early, text)
    for early, rows in ((True, _EARLY), (False, _LATE))
    for text, kinds in rows
    for kind in kinds
}
"""Every exception class of aiohttp and httpx, what it means, and what people read. A test finds newcomers."""

_ERRNO = {
    errno.ECONNREFUSED: "connection refused by {peer}",
    errno.ENETUNREACH: "no route to {peer}",
    errno.EHOSTUNREACH: "no route to {peer}",
    errno.EMFILE: "too many open files here for a connection to {peer}",
    errno.ENFILE: "too many open files here for a connection to {peer}",
}


def failed(exc: Exception, call: Call, peer: Peer) -> NoAnswer:
    """What an exception means: nothing left only where the exception and the connector agree on it."""
    origin: BaseException = exc
    if isinstance(exc, httpx.HTTPError) and isinstance(exc.__cause__, aiohttp.ClientError):
        # What httpx-aiohttp made an httpx exception of says more than that exception does.
        origin = exc.__cause__
    failure = next(FAILURES[kind] for kind in type(origin).__mro__ if kind in FAILURES)
    certain = call.stage is Stage.BUILDING or (failure.early and call.stage is Stage.CONNECTING)
    text = failure.text
    os_error = origin.os_error if isinstance(origin, aio.ClientConnectorError) else None
    if text is _NO_CONNECTION and os_error is not None:
        text = _ERRNO.get(os_error.errno or 0, text)
    return NoAnswer(not certain, peer.says(text, why=_why(os_error), kind=type(origin).__name__))


def out_of_time(call: Call, peer: Peer) -> NoAnswer:
    """The deadline of the whole call passed."""
    match call.stage:
        case Stage.BUILDING | Stage.CONNECTING:
            return NoAnswer(False, peer.says("no connection to {peer} within {timeout:g} s"))
        case Stage.ANSWERING:
            return NoAnswer(True, peer.says("the answer of {peer} was not complete within {timeout:g} s"))
        case _:
            return NoAnswer(True, peer.says(_SILENT))


def _why(os_error: OSError | None) -> str:
    """The operating system's or OpenSSL's own words, which know nothing of the request."""
    why: str | None = None
    if isinstance(os_error, ssl.SSLCertVerificationError):
        why = os_error.verify_message.rstrip(".")
    elif isinstance(os_error, ssl.SSLError):
        why = (os_error.reason or "").replace("_", " ").lower()
    elif os_error is not None and os_error.errno:
        why = os.strerror(os_error.errno).lower()
    return f": {why}" if why else ""
