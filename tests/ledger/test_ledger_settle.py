"""Writing down how attempts ended: once, by the attempt itself, and never over a later one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger import calls
from ledger.calls import AccountNews, Claimed, Report
from ledger_box import DELAYS, UNTOUCHED, Box, report
from tasks.retry import UNSENT, Outcome
from tasks.states import ATTEMPT_EVENTS, ENDS, IN_DOUBT, MOVES, Event, State


def test_created(box: Box) -> None:
    box.enter("a", batch="nightly")
    job = box.take()
    assert box.settle(report(job, Event.CREATE, instance_id="notebook-1")) == ["succeeded"]
    found = box.read(job.id)
    assert (found.state, found.instance_id, found.error, found.reason, found.attempts, found.due_at) == (
        State.SUCCEEDED, "notebook-1", None, None, 1, None,
    )  # fmt: skip
    _, fields = box.redis.xrevrange(box.keys.events, count=1)[0]
    assert fields == {
        "job": job.id,
        "state": "succeeded",
        "attempt": "1",
        "batchId": "nightly",
        "instanceId": "notebook-1",
    }


def test_created_after_trouble_leaves_no_trace_of_it(box: Box) -> None:
    """A poller asks for the message only to learn of an error."""
    box.enter("a")
    box.settle(report(box.take(), Event.DEFER, category="transient", message="refused", spends=True))
    job = box.take()
    box.settle(report(job, Event.CREATE))
    assert box.redis.hmget(box.keys.job(job.id), "state", "instanceId", "message") == [
        "succeeded",
        f"notebook-{job.id}",
        None,
    ]
    assert not {"category", "reason", "message"} & set(box.fields(job.id))
    assert box.read(job.id).attempts == 2


def test_rejected(box: Box) -> None:
    box.enter("a")
    job = box.take()
    message = '字段 "instanceConfiguration.enableDocker" 未设置'
    assert box.settle(report(job, Event.FAIL, category="rejected", message=message)) == ["failed"]
    found = box.read(job.id)
    assert found.error is not None
    assert (found.state, found.error.category, found.error.message, found.attempts) == (
        State.FAILED,
        "rejected",
        message,
        1,
    )


@pytest.mark.parametrize("category", ["transient", "throttled", "auth", "capacity"])
def test_deferred(box: Box, category: str) -> None:
    box.enter("a")
    job = box.take()
    began = box.now()
    assert box.settle(
        report(job, Event.DEFER, category=category, message="later", delay=30, spends=True)
    ) == ["retrying"]
    found = box.read(job.id)
    assert (found.state, found.reason, found.attempts) == (State.RETRYING, category, 1)
    assert found.error is not None
    assert found.error.message == "later"
    assert began + 30_000 <= int(box.fields(job.id)["dueAt"]) <= box.now() + 30_000


def test_doubted(box: Box) -> None:
    box.enter("a")
    job = box.take()
    began = box.now()
    assert box.settle(report(job, Event.DOUBT, category="unknown", message="reset after sending")) == [
        "verifying"
    ]
    found = box.read(job.id)
    assert found.error is not None
    assert (found.state, found.reason, found.error.message, found.attempts) == (
        State.VERIFYING,
        None,
        "reset after sending",
        1,
    )
    first = DELAYS[0] * 1000
    assert began + first <= int(box.fields(job.id)["dueAt"]) <= box.now() + first
    assert box.claim().jobs == ()


def test_a_doubt_counts_as_an_attempt_and_a_try_whatever_the_report_says(box: Box) -> None:
    box.enter("a")
    job = box.take()
    box.settle(report(job, Event.DOUBT, counts=False))
    fields = box.fields(job.id)
    assert (fields["attempts"], fields["tries"]) == ("1", "1")


@pytest.mark.parametrize(
    ("outcome", "attempts", "tries"),
    [
        (Outcome(Event.DEFER, spends=True), 1, 1),
        (Outcome(Event.DEFER), 1, 0),
        (Outcome(Event.DEFER, counts=False), 0, 0),
        (replace(UNSENT, delay=0.0), 0, 0),
    ],
)
def test_what_counts_as_an_attempt_and_as_a_try(
    box: Box, outcome: Outcome, attempts: int, tries: int
) -> None:
    box.enter("a")
    job = box.take()
    box.settle(Report(job.id, job.attempt, outcome))
    again = box.take()
    assert (box.read(job.id).attempts, again.tries, again.attempt) == (attempts, tries, "2")


def test_many_at_once_each_on_its_own(box: Box) -> None:
    box.enter(*"abcd")
    jobs = box.claim().jobs
    events = [Event.CREATE, Event.FAIL, Event.DOUBT, Event.DEFER]
    states = box.settle(*(report(job, event, delay=60) for job, event in zip(jobs, events, strict=True)))
    assert states == ["succeeded", "failed", "verifying", "retrying"]


OTHER_ATTEMPTS = ("0", "1", "3", "", "02", "2.0")
"""Of a job whose last attempt is the second."""

WITHOUT_INSTANCE = sorted(ATTEMPT_EVENTS - {Event.CREATE})


class TestStale:
    @pytest.mark.parametrize("event", WITHOUT_INSTANCE)
    @pytest.mark.parametrize("attempt", OTHER_ATTEMPTS)
    def test_a_report_of_another_attempt_is_refused(self, box: Box, event: Event, attempt: str) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER))
        job = box.take()
        before = box.picture()
        assert box.settle(Report(job.id, attempt, Outcome(event))) == ["stale"]
        assert box.picture() == before

    @pytest.mark.parametrize("attempt", ["0", "1", "3"])
    def test_also_of_an_instance_that_is_noted_beside_the_job(self, box: Box, attempt: str) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER))
        job = box.take()
        before = box.picture(without={"history", "owners", "seen"})
        assert box.settle(Report(job.id, attempt, Outcome(Event.CREATE, instance_id="stray"))) == ["surplus"]
        assert box.picture(without={"history", "owners", "seen"}) == before

    @pytest.mark.parametrize("event", sorted(ATTEMPT_EVENTS))
    def test_repeated_it_is_refused_and_changes_nothing(self, box: Box, event: Event) -> None:
        box.enter("a", "b", batch="nightly")
        job = box.take()
        call = calls.settle([report(job, event, delay=60, spends=True)], AccountNews(), verify_delays=DELAYS)
        assert box.ledger.run(call) != ["stale"]
        before = box.picture()
        assert box.ledger.run(call) == ["stale"]
        assert box.picture() == before

    def test_twice_in_one_group_it_counts_once(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        assert box.settle(report(job, Event.DEFER, spends=True), report(job, Event.DEFER, spends=True)) == [
            "retrying",
            "stale",
        ]
        assert box.read(job.id).attempts == 1

    @pytest.mark.parametrize("event", WITHOUT_INSTANCE)
    @pytest.mark.parametrize("state", sorted(set(State) - {State.SUBMITTING, *IN_DOUBT}))
    def test_where_no_call_is_under_way_there_is_nothing_to_report(
        self, box: Box, state: State, event: Event
    ) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        attempt = box.fields(job_id)["attempt"]
        assert box.settle(Report(job_id, attempt, Outcome(event))) == ["stale"]
        assert box.picture() == before

    def test_of_a_job_that_does_not_exist(self, box: Box) -> None:
        created = Report("nobody", "1", Outcome(Event.CREATE, instance_id="stray"))
        assert box.settle(created, Report("nobody", "1", Outcome(Event.DOUBT))) == ["surplus", "stale"]
        assert box.names() == UNTOUCHED

    def test_one_stale_report_does_not_stand_in_the_way_of_others(self, box: Box) -> None:
        box.enter("a", "b")
        first, second = box.claim().jobs
        stale = Report(first.id, "7", Outcome(Event.FAIL))
        assert box.settle(stale, report(second, Event.CREATE), report(first, Event.FAIL)) == [
            "stale",
            "succeeded",
            "failed",
        ]


class TestLateAnswers:
    """The worker was slow, not dead: its lease ran out, and then its call ended after all."""

    @pytest.mark.parametrize("event", [Event.CREATE, Event.DEFER, Event.FAIL])
    @pytest.mark.parametrize("state", sorted(IN_DOUBT))
    def test_the_last_attempts_own_answer_settles_a_doubt(self, box: Box, state: State, event: Event) -> None:
        job_id = box.in_state(state, batch="nightly")
        assert box.ledger.batch("nightly").done is (state in ENDS)
        late = Claimed(job_id, "1", "")
        assert box.settle(report(late, event, delay=60)) == [MOVES[state][event]]
        assert box.ledger.batch("nightly").done is (event is not Event.DEFER)
        assert box.read(job_id).attempts == 1, "the doubt has counted already"

    @pytest.mark.parametrize(
        "state", sorted({*IN_DOUBT, State.RETRYING, State.FAILED, State.QUEUED, State.CANCELLED})
    )
    def test_a_creation_is_believed_in_every_state(self, box: Box, state: State) -> None:
        [job_id] = box.enter("a", batch="nightly")
        job = bring_after_a_lost_attempt(box, job_id, state)
        assert box.settle(report(job, Event.CREATE)) == ["succeeded"]
        found = box.read(job_id)
        assert (found.state, found.instance_id, found.error, found.reason) == (
            State.SUCCEEDED, f"notebook-{job_id}", None, None,
        )  # fmt: skip
        assert box.ledger.batch("nightly").done
        assert box.claim().jobs == ()
        assert box.owners() == {f"notebook-{job_id}": job_id}

    def test_of_a_job_that_has_its_instance_another_is_noted(self, box: Box) -> None:
        """The list showed one that was taken for its own, and now it says which one was."""
        job = box.doubt()
        assert box.look_up_in_time(job.id, {"adopted": "trainer"}) == "succeeded"
        assert box.settle(report(job, Event.CREATE, instance_id="own")) == ["surplus"]
        assert box.read(job.id).instance_id == "adopted"
        assert box.owners() == {"adopted": job.id, "own": job.id}

    def test_that_it_created_what_was_found_is_no_news(self, box: Box) -> None:
        job = box.doubt()
        assert box.look_up_in_time(job.id, {"i-1": "trainer"}) == "succeeded"
        before = box.picture()
        assert box.settle(report(job, Event.CREATE, instance_id="i-1")) == ["stale"]
        assert box.picture() == before

    @pytest.mark.parametrize("state", sorted(IN_DOUBT))
    def test_a_doubt_adds_nothing(self, box: Box, state: State) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        assert box.settle(Report(job_id, "1", Outcome(Event.DOUBT))) == ["stale"]
        assert box.picture() == before

    def test_before_anybody_has_noticed_it_is_not_late(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        assert box.settle(report(job, Event.CREATE)) == ["succeeded"]
        assert "verifying" not in [state for _, state in box.events()]


def bring_after_a_lost_attempt(box: Box, job_id: str, state: State) -> Claimed:
    """The job's first attempt is lost, and nothing was found of it; then on to this state. The attempt."""
    job = box.take_and_lose()
    box.tick()
    if state is State.UNCERTAIN:
        box.look_up_until_settled(job_id, flaw="HTTP 500")
    elif state is State.CANCELLED:
        box.cancel(job_id)
        box.look_up_until_settled(job_id)
    elif state is not State.VERIFYING:
        box.look_up_until_settled(job_id, max_attempts=8 if state is State.RETRYING else 1)
    if state is State.QUEUED:
        box.rearm(job_id)
    assert box.state(job_id) == state
    return job


