"""Writing down how attempts ended: once, by the attempt itself, and never over a later one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger import calls
from ledger.calls import AccountNews, Report
from ledger_box import Box, report
from tasks.retry import UNSENT, Outcome
from tasks.states import ATTEMPT_EVENTS, MOVES, Event, State


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
    assert box.settle(report(job, Event.DOUBT, category="unknown", message="reset after sending")) == [
        "uncertain"
    ]
    found = box.read(job.id)
    assert found.error is not None
    assert (found.state, found.error.message, found.attempts) == (State.UNCERTAIN, "reset after sending", 1)
    assert box.claim().jobs == ()


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
    assert states == ["succeeded", "failed", "uncertain", "retrying"]


class TestStale:
    @pytest.mark.parametrize("event", sorted(ATTEMPT_EVENTS))
    @pytest.mark.parametrize("attempt", ["0", "1", "3", "", "02", "2.0"])
    def test_a_report_of_another_attempt_is_refused(self, box: Box, event: Event, attempt: str) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER))
        job = box.take()
        before = box.picture()
        assert box.settle(Report(job.id, attempt, Outcome(event, instance_id="stray"))) == ["stale"]
        assert box.picture() == before

    @pytest.mark.parametrize("event", sorted(ATTEMPT_EVENTS))
    def test_repeated_it_is_refused_and_changes_nothing(self, box: Box, event: Event) -> None:
        box.enter("a", "b", batch="nightly")
        job = box.take()
        call = calls.settle([report(job, event, delay=60, spends=True)], AccountNews())
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

    @pytest.mark.parametrize("event", sorted(ATTEMPT_EVENTS))
    @pytest.mark.parametrize("state", sorted(set(State) - {State.SUBMITTING, State.UNCERTAIN}))
    def test_where_no_call_is_under_way_there_is_nothing_to_report(
        self, box: Box, state: State, event: Event
    ) -> None:
        job_id = box.in_state(state)
        before = box.picture()
        attempt = box.fields(job_id)["attempt"]
        assert box.settle(Report(job_id, attempt, Outcome(event, instance_id="stray"))) == ["stale"]
        assert box.picture() == before

    def test_of_a_job_that_does_not_exist(self, box: Box) -> None:
        assert box.settle(Report("nobody", "1", Outcome(Event.CREATE, instance_id="stray"))) == ["stale"]
        assert box.names() == []

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
    def test_the_last_attempts_own_answer_counts(self, box: Box, event: Event) -> None:
        box.enter("a", batch="nightly")
        job = box.take_and_lose()
        assert box.read(job.id).state is State.UNCERTAIN
        assert box.ledger.batch("nightly").done
        assert box.settle(report(job, event, delay=60)) == [MOVES[State.UNCERTAIN][event]]
        assert box.ledger.batch("nightly").done is (event is not Event.DEFER)
        if event is Event.CREATE:
            assert box.read(job.id).instance_id == f"notebook-{job.id}"
            assert box.read(job.id).error is None

    def test_also_after_a_doubt_of_its_own(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        box.settle(report(job, Event.DOUBT))
        assert box.settle(report(job, Event.CREATE)) == ["succeeded"]

    def test_a_doubt_adds_nothing(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        box.read(job.id)
        before = box.picture()
        assert box.settle(report(job, Event.DOUBT)) == ["stale"]
        assert box.picture() == before

    def test_before_anybody_has_noticed_it_is_not_late(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        assert box.settle(report(job, Event.CREATE)) == ["succeeded"]
        assert "uncertain" not in [state for _, state in box.events()]

    def test_an_earlier_attempts_answer_does_not_count(self, box: Box) -> None:
        box.enter("a")
        first = box.take_and_lose()
        box.read(first.id)
        box.settle(report(first, Event.DEFER))
        second = box.take_and_lose()
        box.read(second.id)
        before = box.picture()
        assert box.settle(report(first, Event.CREATE)) == ["stale"]
        assert box.picture() == before
        assert box.settle(report(second, Event.CREATE)) == ["succeeded"]


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
