"""Looking up what an attempt with an unknown end did: what is adopted, what is tried again, what is left to a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import wait_until
from ledger import calls
from ledger.calls import Doubt, Report
from ledger.vault import PLAIN
from ledger_box import API_KEY, DELAYS, TINY, Box, report
from tasks.jobs import sent_name
from tasks.retry import Outcome
from tasks.states import ENDS, Event, State

LATER = (15, 45, 90, 180, 360)
"""Seconds after the unknown end at which a job is looked up after the first time, if the list cannot be read."""


def due_after(box: Box, job_id: str) -> float:
    """Seconds from the unknown end to when the job is looked at next."""
    fields = box.fields(job_id)
    return (int(fields["dueAt"]) - int(fields["doubtedAt"])) / 1000


class TestFound:
    def test_it_is_adopted(self, box: Box) -> None:
        job = box.doubt("a", batch="nightly")
        assert box.look_up_in_time(job.id, {"i-0": "b", "i-1": "a"}) == "succeeded"
        found = box.read(job.id)
        assert (found.state, found.instance_id, found.error, found.reason, found.attempts, found.due_at) == (
            State.SUCCEEDED, "i-1", None, None, 1, None,
        )  # fmt: skip
        assert box.owners() == {"i-1": job.id}
        assert box.ledger.batch("nightly").done
        _, event = box.redis.xrevrange(box.keys.events, count=1)[0]
        assert (event["job"], event["state"], event["instanceId"]) == (job.id, "succeeded", "i-1")

    def test_nothing_is_kept_of_the_doubt_but_its_history(self, box: Box) -> None:
        created = box.end(Event.CREATE, "b")
        job = box.doubt("a")
        box.look_up_in_time(job.id)
        box.look_up_in_time(job.id, {"i-1": "a"})
        assert set(box.fields(job.id)) == set(box.fields(created))

    def test_at_the_last_lookup_too(self, box: Box) -> None:
        job = box.doubt("a")
        assert [box.look_up_in_time(job.id) for _ in DELAYS[1:]] == ["verifying", "verifying"]
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"

    def test_after_a_list_that_could_not_be_read(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_in_time(job.id, flaw="HTTP 500")
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"

    def test_another_jobs_is_not(self, box: Box) -> None:
        box.end(Event.CREATE, "a", instance_id="i-1")
        job = box.doubt("a")
        assert box.look_up_until_settled(job.id, {"i-1": "a"})[-1] == "retrying"

    def test_an_adopted_one_is_not_adopted_again(self, box: Box) -> None:
        first = box.doubt("a")
        box.look_up_in_time(first.id, {"i-1": "a"})
        second = box.doubt("a")
        assert box.look_up_until_settled(second.id, {"i-1": "a"})[-1] == "retrying"

    def test_one_of_a_job_that_was_forgotten_meanwhile_is_not(self, box: Box) -> None:
        job = box.doubt("a")
        has = box.end(Event.CREATE, "a", instance_id="i-1")
        box.wait_for_time(box.now())
        assert box.tidy() == 1
        assert box.ledger.jobs([has]) == [None]
        assert box.look_up_until_settled(job.id, {"i-1": "a"})[-1] == "retrying"

    def test_a_cancelled_jobs_is_not_hidden(self, box: Box) -> None:
        job = box.doubt("a")
        box.cancel(job.id)
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"


class TestWhatWasThereBefore:
    def test_it_is_not_adopted(self, box: Box) -> None:
        box.look_up({"old": "a"})
        job = box.doubt("a")
        assert box.look_up_until_settled(job.id, {"old": "a"})[-1] == "retrying"

    def test_the_new_one_beside_it_is(self, box: Box) -> None:
        box.look_up({"old": "a"})
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"old": "a", "new": "a"}) == "succeeded"
        assert box.read(job.id).instance_id == "new"

    def test_it_stays_old_however_often_it_is_listed(self, box: Box) -> None:
        box.look_up({"old": "a"})
        box.look_up({"old": "a"})
        job = box.doubt("a")
        box.look_up({"old": "a"})
        assert box.look_up_until_settled(job.id, {"old": "a"})[-1] == "retrying"

    def test_a_listing_that_ended_after_the_claim_does_not_count(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        box.wait_for_time(box.now())
        box.look_up({"i-1": "a"})
        box.settle(report(job, Event.DOUBT))
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"

    def test_nor_one_that_was_under_way_at_the_claim(self, box: Box) -> None:
        box.enter("a")
        assert box.turn("slow").mine
        job = box.take()
        box.wait_for_time(box.now())
        box.listed("slow", ["i-1"])
        box.listed("slow", end="whole")
        box.settle(report(job, Event.DOUBT))
        box.redis.delete(box.keys.base + "lookup")
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"

    def test_what_it_had_shown_by_then_does(self, box: Box) -> None:
        box.enter("a")
        box.turn("slow")
        box.listed("slow", ["i-1"])
        box.wait_for_time(box.now())
        job = box.take()
        box.listed("slow", end="whole")
        box.settle(report(job, Event.DOUBT))
        box.redis.delete(box.keys.base + "lookup")
        assert box.look_up_until_settled(job.id, {"i-1": "a"})[-1] == "retrying"

    @pytest.mark.parametrize("age", [None, calls.BASELINE_SECONDS + 1])
    def test_without_a_listing_from_before_a_match_is_left_to_a_person(
        self, box: Box, age: float | None
    ) -> None:
        box.never_listed()
        if age is not None:
            box.redis.hset(box.keys.base + "listing", "at", box.now() - round(age * 1000))
        box.look_up(flaw="HTTP 500")
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "uncertain"
        error = box.read(job.id).error
        assert error is not None
        assert "i-1" in error.message
        assert "no listing from before the attempt" in error.message
        assert f"launchq resolve {job.id}" in error.message

    def test_without_one_an_absence_says_as_much_as_ever(self, box: Box) -> None:
        box.never_listed()
        box.look_up(flaw="HTTP 500")
        job = box.doubt("a")
        assert box.look_up_until_settled(job.id, {"i-1": "b"})[-1] == "retrying"

    def test_a_listing_that_is_not_too_old_will_do(self, box: Box) -> None:
        box.look_up(flaw="HTTP 500")
        box.redis.hset(box.keys.base + "listing", "at", box.now() - round(calls.BASELINE_SECONDS * 900))
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"


class TestTaggedNames:
    def test_what_is_looked_for_is_the_name_sent(self, box: Box) -> None:
        job = box.doubt("a", unique_names=True)
        tagged = sent_name("a", job.id, unique=True)
        assert box.look_up_in_time(job.id, {"i-0": "a", "i-1": tagged}) == "succeeded"
        assert box.read(job.id).instance_id == "i-1"

    def test_no_listing_is_needed_to_know_ones_own(self, box: Box) -> None:
        box.never_listed()
        job = box.doubt("a", unique_names=True)
        assert box.look_up_in_time(job.id, {"i-1": sent_name("a", job.id, unique=True)}) == "succeeded"

    def test_it_is_ones_own_whenever_it_was_first_seen(self, box: Box) -> None:
        [job_id] = box.enter("a", unique_names=True)
        shown = {"i-1": sent_name("a", job_id, unique=True)}
        box.look_up(shown)
        box.settle(report(box.take(), Event.DOUBT))
        assert box.look_up_in_time(job_id, shown) == "succeeded"

    def test_two_of_them_are_left_to_a_person(self, box: Box) -> None:
        job = box.doubt("a", unique_names=True)
        tagged = sent_name("a", job.id, unique=True)
        assert box.look_up_in_time(job.id, {"i-1": tagged, "i-2": tagged}) == "uncertain"
        error = box.read(job.id).error
        assert error is not None
        assert "i-1" in error.message
        assert "i-2" in error.message
        assert f"Look for {tagged} in the console" in error.message

    def test_calls_under_way_for_the_same_given_name_do_not_matter(self, box: Box) -> None:
        job = box.doubt("a", unique_names=True)
        box.in_state(State.SUBMITTING, "a")
        box.time_comes(job.id)
        assert box.look_up({"i-1": sent_name("a", job.id, unique=True)}) == {job.id: "succeeded"}


class TestSeveralOfOneName:
    """They are interchangeable: which job gets which instance does not matter, but each only one, and each one once."""

    def two(self, box: Box) -> tuple[str, str]:
        first, second = (box.doubt("a").id for _ in range(2))
        box.time_comes(first, second)
        return first, second

    def test_two_instances_of_one_job_are_left_to_a_person(self, box: Box) -> None:
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"i-1": "a", "i-2": "a"}) == "uncertain"
        error = box.read(job.id).error
        assert error is not None
        assert "timeout; the list shows 2 instances that may be its own: i-1, i-2. " in error.message
        assert box.owners() == {}

    def test_one_instance_is_adopted_by_one_of_two_jobs(self, box: Box) -> None:
        two = self.two(box)
        states = box.look_up({"i-1": "a"})
        assert sorted(states.values()) == ["succeeded", "verifying"]
        [other] = [job_id for job_id in two if states[job_id] == "verifying"]
        assert box.look_up_until_settled(other, {"i-1": "a"})[-1] == "retrying"
        assert len(box.owners()) == 1

    def test_two_instances_go_to_two_jobs(self, box: Box) -> None:
        two = self.two(box)
        assert set(box.look_up({"i-1": "a", "i-2": "a"}).values()) == {"succeeded"}
        assert {box.read(job_id).instance_id for job_id in two} == {"i-1", "i-2"}

    def test_three_instances_of_two_jobs_are_left_to_a_person(self, box: Box) -> None:
        self.two(box)
        assert set(box.look_up({"i-1": "a", "i-2": "a", "i-3": "a"}).values()) == {"uncertain"}
        assert box.owners() == {}

    def test_those_of_other_names_do_not_count(self, box: Box) -> None:
        box.doubt("b")
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"i-1": "a", "i-2": "a"}) == "uncertain"

    def test_while_one_may_still_hear_of_it_nothing_is_adopted(self, box: Box) -> None:
        job = box.doubt("a")
        box.in_state(State.SUBMITTING, "a")
        began = box.now()
        for _ in range(3 * len(DELAYS)):
            assert box.look_up_in_time(job.id, {"i-1": "a"}) == "verifying"
        assert began + 1000 <= int(box.fields(job.id)["dueAt"]) <= box.now() + 1000
        assert box.owners() == {}

    def test_once_it_has_heard_the_other_goes_on(self, box: Box) -> None:
        job = box.doubt("a")
        box.enter("a")
        other = box.take()
        box.look_up_in_time(job.id, {"i-1": "a", "i-2": "a"})
        box.settle(report(other, Event.CREATE, instance_id="i-1"))
        assert box.look_up_in_time(job.id, {"i-1": "a", "i-2": "a"}) == "succeeded"
        assert box.owners() == {"i-1": other.id, "i-2": job.id}

    def test_what_the_other_has_heard_of_is_never_taken(self, box: Box) -> None:
        job = box.doubt("a")
        box.enter("a")
        other = box.take()
        box.look_up_in_time(job.id, {"i-1": "a"})
        box.settle(report(other, Event.CREATE, instance_id="i-1"))
        assert box.look_up_until_settled(job.id, {"i-1": "a"})[-1] == "retrying"

    def test_a_lost_call_holds_up_the_others_no_longer_than_its_lease(self, box: Box) -> None:
        job = box.doubt("a")
        box.enter("a")
        lost = box.take_and_lose()
        assert box.look_up_in_time(job.id, {"i-1": "a"}) == "succeeded"
        assert box.state(lost.id) == "verifying"


class TestTheNextAttemptsDoubt:
    """As long as an earlier attempt may have bought an instance, that is looked for too."""

    def not_found_and_doubted_again(self, box: Box, late: dict[str, str]) -> str:
        """A listing shows `late` after the first attempt was given up and before the second was claimed."""
        job = box.doubt("a")
        assert box.look_up_until_settled(job.id)[-1] == "retrying"
        box.look_up(late)
        assert box.doubt_again(job.id).attempt == "2"
        return job.id

    def test_the_first_ones_instance_is_adopted_though_it_was_listed_before_the_second(
        self, box: Box
    ) -> None:
        job_id = self.not_found_and_doubted_again(box, {"late": "a"})
        assert box.look_up_in_time(job_id, {"late": "a"}) == "succeeded"

    def test_what_was_there_before_the_first_is_not(self, box: Box) -> None:
        box.look_up({"old": "a"})
        job_id = self.not_found_and_doubted_again(box, {"old": "a"})
        assert box.look_up_until_settled(job_id, {"old": "a"})[-1] == "retrying"

    def test_one_of_each_is_left_to_a_person(self, box: Box) -> None:
        job_id = self.not_found_and_doubted_again(box, {"late": "a"})
        assert box.look_up_in_time(job_id, {"late": "a", "second": "a"}) == "uncertain"

    def test_it_is_looked_up_as_often_as_the_first(self, box: Box) -> None:
        job_id = self.not_found_and_doubted_again(box, {})
        assert box.look_up_until_settled(job_id) == ["verifying", "verifying", "retrying"]

    @pytest.mark.parametrize("state", [State.VERIFYING, State.UNCERTAIN])
    def test_an_attempt_that_certainly_created_nothing_is_not_looked_for(
        self, box: Box, state: State
    ) -> None:
        """Its own late answer said so; what turned up between it and the next attempt is somebody else's."""
        job_id = box.in_state(state, "a")
        assert box.settle(Report(job_id, "1", Outcome(Event.DEFER))) == ["retrying"]
        box.look_up({"foreign": "a"})
        box.doubt_again(job_id)
        assert box.look_up_until_settled(job_id, {"foreign": "a"})[-1] == "retrying"

    def test_but_one_before_it_that_may_have_still_is(self, box: Box) -> None:
        job_id = self.not_found_and_doubted_again(box, {"late": "a"})
        assert box.settle(Report(job_id, "2", Outcome(Event.DEFER))) == ["retrying"]
        box.doubt_again(job_id)
        assert box.look_up_in_time(job_id, {"late": "a"}) == "succeeded"


