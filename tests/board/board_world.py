"""A board that a test can ask over a real socket: served by uvicorn in a thread, on a ledger of its own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from config import Settings, load
from harness import body, wait_until
from launchq import Launcher
from launchq.board.app import make_app
from launchq.board.serve import bind, config_of
from ledger_box import Box
from sandbox.redis_server import RedisServer


class Served:
    """One board. `client` asks it as a program on this machine does; `box` is its ledger, for what workers would do."""

    def __init__(self, url: str, settings: Settings, box: Box) -> None:
        self.box = box
        self.url = url
        self.settings = settings
        self.launcher = Launcher(settings)
        self.client = httpx.Client(base_url=url, timeout=20)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.client.post(path, **options)

    def token(self, name: str, *, full: bool = True) -> dict[str, str]:
        """The headers of somebody with a new token."""
        return {"Authorization": f"Bearer {self.launcher.ledger.add_pass(name, full=full)}"}

    def submit(self, *names: str, **parameters: Any) -> list[str]:
        """Enter jobs of these names, and return their ids."""
        answer = self.post("/api/v1/submit", params=parameters, json=[body(name) for name in names])
        assert answer.status_code in {200, 201}, answer.text
        return [job["id"] for job in answer.json()["jobs"]]


@contextmanager
def served(
    redis: RedisServer,
    *,
    is_open: bool = True,
    acts: tuple[int, float] = (100_000, 100_000.0),
    audit: bool = True,
    **settings: str,
) -> Iterator[Served]:
    """A board on a fresh prefix; `settings` are LAUNCHQ_* names without the prefix."""
    values = {
        "LAUNCHQ_REDIS_URL": redis.url,
        "LAUNCHQ_PREFIX": f"t-board-{uuid.uuid4().hex}",
        "LAUNCHQ_API_URL": "http://127.0.0.1:9/api",
        **{f"LAUNCHQ_{name.upper()}": value for name, value in settings.items()},
    }
    known = load(values)
    listener = bind("127.0.0.1", 0)
    app = make_app(known, is_open=is_open, acts=acts)
    server = uvicorn.Server(config_of(app))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    wait_until(lambda: server.started, description="the board answers")
    with Box(redis.url, known.prefix) as box:
        board = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", known, box)
        try:
            yield board
            if audit:
                box.audit()
        finally:
            app.state.board.hub.close()
            server.should_exit = True
            thread.join(10)
            listener.close()
            board.client.close()
            board.launcher.close()
            assert not thread.is_alive()
