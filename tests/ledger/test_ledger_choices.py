"""Fallbacks: a job that may be launched in several ways stands in line for each of them, and is launched in one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.calls import Claimed
from ledger_box import Box, report, request, sold_out, submission
from sandbox.redis_server import RedisServer
from tasks.jobs import Choice
from tasks.states import Event

HOUR = 3600.0


def enter(
    box: Box, *fallbacks: tuple[str, float], lane: str = "a", waits: bool = True, number: int = 1, **more: Any
) -> list[str]:
    """Jobs of this lane that may be launched in other lanes too, each so many seconds after their start."""
    choices = tuple(Choice(other, after, request("n", region=other)) for other, after in fallbacks)
    many = [
        submission("n", lane=lane, wait_for_capacity=waits, fallbacks=choices, unique_names=True, **more)
        for _ in range(number)
    ]
    return [receipt.id for receipt in box.ledger.enqueue(many).receipts]


def refused(job: Claimed) -> Any:
    """This attempt, of a job that does not wait, was told that there is no capacity."""
    return report(job, Event.FAIL, category="capacity", message="none left")


def region(job: Claimed) -> str:
    """Which of its bodies a job sends; the request itself names no region."""
    return str(json.loads(job.body).get("region", "a"))


def close(box: Box, lane: str = "a") -> None:
    """A job of this lane alone finds it sold out, and goes."""
    box.enter("probe", lane=lane, wait_for_capacity=True, unique_names=True)
    job = box.take()
    box.settle(sold_out(job, wait=HOUR))
    box.cancel(job.id)


class TestWaiting:
    def test_the_next_is_used_at_once_where_the_first_is_sold_out(self, box: Box) -> None:
        [job_id] = enter(box, ("b", 0), ("c", 0))
        for expected in ("a", "b", "c"):
            job = box.take()
            assert (job.id, region(job), job.fallback) == (job_id, expected, "abc".index(expected))
            box.settle(sold_out(job, wait=HOUR))
            box.audit()
        assert box.claim().jobs == ()

    def test_so_it_is_where_others_have_found_out(self, box: Box) -> None:
        close(box)
        ids = enter(box, ("b", 0), number=2)
        assert [(job.id, region(job)) for job in box.claim().jobs] == [(one, "b") for one in ids]
        box.audit()

    def test_not_before_its_time(self, box: Box) -> None:
        close(box)
        [job_id] = enter(box, ("b", HOUR))
        assert box.claim().jobs == ()
        box.audit()
        start = int(float(box.fields(job_id)["arrived"]))
        assert box.openings() == {"a": start + HOUR * 1000}

    def test_when_its_time_has_come(self, box: Box) -> None:
        close(box)
        [job_id] = enter(box, ("b", 0.05))
        claim = box.claim()
        assert claim.jobs == ()
        assert claim.wait is not None
        assert claim.wait <= 0.05, "a worker is told when to come again"
        box.wait_for_time(box.now() + 60)
        assert region(box.take()) == "b"
        assert [line.event for line in box.history(job_id)] == ["fallback"]

    def test_not_as_long_as_the_first_has_room(self, box: Box) -> None:
        ids = enter(box, ("b", 0), number=5)
        first = box.claim().jobs
        assert [(job.id, region(job)) for job in first] == [(one, "a") for one in ids[:2]]
        assert box.claim().jobs == (), "the lane is narrow, but not sold out"

    def test_the_first_that_has_some_gets_it_and_no_other(self, box: Box) -> None:
        close(box)
        [job_id] = enter(box, ("b", 0))
        job = box.take()
        box.settle(sold_out(job, wait=HOUR))
        box.lane_comes("a")
        again = box.take()
        assert (again.id, region(again), again.fallback) == (job_id, "a", 0)
        assert box.claim().jobs == ()
        box.audit()
        assert box.settle(report(again, Event.CREATE)) == ["succeeded"]
        box.audit()

    def test_the_job_says_which_it_got(self, box: Box) -> None:
        close(box)
        [job_id] = enter(box, ("b", 0))
        assert (box.ledger.job(job_id).fallback, box.ledger.job(job_id).document()["fallback"]) == (0, None)
        box.settle(report(box.take(), Event.CREATE))
        job = box.ledger.job(job_id)
        assert (job.fallback, job.document()["request"]["region"]) == (1, "b")
        assert job.request is not None
        assert "region" not in job.request, "what was given stays known"

    def test_a_poller_reads_the_first_probe_of_any(self, box: Box) -> None:
        [job_id] = enter(box, ("b", 0))
        box.settle(sold_out(box.take(), wait=HOUR))
        box.settle(sold_out(box.take(), wait=60))
        due = box.ledger.job(job_id).due_at
        assert due is not None
        assert 50 < due.timestamp() - box.now() / 1000 <= 60

    def test_two_that_share_a_lane_take_turns(self, box: Box) -> None:
        choices = (Choice("a", 0, request("n", billing="perDay")),)
        box.ledger.enqueue(
            [submission("n", lane="a", wait_for_capacity=True, unique_names=True, fallbacks=choices)]
        )
        sent = []
        for _ in range(4):
            job = box.take()
            sent.append("billing" in json.loads(job.body))
            box.settle(sold_out(job, wait=HOUR))
            box.claim()
            box.lane_comes("a")
        assert sent[0] is False
        assert set(sent) == {True, False}
        box.audit()


class TestNotWaiting:
    def test_they_are_tried_one_after_the_other(self, box: Box) -> None:
        [job_id] = enter(box, ("b", 0), ("c", 0), waits=False)
        tried = []
        for _ in range(3):
            job = box.take()
            tried.append(region(job))
            state = box.settle(refused(job))
            box.audit()
        assert (tried, state) == (["a", "b", "c"], ["failed"])
        assert box.ledger.job(job_id).error is not None

    def test_each_in_its_time(self, box: Box) -> None:
        [job_id] = enter(box, ("b", HOUR), waits=False)
        assert box.settle(refused(box.take())) == ["retrying"]
        due, start = (float(box.fields(job_id)[name]) for name in ("dueAt", "arrived"))
        assert due == pytest.approx(start + HOUR * 1000, abs=1)
        box.audit()

    def test_another_refusal_ends_it(self, box: Box) -> None:
        enter(box, ("b", 0), waits=False)
        assert box.settle(report(box.take(), Event.FAIL, category="rejected", message="no")) == ["failed"]

    def test_a_cancelled_one_tries_no_other(self, box: Box) -> None:
        [job_id] = enter(box, ("b", 0), waits=False)
        job = box.take()
        box.cancel(job_id)
        assert box.settle(refused(job)) == ["cancelled"]


class TestEnds:
    @pytest.mark.parametrize("how", ["cancel", "deadline"])
    def test_what_ends_stands_in_no_line(self, box: Box, how: str) -> None:
        close(box)
        [job_id] = enter(box, ("b", 0), ("c", HOUR), until=HOUR)
        close(box, "b")
        box.claim()
        box.audit()
        if how == "cancel":
            box.cancel(job_id)
        else:
            box.deadline_comes(job_id)
            box.tick()
        assert box.ledger.job(job_id).ended
        box.audit()

    def test_a_retry_begins_with_the_first(self, box: Box) -> None:
        [job_id] = enter(box, ("b", HOUR), waits=False)
        box.settle(refused(box.take()))
        box.time_comes(job_id)
        assert region(box.take()) == "b"
        box.settle(report(Claimed(job_id, "2", None), Event.FAIL, category="rejected", message="no"))
        box.rearm(job_id)
        box.audit()
        assert region(box.take()) == "a"

    def test_bodies_are_sealed_like_the_request(self, redis: RedisServer) -> None:
        with Box(redis.url, f"c-{uuid.uuid4().hex}", [Fernet.generate_key().decode()]) as box:
            close(box)
            [job_id] = enter(box, ("secret-region", 0))
            assert "secret-region" not in box.fields(job_id)["bodies"]
            assert region(box.take()) == "secret-region"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["enter", "claim", "sold out", "create", "fail", "doubt", "cancel", "lane", "rearm", "defer"]
        ),
        st.integers(0, 1000),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_happens_each_job_stands_where_it_should_and_is_launched_once(
    redis: RedisServer, steps: list[tuple[str, int]]
) -> None:
    with Box(redis.url, f"c-{uuid.uuid4().hex}") as box:
        ids: list[str] = []
        flying: list[Claimed] = []
        created: list[str] = []
        ends = {
            "sold out": lambda job: sold_out(job, wait=HOUR) if job.waits else refused(job),
            "create": lambda job: report(job, Event.CREATE),
            "fail": lambda job: report(job, Event.FAIL, category="rejected", message="no"),
            "doubt": lambda job: report(job, Event.DOUBT, category="unknown", message="timeout"),
            "defer": lambda job: report(
                job, Event.DEFER, category="transient", message="refused", delay=HOUR
            ),
        }
        for step, pick in [("enter", 7), ("enter", 8), ("claim", 0), *steps]:
            if step == "enter":
                lanes = [("a", "b", "c", "a")[(pick + at) % 4] for at in range(1 + pick % 3)]
                ids += enter(
                    box, *((lane, 0) for lane in lanes[1:]), lane=lanes[0], waits=pick % 5 > 0, number=1 + pick % 2
                )  # fmt: skip
            elif step == "claim":
                jobs = box.claim(1 + pick % 4).jobs
                assert len({job.id for job in jobs}) == len(jobs)
                assert not {job.id for job in jobs} & {job.id for job in flying}
                flying += jobs
            elif step == "lane":
                box.lane_comes("abc"[pick % 3])
            elif step in ends and flying:
                job = flying.pop(pick % len(flying))
                [state] = box.settle(ends[step](job))
                created += [job.id] * (state == "succeeded")
            elif step == "cancel":
                box.cancel(ids[pick % len(ids)])
            elif step == "rearm":
                box.rearm(ids[pick % len(ids)])
            box.audit()
        assert len(set(created)) == len(created)
