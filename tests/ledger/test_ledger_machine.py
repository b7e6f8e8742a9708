"""The ledger against a plain model of it, under any sequence of calls that hypothesis can think of.

The model has two halves. The world: which attempt really created which instance, which of them the list shows, what else
is there. And the ledger as its rules promise it: a dictionary of jobs and the table of states. Reports of attempts are
always true, but may be late, or never come; lists show what is there, or cannot be read. Redis' clock decides what is
due, so the model takes each job's due time from Redis once it has been found plausible, waits out the tiny leases it hands
out, and lets longer times pass by hand.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ledger.calls import Doubt, Report
from ledger_box import (
    DELAYS,
    OPEN_WIDTH,
    SETS,
    TINY,
    Box,
    audit_batch,
    audit_counts,
    audit_events,
    audit_lanes,
    audit_lines,
    audit_names,
    audit_sets,
    request,
    submission,
)
from sandbox.redis_server import RedisServer
from tasks.errors import RefusedError
from tasks.jobs import Submission, sent_name
from tasks.retry import Outcome
from tasks.states import ATTEMPT_EVENTS, ENDS, IN_DOUBT, MOVES, WATCHED, Event, State

HOUR = 3600.0
LONG_LEASE = 600.0
FULL_MS = 1000
"""How long a lane that is full, or whose probe brought no news, is left alone."""
WAITING = {State.SCHEDULED, State.QUEUED, State.RETRYING}
WORKERS_BUDGET = 3
"""Tries of jobs without a number of their own."""
MOST_LOOKUPS = len(DELAYS) + 3
"""Lookups of a list that cannot be read before a person is asked."""
PICK = st.integers(0, 10_000)
"""Which of those there are: taken modulo their number."""
PICKS = st.lists(PICK, min_size=1, max_size=3)
EVENTS = st.sampled_from([*sorted(ATTEMPT_EVENTS), Event.DOUBT])
WAITS = st.sampled_from([0.0, 0.0, HOUR])
SOLD_OUT = st.sampled_from([False, False, True])
"""Whether an attempt that is deferred was told that there is no capacity."""
MEANWHILE = st.sampled_from(["nothing", "nothing", "answer", "cancel", "claim", "again"])
"""What happens while the list is read."""
COUNTS = st.sampled_from([(False, False), (True, False), (True, True)])
"""Whether an outcome counts as an attempt, and as a try."""


@dataclass
class Attempt:
    """What one attempt really did. `settled`: it is certain, to the API, that no more comes of it."""

    job_id: str
    number: str
    name: str
    instance: str = ""
    settled: bool = False


@dataclass
class ModelJob:
    """What the ledger should hold of one job."""

    id: str
    name: str
    body: str
    batch: str
    entry: str
    key: str
    unique: bool
    max_attempts: int | None
    lane: str
    waits: bool
    limited: bool
    """It is tried for some time only."""
    state: State = State.QUEUED
    attempt: int = 0
    attempts: int = 0
    tries: int = 0
    delay: float = 0.0
    due: int = 0
    arrived: float = 0.0
    time_is_up: bool = False
    epoch: int = 0
    """Its lane's when it was claimed."""
    lease_is_over: bool = False
    cancel_requested: bool = False
    rearmed_by: str = ""
    resolved: str = ""
    instance: str = ""

    unsettled: int = 0
    """The last attempt, as long as nobody knows how it ended: neither itself, nor enough listings, nor a person."""
    first_in_doubt: int = 0
    """The first attempt that may have created an instance that nobody knows of."""
    since: int = 0
    """The step at which that attempt was claimed."""
    listed_before: bool = False
    """Whether there was a listing by then."""
    lookups: int = 0
    absences: int = 0

    @property
    def sent(self) -> str:
        return sent_name(self.name, self.id, unique=self.unique)

    def move(self, event: Event, *, delay: float = 0.0) -> bool:
        """Move along the table; False where it has no such move."""
        new = MOVES[self.state].get(event)
        if new is None:
            return False
        self.state, self.delay = new, delay
        return True

    def doubt(self, event: Event) -> None:
        assert self.move(event)
        self.attempts, self.tries = self.attempts + 1, self.tries + 1
        self.unsettled = self.attempt
        self.first_in_doubt = self.first_in_doubt or self.attempt
        self.lookups = self.absences = 0

    def has(self, instance: str) -> None:
        assert self.move(Event.CREATE)
        self.instance = instance
        self.unsettled = self.first_in_doubt = 0


@dataclass
class Lane:
    """What the ledger should hold of a lane whose jobs wait for capacity."""

    width: int | None = 2
    probe_at: int = 0
    epoch: int = 0

    def close(self, epoch: int) -> bool:
        """A call that was made at that epoch was told that it is sold out; False where that is no news."""
        if epoch != self.epoch:
            return False
        # The time of the probe is taken from Redis: see `check_lane`.
        self.width, self.probe_at, self.epoch = 1, -1, self.epoch + 1
        return True

    def widen(self, epoch: int) -> bool:
        """A call that was made at that epoch created an instance."""
        if epoch != self.epoch or self.width is None:
            return False
        self.width, self.probe_at = self.width + 1 if self.width < OPEN_WIDTH else None, 0
        return True


