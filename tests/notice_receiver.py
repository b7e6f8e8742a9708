"""A real HTTP server on loopback that takes webhooks, answers as told, and notes all that reached it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

WHSEC = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@dataclass(frozen=True)
class Arrived:
    """One POST that arrived."""

    path: str
    headers: dict[str, str]
    content: bytes
    status: int

    @property
    def document(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Reply:
    """An answer to give."""

    status: int = 200
    body: bytes = b'{"code":0,"errcode":0}'
    headers: tuple[tuple[str, str], ...] = ()


class Receiver:
    """`with Receiver() as receiver`. `replies` are given in turn, then `Reply()` for ever."""

    def __init__(self, replies: Iterable[Reply] = (), *, port: int = 0) -> None:
        self.arrived: list[Arrived] = []
        self._replies = deque(replies)
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                reply = receiver._note(self.path, dict(self.headers), content)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def _note(self, path: str, headers: dict[str, str], content: bytes) -> Reply:
        with self._lock:
            reply = self._replies.popleft() if self._replies else Reply()
            lowered = {name.lower(): value for name, value in headers.items()}
            self.arrived.append(Arrived(path, lowered, content, reply.status))
        return reply

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
