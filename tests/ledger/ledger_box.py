"""A ledger for tests: short ways to use it, a picture of all it holds, and an audit of whether that adds up."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from harness import wait_until
from ledger import Ledger, calls
from ledger.calls import AccountNews, Claim, Claimed, Done, Doubt, Finding, Report, Turn
from ledger.keys import NAMES
from ledger.vault import PLAIN, Vault
from tasks.jobs import Happening, Job, Submission, named
from tasks.policy import Policy
from tasks.retry import Outcome
from tasks.states import ENDS, IN_DOUBT, MOVES, WATCHED, Event, State

HISTORY_KEPT = 50
"""Lines of a job's history."""

TINY = 0.001
"""Seconds of a lease that is meant to run out."""

LANE = "cn-north/h100/spot"
"""A lane of jobs that wait for capacity."""

SETS = ("leases", "ended", "deadlines")
"""The sorted sets that `audit_sets` looks at."""

OPEN_WIDTH = 64
"""The widest a lane gets before it is open."""

UNSAID = {"attempt": "0", "attempts": "0", "tries": "0", "lane": ""}
"""What neither a job's hash nor its template has while it is this."""

Jobs = Mapping[str, Mapping[str, str]]
"""The hashes of jobs by their ids."""

DELAYS = (5.0, 15.0, 45.0)
"""Verify delays: nothing is looked up before a test lets time pass."""

API_KEY = "fingerprint-of-an-api-key"

UNTOUCHED = ["listing"]
"""The keys of a box in which nothing has been done: its instances have been listed."""

LASTING = {
    "account", "logins", "counts", "changed", "moves", "batches", "passes", "token", "workers", "events", "due", "leases", "ended",
    "owners", "seen", "flying", "doubted", "listing", "ready", "lanes", "choices", "openings", "held", "holding", "deadlines", "rate",
    "notify", "measures", "ordered", "schedule", "schedules", "launches",
}  # fmt: skip
"""Keys that stay: each is bounded by what it is about."""
FADING = {"lane", "stock"}
"""Keys that go by themselves, long after their last use."""
PASSING = {"claim", "wake", "watch", "login", "lookup", "told", "session", "trace", "firing"}
"""Keys that must go by themselves."""


def request(name: str = "trainer", **changes: Any) -> str:
    """A request body as the ledger keeps it. The ledger does not look inside."""
    return json.dumps({"name": name, **changes}, separators=(",", ":"))


def submission(name: str = "trainer", **values: Any) -> Submission:
    """A submission with an id of its own, unless one is given. Fields of its policy may be given like its own.

    What waits for capacity is of LANE, unless another one is given.
    """
    names = {one.name for one in fields_of(Policy)} - {"fallbacks"}  # the ledger gets them made up as choices
    policy = Policy(**{name: values.pop(name) for name in names & values.keys()})
    if policy.wait_for_capacity:
        values.setdefault("lane", LANE)
    known: dict[str, Any] = {"id": f"{name}-{uuid.uuid4().hex[:8]}", "body": request(name), **values}
    return Submission(name=name, policy=policy, **known)


def report(job: Claimed, event: Event, **outcome: Any) -> Report:
    """How this attempt ended."""
    if event is Event.CREATE:
        outcome.setdefault("instance_id", f"notebook-{job.id}")
    return Report(job.id, job.attempt, Outcome(event, **outcome))


def sold_out(job: Claimed, *, wait: float = 30.0, message: str = "no capacity") -> Report:
    """This attempt, of a job that waits for capacity, was told that there is none; the next probe in `wait` seconds."""
    return report(job, Event.DEFER, category="capacity", message=message, delay=wait)


