"""saq: jobs are hashes in Redis, with their results."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from saq import Queue

URL = os.environ["BENCH_API_URL"] + "/instance/create"

queue = Queue.from_url(os.environ["BENCH_REDIS_URL"])


async def start(context: Any) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    context["session"] = aiohttp.ClientSession(connector=connector, headers={"Cookie": "AccessToken=bench"})


async def create(context: Any, *, body: dict[str, Any]) -> str:
    async with context["session"].post(URL, json=body) as response:
        return str((await response.json())["instanceId"])


settings = {
    "queue": queue,
    "functions": [create],
    "concurrency": int(os.environ["BENCH_IN_FLIGHT"]),
    "startup": start,
}


async def connect() -> None:
    await queue.connect()


async def disconnect() -> None:
    await queue.disconnect()


async def enqueue(body: dict[str, Any]) -> None:
    await queue.enqueue("create", body=body, timeout=0)
