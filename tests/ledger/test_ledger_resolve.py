"""A person says what happened to a job that the list of instances could not tell about."""

from __future__ import annotations

import pytest

from ledger_box import Box, report
from tasks.states import Event, State


class TestCreated:
    def test_the_job_has_the_instance(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN, batch="nightly")
        assert box.resolve(job_id, "i-1") == ("resolved", "succeeded")
        found = box.read(job_id)
        assert (found.state, found.instance_id, found.error, found.reason, found.attempts) == (
            State.SUCCEEDED, "i-1", None, None, 1,
        )  # fmt: skip
        assert box.owners() == {"i-1": job_id}
        assert box.ledger.batch("nightly").done

    def test_who_said_so_is_kept(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        began = box.now()
        box.resolve(job_id, "i-1")
        fields = box.fields(job_id)
        assert (fields["resolved"], fields["resolvedBy"]) == ("i-1", "me@here")
        assert began <= int(fields["resolvedAt"]) <= box.now()

    def test_no_other_job_adopts_it(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN, "a")
        other = box.doubt("a")
        box.resolve(job_id, "i-1")
        assert box.look_up_until_settled(other.id, {"i-1": "a"})[-1] == "retrying"

    def test_its_own_late_answer_is_no_news(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_until_settled(job.id, flaw="HTTP 500")
        box.resolve(job.id, "i-1")
        assert box.settle(report(job, Event.CREATE, instance_id="i-1")) == ["stale"]

    def test_its_own_late_answer_that_says_another_is_noted(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_until_settled(job.id, flaw="HTTP 500")
        box.resolve(job.id, "i-1")
        assert box.settle(report(job, Event.CREATE, instance_id="i-2")) == ["surplus"]
        assert box.read(job.id).instance_id == "i-1"


class TestNotCreated:
    def test_the_job_has_failed(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN, batch="nightly")
        assert box.resolve(job_id) == ("resolved", "failed")
        found = box.read(job_id)
        assert (found.state, found.instance_id) == (State.FAILED, None)
        assert found.error is not None
        assert found.error.message == "me@here says that no instance was created: I looked"
        assert box.ledger.batch("nightly").done
        assert box.claim().jobs == ()

    def test_without_a_reason(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        box.resolve(job_id, why="")
        error = box.read(job_id).error
        assert error is not None
        assert error.message == "me@here says that no instance was created"

    def test_it_can_be_tried_again(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        box.resolve(job_id)
        assert box.rearm(job_id)[0].what == "rearmed"
        job = box.take()
        assert (job.id, job.attempt, job.tries) == (job_id, "2", 0)

    def test_what_came_before_is_settled(self, box: Box) -> None:
        """The next attempt is compared with a listing of its own: what a person has seen was not this job's."""
        job_id = box.in_state(State.UNCERTAIN, "a")
        box.resolve(job_id)
        box.look_up({"foreign": "a"})
        box.rearm(job_id)
        box.doubt_again(job_id)
        shown = {f"{job_id}-one": "a", f"{job_id}-other": "a", "foreign": "a"}
        assert box.look_up_until_settled(job_id, shown)[-1] == "retrying"

    def test_the_next_attempts_own_instance_is_found(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN, "a")
        box.resolve(job_id)
        box.rearm(job_id)
        box.doubt_again(job_id)
        shown = {f"{job_id}-one": "a", f"{job_id}-other": "a", "new": "a"}
        assert box.look_up_until_settled(job_id, shown) == ["succeeded"]
        assert box.read(job_id).instance_id == "new"

    def test_an_attempt_that_did_create_is_believed_all_the_same(self, box: Box) -> None:
        job = box.doubt("a")
        box.look_up_until_settled(job.id, flaw="HTTP 500")
        box.resolve(job.id)
        assert box.settle(report(job, Event.CREATE, instance_id="i-1")) == ["succeeded"]

    def test_a_wish_to_cancel_ends_with_it(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        box.cancel(job_id)
        assert box.resolve(job_id) == ("resolved", "failed")
        box.rearm(job_id)
        assert box.settle(report(box.take(), Event.DEFER)) == ["retrying"]

    def test_a_second_time_it_is_said_of_the_second_attempt(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN, "a")
        box.resolve(job_id)
        box.rearm(job_id)
        box.doubt_again(job_id)
        assert box.look_up_in_time(job_id, {"x": "a", "y": "a"}) == "uncertain"
        assert box.resolve(job_id) == ("resolved", "failed")
        assert box.state(job_id) == "failed"


class TestRefused:
    @pytest.mark.parametrize("instance_id", ["", "i-1"])
    @pytest.mark.parametrize("state", sorted(set(State) - {State.UNCERTAIN}))
    def test_where_nothing_is_uncertain(self, box: Box, state: State, instance_id: str) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        assert box.resolve(job_id, instance_id) == ("refused", state)
        assert box.picture() == before

    def test_an_instance_that_another_job_has(self, box: Box) -> None:
        has = box.end(Event.CREATE, "a", instance_id="i-1")
        job_id = box.in_state(State.UNCERTAIN)
        before = box.picture()
        assert box.resolve(job_id, "i-1") == ("owned", has)
        assert box.picture() == before

    def test_an_instance_that_another_jobs_given_up_attempt_created(self, box: Box) -> None:
        first = box.doubt("a")
        box.look_up_until_settled(first.id)
        box.time_comes(first.id)
        box.take()
        box.settle(report(first, Event.CREATE, instance_id="i-1"))
        job_id = box.in_state(State.UNCERTAIN, "b")
        assert box.resolve(job_id, "i-1") == ("owned", first.id)

    @pytest.mark.parametrize("instance_id", ["", "i-1"])
    def test_a_job_that_does_not_exist(self, box: Box, instance_id: str) -> None:
        before = box.picture()
        assert box.resolve("nobody", instance_id) == ("absent", "")
        assert box.picture() == before


class TestAgain:
    @pytest.mark.parametrize(("instance_id", "state"), [("", "failed"), ("i-1", "succeeded")])
    def test_the_same_again_changes_nothing(self, box: Box, instance_id: str, state: str) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        box.resolve(job_id, instance_id)
        before = box.picture()
        assert box.resolve(job_id, instance_id) == ("resolved", state)
        assert box.picture() == before

    @pytest.mark.parametrize(("first", "then"), [("", "i-1"), ("i-1", ""), ("i-1", "i-2")])
    def test_something_else_is_refused(self, box: Box, first: str, then: str) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        _, state = box.resolve(job_id, first)
        before = box.picture()
        assert box.resolve(job_id, then) == ("refused", state)
        assert box.picture() == before

    def test_it_does_not_undo_what_came_after_it(self, box: Box) -> None:
        job_id = box.in_state(State.UNCERTAIN)
        box.resolve(job_id)
        box.rearm(job_id)
        before = box.picture()
        assert box.resolve(job_id) == ("refused", "queued")
        assert box.picture() == before
