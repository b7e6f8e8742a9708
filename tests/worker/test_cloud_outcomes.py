"""How a call ends, against real sockets: one row for each thing a network or a server can do to it.

`sent=False` lets a create be made again at once, so a row that says so wrongly buys an instance twice.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import Awaitable
from typing import Any

import aiohappyeyeballs
import pytest

from harness import ROOT
from tasks.answers import Answer, NoAnswer, Reply
from tests.worker import misbehaving as bad
from worker.cloud import MAX_ANSWER, Cloud, Credential

TOKEN = Credential.token("secret-token")
BODY = b'{"name": "trainer-001", "instanceConfiguration": {"initScript": "secret-script"}}'
LARGE = b"x" * 900_000
SHORT = 0.3
"""Seconds of a call that is meant to run out of time."""
AMPLE = 10.0
"""Seconds of a call that is not."""


async def create(url: str, *, body: bytes = BODY, within: float = AMPLE, **options: float) -> Reply:
    async with Cloud(url, timeout=within, **options) as cloud:
        return await cloud.create(body, TOKEN)


def no_answer(reply: Reply, *, sent: bool, reason: str) -> None:
    assert isinstance(reply, NoAnswer), reply
    assert (reply.sent, reply.reason) == (sent, reason)


# --- nothing left: these may be made again at once ----------------------------------------------------------


async def test_connection_refused_is_not_sent() -> None:
    with bad.refused() as port:
        reply = await create(f"http://127.0.0.1:{port}/api")
    no_answer(reply, sent=False, reason=f"connection refused by 127.0.0.1:{port}")


async def test_connection_refused_on_every_address_of_a_name_is_not_sent() -> None:
    with bad.refused() as port:
        reply = await create(f"http://localhost:{port}/api")
    assert isinstance(reply, NoAnswer)
    assert not reply.sent


async def test_unresolvable_name_is_not_sent() -> None:
    reply = await create("https://cloud.invalid/api")
    no_answer(reply, sent=False, reason="the name cloud.invalid does not resolve")


async def test_name_lookup_that_hangs_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*args: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    reply = await create("http://slow.invalid/api", connect_timeout=SHORT)
    no_answer(reply, sent=False, reason="no connection to slow.invalid:80 within 0.3 s")


async def test_connect_timeout_is_not_sent() -> None:
    with bad.full_backlog() as port:
        reply = await create(f"http://127.0.0.1:{port}/api", connect_timeout=SHORT)
    no_answer(reply, sent=False, reason=f"no connection to 127.0.0.1:{port} within 0.3 s")


async def test_deadline_while_connecting_is_not_sent() -> None:
    with bad.full_backlog() as port:
        reply = await create(f"http://127.0.0.1:{port}/api", within=SHORT, connect_timeout=AMPLE)
    no_answer(reply, sent=False, reason=f"no connection to 127.0.0.1:{port} within 0.3 s")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETUNREACH, "no route to 127.0.0.1:9"),
        (errno.EHOSTUNREACH, "no route to 127.0.0.1:9"),
        (errno.EMFILE, "too many open files here for a connection to 127.0.0.1:9"),
        (errno.EACCES, "cannot connect to 127.0.0.1:9: permission denied"),
    ],
)
async def test_what_the_system_refuses_is_not_sent(
    number: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: Any, **kwargs: Any) -> socket.socket:
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", refuse)
    no_answer(await create("http://127.0.0.1:9/api"), sent=False, reason=reason)


@pytest.mark.parametrize("host", ["127.1", "2130706433"])
async def test_address_that_is_none_is_not_sent(host: str) -> None:
    reply = await create(f"http://{host}/api")
    no_answer(reply, sent=False, reason=f"{host} is not an address that can be called")


# --- it may have arrived: these must be looked up first -----------------------------------------------------

BROKE = "the connection to {peer} broke before the answer was complete"
CLOSED = "{peer} closed the connection without an answer"
CUT_OFF = "the answer of {peer} broke off or cannot be read"
NOT_HTTP = "{peer} answered something that is not HTTP"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (bad.closes_after_reading, CLOSED),
        (bad.resets_after_reading, BROKE),
        (bad.stops_half_way_through_the_answer, CUT_OFF),
        (bad.stops_half_way_through_a_chunked_answer, CUT_OFF),
        (bad.stops_in_the_answers_head, CLOSED),
        (bad.resets_half_way_through_the_answer, None),  # either end of it may be noticed first
        (bad.answers_garbage, NOT_HTTP),
        (bad.answers_garbage_headers, NOT_HTTP),
        (bad.answers_a_garbage_length, NOT_HTTP),
        (bad.answers_garbage_chunks, None),  # depends on whether the head came in the same piece
        (bad.answers_broken_gzip, "the answer of {peer} cannot be decompressed"),
        (bad.answers_a_heap, "the answer of {peer} is larger than the API ever gives"),
        (bad.redirects_to("http://host:port/"), NOT_HTTP),
    ],
)
async def test_end_after_the_request_arrived_is_sent(behaviour: bad.Behaviour, reason: str | None) -> None:
    with bad.serve(behaviour) as server:
        reply = await create(server.url)
    assert isinstance(reply, NoAnswer), reply
    assert reply.sent
    assert server.peer in reply.reason
    if reason is not None:
        assert reply.reason == reason.format(peer=server.peer)
    assert [request.body for request in server.requests] == [BODY]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (bad.never_answers, "no answer from {peer} within 0.3 s"),
        (bad.drips_the_head, "no answer from {peer} within 0.3 s"),
        (bad.drips, "the answer of {peer} was not complete within 0.3 s"),
    ],
)
async def test_deadline_after_the_request_arrived_is_sent(behaviour: bad.Behaviour, reason: str) -> None:
    with bad.serve(behaviour) as server:
        reply = await create(server.url, within=SHORT)
    no_answer(reply, sent=True, reason=reason.format(peer=server.peer))
    assert len(server.requests) == server.connections == 1


async def test_close_half_way_through_the_request_is_sent() -> None:
    with bad.serve(bad.closes_half_way_through_the_request, receive_buffer=4096) as server:
        reply = await create(server.url, body=LARGE)
    assert isinstance(reply, NoAnswer)
    assert reply.sent
    assert server.connections == 1


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_server_that_never_reads_is_sent(body: bytes) -> None:
    with bad.serve(bad.accepts_and_never_reads, receive_buffer=4096) as server:
        reply = await create(server.url, body=body, within=SHORT)
    no_answer(reply, sent=True, reason=f"no answer from {server.peer} within 0.3 s")
    assert server.connections == 1


async def test_connection_that_is_taken_and_then_ignored_is_sent() -> None:
    # The kernel completes connections into the queue of a process that hangs: the request leaves all the same.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        reply = await create(f"http://127.0.0.1:{listener.getsockname()[1]}/api", within=SHORT)
    assert isinstance(reply, NoAnswer)
    assert reply.sent


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_nothing_more_leaves_once_a_call_has_ended(how: str) -> None:
    """A server that falls asleep in the middle of a request must not find the rest of it when it wakes up.

    A plain close would deliver it, and the create would be obeyed long after it was looked up and not found.
    """
    arrived: list[int] = []

    def sleeps_then_reads_on(peer: bad.Peer) -> None:
        peer.read_half_a_request()
        peer.server.note(bad.Request("half", (), b""))
        peer.server.go_on.wait()
        arrived.append(len(peer.wait_for_the_end()))

    body = b"x" * 1_000_000
    with bad.serve(sleeps_then_reads_on, receive_buffer=4096) as server:
        if how == "deadline":
            no_answer(
                await create(server.url, body=body, within=SHORT),
                sent=True,
                reason=f"no answer from {server.peer} within 0.3 s",
            )
        else:
            call = asyncio.create_task(create(server.url, body=body))
            await asyncio.to_thread(server.wait, lambda: bool(server.requests))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        server.go_on.set()
        await asyncio.to_thread(server.wait, lambda: server.ended == 1)
    assert arrived
    assert arrived[0] < len(body)


CREATES_ONE = """
import asyncio, sys
from worker.cloud import Cloud, Credential

