"""Lanes, the budget of calls, deadlines and start times: when a job is tried, and when it is not."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from harness import wait_until
from ledger import calls
from ledger.calls import Claimed
from ledger_box import LANE, OPEN_WIDTH, TINY, UNTOUCHED, Box, report, sold_out, submission
from tasks.states import ENDS, Event, State

HOUR = 3600.0
NO_NEWS = {
    "transient": {"event": Event.DEFER, "category": "transient", "delay": HOUR},
    "auth": {"event": Event.DEFER, "category": "auth", "delay": HOUR, "counts": False},
    "rejected": {"event": Event.FAIL, "category": "rejected"},
    "unknown": {"event": Event.DOUBT, "category": "unknown"},
}
"""Ends of a probe that say nothing of capacity."""


def waiting(box: Box, number: int, lane: str = LANE) -> list[str]:
    """Enter so many jobs that wait for capacity; in their order."""
    many = [submission(f"n{one:04}", lane=lane, wait_for_capacity=True) for one in range(number)]
    return [receipt.id for receipt in box.ledger.enqueue(many).receipts]


def close(box: Box, number: int = 5, *, wait: float = 30) -> list[str]:
    """Enter so many jobs of a lane that its first call finds sold out."""
    ids = waiting(box, number)
    box.settle(sold_out(box.take(), wait=wait))
    return ids


def probe(box: Box) -> Claimed:
    """The time of the next probe has come, and it is made."""
    box.lane_comes()
    [job] = box.claim().jobs
    return job


def taken(box: Box, limit: int = 100) -> list[str]:
    return [job.id for job in box.claim(limit).jobs]


class TestSoldOut:
    def test_nothing_is_asked_until_the_next_probe(self, box: Box) -> None:
        close(box, 100, wait=30)
        claim = box.claim()
        assert claim.jobs == ()
        assert claim.wait is not None
        assert 29 < claim.wait <= 30

    def test_then_one_job_is_however_many_wait(self, box: Box) -> None:
        close(box, 100)
        probe(box)
        assert [len(box.claim().jobs) for _ in range(5)] == [0] * 5
        box.lane_comes()
        assert box.claim().jobs == (), "the time of the next has come, but the first has not answered"

    def test_while_it_is_under_way_nobody_looks_again(self, box: Box) -> None:
        close(box)
        box.lane_comes()
        box.claim(lease=600)
        assert 599_000 < box.lane_served_in() <= 600_000

    def test_the_first_in_line_is_the_probe(self, box: Box) -> None:
        ids = close(box)
        for _ in range(3):
            job = probe(box)
            assert job.id == ids[0]
            box.settle(sold_out(job))

    def test_each_probe_that_finds_none_puts_the_next_off(self, box: Box) -> None:
        close(box)
        for wait in (30, 60):
            box.settle(sold_out(probe(box), wait=wait, message=f"none, {wait}"))
            assert (box.lane()["width"], box.lane()["message"]) == ("1", f"none, {wait}")
            assert wait * 1000 - 1000 < box.lane_served_in() <= wait * 1000
            assert box.claim().jobs == ()

    def test_since_when_is_kept_until_there_is_some(self, box: Box) -> None:
        close(box)
        since = box.lane()["since"]
        box.wait_for_time(int(since))
        box.settle(sold_out(probe(box)))
        assert box.lane()["since"] == since
        box.settle(report(probe(box), Event.CREATE))
        assert not {"since", "message", "probeAt"} & set(box.lane())

    def test_an_answer_of_a_call_from_before_the_closing_changes_nothing(self, box: Box) -> None:
        waiting(box, 5)
        first, second = box.claim().jobs
        box.settle(sold_out(first, wait=30))
        kept = box.lane()
        box.settle(sold_out(second, wait=60, message="another"))
        assert box.lane() == kept | {"flying": "0"}
        assert 29_000 < box.lane_served_in() <= 30_000

    def test_neither_does_an_instance_of_one(self, box: Box) -> None:
        waiting(box, 5)
        first, second = box.claim().jobs
        box.settle(sold_out(first, wait=30))
        kept = box.lane()
        box.settle(report(second, Event.CREATE))
        assert box.lane() == kept | {"flying": "0"}
        assert box.lane_served_in() > 29_000

    @pytest.mark.parametrize("end", NO_NEWS)
    def test_a_probe_that_tells_nothing_is_followed_by_another_in_a_second(self, box: Box, end: str) -> None:
        close(box)
        box.settle(report(probe(box), **NO_NEWS[end]))
        assert 900 < box.lane_served_in() <= 1000
        assert box.claim().jobs == ()
        probe(box)
        assert box.claim().jobs == ()

    def test_a_lost_probe_is_followed_by_another(self, box: Box) -> None:
        close(box)
        box.lane_comes()
        [job] = box.claim(lease=TINY).jobs
        box.wait_for_time(int(box.fields(job.id)["dueAt"]))
        box.tick()
        assert box.state(job.id) == "verifying"
        assert 900 < box.lane_served_in() <= 1000
        assert probe(box).id != job.id

    def test_a_cancelled_probe_is_followed_by_another(self, box: Box) -> None:
        close(box)
        job = probe(box)
        box.cancel(job.id)
        assert box.settle(report(job, Event.DEFER, category="transient")) == ["cancelled"]
        assert probe(box).id != job.id

    def test_a_probe_whose_time_was_up_gives_its_place_to_the_next(self, box: Box) -> None:
        first, second = box.enter("a", until=60, wait_for_capacity=True) + waiting(box, 1)
        box.settle(sold_out(box.take()))
        box.deadline_comes(first)
        assert probe(box).id == second
        assert box.state(first) == "failed"

    def test_jobs_that_arrive_meanwhile_are_not_asked_for_either(self, box: Box) -> None:
        [job_id] = close(box, 1)
        box.cancel(job_id)
        assert box.redis.zcard(box.keys.lanes) == 0
        waiting(box, 3)
        assert box.claim().jobs == ()
        assert box.lane_served_in() > 29_000

    def test_jobs_that_do_not_wait_are_not_held_up(self, box: Box) -> None:
        close(box)
        once = box.enter("x", "y", "z", lane=f"{LANE}/once")
        assert sorted(taken(box)) == sorted(once)

    def test_neither_is_another_lane(self, box: Box) -> None:
        close(box)
        other = waiting(box, 1, "cn-north/a100/spot")
        assert taken(box) == other

    def test_a_job_that_does_not_wait_closes_nothing(self, box: Box) -> None:
        box.enter("a", "b", lane=f"{LANE}/once")
        job = box.take()
        box.settle(sold_out(job, wait=HOUR))
        assert int(box.fields(job.id)["dueAt"]) > box.now() + 3_500_000
        assert box.lane(f"{LANE}/once") == {}
        assert len(taken(box)) == 1

    def test_a_poller_reads_when_it_is_probed_next(self, box: Box) -> None:
        ids = close(box)
        probe_at = int(box.lane()["probeAt"])
        for job_id in ids:
            due = box.read(job_id).due_at
            assert due is not None
            assert round(due.timestamp() * 1000) == probe_at

    def test_of_a_job_that_waits_longer_its_own_time(self, box: Box) -> None:
        close(box, 1)
        job = probe(box)
        box.settle(report(job, Event.DEFER, category="transient", delay=HOUR))
        due = box.read(job.id).due_at
        assert due is not None
        assert round(due.timestamp() * 1000) == int(box.fields(job.id)["dueAt"])

    def test_the_status_shows_it(self, box: Box) -> None:
        close(box, 3)
        [lane] = box.ledger.run(calls.status()).lanes
        assert (lane.name, lane.state, lane.due, lane.width, lane.in_flight, lane.message) == (
            LANE, "soldOut", 3, 1, 0, "no capacity",
        )  # fmt: skip


class TestWidth:
    def test_a_new_lane_begins_with_two(self, box: Box) -> None:
        waiting(box, 10)
        assert [len(taken(box)), len(taken(box))] == [2, 0]

    def test_each_instance_widens_it_by_one(self, box: Box) -> None:
        close(box, 20)
        box.settle(report(probe(box), Event.CREATE))
        for width in (2, 3, 4, 5):
            assert box.lane()["width"] == str(width)
            jobs = box.claim().jobs
            assert len(jobs) == width
            box.settle(report(jobs[0], Event.CREATE))
            # The others say nothing of capacity, and make room again.
            box.settle(*(report(job, Event.DEFER, category="transient") for job in jobs[1:]))

    def test_a_full_one_goes_on_as_soon_as_a_call_ends(self, box: Box) -> None:
        ids = waiting(box, 4)
        first, _ = box.claim().jobs
        assert box.claim().jobs == ()
        box.settle(report(first, Event.FAIL))
        assert taken(box) == [ids[2]]

    def test_until_then_a_worker_looks_once_a_second(self, box: Box) -> None:
        waiting(box, 4)
        box.claim()
        wait = box.claim().wait
        assert wait is not None
        assert 0.9 < wait <= 1

    def test_one_that_has_been_wide_enough_is_open(self, box: Box) -> None:
        waiting(box, 300)
        while "open" not in box.lane():
            box.settle(*(report(job, Event.CREATE) for job in box.claim().jobs))
        [lane] = box.ledger.run(calls.status()).lanes
        assert (lane.width, lane.state) == (None, "open")
        made = box.ledger.run(calls.status()).counts[State.SUCCEEDED]
        assert made > OPEN_WIDTH - 2
        assert len(taken(box, 1000)) == 300 - made

    def test_an_open_one_can_be_sold_out_again(self, box: Box) -> None:
        waiting(box, 5)
        box.redis.hset(box.keys.base + f"lane:{LANE}", "open", "1")
        first, *others = box.claim().jobs
        assert len(others) == 4
        box.settle(sold_out(first))
        assert (box.lane()["width"], "open" in box.lane()) == ("1", False)
        box.settle(*(report(job, Event.CREATE) for job in others))
        assert box.claim().jobs == ()

    def test_nothing_is_kept_of_one_that_is_not_used(self, box: Box) -> None:
        """Also where all that was heard of it for long is a late answer."""
        waiting(box, 1)
        job = box.take()
        box.settle(report(job, Event.DOUBT))
        box.redis.delete(box.keys.base + f"lane:{LANE}")
        box.settle(report(job, Event.CREATE))
        assert box.lane()["width"] == "3"
        assert 0 < box.redis.pttl(box.keys.base + f"lane:{LANE}") <= 3_600_000


class TestTurns:
    def test_a_few_jobs_do_not_wait_for_a_thousand_of_another_lane(self, box: Box) -> None:
        box.ledger.enqueue([submission(f"m{one}", lane="many") for one in range(1000)])
        few = box.enter(*(f"f{one}" for one in range(5)), lane="few")
        claims = [box.claim(10).jobs for _ in range(2)]
        lanes = [Counter(box.fields(job.id)["lane"] for job in jobs) for jobs in claims]
        assert lanes[0] == {"many": 5, "few": 5}
        assert lanes[1] == {"many": 10}, "the room that others leave is not wasted"
        assert {box.state(job_id) for job_id in few} == {"submitting"}

    def test_one_at_a_time_they_take_turns(self, box: Box) -> None:
        for lane in "ab":
            box.enter(*(f"{lane}{one}" for one in range(10)), lane=lane)
            box.wait_for_time(box.now())
        served = []
        for _ in range(6):
            served.append(box.fields(box.take().id)["lane"])
            box.wait_for_time(box.now())
        assert sorted(served[:2]) == sorted(served[2:4]) == sorted(served[4:]) == ["a", "b"]

    def test_with_more_lanes_than_room_all_are_served_in_time(self, box: Box) -> None:
        for one in range(20):
            box.enter("x", "y", lane=f"lane-{one:02}")
            box.wait_for_time(box.now())
        served: Counter[str] = Counter()
        for _ in range(4):
            served.update(box.fields(job.id)["lane"] for job in box.claim(5).jobs)
            box.wait_for_time(box.now())
        assert set(served.values()) == {1}
        assert len(served) == 20

    def test_within_a_lane_the_first_to_arrive_goes_first(self, box: Box) -> None:
        ids = [
            receipt.id
            for receipt in box.ledger.enqueue(
                [submission(f"n{one}", id=f"j{999 - one}") for one in range(300)]
            ).receipts
        ]
        assert [job_id for _ in range(6) for job_id in taken(box, 50)] == ids

    def test_a_job_that_was_deferred_keeps_its_place(self, box: Box) -> None:
        first, second = [one.id for one in box.ledger.enqueue([submission("b"), submission("a")]).receipts]
        job = box.take()
        assert job.id == first
        box.settle(report(job, Event.DEFER, category="transient"))
        assert taken(box) == [first, second]

    def test_a_job_that_was_deleted_by_hand_holds_up_nobody(self, box: Box) -> None:
        first, second = [one.id for one in box.ledger.enqueue([submission("a"), submission("b")]).receipts]
        kept = box.redis.hgetall(box.keys.job(first))
        box.redis.delete(box.keys.job(first))
        assert taken(box) == [second]
        assert box.redis.zscore(box.keys.ready(""), first) is None
        box.redis.hset(box.keys.job(first), mapping=kept)  # for the audit
        box.redis.zadd(box.keys.base + "due", {first: kept["dueAt"]})

    def test_a_thousand_and_one_that_fall_due_at_once_line_up_in_several_claims(self, box: Box) -> None:
        start = datetime.now(UTC) + timedelta(hours=1)
        box.ledger.enqueue([submission("n", id=f"j{one:04}", not_before=start) for one in range(1001)])
        box.time_comes(*(f"j{one:04}" for one in range(1001)))
        waits = [box.claim(1).wait for _ in range(2)]
        assert waits == [0, 0]
        counts = box.ledger.run(calls.status()).counts
        assert (counts[State.SCHEDULED], counts[State.SUBMITTING]) == (0, 2)
        assert len(taken(box, 2000)) == 999


class TestBudget:
    """Calls of the whole account: a bucket that fills by the rate and holds a tenth of a second's worth."""

    def later(self, box: Box, seconds: float) -> None:
        """As if so much time had passed since the last claim."""
        key = box.keys.base + "rate"
        if at := box.redis.hget(key, "at"):
            box.redis.hset(key, "at", int(at) - round(seconds * 1000))

    def spread(self, box: Box, rate: float, seconds: float, step: float = 0.05) -> int:
        """How many calls are made in that time, by a worker that asks for as many as it can get."""
        made = 0
        for _ in range(round(seconds / step)):
            box.redis.hset(box.keys.base + "rate", "at", box.now() - round(step * 1000))
            made += len(box.claim(100, rate=rate).jobs)
        return made

    def throttle(self, box: Box, job: Claimed, pause: float = 60) -> None:
        box.settle(
            report(job, Event.DEFER, category="throttled", message="slow down", delay=HOUR, pause=pause)
        )

    def factor(self, box: Box) -> float:
        return float(box.redis.hget(box.keys.base + "rate", "factor") or 1)

    def many(self, box: Box, number: int = 300) -> None:
        box.ledger.enqueue([submission(f"n{one}") for one in range(number)])

    def test_no_more_than_the_rate(self, box: Box) -> None:
        self.many(box)
        made = self.spread(box, 10, seconds=5)
        # Redis' own clock runs on while that is simulated.
        assert 50 <= made <= 60
        assert box.claim(100, rate=10).jobs == ()

    @pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (10, 1), (100, 10), (2000, 200)])
    def test_after_a_rest_no_more_than_a_tenth_of_a_second(self, box: Box, rate: float, burst: int) -> None:
        self.many(box)
        assert len(box.claim(1000, rate=rate).jobs) == burst
        self.later(box, HOUR)
        assert len(box.claim(1000, rate=rate).jobs) == min(burst, 300 - burst)

    def test_a_slow_rate_is_kept_too(self, box: Box) -> None:
        self.many(box, 10)
        assert len(box.claim(rate=0.5).jobs) == 1
        self.later(box, 1.5)
        assert box.claim(rate=0.5).jobs == ()
        self.later(box, 0.5)
        assert len(box.claim(rate=0.5).jobs) == 1

    def test_who_gets_nothing_learns_when_to_come_again(self, box: Box) -> None:
        self.many(box)
        box.claim(rate=10)
        claim = box.claim(rate=10)
        assert (claim.why, claim.jobs, claim.wake) == ("rate", (), False)
        assert claim.wait is not None
        assert 0.05 < claim.wait <= 0.1
        self.later(box, claim.wait)
        assert len(box.claim(rate=10).jobs) == 1

    def test_a_claim_that_takes_nothing_uses_nothing_up(self, box: Box) -> None:
        for _ in range(5):
            assert box.claim(rate=10).jobs == ()
        box.enter("a")
        assert len(box.claim(rate=10).jobs) == 1

    def test_zero_is_no_limit(self, box: Box) -> None:
        self.many(box)
        assert len(box.claim(300, rate=0).jobs) == 300
        assert "rate" not in box.names()

    def test_a_429_halves_it_once_for_each_pause(self, box: Box) -> None:
        self.many(box)
        first, second, third, *_ = box.claim(300).jobs
        self.throttle(box, first)
        self.throttle(box, second)
        assert self.factor(box) == 0.5
        box.redis.hset(box.keys.account, "until", box.now())
        box.enter("again")
        assert len(box.claim(rate=10).jobs) == 1, "the pause is over"
        self.throttle(box, third)
        assert self.factor(box) == 0.25

    def test_half_of_it_is_what_is_left(self, box: Box) -> None:
        self.many(box)
        self.throttle(box, box.take(), pause=TINY)
        box.wait_for_time(box.now() + 2)
        assert 25 <= self.spread(box, 10, seconds=5) <= 32

    def test_it_is_never_less_than_a_64th(self, box: Box) -> None:
        self.many(box, 20)
        for job in box.claim().jobs:
            self.throttle(box, job)
            box.redis.hset(box.keys.account, "state", "open")
        assert self.factor(box) == pytest.approx(1 / 64)

    def test_instances_let_it_grow_back(self, box: Box) -> None:
        self.many(box, 20)
        first, *others = box.claim().jobs
        self.throttle(box, first)
        box.settle(report(others[0], Event.FAIL))
        assert self.factor(box) == 0.5
        box.settle(report(others[1], Event.CREATE), report(others[2], Event.CREATE))
        assert self.factor(box) == pytest.approx(0.6)
        box.settle(*(report(job, Event.CREATE) for job in others[3:12]))
        assert self.factor(box) == 1
        assert not box.redis.hexists(box.keys.base + "rate", "factor")