class TestSurplus:
    """An attempt that another has followed turns out to have created an instance."""

    def given_up(self, box: Box) -> Claimed:
        """An attempt of which nothing was found; another has been claimed."""
        first = box.doubt("a")
        assert box.look_up_until_settled(first.id)[-1] == "retrying"
        box.time_comes(first.id)
        assert box.take().attempt == "2"
        return first

    def test_it_is_said_once(self, box: Box) -> None:
        first = self.given_up(box)
        assert box.settle(report(first, Event.CREATE)) == ["surplus"]
        before = box.picture()
        assert box.settle(report(first, Event.CREATE)) == ["stale"]
        assert box.picture() == before

    def test_the_job_goes_on_as_it_was(self, box: Box) -> None:
        first = self.given_up(box)
        before = box.fields(first.id)
        box.settle(report(first, Event.CREATE))
        assert box.fields(first.id) == before
        second = replace(first, attempt="2")
        assert box.settle(report(second, Event.CREATE, instance_id="second")) == ["succeeded"]
        assert box.read(first.id).instance_id == "second"

    def test_it_belongs_to_its_job_and_no_other_adopts_it(self, box: Box) -> None:
        first = self.given_up(box)
        other = box.doubt("a")
        box.settle(report(first, Event.CREATE, instance_id="i-1"))
        assert box.owners() == {"i-1": first.id}
        second = replace(first, attempt="2")
        box.settle(report(second, Event.FAIL))  # no call of the name is under way any more
        assert box.look_up_until_settled(other.id, {"i-1": "a"})[-1] == "retrying"

    def test_it_goes_with_its_job(self, box: Box) -> None:
        first = self.given_up(box)
        box.settle(report(first, Event.CREATE), report(replace(first, attempt="2"), Event.FAIL))
        box.wait_for_time(box.now())
        assert box.tidy() == 1
        assert box.owners() == {}

    def test_it_stands_in_the_history(self, box: Box) -> None:
        first = self.given_up(box)
        box.settle(report(first, Event.CREATE, instance_id="i-1"))
        [line] = [one for one in box.history(first.id) if one.event == "surplus"]
        assert (line.state, line.attempt, line.instance_id) == ("submitting", 1, "i-1")
        assert line.message is not None
        assert "after it had been given up" in line.message

    def test_the_next_attempts_doubt_is_settled_by_it(self, box: Box) -> None:
        """The list shows it, and it is the job's: nothing else has to be looked for."""
        first = self.given_up(box)
        box.settle(report(first, Event.CREATE, instance_id="i-1"))
        box.settle(report(replace(first, attempt="2"), Event.DOUBT))
        assert box.look_up_in_time(first.id, {"i-1": "a"}) == "succeeded"
        assert box.read(first.id).instance_id == "i-1"


