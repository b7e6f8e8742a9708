"""Puts the simulated cloud on a port of this machine."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from sandbox.answers import json_answer
from sandbox.cloud import BASE_PATH, Cloud
from sandbox.control import CONTROL_PATH, Control
from sandbox.listener import Listener
from sandbox.options import CloudOptions

_GRACE = 0.5
"""Seconds that calls under way get to end when the server stops."""


class CloudServer:
    """A running cloud. Make it with `run_cloud`; steer it through ``cloud`` and ``listener``, in the same event loop."""

    def __init__(self, options: CloudOptions) -> None:
        self.cloud = Cloud(options)
        self._server = web.Server(self._handle, access_log=None)
        self.listener = Listener(self._server, options.host, options.port)
        self.listener.refuse(options.refuse, options.refuse_window)
        self._control = Control(self.cloud, self.listener)
        self._control_listener: Listener | None = None
        if options.control_port is not None:
            self._control_listener = Listener(self._server, options.host, options.control_port)
        self._origin_host = _reachable(options.host)

    @property
    def api_url(self) -> str:
        """Where clients find the API, without a slash at the end."""
        return f"http://{self._origin_host}:{self.listener.port}{BASE_PATH}"

    @property
    def control_url(self) -> str:
        """Where to find the control API, on its own port if it has one."""
        port = (self._control_listener or self.listener).port
        return f"http://{self._origin_host}:{port}{CONTROL_PATH}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(f"{CONTROL_PATH}/"):
            return await self._control.handle(request)
        if not request.path.startswith(f"{BASE_PATH}/"):
            return json_answer({"message": f"the API is below {BASE_PATH}/"}, 404).response()
        response = await self.cloud.handle(request)
        if self.listener.refusing:
            response.force_close()  # so that clients make new connections, and meet the closed port
        return response

    async def stop(self) -> None:
        """Close the ports, let calls under way end for a moment, and drop the connections."""
        self.cloud.stopping.set()
        await self.listener.close()
        if self._control_listener is not None:
            await self._control_listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_GRACE)


@asynccontextmanager
async def run_cloud(options: CloudOptions | None = None) -> AsyncIterator[CloudServer]:
    """Run a cloud in this event loop for the time of the block."""
    server = CloudServer(options or CloudOptions())
    try:
        yield server
    finally:
        await server.stop()


def serve(
    options: CloudOptions,
    on_ready: Callable[[CloudServer], None] | None = None,
    *,
    until_closed: int | None = None,
) -> None:
    """Run a cloud until SIGTERM or SIGINT; call from the main thread.

    ``on_ready`` is called once it listens. With ``until_closed``, a file descriptor to read from (the end of a pipe that
    the parent process holds), it also ends when that is closed at its other end, however the parent died.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection is an open file
    asyncio.run(_serve(options, on_ready, until_closed))


async def _serve(
    options: CloudOptions, on_ready: Callable[[CloudServer], None] | None, until_closed: int | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_closed is not None:
        pipe = until_closed

        def read() -> None:
            if not os.read(pipe, 1024):
                loop.remove_reader(pipe)
                stop.set()

        loop.add_reader(pipe, read)
    async with run_cloud(options) as server:
        if on_ready is not None:
            on_ready(server)
        await stop.wait()


def _reachable(host: str) -> str:
    """A host to connect to, for a host to bind."""
    if host in {"0.0.0.0", ""}:  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
