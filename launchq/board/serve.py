"""Serving the board: a socket, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from config import Settings, logs
from launchq.board.app import make_app
from launchq.board.events import Hub

PATIENCE = 3
"""Seconds that requests under way get at the end, before they are broken off."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """Lets those go first who watch: they would stay for ever."""

    hub: Hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, after that."""
        self.hub.close()
        await super().shutdown(sockets)


def serve(settings: Settings, *, host: str, port: int, is_open: bool, said: Callable[[str], None]) -> None:
    """Serve the board until SIGTERM or Ctrl-C. OSError where the address cannot be had. `said` is told where it is."""
    with bind(host, port) as listener:
        name, port = listener.getsockname()[:2]
        shown = f"[{name}]" if ":" in name else name
        tokens = "open to this machine" if is_open else "with a token"
        logs.begin(settings.log_format)
        app = make_app(
            settings, is_open=is_open, on_start=lambda: said(f"board: http://{shown}:{port} ({tokens})")
        )
        server = _Server(config_of(app))
        server.hub = app.state.board.hub
        # uvicorn ends cleanly at either signal, and then gives it back to whoever had it before: to nobody, here.
        signal.signal(signal.SIGTERM, lambda *_: None)
        with suppress(KeyboardInterrupt):
            asyncio.run(server.serve([listener]))


def config_of(app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves it."""
    return uvicorn.Config(
        app,
        access_log=False,  # its lines would have the query strings
        log_config=None,  # as everything else in this process: see config/logs.py
        server_header=False,
        limit_concurrency=1000,
        h11_max_incomplete_event_size=32 * 1024,
        timeout_graceful_shutdown=PATIENCE,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any that is free."""
    [(family, *_, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # With its protocol named, asyncio sets TCP_NODELAY: otherwise the end of an answer waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
