"""Who is put to the test: launchq, and the plain Celery implementation. A run treats both alike."""

from __future__ import annotations

import inspect
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import redis
from celery import Celery

from chaos.plan import Plan
from chaos.tally import ENDS, Record
from config import Settings
from harness import ROOT, Worker, World, body
from launchq import Launcher
from tasks.errors import LedgerError

NAMES = ("unique", "exact", "same")
"""`unique`: distinct names, to which launchq adds its tag; `exact`: the same names sent as they are; `same`: one name for
all jobs, sent as it is."""


class AwayError(Exception):
    """Redis does not answer."""


class Subject(Protocol):
    """What a run needs to know of its subject. What reads raises AwayError where Redis does not answer."""

    def start_worker(self) -> Worker:
        """One more worker, not waited for."""

    def submit(self, names: Sequence[str]) -> None:
        """Enter a job for each name; once it returns, none of them may get lost."""

    def counts(self) -> Mapping[str, int]:
        """How many jobs are in which state, for the progress."""

    def is_done(self) -> bool:
        """Whether nothing will happen any more by itself."""

    def records(self) -> list[Record]:
        """What it says about each job, in the order of the names."""

    def close(self) -> None:
        """Close the connections."""


class LaunchqSubject:
    """launchq's own workers, and its Python door."""

    def __init__(self, world: World, plan: Plan, *, unique_names: bool) -> None:
        self._world = world
        self._plan = plan
        self._unique_names = unique_names
        self._ids: list[str] = []
        self._names: list[str] = []
        wanted = {
            "request_timeout": plan.request_timeout,
            "concurrency": plan.concurrency,
            "max_attempts": 50,
            "backoff_base": 0.2,
            "backoff_cap": 2,
            "verify_delays": plan.verify_delays,
            "rate_limit": "0",
        }
        # Some of them only later versions know.
        world.set(**{name: value for name, value in wanted.items() if name in vars(Settings())})

    def start_worker(self) -> Worker:
        return self._world.worker(processes=self._plan.processes, ready=False)

    def submit(self, names: Sequence[str]) -> None:
        tags: dict[str, Any] = {}
        if self._unique_names and "unique_names" in inspect.signature(Launcher.submit_many).parameters:
            tags = {"unique_names": True}
        batch = self._world.launcher.submit_many([body(name) for name in names], **tags)
        self._ids = [receipt.id for receipt in batch.jobs]
        self._names = [
            f"{name}-{job_id[:8]}" if tags else name for name, job_id in zip(names, self._ids, strict=True)
        ]

    def counts(self) -> Mapping[str, int]:
        try:
            return {str(state): number for state, number in self._world.launcher.account().counts.items()}
        except LedgerError as error:
            raise AwayError from error

    def is_done(self) -> bool:
        counts = self.counts()
        return sum(counts[state] for state in ENDS) >= len(self._ids)

    def records(self) -> list[Record]:
        try:
            jobs = self._world.launcher.ledger.jobs(self._ids)
        except LedgerError as error:
            raise AwayError from error
        return [
            Record(name, "missing") if job is None else Record(name, str(job.state), job.instance_id)
            for name, job in zip(self._names, jobs, strict=True)
        ]

    def close(self) -> None:
        """The world closes its launcher itself."""


class CelerySubject:
    """The workers of plain_celery.py; results are read from Celery's result backend."""

    STATES: ClassVar = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "cancelled"}
    """Of results. All others, and no result, are no end."""

    QUIET = 3.0
    """Seconds for which the queue must be empty and nothing unacknowledged. A message is in neither for some milliseconds
    only, while a worker takes it; if that worker dies then, it is gone for good."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._app = Celery("producer", broker=world.redis.url, backend=world.redis.url)
        self._redis = redis.Redis.from_url(world.redis.url, socket_timeout=5)
        self._ids: list[str] = []
        self._names: list[str] = []
        self._quiet_since: float | None = None

    def start_worker(self) -> Worker:
        in_flight = self._plan.processes * self._plan.concurrency
        options = ["--pool", "threads", "--concurrency", str(in_flight), "--loglevel", "info"]
        return self._world.worker(
            command=["-m", "celery", "-A", "chaos.plain_celery", "worker", *options],
            variables={
                "PYTHONPATH": str(ROOT / "tests"),
                "PLAIN_REDIS_URL": self._world.redis.url,
                "PLAIN_API_URL": self._world.cloud.api_url,
                "PLAIN_USERNAME": "demo",
                "PLAIN_PASSWORD": "demo",
                "PLAIN_REQUEST_TIMEOUT": f"{self._plan.request_timeout:g}",
            },
            ready=False,
        )

    def submit(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._ids = [self._app.send_task("create_instance", [body(name)]).id for name in names]

    def counts(self) -> Mapping[str, int]:
        return Counter(record.state for record in self.records())

    def is_done(self) -> bool:
        try:
            waits = self._redis.llen("celery") or self._redis.hlen("unacked")
        except redis.RedisError as error:
            raise AwayError from error
        if waits:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = time.monotonic()
        return self._quiet_since is not None and time.monotonic() - self._quiet_since > self.QUIET

    def records(self) -> list[Record]:
        keys = [self._app.backend.get_key_for_task(task_id) for task_id in self._ids]
        try:
            results = self._redis.mget(keys)
        except redis.RedisError as error:
            raise AwayError from error
        return [
            self._record(name, None if result is None else json.loads(result))
            for name, result in zip(self._names, results, strict=True)
        ]

    def _record(self, name: str, result: dict[str, Any] | None) -> Record:
        if result is None:
            return Record(name, "no result")
        state = self.STATES.get(result["status"], result["status"].lower())
        return Record(name, state, result["result"] if state == "succeeded" else None)

    def close(self) -> None:
        self._redis.close()
        self._app.close()


def make_subject(which: str, names: str, world: World, plan: Plan) -> Subject:
    """`launchq` or `celery`."""
    if which == "celery":
        return CelerySubject(world, plan)
    return LaunchqSubject(world, plan, unique_names=names == "unique")
