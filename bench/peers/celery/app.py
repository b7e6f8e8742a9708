"""Celery as its manual shows it: one task a job, acknowledged after its end, its result kept.

With threads, calls go through one aiohttp session on an event loop of the process, which is quicker than any blocking client;
with gevent and prefork through urllib3's pool.
"""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cache
from typing import Any

from celery import Celery

URL = os.environ["BENCH_API_URL"] + "/instance/create"
HEADERS = {"Cookie": "AccessToken=bench"}

app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"], backend=os.environ["BENCH_REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
    # With the default of 10 connections, acknowledgements of greenlets and threads fail for want of one, and messages are
    # delivered twice.
    broker_pool_limit=1000,
    redis_max_connections=2000,
    broker_transport_options={"socket_keepalive": True, "max_connections": 2000},
)


@cache
def threads_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


lock = threading.Lock()
session: Any = None


async def post(body: dict[str, Any]) -> str:
    import aiohttp

    global session
    if session is None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS)
    async with session.post(URL, json=body) as response:
        return str((await response.json())["instanceId"])


@cache
def pool() -> Any:
    import urllib3

    return urllib3.PoolManager(maxsize=1000, headers=HEADERS)


@app.task
def create(body: dict[str, Any]) -> str:
    if os.environ["BENCH_POOL"] == "threads":
        with lock:
            loop = threads_loop()
        return asyncio.run_coroutine_threadsafe(post(body), loop).result()
    return str(pool().request("POST", URL, json=body).json()["instanceId"])


def enqueue(body: dict[str, Any]) -> None:
    create.apply_async((body,))
