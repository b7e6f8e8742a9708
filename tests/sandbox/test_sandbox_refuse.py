"""Connections that are really refused, and only refused."""

import asyncio
import errno
import socket
from collections import Counter
from typing import Any

import aiohttp
import pytest

from sandbox import CloudOptions, SandboxProcess
from sandbox_world import Client, body, wait_until


def connect_error(port: int) -> int:
    """The errno of a connection to the port; 0 where it is accepted."""
    with socket.socket() as probe:
        probe.settimeout(3)
        return probe.connect_ex(("127.0.0.1", port))


async def test_a_paused_port_refuses_and_a_resumed_one_accepts(client: Client) -> None:
    listener = client.server.listener
    port = listener.port
    listener.pause()
    assert connect_error(port) == errno.ECONNREFUSED
    listener.resume()
    assert connect_error(port) == 0
    assert listener.port == port
    assert "instanceId" in await client.create()


async def test_refuse_for_ends_by_itself(client: Client) -> None:
    listener = client.server.listener
    listener.refuse_for(0.1)
    assert connect_error(listener.port) == errno.ECONNREFUSED
    await wait_until(lambda: connect_error(listener.port) == 0, description="the port opens again")
    assert not listener.refusing


async def test_what_waits_in_the_kernels_queue_is_answered_not_reset(client: Client) -> None:
    listener = client.server.listener
    waiting = []
    for index in range(20):  # the event loop runs nothing in between: nobody accepts these
        connection = socket.create_connection(("127.0.0.1", listener.port))
        connection.sendall(client.raw_create(name=f"n{index}"))
        waiting.append(connection)
    listener.pause()
    assert connect_error(listener.port) == errno.ECONNREFUSED
    for connection in waiting:
        reader, writer = await asyncio.open_connection(sock=connection)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert b'"instanceId"' in answer
        assert b"connection: close" in answer.lower()
        writer.close()
        await writer.wait_closed()
    assert len(client.server.cloud.instances) == 20


async def test_the_port_is_closed_for_the_share_of_time_asked_for(client: Client) -> None:
    listener = client.server.listener
    listener.refuse(0.5, window=0.01)
    seen: Counter[int] = Counter()
    until = asyncio.get_running_loop().time() + 0.4
    while asyncio.get_running_loop().time() < until:
        seen[connect_error(listener.port)] += 1
        await asyncio.sleep(0.001)
    assert set(seen) == {0, errno.ECONNREFUSED}
    assert 0.2 < seen[errno.ECONNREFUSED] / seen.total() < 0.8
    listener.refuse(0)
    assert not listener.refusing
    assert connect_error(listener.port) == 0


@pytest.mark.parametrize("share", [-0.1, 1.0])
async def test_a_wrong_share_is_refused(client: Client, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        client.server.listener.refuse(share)


async def storm(api_url: str, token: str, calls: int, in_flight: int) -> Counter[str]:
    """How ``calls`` create calls end: created, refused, or the text of another error."""
    ends: Counter[str] = Counter()
    left = iter(range(calls))
    headers = {"Cookie": f"AccessToken={token}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def keep_calling() -> None:
            for number in left:
                try:
                    async with session.post(
                        api_url + "/instance/create", json=body(name=f"n{number}")
                    ) as response:
                        ends["created" if "instanceId" in await response.json() else "other answer"] += 1
                except aiohttp.ClientConnectorError as error:
                    ends["refused" if error.errno == errno.ECONNREFUSED else repr(error)] += 1
                    await asyncio.sleep(0.001)
                except aiohttp.ClientError as error:
                    ends[repr(error)] += 1

        await asyncio.gather(*(keep_calling() for _ in range(in_flight)))
    return ends


async def test_under_load_connections_are_refused_and_nothing_else_goes_wrong() -> None:
    with SandboxProcess(CloudOptions(latency=0.01, refuse=0.2)) as sandbox:
        ends = await storm(sandbox.api_url, sandbox.mint_token(), calls=2500, in_flight=100)
        state = sandbox.state()
    assert set(ends) == {"created", "refused"}
    assert state["creates"] == state["instances"] == state["connections"] == ends["created"]


async def test_in_the_same_process_too(start_cloud: Any) -> None:
    client = await start_cloud(latency=0.01, refuse=0.2)
    token = client.server.cloud.tokens.mint().access_token
    ends = await storm(client.server.api_url, token, calls=600, in_flight=50)
    assert set(ends) == {"created", "refused"}
    assert len(client.server.cloud.instances) == ends["created"]
