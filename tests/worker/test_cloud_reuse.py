"""Connections that are used again: quick, and the classic way to lose or to double a request."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.answers import Answer, NoAnswer
from tests.worker import misbehaving as bad
from worker import transport
from worker.cloud import Cloud, Credential

TOKEN = Credential.token("secret-token")


async def test_connection_is_used_again() -> None:
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            for _ in range(3):
                assert await cloud.create(b"{}", TOKEN) == Answer(200, bad.CREATED)
    assert len(server.requests) == 3
    assert server.connections == 1


async def test_connection_closed_while_idle_is_not_used_again() -> None:
    """The loop has seen the end: aiohttp itself takes a new connection."""
    with bad.serve(bad.answers_once_then_closes_while_idle) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert await cloud.create(b"1", TOKEN) == Answer(200, bad.CREATED)
            server.go_on.set()
            await asyncio.to_thread(server.wait, lambda: server.ended == 1)
            assert await cloud.create(b"2", TOKEN) == Answer(200, bad.CREATED)
    assert [request.body for request in server.requests] == [b"1", b"2"]
    assert server.connections == 2


@contextmanager
def loop_held_until(server: bad.Server, connection: list[socket.socket]) -> Iterator[None]:
    """The server goes on, and its bytes reach our kernel, while the event loop is held and cannot see them."""
    server.go_on.set()
    poll = select.poll()
    poll.register(connection[0].fileno(), select.POLLIN)
    assert poll.poll(5000), "nothing came"
    yield


@pytest.mark.parametrize(
    "behaviour", [bad.answers_once_then_closes_while_idle, bad.answers_once_and_once_more_unasked]
)
async def test_connection_that_went_bad_unseen_is_not_used_again(
    behaviour: bad.Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end, or an answer to nothing, waits in the kernel. aiohttp alone would write the next create onto it."""
    sockets: list[socket.socket] = []
    connect = transport.Connector.connect

    async def noting(*args: object, **kwargs: object) -> object:
        connection = await connect(*args, **kwargs)  # type: ignore[arg-type]
        assert connection.transport is not None
        sockets.append(connection.transport.get_extra_info("socket"))
        return connection

    monkeypatch.setattr(transport.Connector, "connect", noting)
    with bad.serve(behaviour) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert await cloud.create(b"1", TOKEN) == Answer(200, bad.CREATED)
            with loop_held_until(server, sockets):
                assert await cloud.create(b"2", TOKEN) == Answer(200, bad.CREATED)
    assert [request.body for request in server.requests if request.line] == [b"1", b"2"]
    assert server.connections == 2


async def test_stray_answer_that_was_seen_is_not_taken_for_ours() -> None:
    """aiohttp has put the stray answer in the connection's queue, and would hand it to the next request."""
    with bad.serve(bad.answers_once_and_once_more_unasked) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert await cloud.create(b"1", TOKEN) == Answer(200, bad.CREATED)
            server.go_on.set()
            await asyncio.to_thread(server.wait, lambda: len(server.requests) == 2)
            # The bytes are in our kernel: two turns of the loop are enough to read them.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await cloud.create(b"2", TOKEN) == Answer(200, bad.CREATED)
    assert [request.body for request in server.requests] == [b"1", b"unasked", b"2"]
    assert server.connections == 2


async def test_close_on_receipt_of_the_second_request_is_sent_and_arrives_once() -> None:
    with bad.serve(bad.answers_once_then_closes_on_the_next) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert await cloud.create(b"1", TOKEN) == Answer(200, bad.CREATED)
            reply = await cloud.create(b"2", TOKEN)
    assert reply == NoAnswer(True, f"{server.peer} closed the connection without an answer")
    assert [request.body for request in server.requests] == [b"1", b"2"]
    assert server.connections == 1


async def test_idle_connection_is_left_alone_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE", 0.05)
    with bad.serve(bad.answers) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            await cloud.create(b"1", TOKEN)
            # Idle for too long, it is closed from our side, which the server sees.
            await asyncio.to_thread(server.wait, lambda: server.ended == 1)
            assert await cloud.create(b"2", TOKEN) == Answer(200, bad.CREATED)
    assert server.connections == 2


async def test_connection_of_an_answer_received_whole_but_unreadable_is_left_alone() -> None:
    """It is back in the pool before the answer is decoded: ending it could end a neighbour's call."""

    def answers_broken_gzip_first(peer: bad.Peer) -> None:
        if peer.read_request() is not None:
            peer.answer(b"no gzip", headers=("Content-Encoding: gzip",))
        bad.answers(peer)

    with bad.serve(answers_broken_gzip_first) as server:
        async with Cloud(server.url, timeout=10) as cloud:
            assert isinstance(await cloud.create(b"1", TOKEN), NoAnswer)
            assert await cloud.create(b"2", TOKEN) == Answer(200, bad.CREATED)
    assert server.connections == 1


async def test_a_call_out_of_time_does_not_harm_its_neighbours() -> None:
    def answers_all_but_one(peer: bad.Peer) -> None:
        while (request := peer.read_request()) is not None:
            if request.body == b"silence":
                peer.wait_for_the_end()
                return
            peer.answer()

    with bad.serve(answers_all_but_one) as server:
        async with Cloud(server.url, timeout=0.5) as cloud:
            silent = asyncio.create_task(cloud.create(b"silence", TOKEN))
            replies = []
            while not silent.done():
                replies.append(await cloud.create(b"{}", TOKEN))
                await asyncio.sleep(0)
            assert isinstance(await silent, NoAnswer)
    assert set(replies) == {Answer(200, bad.CREATED)}
    assert server.connections == 2