class TestDeadline:
    def limited(self, box: Box, state: State) -> str:
        """A job in this state that is tried for an hour only."""
        later = {"not_before": timedelta(hours=1)} if state is State.SCHEDULED else {}
        [job_id] = box.enter("a", wait_for_capacity=True, until=HOUR, **later)
        if state in {State.SCHEDULED, State.QUEUED}:
            return job_id
        if state is State.CANCELLED:
            box.cancel(job_id)
            return job_id
        job = box.take()
        event = {
            State.RETRYING: Event.DEFER, State.SUCCEEDED: Event.CREATE, State.FAILED: Event.FAIL,
            State.VERIFYING: Event.DOUBT, State.UNCERTAIN: Event.DOUBT,
        }.get(state)  # fmt: skip
        if event is not None:
            box.settle(report(job, event, category="transient", message="no answer", delay=HOUR))
        if state is State.UNCERTAIN:
            assert box.look_up_in_time(job_id, {"i-1": "a", "i-2": "a"}) == "uncertain"
        return job_id

    @pytest.mark.parametrize("state", State)
    def test_what_waits_fails_when_its_time_is_up_and_nothing_else_does(self, box: Box, state: State) -> None:
        job_id = self.limited(box, state)
        assert box.state(job_id) == state
        box.deadline_comes(job_id)
        box.tick()
        waits = state in {State.SCHEDULED, State.QUEUED, State.RETRYING}
        assert box.state(job_id) == ("failed" if waits else state)

    @pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.RETRYING])
    def test_not_before(self, box: Box, state: State) -> None:
        job_id = self.limited(box, state)
        box.tick()
        assert box.state(job_id) == state

    def test_a_claim_takes_nothing_whose_time_is_up(self, box: Box) -> None:
        job_id = self.limited(box, State.QUEUED)
        [other] = box.enter("other")
        box.deadline_comes(job_id)
        assert taken(box) == [other]
        assert box.state(job_id) == "failed"

    def test_one_that_was_never_sent_fails_for_want_of_capacity(self, box: Box) -> None:
        job_id = self.limited(box, State.QUEUED)
        box.deadline_comes(job_id)
        box.tick()
        error = box.read(job_id).error
        assert error is not None
        assert (error.category, error.message) == ("capacity", "its time was up before a call could be made")

    def test_one_that_stands_in_a_sold_out_lane_gets_the_lanes_message(self, box: Box) -> None:
        waiting(box, 1)
        box.settle(sold_out(box.take(), message="资源不足"))
        job_id = self.limited(box, State.QUEUED)
        box.deadline_comes(job_id)
        box.tick()
        error = box.read(job_id).error
        assert error is not None
        assert (error.category, error.message) == ("capacity", "资源不足")

    def test_one_that_was_sent_keeps_its_last_error(self, box: Box) -> None:
        job_id = self.limited(box, State.RETRYING)
        box.deadline_comes(job_id)
        box.tick()
        found = box.read(job_id)
        assert found.error is not None
        assert (found.error.category, found.error.message, found.reason) == ("transient", "no answer", None)

    @pytest.mark.parametrize("category", ["capacity", "transient"])
    def test_an_attempt_that_ends_after_it_is_the_last(self, box: Box, category: str) -> None:
        job_id = self.limited(box, State.QUEUED)
        job = box.take()
        box.deadline_comes(job_id)
        assert box.settle(report(job, Event.DEFER, category=category, message="m", delay=30)) == ["failed"]
        error = box.read(job_id).error
        assert error is not None
        assert (error.category, error.message) == (category, "m")

    def test_what_it_creates_is_believed(self, box: Box) -> None:
        job_id = self.limited(box, State.QUEUED)
        job = box.take()
        box.deadline_comes(job_id)
        assert box.settle(report(job, Event.CREATE)) == ["succeeded"]

    def test_a_lookup_that_finds_nothing_is_followed_by_no_other_attempt(self, box: Box) -> None:
        job_id = self.limited(box, State.VERIFYING)
        box.deadline_comes(job_id)
        assert box.look_up_until_settled(job_id)[-1] == "failed"

    def test_it_holds_after_a_doubt_that_its_own_attempt_has_ended(self, box: Box) -> None:
        job_id = self.limited(box, State.UNCERTAIN)
        attempt = Claimed(job_id, "1", "{}")
        assert box.settle(report(attempt, Event.DEFER, category="transient", delay=HOUR)) == ["retrying"]
        box.deadline_comes(job_id)
        box.tick()
        assert box.state(job_id) == "failed"

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
    def test_a_retry_renews_it(self, box: Box, end: State) -> None:
        job_id = self.limited(box, State.QUEUED)
        box.deadline_comes(job_id)
        if end is State.CANCELLED:
            box.cancel(job_id)
        box.tick()
        assert box.state(job_id) == end
        began = box.now()
        box.rearm(job_id)
        box.tick()
        assert box.state(job_id) == "queued"
        assert began + HOUR * 1000 <= int(box.fields(job_id)["until"]) <= box.now() + HOUR * 1000

    def test_it_counts_from_the_start(self, box: Box) -> None:
        [job_id] = box.enter("a", until=60, not_before=timedelta(hours=1))
        fields = box.fields(job_id)
        assert int(fields["until"]) == int(fields["dueAt"]) + 60_000

    def test_without_one_a_job_is_tried_for_ever(self, box: Box) -> None:
        box.enter("a", wait_for_capacity=True)
        box.settle(sold_out(box.take()))
        box.tick()
        assert box.redis.exists(box.keys.base + "deadlines") == 0


