"""The cloud of the benchmarks: one process that answers create calls after a while, at as little CPU as Python allows.

All subjects of a benchmark share it, so what it costs burdens all alike. It checks nothing and forgets nothing until it
is told to. The API is on a TCP port of 127.0.0.1. What has arrived is told on a Unix socket, one JSON document a line in
each direction, so that a cloud in another network namespace can be asked as well.

Times are those of the machine's monotonic clock, the same in all processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NAME = re.compile(rb'"name": ?"([^"]*)"')
SOLD_OUT = json.dumps({"message": "库存不足,请稍后重试"}).encode()
READY = "ready "


class Books:
    """What arrived since the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, *, latency: float = 0.1, capacity: int | None = None) -> None:
        """Forget everything. Answers come after `latency` seconds; `capacity` more instances can be had, None is no limit."""
        self.latency = latency
        self.capacity = capacity
        self.arrivals: dict[str, float] = {}
        self.instances: list[tuple[str, str]] = []
        self.calls = self.answered = self.lists = self.other = self.connections = 0
        self.in_flight = self.most_in_flight = 0
        self.first = self.last = 0.0

    def state(self) -> dict[str, Any]:
        """All counts. `distinct` is the number of names that create calls were made for."""
        return {
            "calls": self.calls,
            "answered": self.answered,
            "created": len(self.instances),
            "distinct": len(self.arrivals),
            "lists": self.lists,
            "other": self.other,
            "connections": self.connections,
            "inFlight": self.in_flight,
            "mostInFlight": self.most_in_flight,
            "first": self.first,
            "last": self.last,
        }

    def page(self, number: int, size: int) -> bytes:
        """One page of the list of instances, the newest first."""
        end = max(0, len(self.instances) - (number - 1) * size)
        rows = [
            {"instanceMetadata": {"instanceId": instance, "instanceName": name}}
            for instance, name in reversed(self.instances[max(0, end - size) : end])
        ]
        pager = {"currentPage": number, "pageSize": size, "totalEntries": len(self.instances)}
        return json.dumps({"instances": rows, "pager": pager}).encode()


class Exchange(asyncio.Protocol):
    """One connection of the API. Requests on it are answered in their order; nobody pipelines."""

    def __init__(self, books: Books, loop: asyncio.AbstractEventLoop) -> None:
        self._books, self._loop = books, loop
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._books.connections += 1

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                break
            match = LENGTH.search(buffer, 0, end + 2)
            whole = end + 4 + (int(match[1]) if match else 0)
            if len(buffer) < whole:
                break
            self._request(buffer[:end].split(b" ", 2)[1], buffer[end + 4 : whole])
            buffer = buffer[whole:]
        self._buffer = buffer

    def _request(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/instance/create"):
            self._create(body)
        elif path.endswith(b"/instance/list"):
            self._books.lists += 1
            pager = json.loads(body)["pager"]
            self._answer(self._books.page(pager["currentPage"], min(100, pager["pageSize"])))
        else:
            self._books.other += 1
            self._answer(b"{}")

    def _create(self, body: bytes) -> None:
        books, now = self._books, time.monotonic()
        match = NAME.search(body)
        name = match[1].decode() if match else ""
        if not books.calls:
            books.first = now
        books.last = now
        books.calls += 1
        books.in_flight += 1
        books.most_in_flight = max(books.most_in_flight, books.in_flight)
        books.arrivals.setdefault(name, now)
        self._loop.call_later(books.latency, self._created, name)

    def _created(self, name: str) -> None:
        books = self._books
        books.in_flight -= 1
        books.answered += 1
        if books.capacity is not None:
            if books.capacity <= 0:
                self._answer(SOLD_OUT)
                return
            books.capacity -= 1
        instance = f"notebook-{books.answered:012d}"
        books.instances.append((instance, name))
        self._answer(b'{"instanceId": "%s"}' % instance.encode())

    def _answer(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )


async def control(books: Books, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer questions about the books: `{"ask": "state" | "arrivals" | "reset", ...}`."""
    while line := await reader.readline():
        question = json.loads(line)
        match question.pop("ask"):
            case "reset":
                books.reset(**question)
                answer: Any = True
            case "arrivals":
                answer = books.arrivals
            case _:
                answer = books.state()
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    writer.close()


async def serve(control_path: str) -> None:
    """Serve until standard input closes, however the parent ends."""
    books, loop = Books(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(books, loop), "127.0.0.1", 0, backlog=4096)
    await asyncio.start_unix_server(lambda *streams: control(books, *streams), control_path)
    print(f"{READY}{server.sockets[0].getsockname()[1]}", flush=True)
    closed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: closed.set() if not os.read(0, 1) else None)
    await closed.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("control", help="path of the Unix socket")
    asyncio.run(serve(parser.parse_args().control))


if __name__ == "__main__":
    main()