class TestAnothersInstance:
    """Two jobs of one name: what one has adopted, the other's call says it created."""

    def test_the_other_goes_on_looking_for_its_own(self, box: Box) -> None:
        box.enter("a", "a")
        lost, slow = box.claim().jobs
        box.settle(report(lost, Event.DOUBT))
        box.time_comes(slow.id)
        box.tick()  # its lease is over, so that its name is free to be adopted
        assert box.look_up_in_time(lost.id, {"i-1": "a"}) == "succeeded"
        before = box.fields(slow.id)
        assert box.settle(report(slow, Event.CREATE, instance_id="i-1")) == ["stale"]
        assert box.fields(slow.id) == before
        assert box.look_up_in_time(slow.id, {"i-1": "a", "i-2": "a"}) == "succeeded"
        assert box.owners() == {"i-1": lost.id, "i-2": slow.id}

    def test_a_call_under_way_that_names_it_is_in_doubt(self, box: Box) -> None:
        has = box.end(Event.CREATE, "a", instance_id="i-1")
        box.enter("a")
        job = box.take()
        assert box.settle(report(job, Event.CREATE, instance_id="i-1")) == ["verifying"]
        error = box.read(job.id).error
        assert error is not None
        assert (error.category, error.message) == (
            "unknown",
            f"the API answered with i-1, which is the instance of job {has}",
        )
        assert box.owners() == {"i-1": has}

    @pytest.mark.parametrize("state", [State.RETRYING, State.UNCERTAIN, State.FAILED, State.CANCELLED])
    def test_a_late_word_of_it_changes_nothing(self, box: Box, state: State) -> None:
        has = box.end(Event.CREATE, "a", instance_id="i-1")
        [job_id] = box.enter("a")
        job = bring_after_a_lost_attempt(box, job_id, state)
        before = box.picture()
        assert box.settle(report(job, Event.CREATE, instance_id="i-1")) == ["stale"]
        assert box.picture() == before
        assert box.owners() == {"i-1": has}


