"""A ledger for tests: short ways to use it, a picture of all it holds, and an audit of whether that adds up."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from harness import wait_until
from ledger import Ledger, calls
from ledger.calls import AccountNews, Claim, Claimed, Done, Report
from ledger.keys import NAMES
from ledger.vault import Vault
from tasks.jobs import Job, Submission
from tasks.retry import Outcome
from tasks.states import ENDS, MOVES, Event, State

TINY = 0.001
"""Seconds of a lease that is meant to run out."""

API_KEY = "fingerprint-of-an-api-key"

LASTING = {"account", "logins", "counts", "token", "workers", "events", "due", "ended"}
"""Single keys that stay: each is bounded by what it is about."""
PASSING = {"claim", "wake", "watch", "login"}
"""Keys that must go by themselves."""


def request(name: str = "trainer", **changes: Any) -> str:
    """A request body as the ledger keeps it. The ledger does not look inside."""
    return json.dumps({"name": name, **changes}, separators=(",", ":"))


def submission(name: str = "trainer", **fields: Any) -> Submission:
    """A submission with an id of its own, unless one is given."""
    values: dict[str, Any] = {"id": f"{name}-{uuid.uuid4().hex[:8]}", "body": request(name), **fields}
    return Submission(name=name, **values)


def report(job: Claimed, event: Event, **outcome: Any) -> Report:
    """How this attempt ended."""
    if event is Event.CREATE:
        outcome.setdefault("instance_id", f"notebook-{job.id}")
    return Report(job.id, job.attempt, Outcome(event, **outcome))


class Box:
    """One ledger under one prefix."""

    def __init__(self, url: str, prefix: str, keys: Sequence[str] = ()) -> None:
        self.url, self.prefix = url, prefix
        self.ledger = Ledger(url, prefix, Vault(keys))
        self.redis: Any = self.ledger.redis
        self.keys = self.ledger.keys

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if names := self.names():
            self.redis.delete(*(self.keys.base + name for name in names))
        self.ledger.close()

    # --- what producers, workers and pollers do ---

    def enter(self, *names: str, batch: str = "", **fields: Any) -> list[str]:
        """Enter a job for each name; their ids. In a batch, the name is the entry."""
        many = [submission(name, **({"entry": name} if batch else {}), **fields) for name in names]
        return [receipt.id for receipt in self.ledger.enqueue(many, batch=batch).receipts]

    def claim(
        self,
        limit: int = 100,
        *,
        lease: float = 600,
        claim_id: str = "",
        api_key: str = API_KEY,
        first: bool = False,
        watching: bool = False,
    ) -> Claim:
        """One claim, with an id of its own unless one is given; with an API key, so that no token is needed."""
        return self.ledger.run(
            calls.claim(
                claim_id or uuid.uuid4().hex,
                limit=limit,
                lease=lease,
                worker="w1",
                api_key=api_key,
                first=first,
                watching=watching,
                vault=self.ledger.vault,
            )
        )

    def take(self, *, lease: float = 600) -> Claimed:
        """Claim one job, which must be there."""
        [job] = self.claim(1, lease=lease).jobs
        return job

    def take_and_lose(self) -> Claimed:
        """Claim one job with a tiny lease, and wait until that has run out: its worker is lost."""
        job = self.take(lease=TINY)
        self.wait_for_time(int(self.fields(job.id)["dueAt"]))
        return job

    def settle(self, *reports: Report, refused: str = "", taken: str = "") -> list[str]:
        """Write down how attempts ended."""
        return self.ledger.run(calls.settle(reports, AccountNews(refused, taken)))

    def end(self, event: Event, name: str = "trainer", *, batch: str = "", **outcome: Any) -> str:
        """Enter one job and bring it to where one attempt that ends so brings it; its id."""
        [job_id] = self.enter(name, batch=batch)
        if event is Event.CANCEL:
            self.cancel(job_id)
        else:
            job = self.take()
            assert job.id == job_id
            self.settle(report(job, event, **outcome))
        return job_id

    def in_state(self, state: State, name: str = "trainer", *, batch: str = "") -> str:
        """A job that is in this state; its id."""
        if state is State.QUEUED:
            return self.enter(name, batch=batch)[0]
        if state is State.SUBMITTING:
            [job_id] = self.enter(name, batch=batch)
            assert self.take().id == job_id
            return job_id
        event = {
            State.RETRYING: Event.DEFER,
            State.SUCCEEDED: Event.CREATE,
            State.FAILED: Event.FAIL,
            State.UNCERTAIN: Event.DOUBT,
            State.CANCELLED: Event.CANCEL,
        }[state]
        extra = {"delay": 3600.0, "category": "capacity"} if event is Event.DEFER else {}
        return self.end(event, name, batch=batch, **extra)

    def cancel(self, *job_ids: str) -> list[Done]:
        """Take jobs back."""
        return self.ledger.run(calls.cancel(job_ids))

    def rearm(self, *job_ids: str, act: str = "") -> list[Done]:
        """Make jobs due again."""
        return self.ledger.run(calls.rearm(act or uuid.uuid4().hex, job_ids))[1]

    def read(self, job_id: str) -> Job:
        """One job, as a poller sees it."""
        return self.ledger.job(job_id)

    def tick(self) -> tuple[bool, float | None]:
        """One beat of a pulse."""
        return self.ledger.run(calls.tick("w1", credentials=API_KEY, has_api_key=True))

    def tidy(self, retention: float = 0, limit: int = 1000) -> int:
        """Forget what ended longer ago than this."""
        return self.ledger.run(calls.tidy(retention, limit=limit))

    # --- looking straight into Redis, where a call would change what it looks at ---

    def now(self) -> int:
        """Redis' time in milliseconds, by which everything is due."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def wait_for_time(self, moment: int) -> None:
        """Until Redis' clock has passed this moment."""
        wait_until(lambda: self.now() > moment, description="Redis' clock to pass a moment", interval=0.0005)

    def fields(self, job_id: str) -> dict[str, str]:
        """A job's hash, as it is."""
        found: dict[str, str] = self.redis.hgetall(self.keys.job(job_id))
        return found

    def state(self, job_id: str) -> str:
        """A job's state, as it is."""
        return self.fields(job_id).get("state", "")

    def account(self) -> dict[str, str]:
        """The account's hash, as it is."""
        found: dict[str, str] = self.redis.hgetall(self.keys.account)
        return found

    def events(self, *job_ids: str) -> list[tuple[str, str]]:
        """(job id, state) of each event, of these jobs only if any are given."""
        found = [(fields["job"], fields["state"]) for _, fields in self.redis.xrange(self.keys.events)]
        return [event for event in found if not job_ids or event[0] in job_ids]

    def names(self) -> list[str]:
        """The names of all keys, without the base."""
        found = self.redis.scan_iter(match=self.keys.base + "*", count=1000)
        return sorted({name.removeprefix(self.keys.base) for name in found})

    def picture(self, *, without: Iterable[str] = ()) -> dict[str, Any]:
        """Everything in Redis, except keys whose kind is left out: by default what goes by itself within seconds."""
        left_out = {*PASSING, *without}
        reading: dict[str, Callable[[str], Any]] = {
            "hash": self.redis.hgetall,
            "zset": lambda key: self.redis.zrange(key, 0, -1, withscores=True),
            "stream": self.redis.xrange,
            "string": self.redis.get,
            "list": lambda key: self.redis.lrange(key, 0, -1),
        }
        shown = {}
        for name in self.names():
            if kind_of(name) not in left_out:
                key = self.keys.base + name
                shown[name] = reading[self.redis.type(key)](key)
        return shown

    def audit(self) -> None:
        """Everything in Redis adds up, and nothing is there that has no documented lifetime."""
        names = self.names()
        jobs = {
            name.removeprefix("job:"): self.fields(name.removeprefix("job:"))
            for name in names
            if kind_of(name) == "job"
        }
        due = dict(self.redis.zrange(self.keys.base + "due", 0, -1, withscores=True))
        ended = dict(self.redis.zrange(self.keys.base + "ended", 0, -1, withscores=True))
        audit_sets(jobs, due, ended)
        audit_counts(jobs, self.redis.hgetall(self.keys.base + "counts"))
        batches = {fields["batchId"] for fields in jobs.values() if "batchId" in fields}
        assert batches == {name.removeprefix("batch:") for name in names if kind_of(name) == "batch"}
        assert {name.removeprefix("entries:") for name in names if kind_of(name) == "entries"} <= batches
        for batch in batches:
            members = {job_id: fields for job_id, fields in jobs.items() if fields.get("batchId") == batch}
            audit_batch(
                members,
                self.redis.hgetall(self.keys.batch(batch)),
                self.redis.hgetall(self.keys.entries(batch)),
            )
        self.audit_keys()
        audit_events(
            self.redis.xrange(self.keys.events), {}, {job_id: job["state"] for job_id, job in jobs.items()}
        )

    def audit_keys(self) -> None:
        """No key is there that has no documented lifetime, and none that outlived what it belongs to."""
        for name in self.names():
            kind = kind_of(name)
            if kind == "key":
                assert self.fields(self.redis.get(self.keys.base + name))["key"] == name.removeprefix("key:")
            lifetime = self.redis.pttl(self.keys.base + name)
            if kind in PASSING:
                # -2: it has gone since it was listed.
                assert lifetime != -1, f"{name} would stay for ever"
            else:
                assert kind in LASTING | {"job", "batch", "entries", "key"}, f"{name} is not documented"
                assert lifetime in {-1, -2}