class TestStart:
    @pytest.mark.parametrize("wait", [4, 60])
    def test_never_early_whoever_asks(self, box: Box, wait: int) -> None:
        """Milliseconds."""
        [job_id] = box.enter("a", not_before=timedelta(milliseconds=wait))
        due = int(box.fields(job_id)["dueAt"])
        assert box.state(job_id) == "scheduled"

        def asked() -> bool:
            box.tick()
            jobs = box.claim().jobs
            assert not jobs or box.now() >= due, "it was early"
            return bool(jobs)

        wait_until(asked, description="the job's time to come", interval=0.001)
        assert box.events(job_id) == [(job_id, state) for state in ("scheduled", "queued", "submitting")]

    def test_a_time_is_kept_to_the_millisecond(self, box: Box) -> None:
        [job_id] = box.enter("a", not_before=datetime(2101, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC))
        due = box.read(job_id).due_at
        assert due == datetime(2101, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)

    def test_a_length_of_time_counts_from_redis_clock(self, box: Box) -> None:
        began = box.now()
        [job_id] = box.enter("a", not_before=timedelta(minutes=10, milliseconds=1))
        assert began + 600_001 <= int(box.fields(job_id)["dueAt"]) <= box.now() + 600_001

    @pytest.mark.parametrize("start", [timedelta(0), datetime(2020, 1, 1, tzinfo=UTC)])
    def test_one_that_has_passed_is_now(self, box: Box, start: datetime | timedelta) -> None:
        began = box.now()
        [job_id] = box.enter("a", not_before=start)
        assert box.state(job_id) == "queued"
        assert began <= int(box.fields(job_id)["dueAt"]) <= box.now()
        assert taken(box) == [job_id]

    def test_a_worker_is_told_when_to_come(self, box: Box) -> None:
        box.enter("a", not_before=timedelta(hours=1))
        wait, (wake, then) = box.claim().wait, box.tick()
        assert wait is not None
        assert then is not None
        assert not wake
        assert HOUR - 1 < then <= wait <= HOUR

    def test_when_its_time_has_come_one_is_woken(self, box: Box) -> None:
        [job_id] = box.enter("a", not_before=timedelta(hours=1))
        box.time_comes(job_id)
        box.redis.delete(box.keys.base + "wake")
        assert box.tick() == (True, 0)

    def test_it_stands_in_its_lanes_queue_by_its_start(self, box: Box) -> None:
        [late] = box.enter("late", not_before=timedelta(milliseconds=10))
        now = box.enter("now")
        box.wait_for_time(int(box.fields(late)["dueAt"]))
        assert taken(box) == [*now, late]


