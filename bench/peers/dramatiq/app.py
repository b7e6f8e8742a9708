"""dramatiq with asynchronous actors; results are kept."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.asyncio import AsyncIO
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_API_URL"] + "/instance/create"

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
broker.add_middleware(AsyncIO())
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS_URL"]), store_results=True))
dramatiq.set_broker(broker)
session: Any = None


@dramatiq.actor
async def create(body: dict[str, Any]) -> str:
    global session
    if session is None:
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(connector=connector, headers={"Cookie": "AccessToken=bench"})
    async with session.post(URL, json=body) as response:
        return str((await response.json())["instanceId"])


def enqueue(body: dict[str, Any]) -> None:
    create.send(body)
