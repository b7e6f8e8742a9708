"""Fixtures of the sandbox's tests: a cloud in the test's own event loop, reached over real sockets."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from sandbox import CloudOptions, run_cloud
from sandbox_world import Client

StartCloud = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start_cloud() -> AsyncIterator[StartCloud]:
    """Starts a cloud with some options, without latency unless asked for, and gives a client of it."""
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> Client:
            chosen = CloudOptions.from_values({"latency": 0.0} | options)
            server = await stack.enter_async_context(run_cloud(chosen))
            connector = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Client(server, session)

        yield start


@pytest.fixture
async def client(start_cloud: StartCloud) -> Client:
    """A client of a cloud with plain options."""
    return await start_cloud()