class TestNotFound:
    def test_after_the_last_delay_it_is_tried_again(self, box: Box) -> None:
        job = box.doubt("a", batch="nightly")
        assert due_after(box, job.id) == DELAYS[0]
        times = []
        while (state := box.look_up_in_time(job.id)) == "verifying":
            # The lease is over by hand, and the lookups are early by hand: so their times are as planned.
            times.append(due_after(box, job.id))
        assert state == "retrying"
        assert times == list(DELAYS[1:])
        assert not box.ledger.batch("nightly").done

    def test_what_the_job_then_says(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_until_settled(job.id)
        found = box.read(job.id)
        assert (found.state, found.reason, found.attempts) == (State.RETRYING, "transient", 1)
        assert found.error is not None
        assert (found.error.category, found.error.message) == (
            "unknown",
            "timeout; looked up 3 times: no instance of it in the list of instances",
        )
        assert 3_599_000 < int(box.fields(job.id)["dueAt"]) - box.now() <= 3_600_000

    def test_the_next_attempt_has_the_next_number(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_until_settled(job.id)
        assert box.claim().jobs == ()
        box.time_comes(job.id)
        again = box.take()
        assert (again.id, again.attempt, again.tries) == (job.id, "2", 1)

    def test_not_before_the_leases_end(self, box: Box) -> None:
        """A request that is still on its way may create its instance after the lookup."""
        job = box.doubt("a", lease=3600)
        for _ in range(20):
            box.time_comes(job.id, lease_is_over=False)
            assert box.look_up() == {job.id: "verifying"}
        fields = box.fields(job.id)
        assert fields["dueAt"] == fields["leaseEnd"]
        assert box.look_up_in_time(job.id) == "retrying"

    def test_the_last_lookup_is_not_planned_before_it(self, box: Box) -> None:
        job = box.doubt("a", lease=3600)
        for _ in DELAYS[1:]:
            box.time_comes(job.id, lease_is_over=False)
            box.look_up()
        fields = box.fields(job.id)
        assert fields["dueAt"] == fields["leaseEnd"]

    def test_of_a_lost_worker(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        box.tick()
        assert due_after(box, job.id) == DELAYS[0]
        assert box.look_up_until_settled(job.id) == ["verifying", "verifying", "retrying"]

    @pytest.mark.parametrize(("delays", "listings"), [((5,), 1), ((5, 15), 2), ((1, 2, 3, 4), 4)])
    def test_after_as_many_listings_as_there_are_delays(
        self, box: Box, delays: tuple[float, ...], listings: int
    ) -> None:
        job = box.doubt("a")
        states = box.look_up_until_settled(job.id, delays=delays)
        assert states == ["verifying"] * (listings - 1) + ["retrying"]

    def test_after_at_least_two_listings_that_could_be_read(self, box: Box) -> None:
        job = box.doubt("a")
        assert [box.look_up_in_time(job.id, flaw="HTTP 500") for _ in range(3)] == ["verifying"] * 3
        assert [box.look_up_in_time(job.id) for _ in range(2)] == ["verifying", "retrying"]

    def test_one_listing_said_twice_is_one(self, box: Box) -> None:
        """The client repeats what it got no answer for."""
        job = box.doubt("a")
        box.time_comes(job.id)
        doubts = box.turn("asker").doubts
        for _ in range(5):
            box.verify("asker", doubts, {})
        assert box.state(job.id) == "verifying"
        assert due_after(box, job.id) == DELAYS[1]

    @pytest.mark.parametrize(("own", "workers"), [(1, 8), (None, 1)])
    def test_beyond_the_budget_it_fails(self, box: Box, own: int | None, workers: int) -> None:
        job = box.doubt("a", batch="nightly", max_attempts=own)
        assert box.look_up_until_settled(job.id, max_attempts=workers)[-1] == "failed"
        found = box.read(job.id)
        assert (found.state, found.attempts) == (State.FAILED, 1)
        assert found.error is not None
        assert found.error.category == "unknown"
        assert "no instance of it in the list" in found.error.message
        assert box.ledger.batch("nightly").done

    def test_the_jobs_own_budget_goes_before_the_workers(self, box: Box) -> None:
        job = box.doubt("a", max_attempts=2)
        assert box.look_up_until_settled(job.id, max_attempts=1)[-1] == "retrying"
        box.doubt_again(job.id)
        assert box.look_up_until_settled(job.id, max_attempts=9)[-1] == "failed"

    @pytest.mark.parametrize("max_attempts", [8, 1])
    def test_where_it_was_to_be_cancelled_it_is(self, box: Box, max_attempts: int) -> None:
        job = box.doubt("a", batch="nightly")
        box.cancel(job.id)
        assert box.look_up_until_settled(job.id, max_attempts=max_attempts)[-1] == "cancelled"
        assert (box.read(job.id).state, box.read(job.id).reason) == (State.CANCELLED, None)
        assert box.ledger.batch("nightly").done
        assert box.claim().jobs == ()


class TestUnreadable:
    def test_it_is_looked_up_ever_later_and_then_left_to_a_person(self, box: Box) -> None:
        job = box.doubt("a", batch="nightly")
        times = []
        while (state := box.look_up_in_time(job.id, flaw="HTTP 500: 系统繁忙")) == "verifying":
            times.append(due_after(box, job.id))
        assert state == "uncertain"
        assert times == list(LATER)
        error = box.read(job.id).error
        assert error is not None
        assert error.message == (
            "timeout; looked up 6 times, the list of instances could not be read: HTTP 500: 系统繁忙. "
            f"Look for a in the console, then tell: launchq resolve {job.id} "
            "--created INSTANCE_ID, or --not-created"
        )
        assert box.ledger.batch("nightly").done
        assert box.claim().jobs == ()

    def test_what_half_a_list_shows_is_not_adopted(self, box: Box) -> None:
        job = box.doubt("a")
        assert box.look_up_in_time(job.id, {"i-1": "a"}, flaw="HTTP 500") == "verifying"
        assert box.owners() == {}

    def test_what_half_a_list_shows_is_no_longer_new(self, box: Box) -> None:
        box.look_up({"old": "a"}, flaw="HTTP 500")
        job = box.doubt("a")
        assert box.look_up_until_settled(job.id, {"old": "a"})[-1] == "retrying"

    @pytest.mark.parametrize("readable", [0, 1, 3, 4])
    def test_one_that_could_be_read_among_them_settles_nothing(self, box: Box, readable: int) -> None:
        job = box.doubt("a")
        states = [box.look_up_in_time(job.id, flaw="" if at == readable else "HTTP 500") for at in range(6)]
        assert states == ["verifying"] * 5 + ["uncertain"]

    @pytest.mark.parametrize("pattern", ["xx.x.", "x.x.", "....", "xxxxx..", "x.xxx."])
    def test_the_second_one_that_can_be_read_settles_it_from_the_last_delay_on(
        self, box: Box, pattern: str
    ) -> None:
        job = box.doubt("a")
        states: list[str] = []
        for one in pattern:
            if states[-1:] not in ([], ["verifying"]):
                break
            states.append(box.look_up_in_time(job.id, flaw="HTTP 500" if one == "x" else ""))
        assert states[-1] == "retrying"
        assert len(states) >= len(DELAYS)
        assert pattern[: len(states)].count(".") >= 2


class TestFences:
    """What a lookup says counts once, for the attempt that was looked up, while the asker has the turn."""

    def asked(self, box: Box) -> Doubt:
        job = box.doubt("a")
        box.time_comes(job.id)
        [doubt] = box.turn("asker").doubts
        return doubt

    @pytest.mark.parametrize("flaw", ["", "HTTP 500"])
    @pytest.mark.parametrize("shown", [{}, {"i-1": "a"}, {"i-1": "a", "i-2": "a"}])
    def test_another_attempt_is_left_alone(self, box: Box, shown: dict[str, str], flaw: str) -> None:
        doubt = self.asked(box)
        before = box.picture()
        for attempt in ("0", "2", ""):
            stale = replace(doubt, attempt=attempt)
            assert box.verify("asker", [stale], shown, flaw=flaw) == ["stale"]
        assert box.picture() == before

    @pytest.mark.parametrize("shown", [{}, {"i-1": "a"}, {"i-1": "a", "i-2": "a"}])
    def test_who_has_not_the_turn_changes_nothing(self, box: Box, shown: dict[str, str]) -> None:
        doubt = self.asked(box)
        before = box.picture()
        assert box.verify("other", [doubt], shown) == []
        assert not box.listed("other", shown, end="whole")
        assert box.picture() == before

    @pytest.mark.parametrize("next_one", ["", "other"])
    def test_nor_who_has_had_it(self, box: Box, next_one: str) -> None:
        doubt = self.asked(box)
        assert box.ledger.run(calls.keep_turn("lookup", "asker", lasts=TINY))
        wait_until(lambda: "lookup" not in box.names(), description="the turn to end", interval=0.0005)
        assert not box.ledger.run(calls.keep_turn("lookup", "asker", lasts=60)), (
            "what is over is not taken again"
        )
        if next_one:
            assert box.turn(next_one).mine
        before = box.picture()
        assert box.verify("asker", [doubt], {"i-1": "a"}) == []
        assert not box.listed("asker", ["i-1"], end="whole")
        assert box.picture() == before

    @pytest.mark.parametrize("flaw", ["", "HTTP 500"])
    @pytest.mark.parametrize("shown", [{}, {"i-1": "a"}, {"i-1": "a", "i-2": "a"}])
    def test_repeated_it_changes_nothing(self, box: Box, shown: dict[str, str], flaw: str) -> None:
        doubt = self.asked(box)
        box.verify("asker", [doubt], shown, flaw=flaw)
        before = box.picture()
        box.verify("asker", [doubt], shown, flaw=flaw)
        assert box.picture() == before

    @pytest.mark.parametrize("state", sorted(set(State) - {State.VERIFYING}))
    def test_a_job_that_is_not_verified_is_left_alone(self, box: Box, state: State) -> None:
        job_id = box.in_state(state, "a")
        assert box.turn("asker").mine
        before = box.picture()
        doubt = Doubt(job_id, box.fields(job_id)["attempt"], "a", 1, None)
        for shown in ({}, {"i-9": "a"}, {"i-8": "a", "i-9": "a"}):
            assert box.verify("asker", [doubt], shown) == ["stale"]
        assert box.picture() == before

    def test_a_job_that_does_not_exist_is_not_made(self, box: Box) -> None:
        box.turn("asker")
        before = box.picture()
        assert box.verify("asker", [Doubt("nobody", "1", "a", 1, None)], {"i-1": "a"}) == ["stale"]
        assert box.picture() == before

    def test_one_that_is_stale_does_not_stand_in_the_way_of_others(self, box: Box) -> None:
        doubt = self.asked(box)
        nobody = Doubt("nobody", "1", "a", 1, None)
        assert box.verify("asker", [nobody, doubt, nobody], {"i-1": "a"}) == ["stale", "succeeded", "stale"]


class TestTurn:
    def test_one_has_it_at_a_time(self, box: Box) -> None:
        assert box.turn("one").mine
        other = box.turn("other")
        assert (other.mine, other.doubts) == (False, ())

    def test_it_is_kept_by_who_has_it_and_by_nobody_else(self, box: Box) -> None:
        box.turn("one", lasts=1)
        assert not box.ledger.run(calls.keep_turn("lookup", "other", lasts=60))
        assert box.redis.pttl(box.keys.base + "lookup") <= 1000
        assert box.ledger.run(calls.keep_turn("lookup", "one", lasts=60))
        assert box.redis.pttl(box.keys.base + "lookup") > 1000

    def test_it_ends_by_itself(self, box: Box) -> None:
        box.turn("one", lasts=TINY)
        wait_until(lambda: box.turn("other").mine, description="the turn to end", interval=0.0005)

    def test_after_its_end_there_is_a_rest(self, box: Box) -> None:
        box.turn("one")
        assert box.listed("one", end="whole")
        assert 0 < box.redis.pttl(box.keys.base + "lookup") <= calls.LOOKUP_REST * 1000
        assert not box.turn("other").mine
        wait_until(lambda: box.turn("other").mine, description="the rest to end", interval=0.01)

    def test_during_the_rest_no_lookup_is_wanted(self, box: Box) -> None:
        job = box.doubt("a")
        box.turn("one")
        box.listed("one", end="whole")
        box.time_comes(job.id)
        assert not box.claim().lookup

    def test_it_tells_what_is_due_and_only_that(self, box: Box) -> None:
        due, tagged, later = box.doubt("a", max_attempts=3), box.doubt("b", unique_names=True), box.doubt("c")
        box.time_comes(due.id, tagged.id)
        assert sorted(box.turn().doubts, key=lambda doubt: doubt.name) == [
            Doubt(due.id, "1", "a", 1, 3),
            Doubt(tagged.id, "1", sent_name("b", tagged.id, unique=True), 1, None),
        ]
        assert box.state(later.id) == "verifying"

    def test_no_more_than_asked_for_at_once(self, box: Box) -> None:
        ids = [box.doubt("a").id for _ in range(5)]
        box.time_comes(*ids)
        assert len(box.turn(limit=2).doubts) == 2

    def test_without_a_token_nobody_gets_it(self, box: Box) -> None:
        def turn() -> calls.Turn:
            return box.ledger.run(
                calls.lookup_turn("one", lasts=60, limit=9, verify_delays=DELAYS, api_key="", vault=PLAIN)
            )

        assert not turn().mine
        assert box.turn("other").mine, "who has an API key needs none"
        box.redis.delete(box.keys.base + "lookup")
        box.ledger.run(calls.store_token("secret-token", source="login", life=3600, vault=PLAIN))
        with_token = turn()
        assert with_token.mine
        assert with_token.token is not None
        assert with_token.token.value == "secret-token"
        assert box.turn("one").token is None, f"who has {API_KEY} gets none"

    def test_leases_that_ran_out_are_seen(self, box: Box) -> None:
        box.enter("a")
        lost = box.take_and_lose()
        assert box.turn().doubts == (), "it has just become one, and is looked up later"
        assert box.state(lost.id) == "verifying"


class TestListed:
    def listing(self, box: Box) -> dict[str, str]:
        found: dict[str, str] = box.redis.hgetall(box.keys.base + "listing")
        return found

    def test_a_whole_one_is_noted_at_its_end(self, box: Box) -> None:
        box.never_listed()
        box.turn("one")
        box.listed("one", ["i-1"])
        assert self.listing(box) == {}
        began = box.now()
        assert box.ledger.run(calls.listed("one", (), end="whole", took=1.5))
        kept = self.listing(box)
        assert began <= int(kept.pop("at")) <= box.now()
        assert kept == {"took": "1500"}

    def test_one_that_failed_leaves_the_last_whole_one(self, box: Box) -> None:
        before = self.listing(box)
        box.look_up(flaw="HTTP 500")
        after = self.listing(box)
        assert int(after.pop("failedAt")) <= box.now()
        assert after == before

    def test_a_whole_one_ends_the_rest_after_a_failed_one(self, box: Box) -> None:
        box.look_up(flaw="HTTP 500")
        box.look_up()
        assert "failedAt" not in self.listing(box)

    def test_when_an_instance_was_first_seen_stays(self, box: Box) -> None:
        box.look_up({"i-1": "a"})
        seen = box.redis.zscore(box.keys.seen, "i-1")
        box.look_up({"i-1": "a"})
        assert box.redis.zscore(box.keys.seen, "i-1") == seen

    def test_its_end_said_again_is_the_same_end(self, box: Box) -> None:
        box.turn("one")
        assert [box.listed("one", ["i-1"], end="whole") for _ in range(2)] == [True, True]
        assert not box.turn("other").mine


@pytest.mark.parametrize("state", sorted(ENDS))
def test_what_has_ended_is_not_looked_up(box: Box, state: State) -> None:
    job_id = box.in_state(state, "a")
    assert job_id not in [doubt.id for doubt in box.turn().doubts]
