"""What every benchmark stands on: a Redis, the cloud, a folder for logs, and the request that is launched."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis

from bench.cloud import READY
from bench.processes import ROOT, Child
from sandbox.redis_server import RedisServer

TEMPLATE = ROOT / "examples" / "body.json"
"""The request of every job but for its name: the example of the API's own documents."""


def body(name: str, **changes: Any) -> dict[str, Any]:
    """A request."""
    return {**json.loads(TEMPLATE.read_text(encoding="utf-8")), "name": name, **changes}


class Cloud:
    """The cloud of the benchmarks as a process; `inside` is a command that starts it elsewhere (a network namespace)."""

    def __init__(self, folder: Path, *, number: int = 0, inside: Sequence[str] = ()) -> None:
        # The path of a Unix socket must be short, and the folder of logs may be deep.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        path = f"{self._folder.name}/cloud"
        command = [*inside, sys.executable, "-m", "bench.cloud", path]
        self.child = Child(command, log=folder / f"cloud-{number}.log", pipes=True)
        port = int(self.child.read_line().removeprefix(READY))
        self.url = f"http://127.0.0.1:{port}/api"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._answers = self._socket.makefile("rb")

    def reset(self, *, latency: float = 0.1, capacity: int | None = None) -> None:
        """Forget everything."""
        self._ask("reset", latency=latency, capacity=capacity)

    def state(self) -> dict[str, Any]:
        """See `bench.cloud.Books.state`."""
        state: dict[str, Any] = self._ask("state")
        return state

    def arrivals(self) -> dict[str, float]:
        """When the first create call for each name arrived, on the monotonic clock."""
        arrivals: dict[str, float] = self._ask("arrivals")
        return arrivals

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self.child.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, ask: str, **more: Any) -> Any:
        self._socket.sendall(json.dumps({"ask": ask, **more}).encode() + b"\n")
        return json.loads(self._answers.readline())


@dataclass(frozen=True)
class World:
    """One Redis, one cloud, and where logs go."""

    redis: RedisServer
    client: Redis
    cloud: Cloud
    folder: Path

    def info(self, section: str) -> Mapping[str, Any]:
        """One section of what Redis says of itself."""
        information: Mapping[str, Any] = self.client.info(section)
        return information


@contextmanager
def redis_server(*, binary: str | None, fsync: str) -> Iterator[tuple[RedisServer, Redis]]:
    """A Redis as docker-compose.yml has it: append-only file, nothing evicted, no snapshots. The same for all subjects."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(append_only=True, append_fsync=fsync, binary=binary))
        client = Redis.from_url(server.url, decode_responses=True)
        stack.callback(client.close)
        yield server, client


@contextmanager
def world(folder: Path, *, binary: str | None, fsync: str, cloud: Cloud | None = None) -> Iterator[World]:
    """A fresh Redis, and a cloud unless one is given (then it forgets what was)."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server, client = stack.enter_context(redis_server(binary=binary, fsync=fsync))
        if cloud is None:
            cloud = stack.enter_context(Cloud(folder))
        cloud.reset()
        yield World(server, client, cloud, folder)
