"""Who is measured: launchq, the bare script, and the peers, all by the same few words: fill, start, stop."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.processes import ROOT, Child, clean_environment
from bench.world import TEMPLATE, World, body
from config import Settings, load
from launchq import Launcher

PEERS = ROOT / "bench" / "peers"
ENVIRONMENTS = ROOT / "build" / "bench" / "environments"
LONG = 3600.0
"""Seconds for a peer's installation and the like: only a hanging one is to be ended."""


class Subject(Protocol):
    """One way to make many create calls.

    `fsync` is its own `appendfsync`; None is the run's. `share` is the part of the jobs that it is given.
    """

    @property
    def name(self) -> str: ...
    @property
    def fsync(self) -> str | None: ...
    @property
    def share(self) -> float: ...

    def prepare(self) -> None:
        """Install what is needed. Raises CalledProcessError where that cannot be done."""

    def fill(self, world: World, jobs: int) -> float:
        """Enqueue jobs while no worker runs; the seconds of the loop alone."""

    def start(self, world: World) -> list[Child]:
        """Start the workers."""


def launchq_variables(world: World, **settings: object) -> dict[str, str]:
    """launchq's settings for a world. The token needs no login, as the peers need none."""
    values = {
        "REDIS_URL": world.redis.url,
        "API_URL": world.cloud.url,
        "ACCESS_TOKEN": "bench",
        "PREFIX": "launchq",
        "RATE_LIMIT": "0",  # by default launchq makes 10 calls a second at most, out of regard for the cloud
        **{name.upper(): str(value) for name, value in settings.items()},
    }
    return {f"LAUNCHQ_{name}": value for name, value in values.items()}


@dataclass
class Launchq:
    """launchq as it is installed: one worker, with so many processes and calls in flight in each."""

    processes: int = 2
    in_flight: int = 100
    """In each process."""
    settings: dict[str, object] = field(default_factory=dict)
    inside: Sequence[str] = ()
    name: str = "launchq"
    fsync: str | None = None
    share: float = 1.0

    def prepare(self) -> None:
        """It is here already."""

    def variables(self, world: World) -> dict[str, str]:
        return launchq_variables(world, concurrency=self.in_flight, **self.settings)

    def settings_for(self, world: World) -> Settings:
        return load(self.variables(world))

    def fill(self, world: World, jobs: int) -> float:
        with Launcher(self.settings_for(world)) as launcher:
            began = time.monotonic()
            launcher.submit_many(body(f"job-{number:07d}") for number in range(jobs))
            return time.monotonic() - began

    def start(self, world: World) -> list[Child]:
        arguments = ["-m", "launchq", "worker", "--processes", str(self.processes), "--log-level", "warning"]
        environment = clean_environment(**self.variables(world))
        log = world.folder / f"{self.name}.log"
        return [Child([*self.inside, sys.executable, *arguments], log=log, environment=environment)]


@dataclass
class Bare:
    """The plain asyncio script: it is its own queue."""

    in_flight: int = 200
    jobs: int = 0
    name: str = "bare aiohttp script"
    fsync: str | None = None
    share: float = 1.0

    def prepare(self) -> None:
        """It is here already."""

    def fill(self, world: World, jobs: int) -> float:  # noqa: ARG002  there is no queue
        self.jobs = jobs
        return 0.0

    def start(self, world: World) -> list[Child]:
        arguments = ["-m", "bench.bare", world.cloud.url, str(TEMPLATE), str(self.jobs), str(self.in_flight)]
        return [Child([sys.executable, *arguments], log=world.folder / "bare.log")]


def _celery(pool: str, nodes: int, in_flight: int) -> list[list[str]]:
    return [
        [
            "-m", "celery", "--app", "app", "worker", "--pool", pool, "--concurrency", str(in_flight),
            "--loglevel", "warning", "--without-gossip", "--without-mingle", "--hostname", f"bench{node}@%h",
        ]
        for node in range(nodes)
    ]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How one peer's workers are started, for so many processes with so many calls in flight in each."""

    folder: str
    commands: Callable[[int, int], list[list[str]]]
    variables: dict[str, str] = field(default_factory=dict)