class Box:
    """One ledger under one prefix."""

    def __init__(self, url: str, prefix: str, keys: Sequence[str] = ()) -> None:
        self.url, self.prefix = url, prefix
        self.ledger = Ledger(url, prefix, Vault(keys))
        self.redis: Any = self.ledger.redis
        self.templates: dict[str, dict[str, str]] = {}
        self.keys = self.ledger.keys

    def __enter__(self) -> Self:
        self.has_listed()
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
        rate: float = 0,
    ) -> Claim:
        """One claim, with an id of its own unless one is given; with an API key, so that no token is needed.

        `rate` is the account's budget of calls a second; 0 is none.
        """
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
                rate=rate,
            )
        )

    def has_listed(self) -> None:
        """The instances have just been listed: exact names may be sent."""
        self.redis.hset(self.keys.base + "listing", mapping={"at": self.now() - 1, "took": 0})

    def never_listed(self) -> None:
        """The instances have not been listed yet."""
        self.redis.delete(self.keys.base + "listing")

    def take(self, *, lease: float = 600) -> Claimed:
        """Claim one job, which must be there."""
        [job] = self.claim(1, lease=lease).jobs
        return job

    def take_and_lose(self) -> Claimed:
        """Claim one job with a tiny lease, and wait until that has run out: its worker is lost, and nobody has noticed."""
        job = self.take(lease=TINY)
        self.wait_for_time(int(self.fields(job.id)["dueAt"]))
        return job

    def doubt(self, name: str = "trainer", *, lease: float = 600, **fields: Any) -> Claimed:
        """Enter one job and claim it; its call ends without an answer."""
        [job_id] = self.enter(name, **fields)
        job = self.take(lease=lease)
        assert job.id == job_id
        assert self.settle(report(job, Event.DOUBT, category="unknown", message="timeout")) == ["verifying"]
        return job

    def doubt_again(self, job_id: str) -> Claimed:
        """The next attempt of a job that is due, or made so; its call ends without an answer too."""
        self.time_comes(job_id)
        job = self.take()
        assert job.id == job_id
        assert self.settle(report(job, Event.DOUBT, category="unknown", message="timeout")) == ["verifying"]
        return job

    def settle(self, *reports: Report, refused: str = "", taken: str = "") -> list[str]:
        """Write down how attempts ended."""
        return self.ledger.run(calls.settle(reports, AccountNews(refused, taken), verify_delays=DELAYS))

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
        if state is State.SCHEDULED:
            return self.enter(name, batch=batch, not_before=timedelta(hours=1))[0]
        if state is State.SUBMITTING:
            [job_id] = self.enter(name, batch=batch)
            assert self.take().id == job_id
            return job_id
        event = {
            State.RETRYING: Event.DEFER,
            State.SUCCEEDED: Event.CREATE,
            State.FAILED: Event.FAIL,
            State.VERIFYING: Event.DOUBT,
            State.UNCERTAIN: Event.DOUBT,
            State.CANCELLED: Event.CANCEL,
        }[state]
        extra = {"delay": 3600.0, "category": "capacity"} if event is Event.DEFER else {}
        job_id = self.end(event, name, batch=batch, **extra)
        if state is State.UNCERTAIN:
            twice = {f"{job_id}-one": name, f"{job_id}-other": name}
            assert self.look_up_in_time(job_id, twice) == "uncertain"
        return job_id

    def time_comes(self, *job_ids: str, lease_is_over: bool = True) -> None:
        """By hand, since Redis' clock cannot be set: what these jobs wait for is due, and their leases are over."""
        now = self.now()
        for job_id in job_ids:
            fields = self.fields(job_id)
            home = home_of(fields["state"])
            if home == "line" and self.redis.zscore(self.keys.ready(fields["lane"]), job_id) is not None:
                continue  # it is due
            self.redis.zadd(self.keys.base + ("due" if home == "line" else home), {job_id: now})
            self.redis.hset(self.keys.job(job_id), "dueAt", now)
            if "leaseEnd" in fields and lease_is_over:
                self.redis.hset(self.keys.job(job_id), "leaseEnd", now)

    def lane_comes(self, lane: str = LANE) -> None:
        """By hand: the time has come at which this lane may be served next, and probed, if it is sold out."""
        now = self.now()
        self.redis.zadd(self.keys.lanes, {lane: now}, xx=True)
        if self.redis.hexists(self.keys.base + "lane:" + lane, "probeAt"):
            self.redis.hset(self.keys.base + "lane:" + lane, "probeAt", now)

    def deadline_comes(self, *job_ids: str) -> None:
        """By hand: the time is up until which these jobs are tried."""
        now = self.now()
        for job_id in job_ids:
            assert "until" in self.fields(job_id)
            self.redis.hset(self.keys.job(job_id), "until", now)
            self.redis.zadd(self.keys.base + "deadlines", {job_id: now}, xx=True)

    def turn(self, asker: str = "asker", *, lasts: float = 60, limit: int = 1000) -> Turn:
        """Ask for the turn to list the instances."""
        return self.ledger.run(
            calls.lookup_turn(
                asker, lasts=lasts, limit=limit, verify_delays=DELAYS, api_key=API_KEY, vault=PLAIN
            )
        )

    def verify(
        self,
        asker: str,
        doubts: Iterable[Doubt],
        instances: Mapping[str, str],
        *,
        flaw: str = "",
        max_attempts: int = 8,
        delays: Sequence[float] = DELAYS,
    ) -> list[str]:
        """Say what a listing that shows these instances (id -> name) means for these jobs.

        A next attempt is due an hour later.
        """
        findings = [
            Finding(doubt, [one for one, name in instances.items() if name == doubt.name], 3600.0)
            for doubt in doubts
        ]
        return self.ledger.run(
            calls.verify(asker, findings, verify_delays=delays, max_attempts=max_attempts, flaw=flaw)
        )

    def listed(self, asker: str, instances: Iterable[str] = (), *, end: str = "") -> bool:
        """Note what a listing showed."""
        return self.ledger.run(calls.listed(asker, instances, end=end))

    def look_up(
        self, instances: Mapping[str, str] | None = None, *, flaw: str = "", **more: Any
    ) -> dict[str, str]:
        """One whole lookup whose listing shows these instances (id -> name); job id -> what became of it.

        What is done after it is done at a later millisecond.
        """
        asker, shown = uuid.uuid4().hex, instances or {}
        turn = self.turn(asker)
        assert turn.mine
        self.listed(asker, shown)
        states = self.verify(asker, turn.doubts, shown, flaw=flaw, **more)
        assert self.listed(asker, end="failed" if flaw else "whole")
        self.redis.delete(self.keys.base + "lookup")  # its rest is over
        self.wait_for_time(self.now())
        return {doubt.id: state for doubt, state in zip(turn.doubts, states, strict=True)}

    def look_up_in_time(
        self, job_id: str, instances: Mapping[str, str] | None = None, *, flaw: str = "", **more: Any
    ) -> str:
        """The time of this job's lookup has come, and it is made; the job's state."""
        self.time_comes(job_id)
        return self.look_up(instances, flaw=flaw, **more)[job_id]

    def look_up_until_settled(
        self, job_id: str, instances: Mapping[str, str] | None = None, *, flaw: str = "", **more: Any
    ) -> list[str]:
        """Lookups of one job, each when its time has come, until it is no longer verifying; its states."""
        states = [self.look_up_in_time(job_id, instances, flaw=flaw, **more)]
        while states[-1] == State.VERIFYING:
            assert len(states) < 20, "it is looked up for ever"
            states.append(self.look_up_in_time(job_id, instances, flaw=flaw, **more))
        return states

    def resolve(self, job_id: str, instance_id: str = "", *, why: str = "I looked") -> tuple[str, str]:
        """A person says what happened."""
        return self.ledger.run(calls.resolve(job_id, instance_id=instance_id, who="me@here", why=why))

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
        return self.ledger.run(calls.tick("w1", credentials=API_KEY, has_api_key=True, verify_delays=DELAYS))

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
        """The hash of a job, with what its template says; its request has its name."""
        return self.with_template(self.own_fields(job_id))

    def with_template(self, own: dict[str, str]) -> dict[str, str]:
        """A job's hash with what its template says, which never changes."""
        if "template" not in own:
            return own
        name = own["template"]
        if name not in self.templates:
            self.templates[name] = self.redis.hgetall(self.keys.base + "template:" + name)
        shared = {**self.templates[name], "request": named(self.templates[name]["request"], own["name"])}
        return {
            key: value
            for key, value in {**UNSAID, **shared, **own}.items()
            if key not in {"template", "jobs"}
        }

    def own_fields(self, job_id: str) -> dict[str, str]:
        """A job's hash, as it is."""
        found: dict[str, str] = self.redis.hgetall(self.keys.job(job_id))
        return found

    def state(self, job_id: str) -> str:
        """A job's state, as it is."""
        return self.fields(job_id).get("state", "")

    def lane(self, lane: str = LANE) -> dict[str, str]:
        """What is kept of a lane whose jobs wait for capacity."""
        found: dict[str, str] = self.redis.hgetall(self.keys.base + "lane:" + lane)
        return found

    def lane_served_in(self, lane: str = LANE) -> float:
        """Milliseconds until this lane may be served next, from now on."""
        return self.redis.zscore(self.keys.lanes, lane) - self.now()

    def owners(self) -> dict[str, str]:
        """Instance id -> the job that it belongs to."""
        found: dict[str, str] = self.redis.hgetall(self.keys.base + "owners")
        return found

    def held(self) -> dict[str, dict[str, float]]:
        """Batches -> their jobs that were put aside -> when they arrived."""
        return {
            name.removeprefix("held:"): dict(self.redis.zrange(self.keys.base + name, 0, -1, withscores=True))
            for name in self.names()
            if kind_of(name) == "held"
        }

    def openings(self) -> dict[str, float]:
        """Sold-out lanes -> when the first of their jobs may use its next choice (ms)."""
        return dict(self.redis.zrange(self.keys.base + "openings", 0, -1, withscores=True))

    def history(self, job_id: str) -> list[Happening]:
        """What happened to a job, the latest last."""
        return list(self.read(job_id).history)

    def account(self) -> dict[str, str]:
        """The account's hash, as it is, but for the mark that every producer and worker leaves."""
        found: dict[str, str] = self.redis.hgetall(self.keys.account)
        found.pop("version", None)
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
        audit_sets(
            jobs,
            {name: dict(self.redis.zrange(self.keys.base + name, 0, -1, withscores=True)) for name in SETS},
        )
        queues = [name.removeprefix("ready:") for name in names if kind_of(name) == "ready"]
        waiting = {lane: self.redis.zrange(self.keys.ready(lane), 0, -1, withscores=True) for lane in queues}
        aside = {job_id for queue in self.held().values() for job_id in queue}
        audit_lines(
            {job_id: job for job_id, job in jobs.items() if job_id not in aside},
            dict(self.redis.zrange(self.keys.base + "due", 0, -1, withscores=True)),
            {lane: dict(queue) for lane, queue in waiting.items()},
            set(self.redis.zrange(self.keys.lanes, 0, -1)),
            {
                name.removeprefix("choices:"): dict(
                    self.redis.zrange(self.keys.base + name, 0, -1, withscores=True)
                )
                for name in names
                if kind_of(name) == "choices"
            },
        )
        changed = dict(self.redis.zrange(self.keys.base + "changed", 0, -1, withscores=True))
        unmoved = jobs.keys() - changed.keys()
        assert changed == {
            job_id: int(job["updatedAt"]) for job_id, job in jobs.items() if job_id not in unmoved
        }
        for job in (jobs[job_id] for job_id in unmoved):
            assert (job["state"], job["attempt"]) == (State.QUEUED, "0")
            assert job["updatedAt"] == job["createdAt"] == job["arrived"].partition(".")[0]
        audit_held(jobs, self.held(), set(self.redis.smembers(self.keys.base + "holding")))
        openings = self.openings()
        for name in names:
            lane = name.removeprefix("choices:")
            if kind_of(name) == "choices" and "probeAt" in self.lane(lane):
                assert lane in openings, (
                    f"{lane} is sold out, and nobody looks at the next choices of its jobs"
                )
        lanes = [name.removeprefix("lane:") for name in names if kind_of(name) == "lane"]
        audit_lanes(jobs, {lane: self.lane(lane) for lane in lanes})
        audit_counts(jobs, self.redis.hgetall(self.keys.base + "counts"))
        audit_names(
            jobs,
            self.redis.hgetall(self.keys.base + "flying"),
            self.redis.hgetall(self.keys.base + "doubted"),
        )
        audit_owners(jobs, self.owners(), set(self.redis.zrange(self.keys.seen, 0, -1)))
        histories = {name.removeprefix("history:") for name in names if kind_of(name) == "history"}
        assert histories <= set(jobs)
        for job_id in histories:
            audit_history(jobs[job_id], self.history(job_id))
        batches = {fields["batchId"] for fields in jobs.values() if "batchId" in fields}
        assert batches == {name.removeprefix("batch:") for name in names if kind_of(name) == "batch"}
        assert {name.removeprefix("entries:") for name in names if kind_of(name) == "entries"} <= batches
        assert set(self.redis.zrange(self.keys.base + "batches", 0, -1)) == batches
        for batch in batches:
            members = {job_id: fields for job_id, fields in jobs.items() if fields.get("batchId") == batch}
            audit_batch(
                members,
                self.redis.hgetall(self.keys.batch(batch)),
                self.redis.hgetall(self.keys.entries(batch)),
            )
        self.audit_keys()
        used = Counter(self.own_fields(job_id).get("template") for job_id in jobs)
        templates = [name for name in names if kind_of(name) == "template"]
        assert {name: int(self.redis.hget(self.keys.base + name, "jobs")) for name in templates} == {
            f"template:{name}": count for name, count in used.items() if name is not None
        }
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
            if kind in PASSING | FADING:
                # -2: it has gone since it was listed.
                assert lifetime != -1, f"{name} would stay for ever"
            else:
                assert kind in LASTING | {
                    "job",
                    "history",
                    "batch",
                    "entries",
                    "key",
                    "template",
                    "outbox",
                    "delivery",
                }, f"{name} is not documented"
                assert lifetime in {-1, -2}


