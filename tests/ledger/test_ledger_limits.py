"""Batches that do not send all they could: a number of calls in flight, a number of failures, a person's word."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import calls
from ledger.calls import Claimed, Limits
from ledger_box import Box, report, submission
from sandbox.redis_server import RedisServer
from tasks.states import Event

HOUR = 3600.0


def enter(box: Box, number: int, *, batch: str = "b", limits: Limits | None = None, **more: Any) -> list[str]:
    """So many more jobs of this batch, in order."""
    many = [
        submission("n", entry=uuid.uuid4().hex, unique_names=True, lane=f"{batch}/once", **more)
        for _ in range(number)
    ]
    return [receipt.id for receipt in box.ledger.enqueue(many, batch=batch, limits=limits).receipts]


def fail(box: Box, *jobs: Claimed) -> None:
    box.settle(*(report(job, Event.FAIL, category="rejected", message="no") for job in jobs))


def create(box: Box, *jobs: Claimed) -> None:
    box.settle(*(report(job, Event.CREATE) for job in jobs))


class TestMaxParallel:
    def test_no_more_than_so_many_are_in_flight(self, box: Box) -> None:
        ids = enter(box, 20, limits=Limits(max_parallel=3))
        first = box.claim().jobs
        assert [job.id for job in first] == ids[:3]
        assert box.claim().jobs == ()
        create(box, first[0])
        assert [job.id for job in box.claim().jobs] == ids[3:4], "in order of arrival"
        box.audit()

    def test_a_call_whose_end_is_unknown_counts(self, box: Box) -> None:
        enter(box, 5, limits=Limits(max_parallel=1))
        job = box.take()
        box.settle(report(job, Event.DOUBT, category="unknown", message="timeout"))
        box.tick()
        assert box.claim().jobs == ()

    def test_others_go_on(self, box: Box) -> None:
        enter(box, 50, limits=Limits(max_parallel=1))
        others = enter(box, 10, batch="other")
        taken = [job.id for job in box.claim().jobs]
        assert set(others) <= set(taken)
        assert len(taken) == 11

    def test_of_thousands_a_claim_puts_some_aside_at_a_time(self, box: Box) -> None:
        enter(box, 1200, limits=Limits(max_parallel=1))
        others = enter(box, 1, batch="other")
        taken: list[str] = []
        for _ in range(4):
            taken += [job.id for job in box.claim().jobs]
        assert len(taken) == 2
        assert set(others) <= set(taken)
        assert box.redis.zcard(box.keys.base + "held:b") == 1199
        box.audit()

    def test_a_place_that_its_job_does_not_use_is_given_again(self, box: Box) -> None:
        ids = enter(box, 3, limits=Limits(max_parallel=1))
        job = box.take()
        box.claim()
        create(box, job)
        box.cancel(ids[1])
        box.tick()
        assert box.take().id == ids[2]

    def test_it_can_be_changed_and_taken_away(self, box: Box) -> None:
        enter(box, 6, limits=Limits(max_parallel=1))
        assert len(box.claim().jobs) == 1
        enter(box, 1, limits=Limits(max_parallel=3))
        box.tick()
        assert len(box.claim().jobs) == 2
        enter(box, 1)
        box.tick()
        assert box.claim().jobs == (), "a submission that says nothing leaves it as it is"
        enter(box, 1, limits=Limits(max_parallel=0))
        box.tick()
        assert len(box.claim().jobs) == 6
        box.audit()

    def test_what_is_put_aside_can_be_cancelled_and_its_time_can_be_up(self, box: Box) -> None:
        ids = enter(box, 4, limits=Limits(max_parallel=1), until=HOUR)
        box.claim()
        box.cancel(ids[1])
        box.deadline_comes(ids[2])
        box.tick()
        assert [box.state(one) for one in ids] == ["submitting", "cancelled", "failed", "queued"]
        box.audit()


class TestStopAfterFailures:
    def test_the_rest_is_held(self, box: Box) -> None:
        enter(box, 10, limits=Limits(stop_after=2))
        fail(box, *box.claim().jobs)
        assert box.ledger.batch("b").held == "failures"
        assert box.claim().jobs == ()
        box.tick()
        assert box.claim().jobs == ()
        box.audit()

    def test_at_first_no_more_are_sent_than_may_fail(self, box: Box) -> None:
        enter(box, 100, limits=Limits(stop_after=3))
        assert len(box.claim().jobs) == 3

    def test_instances_let_it_widen(self, box: Box) -> None:
        enter(box, 100, limits=Limits(stop_after=3))
        sizes = []
        for _ in range(4):
            jobs = box.claim().jobs
            sizes.append(len(jobs))
            create(box, *jobs)
        assert sizes == [3, 6, 12, 24]

    def test_a_person_has_it_go_on_and_as_many_may_fail_again(self, box: Box) -> None:
        enter(box, 10, limits=Limits(stop_after=2))
        fail(box, *box.claim().jobs)
        assert box.ledger.run(calls.hold("b", "go on"))
        jobs = box.claim().jobs
        assert len(jobs) == 2
        fail(box, jobs[0])
        assert box.ledger.batch("b").held is None
        fail(box, jobs[1])
        assert box.ledger.batch("b").held == "failures"

    def test_without_a_number_none_is_held(self, box: Box) -> None:
        enter(box, 10)
        fail(box, *box.claim(9).jobs)
        assert box.ledger.batch("b").held is None
        assert len(box.claim().jobs) == 1


class TestHeldByAPerson:
    def test_nothing_is_sent_until_it_goes_on(self, box: Box) -> None:
        ids = enter(box, 5)
        assert box.ledger.run(calls.hold("b", "person"))
        assert box.claim().jobs == ()
        enter(box, 1)
        box.tick()
        assert box.claim().jobs == ()
        assert box.ledger.batch("b").held == "person"
        box.audit()
        assert box.ledger.run(calls.hold("b", "go on after failures"))
        assert box.claim().jobs == (), "a retry is not that person's word"
        assert box.ledger.run(calls.hold("b", "go on"))
        assert [job.id for job in box.claim().jobs][:5] == ids
        box.audit()

    def test_what_is_in_flight_ends_as_it_ends(self, box: Box) -> None:
        enter(box, 2)
        job = box.take()
        box.ledger.run(calls.hold("b", "person"))
        create(box, job)
        assert box.state(job.id) == "succeeded"

    def test_there_must_be_such_a_batch(self, box: Box) -> None:
        assert not box.ledger.run(calls.hold("nobody", "person"))


class TestPausedByAPerson:
    def test_nothing_is_claimed_until_one_has_it_go_on(self, box: Box) -> None:
        enter(box, 2)
        assert box.ledger.run(calls.pause("ada"))
        assert not box.ledger.run(calls.pause("bob"))
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.wait) == ("paused", (), None)
        assert box.tick() == (False, None)
        account = box.ledger.run(calls.status())
        assert (account.state, account.reason, account.message) == ("paused", "person", "paused by ada")
        assert box.ledger.run(calls.pause(""))
        assert len(box.claim().jobs) == 2

    def test_what_is_not_known_is_still_looked_up(self, box: Box) -> None:
        job = box.doubt()
        box.ledger.run(calls.pause("ada"))
        box.time_comes(job.id)
        assert box.claim(first=True).lookup
        assert box.tick()[0]

    @pytest.mark.parametrize("opened_by", ["a login", "an instance"])
    def test_nothing_else_opens_it(self, box: Box, opened_by: str) -> None:
        enter(box, 2)
        job = box.take()
        box.ledger.run(calls.pause("ada"))
        box.settle(report(job, Event.CREATE), taken="token" if opened_by == "a login" else "")
        assert box.claim().jobs == ()

    def test_what_stops_it_besides_is_not_forgotten_for_a_429(self, box: Box) -> None:
        enter(box, 3)
        first, second, _ = box.claim().jobs
        box.settle(report(first, Event.DEFER, category="balance", message="余额不足", blocks=True))
        box.ledger.run(calls.pause("ada"))
        box.settle(report(second, Event.DEFER, category="throttled", message="slow down", pause=60.0))
        box.ledger.run(calls.pause(""))
        assert box.ledger.run(calls.status()).reason == "balance"

    def test_a_429_lowers_the_rate_meanwhile_too(self, box: Box) -> None:
        enter(box, 1)
        job = box.take()
        box.ledger.run(calls.pause("ada"))
        box.settle(report(job, Event.DEFER, category="throttled", message="slow down", pause=60.0))
        assert box.redis.hget(box.keys.base + "rate", "factor") == "0.5"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["enter", "claim", "end", "end", "cancel", "hold", "resume", "tick", "rearm", "lanes"]
        ),
        st.integers(0, 1000),
    ),
    max_size=40,
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, most=st.integers(1, 3), bears=st.sampled_from([None, 1, 2]))
def test_whatever_happens_no_more_are_in_flight_and_none_is_forgotten(
    redis: RedisServer, steps: list[tuple[str, int]], most: int, bears: int | None
) -> None:
    with Box(redis.url, f"b-{uuid.uuid4().hex}") as box:
        ids = enter(box, 5, limits=Limits(most, bears))
        flying: list[Claimed] = []
        ends = [
            {"event": Event.CREATE},
            {"event": Event.FAIL, "category": "rejected", "message": "no"},
            {"event": Event.DEFER, "category": "transient", "message": "refused"},
            {"event": Event.DOUBT, "category": "unknown", "message": "timeout"},
        ]
        for step, pick in steps:
            if step == "enter":
                ids += enter(box, 1 + pick % 3)
            elif step == "claim":
                flying += box.claim(1 + pick % 5).jobs
            elif step == "end" and flying:
                box.settle(report(flying.pop(pick % len(flying)), **ends[pick % len(ends)]))  # type: ignore[arg-type]
            elif step == "cancel":
                box.cancel(ids[pick % len(ids)])
            elif step == "rearm":
                box.rearm(ids[pick % len(ids)])
            elif step in {"hold", "resume"}:
                box.ledger.run(calls.hold("b", "person" if step == "hold" else "go on"))
            elif step == "tick":
                box.tick()
            box.audit()
            states = [box.state(one) for one in ids]
            assert states.count("submitting") + states.count("verifying") <= most
        # Whatever was held goes on, and every job that waits is sent in the end.
        for _ in range(3 * len(ids)):
            box.ledger.run(calls.hold("b", "go on"))
            box.tick()
            flying += box.claim().jobs
            create(box, *flying)
            flying = []
            for one in ids:
                if box.state(one) == "verifying":
                    box.look_up_in_time(one)
                if box.redis.zscore(box.keys.base + "due", one) is not None:
                    box.time_comes(one)
        assert not {box.state(one) for one in ids} & {"queued", "retrying", "submitting"}