class TestCancelled:
    """Nothing is left of what waited but the job that has ended."""

    @pytest.mark.parametrize("how", ["scheduled", "due", "deferred", "sold out"])
    def test_what_waited_leaves_nothing_behind(self, box: Box, how: str) -> None:
        later = {"not_before": timedelta(hours=1)} if how == "scheduled" else {}
        [job_id] = box.enter("a", wait_for_capacity=True, until=HOUR, **later)
        if how == "deferred":
            box.settle(report(box.take(), Event.DEFER, delay=HOUR))
        elif how == "sold out":
            box.settle(sold_out(box.take()))
        assert [done.what for done in box.cancel(job_id)] == ["cancelled"]
        own = {f"job:{job_id}", f"history:{job_id}", f"template:{box.own_fields(job_id)['template']}"}
        left = {*own, "ended", "changed", "counts", "moves", "ordered", "events", "account", *UNTOUCHED}
        assert set(box.picture(without=["lane"])) == left

    def test_the_others_of_its_lane_are_served_as_before(self, box: Box) -> None:
        ids = waiting(box, 3)
        box.cancel(ids[0])
        assert taken(box) == ids[1:]


def test_every_end_is_out_of_every_line(box: Box) -> None:
    for state in sorted(ENDS):
        box.in_state(state, f"n-{state}")
    for name in ("due", "lanes", "deadlines"):
        assert box.redis.zcard(box.keys.base + name) == 0
    assert not [name for name in box.names() if name.startswith("ready:")]


def test_a_job_of_the_first_version_waits_for_capacity_where_it_is_spot(box: Box) -> None:
    """It has no lane, and waits for its own time."""
    [job_id] = box.enter("a")
    box.redis.hset(box.keys.job(job_id), "spot", "1")
    job = box.take()
    assert job.waits
    assert box.settle(sold_out(job, wait=HOUR)) == ["retrying"]
    assert int(box.fields(job_id)["dueAt"]) > box.now() + 3_500_000