async def main():
    async with Cloud(sys.argv[1], timeout=60) as cloud:
        await cloud.create(b"x" * 1_000_000, Credential.token("t"))

asyncio.run(main())
"""


def test_nothing_more_leaves_a_process_that_is_killed() -> None:
    """The kernel would go on delivering what the process had handed to it, and the request could arrive whole, and late."""
    arrived: list[int] = []

    def sleeps_then_reads_on(peer: bad.Peer) -> None:
        peer.read_half_a_request()
        peer.server.note(bad.Request("half", (), b""))
        peer.server.go_on.wait()
        arrived.append(len(peer.wait_for_the_end()))

    # A window in the hundreds of kilobytes: what is missing has left the process, but not the machine.
    with bad.serve(sleeps_then_reads_on, receive_buffer=200_000) as server:
        child = subprocess.Popen([sys.executable, "-c", CREATES_ONE, server.url], cwd=ROOT)
        try:
            server.wait(lambda: bool(server.requests), 20)
        finally:
            child.kill()
            child.wait()
        server.go_on.set()
        server.wait(lambda: server.ended == 1)
    assert arrived
    assert arrived[0] < 1_000_000


async def test_a_process_that_was_held_up_before_it_could_send_does_not_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped while it connects, it goes on when its lease is long over: the last look is right before the first byte."""
    from worker import clock, transport

    held_up = 0.0
    passing = clock.now
    monkeypatch.setattr(clock, "now", lambda: passing() + held_up)
    connect = transport.aiohttp.TCPConnector.connect

    async def stopped_meanwhile(self: Any, *arguments: Any) -> Any:
        nonlocal held_up
        connection = await connect(self, *arguments)
        held_up = 60.0
        return connection

    monkeypatch.setattr(transport.aiohttp.TCPConnector, "connect", stopped_meanwhile)
    with bad.serve(lambda peer: peer.read_request()) as server:
        reply = await create(server.url)
        no_answer(
            reply,
            sent=False,
            reason=f"held back: this process was held up before it could call {server.peer}",
        )
        await asyncio.to_thread(server.wait, lambda: server.ended == server.connections)
    assert server.requests == []


