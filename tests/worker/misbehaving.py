"""A real server on loopback that misbehaves as told, and counts what reached it.

A behaviour is a plain function of one accepted connection. Sockets and threads, no HTTP library: what is proved
here must hold against bytes, not against another library's idea of them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CREATED = b'{"instanceId": "notebook-78d36d6a"}'


@dataclass(frozen=True)
class Request:
    """One request that arrived to its last byte."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header, whatever the case of its name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Peer:
    """One accepted connection, seen from the server."""

    sock: socket.socket
    server: Server
    number: int
    buffer: bytes = b""

    def read_request(self) -> Request | None:
        """The next request, noted at the server; None where the other side ended before it was complete."""
        head = self._read_head()
        if head is None:
            return None
        lines = head.decode("latin-1").split("\r\n")
        headers = tuple(
            (name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])
        )
        request = Request(lines[0], headers, b"")
        length = int((request.all("content-length") or ["0"])[0])
        while len(self.buffer) < length:
            if not self._more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        request = Request(lines[0], headers, body)
        self.server.note(request)
        return request

    def read_half_a_request(self) -> None:
        """The head, and half of the body it announces."""
        head = self._read_head()
        assert head is not None
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(self.buffer) < length // 2:
            assert self._more()

    def answer(self, body: bytes = CREATED, *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> None:
        """A correct answer."""
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """End the connection with a reset (RST) in place of an orderly close."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Over TLS a shutdown of the TLS layer would say goodbye first.
        socket.socket(fileno=self.sock.detach()).close()

    def wait_for_the_end(self) -> bytes:
        """Read on until the other side ends the connection; what still came."""
        while self._more():
            pass
        return self.buffer

    def _read_head(self) -> bytes | None:
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 16)
        except OSError:  # a reset is an end too
            return False
        self.buffer += data
        return bool(data)


Behaviour = Callable[[Peer], None]


@dataclass
class Server:
    """What arrived, and a way to wait for it."""

    port: int
    tls: bool = False
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    errors: list[Exception] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    """For behaviours that wait until the test has seen something."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/api"

    @property
    def peer(self) -> str:
        return f"127.0.0.1:{self.port}"

    def note(self, request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def note_end(self, error: Exception | None) -> None:
        with self._changed:
            self.ended += 1
            if error is not None:
                self.errors.append(error)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Until the condition holds. Blocks: from a test's event loop, call it with `asyncio.to_thread`."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), "the server did not see it in time"


@contextlib.contextmanager
def serve(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
) -> Iterator[Server]:
    """Run a behaviour for every connection, each in a thread of its own, and leave nothing behind."""
    listener = socket.socket()
    if receive_buffer is not None:
        # Before listen(), so that the connections inherit it and the window is small from the start.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = Server(listener.getsockname()[1], tls is not None)
    threads: list[threading.Thread] = []
    open_sockets: list[socket.socket] = []
    lock = threading.Lock()

    def attend(raw: socket.socket, number: int) -> None:
        error: Exception | None = None
        sock = raw
        try:
            if tls is not None:
                sock = tls.wrap_socket(raw, server_side=True)
                with lock:
                    open_sockets.append(sock)
            behaviour(Peer(sock, server, number))
        except OSError:
            pass  # the client went first, or the test is over
        except Exception as exc:  # noqa: BLE001  a broken test shows in the test, not in a thread's log
            error = exc
        finally:
            with lock:
                # Taken over by wrap_socket, or detached by a reset, the first is closed already; twice is harmless.
                sock.close()
                raw.close()
            server.note_end(error)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with lock:
                if server.stopping.is_set():
                    sock.close()
                    return
                server.connections += 1
                open_sockets.append(sock)
                thread = threading.Thread(target=attend, args=(sock, server.connections), daemon=True)
                threads.append(thread)
                thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.go_on.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(5)
        with lock:
            for sock in open_sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        listener.close()
    assert server.errors == []


# --- behaviours: what a server can do to a call -------------------------------------------------------------


def answers(peer: Peer) -> None:
    """Behaves: answers every request on a connection that stays open."""
    while peer.read_request() is not None:
        peer.answer()


def closes_after_reading(peer: Peer) -> None:
    peer.read_request()


def resets_after_reading(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def closes_half_way_through_the_request(peer: Peer) -> None:
    # Unread bytes in the buffer make the kernel send a reset, as for any server that stops reading.
    peer.read_half_a_request()


def stops_half_way_through_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + CREATED)


def stops_half_way_through_a_chunked_answer(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n23\r\n" + CREATED + b"\r\n")


def stops_in_the_answers_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def resets_half_way_through_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + CREATED)
    peer.reset()


def answers_garbage(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"\x00\x01 what? \xff\r\n\r\n")


def answers_garbage_headers(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nno colon here\r\n\x00: \x01\r\n\r\n")


def answers_a_garbage_length(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + CREATED)


def answers_garbage_chunks(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n")
    peer.wait_for_the_end()


def answers_broken_gzip(peer: Peer) -> None:
    peer.read_request()
    peer.answer(b"this is no gzip", headers=("Content-Encoding: gzip",))


def answers_a_heap(peer: Peer) -> None:
    """More than any client should take in: 1 MiB in each piece, for as long as somebody reads it."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not peer.server.stopping.is_set():
        peer.send(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")


def never_answers(peer: Peer) -> None:
    peer.read_request()
    peer.wait_for_the_end()


def accepts_and_never_reads(peer: Peer) -> None:
    peer.server.stopping.wait()


def drips(peer: Peer) -> None:
    """An answer that never ends, though there is always a little more of it."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not peer.server.stopping.wait(0.02):
        peer.send(b"x")


def drips_the_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n")
    while not peer.server.stopping.wait(0.02):
        peer.send(b"X-More: and more\r\n")


def redirects_to(location: str) -> Behaviour:
    def behaviour(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.answer(b"", status="307 Temporary Redirect", headers=(f"Location: {location}",))

    return behaviour


def answers_once_then_closes_on_the_next(peer: Peer) -> None:
    """Keeps the connection open after the first answer, and closes it on reading the second request."""
    if peer.read_request() is not None:
        peer.answer()
        peer.read_request()


def answers_once_then_closes_while_idle(peer: Peer) -> None:
    if peer.read_request() is not None:
        peer.answer()
        peer.server.go_on.wait()


def answers_once_and_once_more_unasked(peer: Peer) -> None:
    """After a good answer, and while nothing is asked, sends another answer: it belongs to no request."""
    if peer.read_request() is not None:
        peer.answer()
        if peer.number == 1:
            peer.server.go_on.wait()
            peer.answer(b'{"instanceId": "of-nobody"}')
            peer.server.note(Request("", (), b"unasked"))
        if peer.read_request() is not None:
            peer.answer()


# --- no server at all ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def refused() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else gets it, but nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port on which a connection is neither taken nor refused: its queue is full, so Linux drops the SYNs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.1)
            try:
                sock.connect(address)
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue takes connections without end")
        yield address[1]