def kind_of(name: str) -> str:
    """Which kind of key this is: the name in NAMES."""
    head = name.partition(":")[0]
    known = {text.partition(":")[0]: kind for kind, text in NAMES.items()}
    assert head in known, f"{name} is a key of no documented kind"
    return known[head]


def home_of(state: str) -> str:
    """The sorted set for jobs in this state; `line` is `due` or the queue of the job's lane."""
    return "ended" if State(state) in ENDS else "leases" if State(state) in WATCHED else "line"


def audit_sets(jobs: Jobs, sets: Mapping[str, Mapping[str, float]]) -> None:
    """Every job that does not wait is in exactly the one sorted set that its state says, at the time that it says; and what is
    tried for some time only is known to be."""
    for home in ("leases", "ended"):
        assert set(sets[home]) == {job_id for job_id, job in jobs.items() if home_of(job["state"]) == home}, (
            home
        )
    assert sets["leases"] == {job_id: int(jobs[job_id]["dueAt"]) for job_id in sets["leases"]}
    assert sets["deadlines"] == {
        job_id: int(job["until"])
        for job_id, job in jobs.items()
        if "until" in job and State(job["state"]) not in ENDS
    }


def audit_lines(
    jobs: Jobs,
    due: Mapping[str, float],
    ready: Mapping[str, Mapping[str, float]],
    lanes: set[str],
    choices: Mapping[str, Mapping[str, float]],
) -> None:
    """Every job that waits is in exactly one place: among those whose time has not come, or in the queue of each of its lanes.

    There it stands where it arrived. Lanes with such jobs, and no others, are served. Who has another choice is known to.
    """
    stands: dict[str, set[str]] = {}
    for lane, queue in ready.items():
        for job_id in queue:
            stands.setdefault(job_id, set()).add(lane)
    assert not set(due) & set(stands)
    assert {*due, *stands} == {job_id for job_id, job in jobs.items() if home_of(job["state"]) == "line"}
    assert due == {job_id: int(jobs[job_id]["dueAt"]) for job_id in due}
    expected: dict[str, dict[str, float]] = {}
    for job_id, found in stands.items():
        all_of_them, chosen = choices_of(jobs[job_id])
        usable = [one["lane"] for one in all_of_them[:chosen]]
        assert found == (set(usable) if "waits" in jobs[job_id] else set(usable[-1:]))
        if "waits" in jobs[job_id] and len(all_of_them) > chosen:
            opens = int(float(jobs[job_id]["arrived"])) + all_of_them[chosen]["after"]
            expected.setdefault(usable[-1], {})[job_id] = opens
    assert choices == expected
    for queue in ready.values():
        assert queue == {job_id: float(jobs[job_id]["arrived"]) for job_id in queue}
        assert {jobs[job_id]["state"] for job_id in queue} <= {State.QUEUED, State.RETRYING}
    assert lanes == {lane for lane, queue in ready.items() if queue}