class TestAccount:
    def test_a_throttle_pauses_it(self, box: Box) -> None:
        box.enter("a")
        began = box.now()
        box.settle(
            report(box.take(), Event.DEFER, category="throttled", message="slow down", pause=7, delay=8)
        )
        account = box.account()
        assert (account["state"], account["reason"], account["message"]) == (
            "paused",
            "throttled",
            "slow down",
        )
        assert began + 7000 <= int(account["until"]) <= box.now() + 7000

    def test_the_longest_pause_of_a_group_counts(self, box: Box) -> None:
        box.enter("a", "b", "c")
        one, two, three = box.claim().jobs
        box.settle(
            report(one, Event.DEFER, message="short", pause=1),
            report(two, Event.DEFER, message="long", pause=60),
            report(three, Event.CREATE),
        )
        assert (box.account()["message"], box.claim().why) == ("long", "paused")
        assert int(box.account()["until"]) > box.now() + 50_000

    def test_a_shorter_pause_does_not_end_a_longer_one(self, box: Box) -> None:
        box.enter("a", "b")
        one, two = box.claim().jobs
        box.settle(report(one, Event.DEFER, pause=60))
        until = box.account()["until"]
        box.settle(report(two, Event.DEFER, pause=1))
        assert box.account()["until"] == until

    def test_an_empty_balance_blocks_it_with_the_apis_own_text(self, box: Box) -> None:
        box.enter("a", "b")
        one, two = box.claim().jobs
        box.settle(report(one, Event.DEFER, category="balance", message="余额不足", blocks=True))
        account = box.account()
        assert (account["state"], account["reason"], account["message"]) == ("blocked", "balance", "余额不足")
        box.settle(report(two, Event.DEFER, pause=1))
        assert box.account() == account, "a throttle says nothing of the balance"

    def test_a_created_instance_proves_that_it_can_pay(self, box: Box) -> None:
        box.enter("a", "b")
        one, two = box.claim().jobs
        box.settle(report(one, Event.DEFER, category="balance", message="余额不足", blocks=True))
        box.settle(report(two, Event.CREATE))
        assert box.account() == {"state": "open"}

    def test_a_created_instance_ends_no_pause(self, box: Box) -> None:
        box.enter("a", "b")
        one, two = box.claim().jobs
        box.settle(report(one, Event.DEFER, category="throttled", pause=60))
        box.settle(report(two, Event.CREATE))
        assert box.account()["state"] == "paused"

    def test_what_is_no_end_of_the_account_leaves_it_open(self, box: Box) -> None:
        for event in (Event.FAIL, Event.DOUBT, Event.CREATE):
            box.end(event, f"n-{event}")
        assert box.account() == {}


class TestWhatRedisCannotHold:
    def test_text_of_any_alphabet_and_length_comes_back_unchanged(self, box: Box) -> None:
        message = "库存不足 \x00 \r\n 🚀 " + "x" * 100_000
        job_id = box.end(Event.FAIL, category="rejected", message=message)
        error = box.read(job_id).error
        assert error is not None
        assert error.message == message
