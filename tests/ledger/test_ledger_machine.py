"""The ledger against a plain model of it, under any sequence of calls that hypothesis can think of.

The model is a dictionary of jobs and the table of states. Redis' clock decides what is due, so the model takes each
job's due time from Redis once it has been found plausible, and waits out the tiny leases it hands out.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger import calls
from ledger.calls import AccountNews, Report
from ledger_box import TINY, Box, audit_batch, audit_counts, audit_events, audit_sets, request, submission
from sandbox.redis_server import RedisServer
from tasks.errors import RefusedError
from tasks.jobs import Submission
from tasks.retry import Outcome
from tasks.states import ATTEMPT_EVENTS, ENDS, MOVES, Event, State

HOUR = 3600.0
LONG_LEASE = 600.0
PICK = st.integers(0, 10_000)
"""Which of those there are: taken modulo their number."""
EVENTS = st.sampled_from(sorted(ATTEMPT_EVENTS))
DELAYS = st.sampled_from([0.0, 0.0, HOUR])
COUNTS = st.sampled_from([(False, False), (True, False), (True, True)])
"""Whether an outcome counts as an attempt, and as a try."""


@dataclass
class ModelJob:
    """What the ledger should hold of one job."""

    id: str
    body: str
    batch: str
    entry: str
    key: str
    state: State = State.QUEUED
    attempt: int = 0
    attempts: int = 0
    tries: int = 0
    delay: float = 0.0
    due: int = 0
    lost: bool = False
    cancel_requested: bool = False
    rearmed_by: str = ""
    in_flight: str = ""
    """The attempt that was handed out and has not said what became of it; "" is none."""
    instances: set[str] = field(default_factory=set)

    def move(self, event: Event, *, delay: float = 0.0) -> bool:
        """Move along the table; False where it has no such move."""
        new = MOVES[self.state].get(event)
        if new is None:
            return False
        self.state, self.delay, self.lost = new, delay, False
        return True


class LedgerMachine(RuleBasedStateMachine):
    """Drives one ledger and one model of it."""

    url = ""
    steps = 0
    handed_out = 0

    def __init__(self) -> None:
        super().__init__()
        self.box = Box(self.url, f"m-{uuid.uuid4().hex}")
        self.jobs: dict[str, ModelJob] = {}
        self.forgotten: list[str] = []
        self.attempts: list[tuple[str, str]] = []
        self.claims: list[tuple[str, list[tuple[str, str]]]] = []
        self.last_enqueue: tuple[list[Submission], str, list[tuple[str, bool]]] | None = None
        self.last_settle: list[Report] | None = None
        self.acts: list[tuple[str, list[str]]] = []
        self.last_event = "0-0"
        self.told: dict[str, str] = {}
        self.began = 0
        self.number = 0

    def teardown(self) -> None:
        with self.box:
            self.box.audit_keys()

    @initialize()
    def start(self) -> None:
        """So that a run that begins with a claim has something to claim."""
        self.enqueue(many=[(0, False), (1, True)], batch="nightly", keyed=False, retitled=False)

    # --- what producers do ---

    @rule(
        many=st.lists(
            st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=3, unique_by=lambda one: one[0]
        ),
        batch=st.sampled_from(["", "", "nightly", "weekly"]),
        keyed=st.booleans(),
        retitled=st.sampled_from([False, False, False, True]),
    )
    def enqueue(self, many: list[tuple[int, bool]], batch: str, keyed: bool, retitled: bool) -> None:
        self.begin()
        submissions = []
        for number, spot in many:
            name = f"n{number}"
            mark = {"entry": name} if batch else {"key": f"k{number}"} if keyed else {}
            body = request(name, region="changed" if retitled else "same")
            self.number += 1
            submissions.append(submission(name, id=f"j{self.number:04}", body=body, spot=spot, **mark))
        known = [self.standing_for(one, batch) for one in submissions]
        conflicts = [
            job
            for one, job in zip(submissions, known, strict=True)
            if job is not None and job.body != one.body
        ]
        if conflicts:
            with pytest.raises(RefusedError):
                self.box.ledger.enqueue(submissions, batch=batch)
            for job in conflicts:  # read, to say what differs: and whoever reads looks at the lease
                if job.lost:
                    assert job.move(Event.EXPIRE)
            return
        receipts = self.box.ledger.enqueue(submissions, batch=batch).receipts
        expected = []
        for one, old in zip(submissions, known, strict=True):
            job = old or ModelJob(one.id, one.body, batch, one.entry, one.key)
            self.jobs[job.id] = job
            expected.append((job.id, str(job.state), old is not None))
        assert [(receipt.id, str(receipt.state), receipt.duplicate) for receipt in receipts] == expected
        self.last_enqueue = (submissions, batch, [(job_id, duplicate) for job_id, _, duplicate in expected])

    def enqueue_again(self) -> None:
        if self.last_enqueue is None:
            return
        submissions, batch, receipts = self.last_enqueue
        if any(job_id not in self.jobs for job_id, _ in receipts):
            return  # forgotten meanwhile: then it is a submission like any other
        self.begin()
        again = self.box.ledger.enqueue(submissions, batch=batch)
        assert not again.wake
        assert [(one.id, one.duplicate, one.state) for one in again.receipts] == [
            (job_id, duplicate, self.jobs[job_id].state) for job_id, duplicate in receipts
        ]

    def standing_for(self, one: Submission, batch: str) -> ModelJob | None:
        for job in self.jobs.values():
            if (one.key and job.key == one.key) or (
                one.entry and (job.batch, job.entry) == (batch, one.entry)
            ):
                return job
        return None

    # --- what workers do ---

    @rule(limit=st.integers(1, 4), lost=st.sampled_from([False, False, True]))
    def claim(self, limit: int, lost: bool) -> None:
        self.begin()
        claim_id = uuid.uuid4().hex
        expected = []
        for job in self.due_now()[:limit]:
            if job.state is State.SUBMITTING:
                assert job.lost
                assert job.move(Event.EXPIRE)
            else:
                assert not job.in_flight, (
                    "a job was handed out while an attempt of it may have bought an instance"
                )
                assert job.move(Event.CLAIM, delay=TINY if lost else LONG_LEASE)
                job.attempt += 1
                job.in_flight = str(job.attempt)
                expected.append((job.id, str(job.attempt), job.tries))
        claimed = self.box.claim(limit, lease=TINY if lost else LONG_LEASE, claim_id=claim_id).jobs
        assert [(job.id, job.attempt, job.tries) for job in claimed] == expected
        assert all(job.request == self.jobs[job.id].body for job in claimed)
        pairs = [(job.id, job.attempt) for job in claimed]
        self.attempts += pairs
        type(self).handed_out += len(pairs)
        if lost:
            self.check()
            for job_id, _ in pairs:
                self.jobs[job_id].lost = True
            self.box.wait_for_time(max((self.jobs[job_id].due for job_id, _ in pairs), default=0))
        elif pairs:
            self.claims.append((claim_id, pairs))

    def claim_again(self) -> None:
        for claim_id, pairs in self.claims[-5:]:
            self.begin()
            still = [
                (job_id, attempt)
                for job_id, attempt in pairs
                if job_id in self.jobs
                and (self.jobs[job_id].state, str(self.jobs[job_id].attempt)) == (State.SUBMITTING, attempt)
            ]
            assert [(job.id, job.attempt) for job in self.box.claim(4, claim_id=claim_id).jobs] == still

    @rule(
        picks=st.lists(PICK, min_size=1, max_size=3),
        latest=st.booleans(),
        event=EVENTS,
        delay=DELAYS,
        counts=COUNTS,
    )
    def settle(
        self, picks: list[int], latest: bool, event: Event, delay: float, counts: tuple[bool, bool]
    ) -> None:
        """Attempts report, most often such as are in flight, sometimes such as were reported, or lost, long ago."""
        if not self.attempts:
            return
        flying = [(job.id, job.in_flight) for job in self.jobs.values() if job.in_flight]
        pool = flying if latest and flying else self.attempts
        self.report([pool[pick % len(pool)] for pick in picks], event, delay, counts)

    @rule(
        limit=st.integers(1, 3),
        lost=st.booleans(),
        meanwhile=st.sampled_from(["nothing", "read", "cancel", "pulse"]),
        event=EVENTS,
        delay=DELAYS,
        counts=COUNTS,
    )
    def work(
        self, limit: int, lost: bool, meanwhile: str, event: Event, delay: float, counts: tuple[bool, bool]
    ) -> None:
        """A worker from its claim to its report, perhaps too slow for its lease, and not alone in the world."""
        before = len(self.attempts)
        self.claim(limit, lost)
        self.check()
        attempts = self.attempts[before:]
        if not attempts:
            return
        if meanwhile == "read":
            self.read_these([job_id for job_id, _ in attempts])
        elif meanwhile == "cancel":
            self.cancel_these([job_id for job_id, _ in attempts])
        elif meanwhile == "pulse":
            self.pulse()
        self.check()
        self.report(attempts, event, delay, counts)

    def report(
        self, attempts: Iterable[tuple[str, str]], event: Event, delay: float, counts: tuple[bool, bool]
    ) -> None:
        self.begin()
        reports, expected = [], []
        for job_id, attempt in attempts:
            self.number += 1
            instance = f"notebook-{self.number}" if event is Event.CREATE else ""
            outcome = Outcome(
                event, "transient", "text", instance, delay=delay, counts=counts[0], spends=counts[1]
            )
            reports.append(Report(job_id, attempt, outcome))
            expected.append(self.settled(job_id, attempt, outcome))
        assert self.box.ledger.run(calls.settle(reports, AccountNews())) == expected
        self.last_settle = reports

    def settled(self, job_id: str, attempt: str, outcome: Outcome) -> str:
        job = self.jobs.get(job_id)
        if job is None or str(job.attempt) != attempt or not job.move(outcome.event, delay=outcome.delay):
            return "stale"
        job.attempts += outcome.counts
        job.tries += outcome.spends
        if outcome.event is not Event.DOUBT:
            job.in_flight = ""
        if outcome.instance_id:
            job.instances.add(outcome.instance_id)
        if job.state is State.RETRYING and job.cancel_requested:
            assert job.move(Event.CANCEL)
        return str(job.state)

    def settle_again(self) -> None:
        if self.last_settle is None:
            return
        self.begin()
        states = self.box.ledger.run(calls.settle(self.last_settle, AccountNews()))
        expected = [self.settled(report.id, report.attempt, report.outcome) for report in self.last_settle]
        assert states == expected
        self.check()
        assert set(self.box.ledger.run(calls.settle(self.last_settle, AccountNews()))) == {"stale"}

    def pulse(self) -> None:
        self.begin()
        for job in self.due_now():
            if job.state is State.SUBMITTING:
                job.move(Event.EXPIRE)
        self.box.tick()

    # --- what people do, and time ---

    @rule(picks=st.lists(PICK, min_size=1, max_size=2))
    def cancel(self, picks: list[int]) -> None:
        self.cancel_these(self.some_ids(picks))

    def cancel_these(self, ids: list[str]) -> None:
        self.begin()
        expected = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None:
                expected.append(("", "absent"))
            elif job.state is State.CANCELLED or job.move(Event.CANCEL):
                expected.append(("cancelled", "cancelled"))
            else:
                job.cancel_requested |= job.state in {State.SUBMITTING, State.UNCERTAIN}
                expected.append((str(job.state), "requested" if job.state is State.SUBMITTING else "ended"))
        assert [(done.state, done.what) for done in self.box.cancel(*ids)] == expected

    @rule(picks=st.lists(PICK, min_size=1, max_size=2))
    def rearm(self, picks: list[int]) -> None:
        act = uuid.uuid4().hex
        ids = self.some_ids(picks, {State.FAILED, State.CANCELLED})
        self.acts.append((act, ids))
        self.rearmed(act, ids)
        self.check()
        self.rearmed(act, ids)

    def rearmed(self, act: str, ids: list[str]) -> None:
        self.begin()
        expected = []
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None:
                expected.append(("", "absent"))
            elif job.rearmed_by == act:
                expected.append((str(job.state), "rearmed"))
            elif job.move(Event.REARM):
                job.tries, job.cancel_requested, job.rearmed_by = 0, False, act
                expected.append(("queued", "rearmed"))
            else:
                expected.append((str(job.state), "refused"))
        assert [(done.state, done.what) for done in self.box.rearm(*ids, act=act)] == expected

    @rule(picks=st.lists(PICK, min_size=1, max_size=3))
    def read(self, picks: list[int]) -> None:
        self.read_these(self.some_ids(picks))

    def read_these(self, ids: list[str]) -> None:
        self.begin()
        for job_id in ids:
            if job_id in self.jobs and self.jobs[job_id].lost:
                assert self.jobs[job_id].move(Event.EXPIRE)
        found = self.box.ledger.jobs(ids)
        assert [job and (job.id, job.state, job.attempts) for job in found] == [
            (job_id, self.jobs[job_id].state, self.jobs[job_id].attempts) if job_id in self.jobs else None
            for job_id in ids
        ]

    @rule(what=st.sampled_from(["enqueue", "claim", "settle", "rearm"]), pick=PICK)
    def the_client_repeats(self, what: str, pick: int) -> None:
        """Redis did what it was told, but the answer was lost, or came after a timeout."""
        if what == "enqueue":
            self.enqueue_again()
        elif what == "claim":
            self.claim_again()
        elif what == "settle":
            self.settle_again()
        elif self.acts:
            self.rearmed(*self.acts[pick % len(self.acts)])

    @rule(what=st.sampled_from(["pulse", "tidy", "tidy", "hour", "hour"]), pick=PICK)
    def time_passes(self, what: str, pick: int) -> None:
        if what == "pulse":
            self.pulse()
        elif what == "tidy":
            self.tidy()
        else:
            self.an_hour_passes_for_one_that_waits(pick)

    def tidy(self) -> None:
        self.box.wait_for_time(self.box.now())  # so that the latest end lies in the past
        self.begin()
        unfinished = {job.batch for job in self.jobs.values() if job.batch and job.state not in ENDS}
        gone = [job.id for job in self.jobs.values() if job.state in ENDS and job.batch not in unfinished]
        assert self.box.tidy(retention=0) == len(gone)
        for job_id in gone:
            del self.jobs[job_id]
            self.told.pop(job_id)
        self.forgotten += gone

    def an_hour_passes_for_one_that_waits(self, pick: int) -> None:
        """By hand, since Redis' clock cannot be set."""
        waiting = [job for job in self.jobs.values() if job.state is State.RETRYING]
        if not waiting:
            return
        type(self).steps += 1
        job = waiting[pick % len(waiting)]
        job.due = self.box.now()
        job.delay = 0.0
        self.box.redis.zadd(self.box.keys.base + "due", {job.id: job.due})
        self.box.redis.hset(self.box.keys.job(job.id), "dueAt", job.due)

    def some_ids(self, picks: list[int], rather: Collection[State] = ()) -> list[str]:
        """Ids of jobs, in some states rather than in others, and now and then of none."""
        preferred = [job.id for job in self.jobs.values() if job.state in rather]
        pool = [*preferred * 5, *self.jobs, *self.forgotten[-2:], "nobody"]
        return list(dict.fromkeys(pool[pick % len(pool)] for pick in picks))

    # --- the model against Redis ---

    def begin(self) -> None:
        type(self).steps += 1
        self.began = self.box.now()

    def due_now(self) -> list[ModelJob]:
        """In the order in which they are claimed."""
        now = self.box.now()
        return sorted(
            (job for job in self.jobs.values() if job.state not in ENDS and job.due <= now),
            key=lambda job: (job.due, job.id),
        )

    @invariant()
    def check(self) -> None:
        box, ids = self.box, list(self.jobs)
        batches = sorted({job.batch for job in self.jobs.values() if job.batch})
        pipeline = box.redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(box.keys.base + "counts")
        pipeline.zrange(box.keys.base + "due", 0, -1, withscores=True)
        pipeline.zrange(box.keys.base + "ended", 0, -1, withscores=True)
        pipeline.xrange(box.keys.events, min=f"({self.last_event}")
        for job_id in ids:
            pipeline.hgetall(box.keys.job(job_id))
        for batch in batches:
            pipeline.hgetall(box.keys.batch(batch))
            pipeline.hgetall(box.keys.entries(batch))
        (seconds, micros), counts, due, ended, events, *rest = pipeline.execute()
        hashes: dict[str, dict[str, str]] = dict(zip(ids, rest[: len(ids)], strict=True))
        audit_sets(hashes, dict(due), dict(ended))
        audit_counts(hashes, counts)
        for batch, (kept, entries) in zip(
            batches, zip(rest[len(ids) :: 2], rest[len(ids) + 1 :: 2], strict=True), strict=True
        ):
            members = {job_id: fields for job_id, fields in hashes.items() if fields.get("batchId") == batch}
            audit_batch(members, kept, entries)
        for job in self.jobs.values():
            self.check_job(job, hashes[job.id], int(seconds) * 1000 + int(micros) // 1000)
        self.told = audit_events(
            events, self.told, {job_id: fields["state"] for job_id, fields in hashes.items()}
        )
        if events:
            self.last_event = events[-1][0]

    def check_job(self, job: ModelJob, fields: dict[str, str], now: int) -> None:
        shown = {name: fields.get(name, "") for name in ("state", "attempt", "attempts", "tries", "request")}
        assert shown == {
            "state": job.state,
            "attempt": str(job.attempt),
            "attempts": str(job.attempts),
            "tries": str(job.tries),
            "request": job.body,
        }
        assert ("cancelRequested" in fields) == job.cancel_requested
        assert len(job.instances) <= 1, (
            "more than one attempt of this job was taken to have created an instance"
        )
        assert {fields["instanceId"]} == job.instances if "instanceId" in fields else not job.instances
        assert (job.state is State.SUCCEEDED) == bool(job.instances)
        if job.state in {State.SUBMITTING, State.UNCERTAIN}:
            assert job.in_flight == str(job.attempt)
        if job.state not in ENDS:
            due, delay = int(fields["dueAt"]), round(job.delay * 1000)
            if due != job.due:
                assert self.began + delay <= due <= now + delay
                job.due = due


def test_the_ledger_is_what_its_model_says(redis: RedisServer) -> None:
    LedgerMachine.url = redis.url
    LedgerMachine.steps = LedgerMachine.handed_out = 0
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            derandomize=bool(os.environ.get("CI")),
            suppress_health_check=list(HealthCheck),
        ),
    )
    # A machine whose rules never fit together would prove nothing.
    assert LedgerMachine.steps > 2000
    assert LedgerMachine.handed_out > 100
