"""What people do to jobs (cancel, retry), and what time does (leases, pulses, tidying)."""

from __future__ import annotations

import pytest

from harness import wait_until
from ledger import calls
from ledger.calls import Done, Report
from ledger.vault import PLAIN
from ledger_box import DELAYS, LANE, UNTOUCHED, Box, report, submission
from tasks.errors import NotFoundError
from tasks.retry import Outcome
from tasks.states import ENDS, Event, State

DAY = 86400.0


class TestCancel:
    @pytest.mark.parametrize("state", [State.QUEUED, State.RETRYING])
    def test_what_waits_is_cancelled(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        assert box.cancel(job_id) == [Done("cancelled", "cancelled")]
        assert (box.read(job_id).state, box.read(job_id).reason) == (State.CANCELLED, None)
        assert box.claim().jobs == ()

    def test_again_changes_nothing(self, box: Box) -> None:
        job_id = box.in_state(State.CANCELLED)
        before = box.picture()
        assert box.cancel(job_id) == [Done("cancelled", "cancelled")]
        assert box.picture() == before

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
    def test_what_has_ended_stays_as_it_ended(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        assert box.cancel(job_id) == [Done(state, "ended")]
        assert box.picture() == before

    def test_what_does_not_exist_is_not_made(self, box: Box) -> None:
        assert box.cancel("nobody") == [Done("", "absent")]
        assert box.names() == UNTOUCHED

    def test_many_at_once_in_their_order(self, box: Box) -> None:
        ids = [
            box.in_state(state, f"n-{state}") for state in (State.RETRYING, State.SUBMITTING, State.FAILED)
        ]
        assert [done.what for done in box.cancel(*ids, "nobody")] == [
            "cancelled",
            "requested",
            "ended",
            "absent",
        ]

    def test_a_call_under_way_ends_as_it_ends(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        assert box.cancel(job.id) == [Done("submitting", "requested")]
        assert box.read(job.id).state is State.SUBMITTING

    @pytest.mark.parametrize(
        ("event", "state"),
        [
            (Event.CREATE, "succeeded"),
            (Event.FAIL, "failed"),
            (Event.DEFER, "cancelled"),
        ],
    )
    def test_and_is_not_tried_again(self, box: Box, event: Event, state: str) -> None:
        box.enter("a", batch="nightly")
        job = box.take()
        box.cancel(job.id)
        assert box.settle(report(job, event, category="transient", message="m")) == [state]
        assert box.state(job.id) == state
        assert box.ledger.batch("nightly").done
        assert box.claim().jobs == ()

    def test_an_instance_that_was_bought_all_the_same_is_not_hidden(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        box.cancel(job.id)
        box.settle(report(job, Event.CREATE, instance_id="notebook-1"))
        assert (box.read(job.id).state, box.read(job.id).instance_id) == (State.SUCCEEDED, "notebook-1")

    def test_the_wish_outlives_a_lost_worker(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        assert box.cancel(job.id)[0].what == "requested"
        box.tick()
        assert box.state(job.id) == "verifying"
        assert box.settle(report(job, Event.DEFER)) == ["cancelled"]

    def test_what_is_verified_goes_on_being_verified(self, box: Box) -> None:
        job = box.doubt()
        assert box.cancel(job.id) == [Done("verifying", "requested")]
        assert box.look_up_in_time(job.id, {"i-1": "trainer"}) == "succeeded"

    def test_what_is_uncertain_cannot_be_cancelled_but_is_not_tried_again(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        assert box.cancel(job_id) == [Done("uncertain", "ended")]
        assert box.settle(Report(job_id, "1", Outcome(Event.DEFER))) == ["cancelled"]
        assert box.claim().jobs == ()


class TestRearm:
    @pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
    def test_what_ended_without_an_instance_is_due_again(self, box: Box, state: State) -> None:
        job_id = box.in_state(state, batch="nightly")
        assert box.rearm(job_id) == [Done("queued", "rearmed")]
        found = box.read(job_id)
        assert (found.state, found.error, found.reason) == (State.QUEUED, None, None)
        assert not box.ledger.batch("nightly").done
        assert [job.id for job in box.claim().jobs] == [job_id]

    @pytest.mark.parametrize("state", sorted(set(State) - {State.FAILED, State.CANCELLED}))
    def test_nothing_else_is(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        assert box.rearm(job_id) == [Done(state, "refused")]
        assert box.picture() == before

    def test_what_does_not_exist_is_not_made(self, box: Box) -> None:
        assert box.rearm("nobody") == [Done("", "absent")]
        assert box.names() == UNTOUCHED

    def test_it_has_a_fresh_budget_but_its_attempts_go_on(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER, spends=True))
        box.settle(report(box.take(), Event.FAIL, spends=True))
        [job_id] = [job.id for job in box.ledger.list_jobs()]
        box.rearm(job_id)
        job = box.take()
        assert (job.tries, job.attempt, box.read(job_id).attempts) == (0, "3", 2)

    def test_as_long_as_no_new_attempt_was_claimed_the_old_one_may_say_that_it_created(
        self, box: Box
    ) -> None:
        box.enter("a")
        old = box.take()
        box.settle(report(old, Event.FAIL))
        box.rearm(old.id)
        assert box.settle(report(old, Event.DEFER), report(old, Event.FAIL)) == ["stale", "stale"]
        assert box.settle(report(old, Event.CREATE)) == ["succeeded"]
        assert box.claim().jobs == ()

    def test_an_old_attempt_cannot_speak_for_the_new_one(self, box: Box) -> None:
        box.enter("a")
        old = box.take()
        box.settle(report(old, Event.FAIL))
        box.rearm(old.id)
        new = box.take()
        before = box.fields(old.id)
        assert box.settle(report(old, Event.CREATE, instance_id="i-old")) == ["surplus"]
        assert box.fields(old.id) == before
        assert box.settle(report(new, Event.CREATE, instance_id="i-new")) == ["succeeded"]
        assert box.read(old.id).instance_id == "i-new"

    def test_the_same_act_does_it_once(self, box: Box) -> None:
        job_id = box.in_state(State.FAILED)
        assert box.rearm(job_id, act="act-1") == [Done("queued", "rearmed")]
        before = box.picture()
        assert box.rearm(job_id, act="act-1") == [Done("queued", "rearmed")]
        assert box.picture() == before

    def test_also_when_the_job_has_failed_again_in_between(self, box: Box) -> None:
        """A repeated command must not launch what was launched, and failed, meanwhile."""
        job_id = box.in_state(State.FAILED)
        box.rearm(job_id, act="act-1")
        box.settle(report(box.take(), Event.FAIL))
        assert box.rearm(job_id, act="act-1") == [Done("failed", "rearmed")]
        assert box.claim().jobs == ()
        assert box.rearm(job_id, act="act-2") == [Done("queued", "rearmed")]

    def test_a_wish_to_cancel_is_forgotten_with_it(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        box.cancel(job.id)
        box.settle(report(job, Event.DEFER))
        box.rearm(job.id)
        assert box.settle(report(box.take(), Event.DEFER)) == ["retrying"]

    def test_it_calls_the_workers(self, box: Box) -> None:
        job_id = box.in_state(State.FAILED)
        box.redis.delete(box.keys.base + "wake")
        wake, _ = box.ledger.run(calls.rearm("act-1", [job_id]))
        assert wake
        box.redis.delete(box.keys.base + "wake")
        wake, _ = box.ledger.run(calls.rearm("act-2", [job_id]))
        assert not wake, "nothing was rearmed"


class TestRead:
    def test_it_changes_nothing(self, box: Box) -> None:
        """Not even where a lease has run out: then a worker has to look, not whoever asks."""
        ids = [box.in_state(state, f"n-{state}") for state in State if state is not State.QUEUED]
        box.enter("lost")
        ids.append(box.take_and_lose().id)
        before = box.picture()
        box.ledger.list_jobs()
        assert [job and job.id for job in box.ledger.jobs(ids)] == ids
        assert box.picture() == before

    def test_those_that_do_not_exist_are_none(self, box: Box) -> None:
        [job_id] = box.enter("a")
        found = box.ledger.jobs(["x", job_id, "y"])
        assert [job and job.id for job in found] == [None, job_id, None]
        with pytest.raises(NotFoundError, match="nobody"):
            box.read("nobody")

    def test_more_than_one_call_reads(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ledger.door.READ_AT_ONCE", 3)
        ids = box.enter(*(f"n{number}" for number in range(8)))
        assert [job and job.id for job in box.ledger.jobs(ids)] == ids


class TestTick:
    def test_nothing_to_do(self, box: Box) -> None:
        assert box.tick() == (False, None)
        assert box.redis.zscore(box.keys.workers, "w1") <= box.now()

    def test_a_due_job_wants_a_wake_up_once(self, box: Box) -> None:
        box.enter("a")
        box.redis.delete(box.keys.base + "wake")
        assert [box.tick(), box.tick()] == [(True, 0), (False, 0)]

    def test_not_while_a_shift_looks_for_itself(self, box: Box) -> None:
        box.claim(watching=True)
        box.enter("a")
        assert box.tick() == (False, 0)

    def test_a_job_that_is_due_later_tells_when(self, box: Box) -> None:
        box.end(Event.DEFER, delay=30)
        wake, wait = box.tick()
        assert not wake
        assert wait is not None
        assert 29 < wait <= 30

    def test_a_paused_account_wakes_nobody_until_it_opens(self, box: Box) -> None:
        box.enter("a", "b")
        box.settle(report(box.take(), Event.DEFER, category="throttled", pause=0.1))
        box.redis.delete(box.keys.base + "wake")
        wake, wait = box.tick()
        assert not wake
        assert wait is not None
        assert 0 < wait <= 0.1
        wait_until(lambda: box.tick()[0], description="the pause to end", interval=0.005)

    def test_a_blocked_account_wakes_for_its_probe(self, box: Box) -> None:
        box.enter("a", "b")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="no", blocks=True))
        box.redis.delete(box.keys.base + "wake")
        wake, wait = box.tick()
        assert not wake
        assert wait is not None
        assert calls.PROBE_SECONDS - 1 < wait <= calls.PROBE_SECONDS
        box.redis.hset(box.keys.account, "until", box.now())
        assert box.tick() == (True, 0)

    def test_leases_that_ran_out_are_seen(self, box: Box) -> None:
        box.enter("a", batch="nightly")
        job = box.take_and_lose()
        wake, wait = box.tick()
        assert not wake
        assert wait is not None
        assert DELAYS[0] - 1 < wait <= DELAYS[0]
        found = box.read(job.id)
        assert (found.state, found.attempts) == (State.VERIFYING, 1)
        assert found.error is not None
        assert (found.error.category, found.error.message) == (
            "unknown",
            "the worker was lost during the create call",
        )
        assert box.events(job.id)[-1] == (job.id, "verifying")
        assert not box.ledger.batch("nightly").done

    def test_also_behind_very_many_jobs_that_wait_for_the_account(self, box: Box) -> None:
        [job_id] = box.enter("lost")
        box.ledger.enqueue([submission("waits", id=f"waits-{number}") for number in range(1200)])
        assert box.take_and_lose().id == job_id
        box.settle(Report("none", "1", Outcome(Event.DEFER, category="balance", message="no", blocks=True)))
        box.tick()
        assert box.state(job_id) == "verifying"

    def test_a_lease_that_runs_is_left_alone(self, box: Box) -> None:
        job_id = box.in_state(State.SUBMITTING)
        box.tick()
        assert box.state(job_id) == "submitting"


class TestTidy:
    @pytest.mark.parametrize("state", sorted(ENDS))
    def test_what_ended_long_ago_goes_with_all_that_belongs_to_it(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        assert box.tidy(retention=3600) == 0
        assert box.state(job_id) == state
        box.wait_for_time(box.now())
        assert box.tidy(retention=0) == 1
        assert box.ledger.jobs([job_id]) == [None]
        left = {name for name in box.names() if not name.startswith("claim:")}
        assert left <= {"account", "counts", "ordered", "moves", "events", "wake", "listing", "seen"}
        assert set(box.redis.hvals(box.keys.base + "counts")) == {"0"}

    @pytest.mark.parametrize("state", sorted(set(State) - ENDS))
    def test_what_has_not_ended_never_goes(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        box.wait_for_time(box.now() + 2)
        assert box.tidy(retention=0) == 0
        assert box.picture() == before
        assert box.state(job_id) == state

    def test_a_key_goes_with_its_job(self, box: Box) -> None:
        [old] = box.enter("a", key="k")
        box.settle(report(box.take(), Event.CREATE))
        box.wait_for_time(box.now())
        box.tidy()
        assert "key:k" not in box.names()
        assert box.enter("a", key="k") != [old]

    def test_a_batch_goes_as_a_whole(self, box: Box) -> None:
        first = box.in_state(State.SUCCEEDED, "a", batch="nightly")
        box.enter("b", batch="nightly")
        box.wait_for_time(box.now())
        assert box.tidy() == 0
        again = box.ledger.enqueue([submission("a", entry="a")], batch="nightly")
        assert (again.receipts[0].id, again.receipts[0].duplicate) == (first, True)
        box.settle(report(box.take(), Event.CREATE))
        box.wait_for_time(box.now())
        assert box.tidy() == 2
        assert not {"batch:nightly", "entries:nightly"} & set(box.names())

    def test_a_batch_stays_until_its_last_end_is_long_ago(self, box: Box) -> None:
        early = box.in_state(State.FAILED, "a", batch="nightly")
        late = box.in_state(State.SUCCEEDED, "b", batch="nightly")
        ended_days_ago(box, "nightly", {early: 10, late: 5})
        assert box.tidy(retention=7 * DAY) == 0
        assert sorted(box.ledger.batch_job_ids("nightly")) == sorted([early, late])
        # Two days later, as it were: the whole batch goes in one go, and no part of it outlives the rest.
        assert box.tidy(retention=4 * DAY) == 2

    def test_every_end_of_a_job_puts_off_the_end_of_its_batch(self, box: Box) -> None:
        early = box.in_state(State.FAILED, "a", batch="nightly")
        box.redis.hset(box.keys.batch("nightly"), "endedAt", 1)
        began = box.now()
        box.in_state(State.SUCCEEDED, "b", batch="nightly")
        assert began <= int(box.redis.hget(box.keys.batch("nightly"), "endedAt")) <= box.now()
        box.redis.zadd(box.keys.base + "ended", {early: box.now() - round(10 * DAY * 1000)})
        assert box.tidy(retention=7 * DAY) == 0

    def test_a_batch_that_waited_for_its_last_job_goes_no_later_than_it(self, box: Box) -> None:
        early = box.in_state(State.FAILED, "a", batch="nightly")
        [last] = box.enter("b", batch="nightly")
        ended_days_ago(box, "nightly", {early: 10})
        assert box.tidy(retention=7 * DAY) == 0
        box.settle(report(box.take(), Event.CREATE))
        box.wait_for_time(box.now())
        box.tidy(retention=0)
        assert box.ledger.jobs([early, last]) == [None, None]

    def test_a_job_rearmed_in_an_old_batch_keeps_it(self, box: Box) -> None:
        early = box.in_state(State.FAILED, "a", batch="nightly")
        late = box.in_state(State.SUCCEEDED, "b", batch="nightly")
        ended_days_ago(box, "nightly", {early: 10, late: 10})
        box.rearm(early)
        assert box.tidy(retention=7 * DAY) == 0
        assert box.ledger.batch("nightly").total == 2

    def test_no_more_than_asked_for_at_once(self, box: Box) -> None:
        for number in range(5):
            box.in_state(State.CANCELLED, f"n{number}")
        box.wait_for_time(box.now())
        assert [box.tidy(limit=2) for _ in range(4)] == [2, 2, 1, 0]

    def test_what_is_forgotten_cannot_be_brought_back_by_a_late_word(self, box: Box) -> None:
        box.enter("a", key="k")
        job = box.take()
        box.settle(report(job, Event.FAIL))
        box.wait_for_time(box.now())
        assert box.tidy() == 1
        before = box.picture()
        assert box.settle(report(job, Event.CREATE), report(job, Event.DEFER)) == ["surplus", "stale"]
        assert box.cancel(job.id) == box.rearm(job.id) == [Done("", "absent")]
        assert box.resolve(job.id) == box.resolve(job.id, "i-1") == ("absent", "")
        assert box.picture() == before

    def test_workers_unheard_for_a_day_go(self, box: Box) -> None:
        box.tick()
        box.redis.zadd(
            box.keys.workers, {"gone": box.now() - 25 * 3600 * 1000, "quiet": box.now() - 23 * 3600 * 1000}
        )
        box.tidy()
        assert set(box.redis.zrange(box.keys.workers, 0, -1)) == {"w1", "quiet"}

    def test_a_life_of_everything_leaves_only_what_is_documented_to_stay(self, box: Box) -> None:
        for state in [*set(State) - {State.QUEUED}, State.QUEUED]:
            box.in_state(state, f"n-{state}", batch="nightly")
        box.enter("keyed", key="k")
        box.enter("waits", wait_for_capacity=True, until=60)
        box.ledger.run(calls.refuse("task-1", name="x", message="no"))
        box.ledger.run(calls.store_token("t", vault=PLAIN, source="login", life=60, credentials="c"))
        box.tick()
        scheduled, retrying, submitting, verifying = (
            next(job.id for job in box.ledger.list_jobs(state=state))
            for state in (State.SCHEDULED, State.RETRYING, State.SUBMITTING, State.VERIFYING)
        )
        for job in box.claim().jobs:
            box.settle(report(job, Event.CREATE))
        box.cancel(scheduled, retrying)
        attempt = calls.Claimed(submitting, "1", "{}")
        box.settle(report(attempt, Event.FAIL))
        assert box.look_up_in_time(verifying, {"i-1": "n-verifying"}) == "succeeded"
        box.wait_for_time(box.now())
        assert box.tidy() == len(State) + 3
        assert set(box.picture()) == {
            "counts", "ordered", "moves", "events", "token", "workers", "account", "listing", "seen", f"lane:{LANE}",
        }  # fmt: skip


def ended_days_ago(box: Box, batch: str, days: dict[str, float]) -> None:
    """As if these jobs of the batch had ended so many days ago."""
    moments = {job_id: box.now() - round(number * DAY * 1000) for job_id, number in days.items()}
    box.redis.zadd(box.keys.base + "ended", moments)
    box.redis.hset(box.keys.batch(batch), "endedAt", max(moments.values()))


class TestLists:
    def test_the_latest_change_comes_first(self, box: Box) -> None:
        names = ["a", "b", "c"]
        for name in names:
            box.enter(name)
            box.wait_for_time(box.now())
        assert [job.name for job in box.ledger.list_jobs()] == names[::-1]
        assert [job.name for job in box.ledger.list_jobs(limit=2)] == ["c", "b"]

    def test_by_state_and_by_batch(self, box: Box) -> None:
        failed = box.in_state(State.FAILED, "a", batch="nightly")
        other = box.in_state(State.FAILED, "b")
        queued = box.enter("c", batch="nightly")[0]
        assert {job.id for job in box.ledger.list_jobs(state=State.FAILED)} == {failed, other}
        assert {job.id for job in box.ledger.list_jobs(batch="nightly")} == {failed, queued}
        assert [job.id for job in box.ledger.list_jobs(state=State.FAILED, batch="nightly")] == [failed]
        assert box.ledger.list_jobs(batch="none") == []

    def test_a_batch_that_does_not_exist(self, box: Box) -> None:
        with pytest.raises(NotFoundError, match="nobody"):
            box.ledger.batch("nobody")
        assert box.ledger.batch_job_ids("nobody") == []
