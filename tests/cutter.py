"""A network between two parts that can be cut: forwards TCP connections to one target, or does not."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from sandbox.ports import HeldPort, listen_on

T = TypeVar("T")

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Cutter:
    """`with Cutter(url) as network:` and one of the two parts talks to `network.url` in place of `url`.

    `cut` resets every connection and refuses new ones. `black_hole` takes connections and bytes in, and passes nothing on,
    in neither direction; what it took in arrives after `heal`, as packets that were lost are sent again, unless whoever
    sent it has reset its connection by then. It runs on a thread of its own.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = parts.hostname, parts.port
        self._held = HeldPort(HOST)
        self.url = urlunsplit(parts._replace(netloc=f"{HOST}:{self._held.number}"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutter", daemon=True)
        self._flows = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._pairs: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.passed = 0
        """Bytes that have been passed on, in both directions."""

    def cut(self) -> None:
        """Reset every connection and refuse new ones, until `heal`."""
        self._do(self._cut())

    def black_hole(self) -> None:
        """Pass no byte on, keep every connection open and take new ones, until `heal`."""
        self._do(self._black_hole())

    def heal(self) -> None:
        """Pass everything on again."""
        self._do(self._heal())

    def __enter__(self) -> Self:
        self._thread.start()
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._held.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        pairs = dict(self._pairs)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)
        for writer in (one for writers in pairs.values() for one in writers):
            _reset(writer)
            with suppress(OSError):
                await writer.wait_closed()

    async def _black_hole(self) -> None:
        self._flows.clear()
        await self._listen()

    async def _heal(self) -> None:
        self._flows.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            listening = listen_on(HOST, self._held.number)
            self._server = await asyncio.start_server(self._accept, sock=listening)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        pair = asyncio.create_task(self._join((reader, writer), writers))
        self._pairs[pair] = writers
        pair.add_done_callback(self._end)

    def _end(self, pair: asyncio.Task[None]) -> None:
        for writer in self._pairs.pop(pair):
            _reset(writer)

    async def _join(self, near: Streams, writers: list[asyncio.StreamWriter]) -> None:
        """Carry one connection until both sides or one of them have ended it, or it is cut."""
        try:
            await self._flows.wait()
            far = await asyncio.open_connection(*self._target)
            writers.append(far[1])
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(near[0], far[1]))
                both.create_task(self._carry(far[0], near[1]))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side has reset it, or the target refuses: the other side learns of it by a reset, too

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._flows.wait()
            if (gone := reader.exception()) is not None:
                raise gone
            writer.write(chunk)
            self.passed += len(chunk)
            await writer.drain()
        await self._flows.wait()
        with suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