async def test_cancellation_passes_through() -> None:
    with bad.serve(bad.never_answers) as server:
        async with Cloud(server.url, timeout=AMPLE) as cloud:
            call = asyncio.create_task(cloud.create(BODY, TOKEN))
            await asyncio.to_thread(server.wait, lambda: bool(server.requests))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert len(server.requests) == 1


async def test_deadline_of_the_caller_is_not_taken_for_ours() -> None:
    with bad.serve(bad.never_answers) as server:
        async with Cloud(server.url, timeout=AMPLE) as cloud:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORT):
                    await cloud.create(BODY, TOKEN)


# --- answers ------------------------------------------------------------------------------------------------


async def test_good_answer() -> None:
    with bad.serve(bad.answers) as server:
        assert await create(server.url) == Answer(200, bad.CREATED)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("204 No Content", (), b""),
        ("401 Unauthorized", (), b'{"code": -1}'),
        ("429 Too Many Requests", (), b""),
        ("500 Internal Server Error", (), b"<html>"),
        ("299 Odd", ("Content-Type: text/x; charset=unheard-of",), b"\xff\xfe"),
    ],
)
async def test_any_status_is_an_answer(status: str, headers: tuple[str, ...], body: bytes) -> None:
    def behaviour(peer: bad.Peer) -> None:
        peer.read_request()
        peer.answer(body, status=status, headers=headers)

    with bad.serve(behaviour) as server:
        assert await create(server.url) == Answer(int(status[:3]), body)


@pytest.mark.parametrize(
    "location", ["ftp://elsewhere/", "/somewhere", "", "http://[", "http://127.0.0.1:9/"]
)
async def test_redirect_to_anything_is_an_answer(location: str) -> None:
    with bad.serve(bad.redirects_to(location)) as server:
        assert await create(server.url) == Answer(307, b"")
    assert len(server.requests) == 1


async def test_redirect_is_not_followed() -> None:
    with bad.serve(bad.answers) as elsewhere, bad.serve(bad.redirects_to(elsewhere.url)) as server:
        reply = await create(server.url)
    assert reply == Answer(307, b"")
    assert len(server.requests) == 1
    assert elsewhere.connections == 0


async def test_answer_of_the_largest_size_is_read() -> None:
    def behaviour(peer: bad.Peer) -> None:
        peer.read_request()
        peer.answer(b"x" * MAX_ANSWER)

    with bad.serve(behaviour) as server:
        reply = await create(server.url)
    assert isinstance(reply, Answer)
    assert len(reply.body) == MAX_ANSWER


async def test_many_calls_at_once_each_get_their_own_end() -> None:
    """How far a call got is kept beside it, and not mixed up with its neighbours on the same loop."""

    def answers_every_second_one(peer: bad.Peer) -> None:
        request = peer.read_request()
        if request is not None and int(request.body) % 2 == 0:
            peer.answer(request.body)

    with bad.serve(answers_every_second_one) as server, bad.refused() as port:
        async with (
            Cloud(server.url, timeout=AMPLE) as cloud,
            Cloud(f"http://127.0.0.1:{port}/api", timeout=AMPLE) as nowhere,
        ):
            calls: list[Awaitable[Reply]] = []
            for number in range(40):
                calls.append(cloud.create(str(number).encode(), TOKEN))
                calls.append(nowhere.create(str(number).encode(), TOKEN))
            replies = await asyncio.gather(*calls)
    for number in range(40):
        here, there = replies[2 * number], replies[2 * number + 1]
        if number % 2 == 0:
            assert here == Answer(200, str(number).encode())
        else:
            no_answer(here, sent=True, reason=CLOSED.format(peer=server.peer))
        no_answer(there, sent=False, reason=f"connection refused by 127.0.0.1:{port}")
    assert sorted(int(request.body) for request in server.requests) == list(range(40))


async def test_reasons_hold_no_secret() -> None:
    behaviours = [bad.closes_after_reading, bad.resets_after_reading, bad.answers_garbage_headers]
    for behaviour in behaviours:
        with bad.serve(behaviour) as server:
            reply = await create(server.url)
        assert "secret" not in repr(reply)


@pytest.mark.parametrize("answer", [bad.answers, bad.never_answers, bad.closes_after_reading])
async def test_reachable_asks_for_the_balance_and_reports_the_same_ends(answer: bad.Behaviour) -> None:
    with bad.serve(answer) as server:
        async with Cloud(server.url, timeout=SHORT) as cloud:
            reply = await cloud.reachable()
    assert isinstance(reply, Answer) == (answer is bad.answers)
    assert {request.line for request in server.requests} == {"GET /api/balance HTTP/1.1"}