def kind_of(name: str) -> str:
    """Which kind of key this is: the name in NAMES."""
    head = name.partition(":")[0]
    known = {text.partition(":")[0]: kind for kind, text in NAMES.items()}
    assert head in known, f"{name} is a key of no documented kind"
    return known[head]


def audit_sets(jobs: dict[str, dict[str, str]], due: dict[str, float], ended: dict[str, float]) -> None:
    """Every job is in exactly the one sorted set that its state says."""
    assert set(ended) == {job_id for job_id, job in jobs.items() if State(job["state"]) in ENDS}
    assert set(due) == {job_id for job_id, job in jobs.items() if State(job["state"]) not in ENDS}
    assert {job_id: int(score) for job_id, score in due.items()} == {
        job_id: int(jobs[job_id]["dueAt"]) for job_id in due
    }


def audit_counts(jobs: dict[str, dict[str, str]], counts: dict[str, str]) -> None:
    """The counts that are kept equal the ones that are counted."""
    kept = {state: int(number) for state, number in counts.items() if int(number)}
    assert kept == Counter(job["state"] for job in jobs.values())


def audit_batch(members: dict[str, dict[str, str]], batch: dict[str, str], entries: dict[str, str]) -> None:
    """A batch's counts add up, and its entries are its jobs."""
    assert int(batch["total"]) == len(members)
    audit_counts(members, {name: number for name, number in batch.items() if name in set(State)})
    assert entries == {job["entry"]: job_id for job_id, job in members.items()}


def audit_events(
    events: Sequence[tuple[str, dict[str, str]]], before: dict[str, str], states: dict[str, str]
) -> dict[str, str]:
    """Every event is a legal step from the one before, and the last is the job's state. The last state by job."""
    last = dict(before)
    for _, fields in events:
        job_id, state = fields["job"], State(fields["state"])
        if job_id in last:
            steps = MOVES[State(last[job_id])].values()
            assert state in steps, f"{job_id} went from {last[job_id]} to {state}"
        last[job_id] = state
    assert {job_id: last.get(job_id) for job_id in states} == states
    return last