def audit_held(jobs: Jobs, held: Mapping[str, Mapping[str, float]], holding: set[str]) -> None:
    """What was put aside waits, is of that batch, and is known to be there."""
    assert set(held) == holding
    for batch, queue in held.items():
        for job_id, arrived in queue.items():
            assert jobs[job_id]["batchId"] == batch
            assert jobs[job_id]["state"] in {State.QUEUED, State.RETRYING}
            assert arrived == float(jobs[job_id]["arrived"])


def choices_of(job: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    """Where a job may be launched, and how many of these places it may use by now."""
    if "choices" not in job:
        return [{"lane": job["lane"], "after": 0}], 1
    return json.loads(job["choices"]), int(job["chosen"])


def audit_lanes(jobs: Jobs, lanes: Mapping[str, Mapping[str, str]]) -> None:
    """How many calls each lane has in flight, of those that wait for capacity; no more than it may; and what it tells."""
    flying = Counter(
        job["lane"] for job in jobs.values() if "waits" in job and job["state"] == State.SUBMITTING
    )
    assert {
        lane: int(kept["flying"]) for lane, kept in lanes.items() if kept.get("flying", "0") != "0"
    } == flying
    for kept in lanes.values():
        assert set(kept) <= {
            "flying",
            "width",
            "open",
            "probeAt",
            "message",
            "since",
            "epoch",
            "skipped",
            "emptyAt",
        }
        assert not {"open", "width"} <= set(kept)
        assert len({"probeAt", "message", "since"} & set(kept)) in {0, 3}
        assert "probeAt" not in kept or kept["width"] == "1"
        assert 1 <= int(kept.get("width", 1)) <= OPEN_WIDTH


def audit_names(jobs: Jobs, flying: dict[str, str], doubted: dict[str, str]) -> None:
    """How many jobs have sent an exact name and do not know what came of it."""
    exact = [job for job in jobs.values() if "unique" not in job]
    assert {name: int(number) for name, number in flying.items()} == Counter(
        job["name"] for job in exact if job["state"] == State.SUBMITTING
    )
    assert {name: int(number) for name, number in doubted.items()} == Counter(
        job["name"] for job in exact if State(job["state"]) in IN_DOUBT
    )


def audit_owners(jobs: Jobs, owners: dict[str, str], seen: set[str]) -> None:
    """Every job's instance is owned by it; so no instance is two jobs'. What else is owned turned up too late (surplus).

    A job has an instance exactly where it has succeeded.
    """
    for job_id, job in jobs.items():
        assert ("instanceId" in job) == (job["state"] == State.SUCCEEDED)
        if "instanceId" in job:
            assert owners[job["instanceId"]] == job_id
    assert set(owners) <= seen


def audit_history(job: dict[str, str], history: Sequence[Happening]) -> None:
    """Not too much of it, in its order, and the last line that tells of a change tells of the job's state."""
    assert len(history) <= HISTORY_KEPT
    assert [one.at for one in history] == sorted(one.at for one in history)
    waits = {State.SCHEDULED, State.QUEUED, State.SUBMITTING}  # a submission and a claim leave no line
    told = [one.state for one in history if one.event in set(Event)]
    if State(job["state"]) not in waits:
        assert told[-1:] == [job["state"]]


def audit_counts(jobs: Jobs, counts: dict[str, str]) -> None:
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