@dataclass
class World:
    """What is really there."""

    attempts: list[Attempt] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)
    """Id -> name, of all that the list shows."""

    def add(self, name: str) -> str:
        instance = f"i-{len(self.instances)}"
        self.instances[instance] = name
        return instance

    def create(self, attempt: Attempt) -> None:
        attempt.instance, attempt.settled = self.add(attempt.name), True

    def of(self, job_id: str) -> list[str]:
        """The instances that this job's attempts created."""
        return [one.instance for one in self.attempts if one.job_id == job_id and one.instance]


class LedgerMachine(RuleBasedStateMachine):
    """Drives one ledger and one model of it.

    No rule has a precondition: which of several lanes a claim serves first depends on Redis' clock, and hypothesis wants
    to draw the same rules again from the same choices.
    """

    url = ""
    steps = 0
    seen: Counter[str]
    """What came up, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Box(self.url, f"m-{uuid.uuid4().hex}")
        self.world = World()
        self.jobs: dict[str, ModelJob] = {}
        self.lanes = {"l0": Lane(), "l1": Lane()}
        self.forgotten: list[str] = []
        self.had: dict[str, str] = {}
        """Instance -> the one job that has, or had, it."""
        self.first_shown: dict[str, int] = {}
        """Instance -> the step of the first listing that showed it."""
        self.listed = self.listing_failed = self.somebody_lists = False
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
            self.box.audit()

    @initialize(listed=st.booleans())
    def start(self, listed: bool) -> None:
        """So that a run that begins with a claim has something to claim."""
        self.listed = listed
        if listed:
            self.box.has_listed()
        self.enqueue_some([(0, False), (1, True), (2, False)], "nightly", limited=True)

    # --- what producers do ---

    @rule(
        many=st.lists(
            st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=3, unique_by=lambda one: one[0]
        ),
        batch=st.sampled_from(["", "", "nightly", "weekly"]),
        keyed=st.booleans(),
        retitled=st.sampled_from([False, False, False, True]),
        unique=st.sampled_from([False, False, True]),
        budget=st.sampled_from([None, None, 1, 2]),
        later=st.sampled_from([False, False, True]),
        limited=st.booleans(),
    )
    def enqueue(
        self,
        many: list[tuple[int, bool]],
        batch: str,
        keyed: bool,
        retitled: bool,
        unique: bool,
        budget: int | None,
        later: bool,
        limited: bool,
    ) -> None:
        self.enqueue_some(
            many,
            batch,
            keyed=keyed,
            retitled=retitled,
            unique=unique,
            budget=budget,
            later=later,
            limited=limited,
        )

    def enqueue_some(
        self,
        many: list[tuple[int, bool]],
        batch: str = "",
        *,
        keyed: bool = False,
        retitled: bool = False,
        unique: bool = False,
        budget: int | None = None,
        later: bool = False,
        limited: bool = False,
    ) -> None:
        """Of each pair, the first says which job it is, the second whether it waits for capacity."""
        self.begin()
        submissions = []
        for number, waits in many:
            name = f"n{number % 2}"  # few of them, so that many jobs share one
            mark = {"entry": f"e{number}"} if batch else {"key": f"k{number}"} if keyed else {}
            body = request(name, region="changed" if retitled else "same")
            self.number += 1
            submissions.append(
                submission(
                    name,
                    id=f"j{self.number:04}",
                    body=body,
                    lane=f"l{number % 2}" if waits else f"l{number % 2}/once",
                    wait_for_capacity=waits,
                    until=HOUR if limited else None,
                    not_before=timedelta(seconds=HOUR) if later else None,
                    unique_names=unique,
                    max_attempts=budget,
                    **mark,
                )
            )
        known = [self.standing_for(one, batch) for one in submissions]
        if any(job is not None and job.body != one.body for one, job in zip(submissions, known, strict=True)):
            with pytest.raises(RefusedError):
                self.box.ledger.enqueue(submissions, batch=batch)
            return
        receipts = self.box.ledger.enqueue(submissions, batch=batch).receipts
        expected = []
        for one, old in zip(submissions, known, strict=True):
            job = old or ModelJob(
                one.id,
                one.name,
                one.body,
                batch,
                one.entry,
                one.key,
                unique,
                budget,
                one.lane,
                bool(one.policy.wait_for_capacity),
                limited,
                State.SCHEDULED if later else State.QUEUED,
                delay=HOUR if later else 0.0,
            )
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
        self.claimed(limit, lost=lost)

    def claimed(self, limit: int, *, lost: bool) -> list[Attempt]:
        self.begin()
        claim_id = uuid.uuid4().hex
        watched = [job.due for job in self.jobs.values() if job.state in WATCHED]
        queues = self.queues()
        opens = self.lanes_open_at(queues)
        claim = self.box.claim(limit, lease=TINY if lost else LONG_LEASE, claim_id=claim_id)
        now = self.box.now()
        late = [job for job in self.jobs.values() if job.state in WAITING and job.time_is_up]
        given_up = {job.id for job in late if self.box.state(job.id) == State.FAILED}
        taken = [job.id for job in claim.jobs]
        assert len(taken) <= limit
        assert {*taken, *given_up} <= {job.id for queue in queues.values() for job in queue}
        left = []
        for lane, queue in queues.items():
            of_lane = [one for one in taken if self.jobs[one].lane == lane]
            reached = len([job for job in queue if job.id in {*of_lane, *given_up}])
            assert of_lane == [job.id for job in queue[:reached] if job.id not in given_up]
            room = self.room(lane, limit)
            assert len(of_lane) <= room
            if reached:
                assert opens[lane] <= now, "it was served before its time"
            if queue[reached:] and len(of_lane) < room and opens[lane] <= self.began:
                left.append(queue[reached])
            if of_lane and lane in self.lanes and self.lanes[lane].probe_at:
                self.came_up("probe")
        baseline = self.listed or self.listing_failed
        assert baseline or all(self.jobs[one].unique for one in taken)
        assert claim.why in {"", "listing"}
        if claim.why:
            assert not baseline
            assert any(not job.unique for job in left)
        else:
            assert not left or len(taken) == limit, "it could have taken more"
        wanted = {bool(claim.why) or any(due <= moment for due in watched) for moment in (self.began, now)}
        assert claim.lookup in {one and not self.somebody_lists for one in wanted}
        for job in self.jobs.values():
            if job.state is State.SCHEDULED and job.due <= self.began:
                assert job.move(Event.FALL_DUE)
                self.came_up("due")
        for job_id in given_up:
            self.give_up(self.jobs[job_id])
        for job_id in taken:
            job = self.jobs[job_id]
            assert not job.time_is_up, "handed out although its time was up"
            assert not job.unsettled, "handed out while an attempt of it may have bought an instance"
            assert job.move(Event.CLAIM, delay=TINY if lost else LONG_LEASE)
            job.attempt += 1
            job.lease_is_over = lost
            if job.waits:
                job.epoch = self.lanes[job.lane].epoch
            if not job.first_in_doubt:
                job.since, job.listed_before = self.step(), self.listed
        assert [(job.attempt, job.tries) for job in claim.jobs] == [
            (str(self.jobs[one].attempt), self.jobs[one].tries) for one in taken
        ]
        attempts = []
        for taken in claim.jobs:
            job = self.jobs[taken.id]
            assert taken.request == job.body
            assert f'"name":"{job.sent}"' in taken.body.decode()
            attempts.append(Attempt(job.id, taken.attempt, job.sent))
        self.world.attempts += attempts
        self.check()
        if lost:
            self.box.wait_for_time(max((self.jobs[one.job_id].due for one in attempts), default=0))
        elif attempts:
            self.claims.append((claim_id, [(one.job_id, one.number) for one in attempts]))
        return attempts

    def queues(self) -> dict[str, list[ModelJob]]:
        """The jobs of each lane that are due, in the order in which they are claimed."""
        found: dict[str, list[ModelJob]] = {}
        for job in sorted(self.jobs.values(), key=lambda job: (job.arrived, job.id)):
            if job.state in WAITING and job.due <= self.began:
                found.setdefault(job.lane, []).append(job)
        return found

    def lanes_open_at(self, lanes: Iterable[str]) -> dict[str, float]:
        """When each of these lanes may be served."""
        known = dict(self.box.redis.zrange(self.box.keys.lanes, 0, -1, withscores=True))
        return {
            lane: known.get(lane, self.lanes[lane].probe_at if lane in self.lanes else 0) for lane in lanes
        }

    def room(self, lane: str, limit: int) -> int:
        """How many jobs of this lane a claim may take."""
        if lane not in self.lanes or (width := self.lanes[lane].width) is None:
            return limit
        return max(0, width - self.flying_in(lane))

    def flying_in(self, lane: str) -> int:
        return sum(job.lane == lane and job.state is State.SUBMITTING for job in self.jobs.values())

    def give_up(self, job: ModelJob) -> None:
        """Its time is up."""
        assert job.time_is_up
        assert job.move(Event.GIVE_UP)
        self.came_up("given up")

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
        picks=PICKS,
        which=st.sampled_from(["last", "last", "any", "silent"]),
        event=EVENTS,
        wait=WAITS,
        sold_out=SOLD_OUT,
    )
    def settle(self, picks: list[int], which: str, event: Event, wait: float, sold_out: bool) -> None:
        """Attempts report: such as are in flight, such as were lost long ago, such as have reported before."""
        pool = self.world.attempts
        if which == "last":
            pool = [one for one in pool if self.is_last(one)] or pool
        elif which == "silent":
            pool = [one for one in pool if not one.settled] or pool
        if pool:
            some = [pool[pick % len(pool)] for pick in picks]
            self.report(some, event, wait, (True, True), sold_out=sold_out)

    def is_last(self, attempt: Attempt) -> bool:
        job = self.jobs.get(attempt.job_id)
        return job is not None and str(job.attempt) == attempt.number

    @rule(
        limit=st.integers(1, 3),
        lost=st.booleans(),
        meanwhile=st.sampled_from(["nothing", "read", "cancel", "pulse", "created"]),
        event=EVENTS,
        wait=WAITS,
        counts=COUNTS,
        sold_out=SOLD_OUT,
    )
    def work(
        self,
        limit: int,
        lost: bool,
        meanwhile: str,
        event: Event,
        wait: float,
        counts: tuple[bool, bool],
        sold_out: bool,
    ) -> None:
        """A worker from its claim to its report, perhaps too slow for its lease, and not alone in the world."""
        attempts = self.claimed(limit, lost=lost)
        if not attempts:
            return
        if meanwhile == "read":
            self.read_these([one.job_id for one in attempts])
        elif meanwhile == "cancel":
            self.cancel_these([one.job_id for one in attempts])
        elif meanwhile == "pulse":
            self.pulse()
        elif meanwhile == "created":
            for one in attempts:
                self.world.create(one)
        self.check()
        self.report(attempts, event, wait, counts, sold_out=sold_out)

    @rule(
        created=st.lists(st.booleans(), min_size=1, max_size=12),
        number=st.integers(0, 1),
        wait=st.sampled_from([TINY, HOUR]),
    )
    def a_lane_is_probed(self, created: list[bool], number: int, wait: float) -> None:
        """One call after the other in a lane whose jobs wait for capacity: there is some, or there is none."""
        lane = f"l{number}"
        if len(self.jobs) < 40 and not self.queues().get(lane):
            before = set(self.jobs)
            self.enqueue_some([(number + more, True) for more in (0, 2, 4)], unique=True, later=True)
            self.check()
            self.time_comes([job for job_id, job in self.jobs.items() if job_id not in before])
            for job_id in set(self.jobs) - before:
                self.jobs[job_id].delay = 0.0
        for did in created:
            self.lane_comes(lane)
            attempts = self.claimed(8, lost=False)
            self.check()
            event = Event.CREATE if did else Event.DEFER
            self.report(attempts, event, wait, (True, False), sold_out=not did)
            self.check()

    @rule(
        limit=st.integers(1, 4),
        lost=st.booleans(),
        unique=st.sampled_from([False, False, True]),
        created=st.lists(st.booleans(), min_size=4, max_size=4),
        foreign=st.sampled_from([0, 0, 1]),
        lists=st.sampled_from([".", "...", "...", "x..", "xx.x.", "x" * MOST_LOOKUPS]),
        lease_is_over=st.sampled_from([True, True, False]),
        meanwhile=MEANWHILE,
        then=st.sampled_from(["nothing", "resolve", "late", "rearm, late", "rearm"]),
    )
    def a_fault(
        self,
        limit: int,
        lost: bool,
        unique: bool,
        created: list[bool],
        foreign: int,
        lists: str,
        lease_is_over: bool,
        meanwhile: str,
        then: str,
    ) -> None:
        """Several calls get no answer at once; some of them did create an instance; and all are looked up."""
        self.begin()
        if not self.queues():
            self.enqueue_some([(number * 2, False) for number in range(limit)], unique=unique, limited=True)
            self.check()
        attempts = self.claimed(limit, lost=lost)
        ids = [one.job_id for one in attempts]
        for one, did in zip(attempts, created, strict=False):
            if did:
                self.world.create(one)
        for _ in range(foreign):
            self.world.add("n0")
        if not lost:
            self.report(attempts, Event.DOUBT, 0.0, (True, True))
        for one in lists:
            verifying = [job for job in self.jobs.values() if job.state is State.VERIFYING]
            self.time_comes(verifying, lease_is_over)
            self.list_and_verify("HTTP 500" if one == "x" else "", meanwhile)
            self.check()
            meanwhile = "nothing"
        if "resolve" in then:
            self.resolve_these(ids, created[0], limit)
        if "rearm" in then:
            self.rearm_these(ids)
        self.check()
        if "late" in then:
            self.report(attempts, Event.CREATE, 0.0, (True, True))

    def report(
        self,
        attempts: Iterable[Attempt],
        event: Event,
        wait: float,
        counts: tuple[bool, bool],
        *,
        sold_out: bool = False,
    ) -> None:
        """What these attempts say; whatever is wanted of them, it is the truth, or a doubt."""
        self.begin()
        reports, expected = [], []
        for one in attempts:
            said = event
            if said is Event.CREATE and not one.settled:
                self.world.create(one)
            if said is not Event.DOUBT:
                one.settled = True
                said = Event.CREATE if one.instance else Event.DEFER if said is Event.CREATE else said
            instance = one.instance if said is Event.CREATE else ""
            category = "capacity" if sold_out else "transient"
            outcome = Outcome(said, category, "text", instance, wait, counts=counts[0], spends=counts[1])
            reports.append(Report(one.job_id, one.number, outcome))
            expected.append(self.settled(one.job_id, one.number, outcome))
        states = self.box.settle(*reports)
        for state, possible in zip(states, expected, strict=True):
            assert state in possible
        self.came_up(*states)
        self.last_settle = reports

    def settled(self, job_id: str, attempt: str, outcome: Outcome) -> set[str]:
        job, event, instance = self.jobs.get(job_id), outcome.event, outcome.instance_id
        holder = self.had.get(instance)
        if instance and holder in self.jobs and holder != job_id:
            event, instance = Event.DOUBT, ""  # what another job has adopted is not this one's
            self.came_up("another's")
        if job is not None and str(job.attempt) == attempt and event in MOVES[job.state]:
            if job.state is State.SUBMITTING and event is Event.DOUBT:
                job.doubt(event)
                return {"verifying"}
            if job.state is State.SUBMITTING:
                job.attempts += outcome.counts
                job.tries += outcome.spends
            elif event is Event.CREATE:
                self.came_up(f"late in {job.state}")
            if event is Event.CREATE:
                self.belongs(instance, job)
                job.has(instance)
                if job.waits and self.lanes[job.lane].widen(job.epoch):
                    self.came_up("widened")
            else:
                in_doubt = job.state in IN_DOUBT
                sold_out = event is Event.DEFER and outcome.category == "capacity" and job.waits
                assert job.move(event, delay=0.0 if sold_out else outcome.delay)
                if sold_out:
                    self.came_up("closed" if self.lanes[job.lane].close(job.epoch) else "no news")
                job.unsettled = 0
                if in_doubt and str(job.first_in_doubt) == attempt:
                    job.first_in_doubt = 0
                if job.state is State.RETRYING and job.cancel_requested:
                    assert job.move(Event.CANCEL)
                elif job.state is State.RETRYING and job.time_is_up:
                    self.give_up(job)
            return {str(job.state)}
        if not instance:
            return {"stale"}
        if job is None:
            return {"stale", "surplus"}  # nobody knows any more
        if holder == job_id:
            return {"stale"}
        self.belongs(instance, job)
        return {"surplus"}

    def belongs(self, instance: str, job: ModelJob) -> None:
        """No instance is two jobs', as long as there are both."""
        holder = self.had.get(instance)
        assert holder in (None, job.id) or holder in self.forgotten
        self.had[instance] = job.id

    def settle_again(self) -> None:
        if self.last_settle is None:
            return
        for _ in range(2):
            self.begin()
            expected = [
                self.settled(one.id, one.attempt, one.outcome)
                if one.id in self.jobs
                else {"stale", "surplus"}
                for one in self.last_settle
            ]
            states = self.box.settle(*self.last_settle)
            assert all(state in possible for state, possible in zip(states, expected, strict=True))
            self.check()

    def pulse(self) -> None:
        self.begin()
        self.leases_end()
        for job in self.jobs.values():
            if job.time_is_up and job.state in WAITING:
                self.give_up(job)
        self.box.tick()

    def leases_end(self) -> None:
        for job in self.jobs.values():
            if job.state is State.SUBMITTING and job.lease_is_over:
                job.doubt(Event.EXPIRE)

    # --- what the world does ---

    @rule(pick=PICK, whose=st.sampled_from(["attempt", "attempt", "foreign", "foreign tagged"]))
    def an_instance_appears(self, pick: int, whose: str) -> None:
        if whose == "attempt":
            silent = [one for one in self.world.attempts if not one.settled]
            if silent:
                self.world.create(silent[pick % len(silent)])
        elif whose == "foreign":
            self.world.add(f"n{pick % 2}")
        elif self.jobs:
            self.world.add(list(self.jobs.values())[pick % len(self.jobs)].sent)

    @rule(
        picks=st.lists(PICK, max_size=4),
        lease_is_over=st.booleans(),
        flaw=st.sampled_from(["", "", "", "HTTP 500"]),
        times=st.integers(1, 4),
        meanwhile=MEANWHILE,
    )
    def look_up(self, picks: list[int], lease_is_over: bool, flaw: str, times: int, meanwhile: str) -> None:
        """The lookups of some jobs fall due, and are made, a few times."""
        for _ in range(times):
            verifying = [job for job in self.jobs.values() if job.state is State.VERIFYING]
            if verifying:
                self.time_comes([verifying[pick % len(verifying)] for pick in picks], lease_is_over)
            self.list_and_verify(flaw, meanwhile)
            self.check()
            meanwhile = "nothing"

    def time_comes(self, jobs: list[ModelJob], lease_is_over: bool = True) -> None:
        self.box.time_comes(*{job.id for job in jobs}, lease_is_over=lease_is_over)
        for job in jobs:
            job.lease_is_over |= lease_is_over
            job.due = int(self.box.fields(job.id)["dueAt"])

    def list_and_verify(self, flaw: str, meanwhile: str) -> None:
        asker = uuid.uuid4().hex
        self.begin()
        certainly = self.looked_up_by(self.began)
        self.leases_end()
        turn = self.box.turn(asker)
        possibly = self.looked_up_by(self.box.now())
        assert turn.mine
        assert certainly <= {doubt.id for doubt in turn.doubts} <= possibly
        self.check()
        self.somebody_lists = True
        shown = dict(self.world.instances)
        if flaw:
            shown = dict(list(shown.items())[::2])
        self.box.listed(asker, shown)
        step = self.step()
        for instance in shown:
            self.first_shown.setdefault(instance, step)
        self.box.wait_for_time(self.box.now())
        self.something_else(meanwhile, turn.doubts)
        self.begin()
        states = self.box.verify(asker, turn.doubts, shown, flaw=flaw, max_attempts=WORKERS_BUDGET)
        for doubt, state in zip(turn.doubts, states, strict=True):
            assert state == self.verified(doubt, shown, flaw)
            self.came_up(f"verified: {state}")
        self.check()
        if meanwhile == "again":
            self.box.verify(asker, turn.doubts, shown, flaw=flaw, max_attempts=WORKERS_BUDGET)
            self.check()
        assert self.box.listed(asker, end="failed" if flaw else "whole")
        self.box.redis.delete(self.box.keys.base + "lookup")
        self.box.wait_for_time(self.box.now())
        self.somebody_lists = False
        self.listed, self.listing_failed = self.listed or not flaw, bool(flaw)

    def looked_up_by(self, now: int) -> set[str]:
        return {job.id for job in self.jobs.values() if job.state is State.VERIFYING and job.due <= now}

    def something_else(self, meanwhile: str, doubts: Sequence[Doubt]) -> None:
        """The world does not stand still while a list is read."""
        ids = [doubt.id for doubt in doubts[:2]]
        if meanwhile == "answer":
            late = [one for one in self.world.attempts if one.job_id in ids and self.is_last(one)]
            self.report(late, Event.CREATE, HOUR, (True, True))
        elif meanwhile == "cancel":
            self.cancel_these(ids)
        elif meanwhile == "claim":
            self.claimed(2, lost=False)
        self.check()

    def verified(self, doubt: Doubt, shown: dict[str, str], flaw: str) -> str:
        """What follows for one job, by the rules; which of several possible instances it adopts is not said."""
        job = self.jobs[doubt.id]
        if job.state is not State.VERIFYING or str(job.attempt) != doubt.attempt:
            return "stale"
        assert doubt.name == job.sent
        mine = {one for one, name in shown.items() if name == job.sent and self.may_be_its(job, one)}
        if flaw:
            job.lookups += 1
            if job.lookups >= MOST_LOOKUPS:
                assert job.move(Event.PARK)
        elif not mine:
            job.lookups, job.absences = job.lookups + 1, job.absences + 1
            if job.lookups >= len(DELAYS) and job.absences >= 2 and job.lease_is_over:
                self.given_up(job, shown)
        elif self.of_one_name(job, {State.SUBMITTING}):
            self.came_up("waits for a call of its name")
        elif not (job.unique or job.listed_before) or len(mine) > max(1, self.of_one_name(job, IN_DOUBT)):
            assert job.move(Event.PARK)
        else:
            instance = self.box.fields(job.id)["instanceId"]
            assert instance in mine
            self.belongs(instance, job)
            job.has(instance)
        return str(job.state)

    def may_be_its(self, job: ModelJob, instance: str) -> bool:
        holder = self.had.get(instance)
        if holder is not None:
            return holder == job.id
        return job.unique or self.first_shown[instance] > job.since

    def of_one_name(self, job: ModelJob, states: Collection[State]) -> int:
        """How many jobs in these states send the same exact name; a tagged one nobody else sends."""
        return (
            0
            if job.unique
            else sum(
                one.name == job.name and not one.unique and one.state in states for one in self.jobs.values()
            )
        )

    def given_up(self, job: ModelJob, shown: dict[str, str]) -> None:
        """Its last attempt is taken to have created nothing."""
        looked_for = [
            one.instance
            for one in self.world.attempts
            if one.job_id == job.id and one.instance and int(one.number) >= job.first_in_doubt > 0
        ]
        for instance in looked_for:
            assert instance not in shown or self.had.get(instance) not in (None, job.id), (
                "given up although the list shows what it created"
            )
        job.unsettled = 0
        budget = job.max_attempts or WORKERS_BUDGET
        if job.tries >= budget and not job.cancel_requested:
            assert job.move(Event.FAIL)
            return
        assert job.move(Event.DEFER, delay=HOUR)
        if job.cancel_requested:
            assert job.move(Event.CANCEL)
        elif job.time_is_up:
            self.give_up(job)

    # --- what people do, and time ---

    @rule(picks=PICKS, created=st.booleans(), instance=PICK)
    def resolve(self, picks: list[int], created: bool, instance: int) -> None:
        self.resolve_these(self.some_ids(picks, {State.UNCERTAIN}), created, instance)

    def resolve_these(self, ids: list[str], created: bool, instance: int) -> None:
        """A person looks in the console, and tells; not always what is true."""
        for job_id in ids:
            job = self.jobs.get(job_id)
            there = self.world.of(job_id) + [
                one for one, name in self.world.instances.items() if job is not None and name == job.sent
            ]
            there = [one for one in there if self.had.get(one) not in self.forgotten] or ["i-unheard-of"]
            said = there[instance % len(there)] if created else ""
            for _ in range(2):
                self.begin()
                expected = self.resolved(job, said)
                assert self.box.resolve(job_id, said) == expected
                self.check()
                self.came_up(f"resolve: {expected[0]} {bool(said)}")
                if expected[0] != "resolved":
                    break  # the same again would be no repetition

    def resolved(self, job: ModelJob | None, instance: str) -> tuple[str, str]:
        if job is None:
            return "absent", ""
        what = instance or "not created"
        if job.resolved == what and job.state is (State.SUCCEEDED if instance else State.FAILED):
            return "resolved", job.state
        if job.state is not State.UNCERTAIN:
            return "refused", job.state
        holder = self.had.get(instance)
        if instance and holder not in (None, job.id):
            return "owned", str(holder)
        job.resolved = what
        if instance:
            self.belongs(instance, job)
            job.has(instance)
        else:
            assert job.move(Event.FAIL)
            job.unsettled = job.first_in_doubt = 0
        return "resolved", job.state

    @rule(picks=PICKS)
    def cancel(self, picks: list[int]) -> None:
        self.cancel_these(self.some_ids(picks, {State.VERIFYING}))

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
                job.cancel_requested |= job.state in {*WATCHED, State.UNCERTAIN}
                expected.append((str(job.state), "requested" if job.state in WATCHED else "ended"))
        assert [(done.state, done.what) for done in self.box.cancel(*ids)] == expected

    @rule(picks=PICKS)
    def rearm(self, picks: list[int]) -> None:
        self.rearm_these(self.some_ids(picks, {State.FAILED, State.CANCELLED}))

    def rearm_these(self, ids: list[str]) -> None:
        act = uuid.uuid4().hex
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
                job.tries, job.cancel_requested, job.rearmed_by, job.time_is_up = 0, False, act, False
                job.arrived = 0.0  # it stands in line behind those that wait already
                expected.append(("queued", "rearmed"))
            else:
                expected.append((str(job.state), "refused"))
        assert [(done.state, done.what) for done in self.box.rearm(*ids, act=act)] == expected

    def read_these(self, ids: list[str]) -> None:
        self.begin()
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

    @rule(what=st.sampled_from(["pulse", "tidy", "hour", "hour", "hour", "lane", "lane"]), pick=PICK)
    def time_passes(self, what: str, pick: int) -> None:
        if what == "pulse":
            self.pulse()
        elif what == "tidy":
            self.tidy()
        elif what == "lane":
            self.lane_comes(f"l{pick % 2}")
        else:
            self.an_hour_passes_for_one_that_waits(pick)

    def lane_comes(self, name: str) -> None:
        """What this lane waits for, another probe or room, may be tried again."""
        self.step()
        self.box.lane_comes(name)
        lane = self.lanes[name]
        if lane.probe_at:
            lane.probe_at = int(self.box.lane(name)["probeAt"])

    @rule(pick=PICK)
    def a_deadline_comes(self, pick: int) -> None:
        """For a job that waits, if there is one; and perhaps a worker notices it by its pulse."""
        limited = [job for job in self.jobs.values() if job.limited and job.state not in ENDS]
        limited = [job for job in limited if job.state in WAITING] * (pick % 4 > 0) or limited
        if limited:
            self.step()
            job = limited[pick % len(limited)]
            self.box.deadline_comes(job.id)
            job.time_is_up = True
            if pick % 2:
                self.pulse()

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
        waiting = [job for job in self.jobs.values() if job.state in {State.RETRYING, State.SCHEDULED}]
        if waiting:
            self.step()
            job = waiting[pick % len(waiting)]
            self.time_comes([job])
            job.delay = 0.0

    def some_ids(self, picks: list[int], rather: Collection[State] = ()) -> list[str]:
        """Ids of jobs, in some states rather than in others, and now and then of none."""
        preferred = [job.id for job in self.jobs.values() if job.state in rather]
        pool = [*preferred * 5, *self.jobs, *self.forgotten[-2:], "nobody"]
        return list(dict.fromkeys(pool[pick % len(pool)] for pick in picks))

    # --- the model against Redis ---

    def begin(self) -> None:
        self.step()
        self.began = self.box.now()

    def came_up(self, *what: str) -> None:
        self.seen.update(what)

    def step(self) -> int:
        """Something happens, after all that happened before."""
        type(self).steps += 1
        return self.steps

    @invariant()
    def check(self) -> None:
        box, ids = self.box, list(self.jobs)
        batches = sorted({job.batch for job in self.jobs.values() if job.batch})
        pipeline = box.redis.pipeline(transaction=False)
        pipeline.time()
        for name in ("counts", "flying", "doubted", "owners"):
            pipeline.hgetall(box.keys.base + name)
        for name in (*SETS, "due", "lanes"):
            pipeline.zrange(box.keys.base + name, 0, -1, withscores=True)
        for lane in self.lanes:
            pipeline.hgetall(box.keys.base + "lane:" + lane)
        queues = [queue for lane in self.lanes for queue in (lane, f"{lane}/once")]
        for lane in queues:
            pipeline.zrange(box.keys.ready(lane), 0, -1, withscores=True)
        pipeline.xrange(box.keys.events, min=f"({self.last_event}")
        for job_id in ids:
            pipeline.hgetall(box.keys.job(job_id))
        for batch in batches:
            pipeline.hgetall(box.keys.batch(batch))
            pipeline.hgetall(box.keys.entries(batch))
        (seconds, micros), counts, flying, doubted, owners, *rest = pipeline.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        sets, (due, lanes), rest = rest[: len(SETS)], rest[len(SETS) : len(SETS) + 2], rest[len(SETS) + 2 :]
        choices: dict[str, dict[str, float]] = {}
        kept_lanes, rest = dict(zip(self.lanes, rest, strict=False)), rest[len(self.lanes) :]
        ready, (events, *rest) = dict(zip(queues, map(dict, rest), strict=False)), rest[len(queues) :]
        hashes = {job_id: box.with_template(own) for job_id, own in zip(ids, rest[: len(ids)], strict=True)}
        audit_sets(hashes, dict(zip(SETS, map(dict, sets), strict=True)))
        audit_lines(hashes, dict(due), ready, {lane for lane, _ in lanes}, choices)
        audit_lanes(hashes, {name: kept for name, kept in kept_lanes.items() if kept})
        audit_counts(hashes, counts)
        audit_names(hashes, flying, doubted)
        for batch, (kept, entries) in zip(
            batches, zip(rest[len(ids) :: 2], rest[len(ids) + 1 :: 2], strict=True), strict=True
        ):
            members = {job_id: fields for job_id, fields in hashes.items() if fields.get("batchId") == batch}
            audit_batch(members, kept, entries)
        for job in self.jobs.values():
            self.check_job(job, hashes[job.id], now)
        for name, lane in self.lanes.items():
            self.check_lane(lane, kept_lanes[name], now)
        for name, opens in lanes:
            self.check_turn(name, opens, now)
        living = {one: job_id for one, job_id in self.had.items() if job_id in self.jobs}
        assert {one: job_id for one, job_id in owners.items() if job_id in self.jobs} == living
        self.told = audit_events(
            events, self.told, {job_id: fields["state"] for job_id, fields in hashes.items()}
        )
        if events:
            self.last_event = events[-1][0]

    def check_job(self, job: ModelJob, fields: dict[str, str], now: int) -> None:
        names = ("state", "attempt", "attempts", "tries", "request", "instanceId")
        assert {name: fields.get(name, "") for name in names} == {
            "state": job.state,
            "attempt": str(job.attempt),
            "attempts": str(job.attempts),
            "tries": str(job.tries),
            "request": job.body,
            "instanceId": job.instance,
        }
        if not job.arrived:
            job.arrived = float(fields["arrived"])
            assert self.began <= job.arrived - round(job.delay * 1000) < now + 1
        assert float(fields["arrived"]) == job.arrived
        assert ("cancelRequested" in fields) == job.cancel_requested
        assert (job.state is State.SUCCEEDED) == bool(job.instance)
        assert not job.instance or self.had[job.instance] == job.id
        assert (job.state in IN_DOUBT) == bool(job.unsettled)
        if job.state is State.VERIFYING:
            assert (fields["lookups"], fields["absences"]) == (str(job.lookups), str(job.absences))
            job.due = int(fields["dueAt"])  # the tests of lookups know when they are due
        elif job.state not in ENDS:
            due, delay = int(fields["dueAt"]), round(job.delay * 1000)
            if due != job.due:
                assert self.began + delay <= due <= now + delay
                job.due = due

    def check_lane(self, lane: Lane, kept: dict[str, str], now: int) -> None:
        width = None if "open" in kept else int(kept.get("width", 2))
        assert (width, int(kept.get("epoch", 0))) == (lane.width, lane.epoch)
        assert bool(lane.probe_at) == ("probeAt" in kept)
        if lane.probe_at == -1:
            lane.probe_at = int(kept["probeAt"])
            assert self.began <= lane.probe_at <= now + HOUR * 1000
        assert not lane.probe_at or lane.probe_at == int(kept["probeAt"])

    def check_turn(self, name: str, opens: float, now: int) -> None:
        """No lane with jobs that could be taken is held up, and a sold-out one is not asked before its time."""
        if name not in self.lanes:
            assert opens <= now
            return
        lane = self.lanes[name]
        if lane.probe_at:
            assert opens >= lane.probe_at
            assert self.flying_in(name) or opens <= max(lane.probe_at, now + FULL_MS)
        else:
            assert opens <= (now if self.room(name, 1) else now + FULL_MS)


COMES_UP = {
    "late in verifying", *(f"verified: {state}" for state in ("verifying", "succeeded", "retrying", "uncertain")),
    "probe", "closed", "widened", "no news", "given up", "due",
}  # fmt: skip
"""What must have come up in thousands of steps: a machine whose rules never fit together would prove nothing."""


def test_the_ledger_is_what_its_model_says(redis: RedisServer) -> None:
    LedgerMachine.url = redis.url
    LedgerMachine.steps = 0
    LedgerMachine.seen = Counter()
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=bool(os.environ.get("CI")),
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert LedgerMachine.steps > 2000
    assert set(LedgerMachine.seen) >= COMES_UP