KINDS = {
    "Celery, threads": Kind(
        "celery", lambda processes, each: _celery("threads", processes, each), {"BENCH_POOL": "threads"}
    ),
    "Celery, gevent": Kind(
        "celery", lambda processes, each: _celery("gevent", processes, each), {"BENCH_POOL": "gevent"}
    ),
    # A process for each call: 50 of them are what a small machine can hold.
    "Celery, prefork": Kind("celery", lambda *_: _celery("prefork", 1, 50), {"BENCH_POOL": "prefork"}),
    "Celery, prefork, 2 processes": Kind(
        "celery", lambda *_: _celery("prefork", 1, 2), {"BENCH_POOL": "prefork"}
    ),
    "taskiq": Kind(
        "taskiq",
        lambda processes, each: [
            ["-m", "taskiq", "worker", "app:broker", "--workers", str(processes),
             "--max-async-tasks", str(each), "--log-level", "WARNING"]
        ],
        {"BENCH_RESULTS": "1"},
    ),
    "taskiq, no results": Kind(
        "taskiq",
        lambda processes, each: [
            ["-m", "taskiq", "worker", "app:broker", "--workers", str(processes),
             "--max-async-tasks", str(each), "--log-level", "WARNING"]
        ],
        {"BENCH_RESULTS": "0"},
    ),
    "saq": Kind(
        "saq", lambda processes, _: [["-m", "saq", "app.settings", "--workers", str(processes), "--quiet"]]
    ),
    "dramatiq": Kind(
        "dramatiq",
        lambda processes, each: [
            ["-m", "dramatiq", "app", "--processes", str(processes), "--threads", str(each)]
        ],
    ),
}  # fmt: skip
"""Name -> how it is started."""

CELERY = ("Celery, threads", "Celery, gevent", "Celery, prefork")
OTHERS = ("taskiq", "taskiq, no results", "saq", "dramatiq")


@dataclass
class Peer:
    """An alternative, in an environment of its own."""

    made_by: str
    processes: int = 2
    in_flight: int = 100
    """In each process."""
    fsync: str | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return self.made_by if self.fsync is None else f"{self.made_by}, appendfsync {self.fsync}"

    @property
    def kind(self) -> Kind:
        return KINDS[self.made_by]

    @property
    def folder(self) -> Path:
        return PEERS / self.kind.folder

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return str(ENVIRONMENTS / self.kind.folder / "bin" / "python")

    def prepare(self) -> None:
        """Make its environment, unless there is one made from the same pins."""
        pins = self.folder / "requirements.txt"
        home = ENVIRONMENTS / self.kind.folder
        mark, digest = home / "made-from", hashlib.sha256(pins.read_bytes()).hexdigest()
        if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
            return
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
        ):
            subprocess.run(command, check=True, timeout=LONG, capture_output=True)
        mark.write_text(digest, encoding="utf-8")

    def environment(self, world: World) -> dict[str, str]:
        return clean_environment(
            PYTHONPATH="",
            BENCH_REDIS_URL=world.redis.url,
            BENCH_API_URL=world.cloud.url,
            BENCH_TEMPLATE=str(TEMPLATE),
            BENCH_IN_FLIGHT=str(self.in_flight),
            **self.kind.variables,
        )

    def producer(self, world: World, *arguments: str) -> Child:
        """A process that enqueues (see peers/produce.py)."""
        command = [self.python, str(PEERS / "produce.py"), *arguments]
        log = world.folder / f"{self.kind.folder}-producer.log"
        return Child(command, log=log, environment=self.environment(world), folder=self.folder, pipes=True)

    def fill(self, world: World, jobs: int) -> float:
        with self.producer(world, "fill", str(jobs)) as producer:
            return float(producer.read_line())

    def start(self, world: World) -> list[Child]:
        return [
            Child(
                [self.python, *command],
                log=world.folder / f"{self.kind.folder}.log",
                environment=self.environment(world),
                folder=self.folder,
            )
            for command in self.kind.commands(self.processes, self.in_flight)
        ]
