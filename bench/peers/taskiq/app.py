"""taskiq on a Redis list, its quickest broker; with BENCH_RESULTS=1 the result of each task is kept."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["BENCH_API_URL"] + "/instance/create"

broker = ListQueueBroker(os.environ["BENCH_REDIS_URL"])
if os.environ["BENCH_RESULTS"] == "1":
    broker = broker.with_result_backend(
        RedisAsyncResultBackend(os.environ["BENCH_REDIS_URL"], result_ex_time=3600)
    )
sessions: list[aiohttp.ClientSession] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(_: TaskiqState) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    sessions.append(aiohttp.ClientSession(connector=connector, headers={"Cookie": "AccessToken=bench"}))


@broker.task
async def create(body: dict[str, Any]) -> str:
    async with sessions[0].post(URL, json=body) as response:
        return str((await response.json())["instanceId"])


async def connect() -> None:
    await broker.startup()


async def disconnect() -> None:
    await broker.shutdown()


async def enqueue(body: dict[str, Any]) -> None:
    await create.kiq(body)
