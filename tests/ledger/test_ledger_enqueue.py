"""Entering jobs: all or none, once each, whoever repeats the call."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis

from ledger import calls, door
from ledger.vault import PLAIN
from ledger_box import LANE, UNTOUCHED, Box, request, submission
from tasks.errors import LedgerError, RefusedError
from tasks.jobs import Submission
from tasks.states import State


def test_a_new_job(box: Box) -> None:
    one = submission("trainer", id="j1", wait_for_capacity=True, max_attempts=3, until=60.5)
    began = box.now()
    entered = box.ledger.enqueue([one])
    assert entered.wake
    [receipt] = entered.receipts
    assert (receipt.id, receipt.name, receipt.state, receipt.duplicate) == (
        "j1",
        "trainer",
        State.QUEUED,
        False,
    )
    fields = box.fields("j1")
    moment = int(fields["createdAt"])
    assert began <= moment <= box.now()
    assert fields == {
        "state": "queued",
        "name": "trainer",
        "request": one.body,
        "createdAt": str(moment),
        "updatedAt": str(moment),
        "dueAt": str(moment),
        "attempt": "0",
        "attempts": "0",
        "tries": "0",
        "maxAttempts": "3",
        "waits": "1",
        "lane": LANE,
        "arrived": f"{moment}.000",
        "until": str(moment + 60_500),
        "patience": "60500",
    }
    assert box.events() == [("j1", "queued")]


def test_what_a_job_does_not_have_it_has_no_field_for(box: Box) -> None:
    [job_id] = box.enter("plain")
    optional = {"key", "entry", "maxAttempts", "waits", "unique", "until", "patience", "batchId", "digest"}
    assert not optional & set(box.fields(job_id))


def test_nothing_to_enter_enters_nothing(box: Box) -> None:
    entered = box.ledger.enqueue([])
    assert (entered.wake, entered.receipts) == (False, ())
    assert box.names() == UNTOUCHED


def test_the_request_is_kept_letter_for_letter(box: Box) -> None:
    body = '{"name": "例", "initScript": "a\\n\\u0000\\"b", "n": 1.50}'
    box.ledger.enqueue([submission(id="j1", body=body)])
    assert box.fields("j1")["request"] == body
    assert box.take().request == body


def test_the_same_key_gives_the_same_job(box: Box) -> None:
    [first] = box.enter("trainer", key="k")
    before = box.picture()
    entered = box.ledger.enqueue([submission("trainer", key="k")])
    [receipt] = entered.receipts
    assert (receipt.id, receipt.duplicate, entered.wake) == (first, True, False)
    assert box.picture() == before


def test_a_duplicate_shows_the_jobs_present_state(box: Box) -> None:
    [first] = box.enter("trainer", key="k")
    box.take()
    [receipt] = box.ledger.enqueue([submission("trainer", key="k")]).receipts
    assert (receipt.id, receipt.state, receipt.duplicate) == (first, State.SUBMITTING, True)


def test_another_key_is_another_job(box: Box) -> None:
    assert box.enter("trainer", key="a") != box.enter("trainer", key="b")


def test_no_key_is_no_key(box: Box) -> None:
    assert box.enter("trainer") != box.enter("trainer")


def test_the_same_entry_of_a_batch_gives_the_same_job(box: Box) -> None:
    first = box.enter("a", "b", batch="nightly")
    before = box.picture()
    again = box.ledger.enqueue([submission(name, entry=name) for name in "ab"], batch="nightly")
    assert [receipt.id for receipt in again.receipts] == first
    assert all(receipt.duplicate for receipt in again.receipts)
    assert not again.wake
    assert box.picture() == before


def test_a_batch_that_has_grown_enters_only_what_is_new(box: Box) -> None:
    first = box.enter("a", "b", batch="nightly")
    grown = box.ledger.enqueue([submission(name, entry=name) for name in "bca"], batch="nightly")
    assert [receipt.duplicate for receipt in grown.receipts] == [True, False, True]
    assert [grown.receipts[2].id, grown.receipts[0].id] == first
    assert box.ledger.batch("nightly").total == 3
    assert sorted(box.ledger.batch_job_ids("nightly")) == sorted([*first, grown.receipts[1].id])


def test_the_same_entry_of_another_batch_is_another_job(box: Box) -> None:
    assert box.enter("a", batch="monday") != box.enter("a", batch="tuesday")


def test_an_entry_stays_a_duplicate_after_its_job_has_ended(box: Box) -> None:
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.UNCERTAIN):
        job_id = box.in_state(state, f"a-{state}", batch="nightly")
        [receipt] = box.ledger.enqueue(
            [submission(f"a-{state}", entry=f"a-{state}")], batch="nightly"
        ).receipts
        assert (receipt.id, receipt.duplicate, receipt.state) == (job_id, True, state)


@pytest.mark.parametrize("batch", ["", "nightly"])
def test_a_conflict_enters_nothing_and_says_what_differs(box: Box, batch: str) -> None:
    def one(name: str, **changes: object) -> Submission:
        mark = {"entry": name} if batch else {"key": name}
        return submission(name, body=request(name, **changes), **mark)

    [first] = [
        r.id for r in box.ledger.enqueue([one("a", region="x", initScript="secret-1")], batch=batch).receipts
    ]
    before = box.picture()
    with pytest.raises(RefusedError) as caught:
        box.ledger.enqueue(
            [one("new"), one("a", region="y", initScript="secret-2"), one("newer")], batch=batch
        )
    assert first in str(caught.value)
    assert "region" in str(caught.value)
    assert "initScript" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert box.picture() == before


def test_every_conflict_is_told(box: Box) -> None:
    box.enter("a", "b", "c", batch="nightly")
    with pytest.raises(RefusedError) as caught:
        box.ledger.enqueue(
            [submission(name, entry=name, body=request(name, x=1)) for name in "abc"], batch="nightly"
        )
    assert len(str(caught.value).splitlines()) == 3


def test_the_same_id_with_another_request_is_a_conflict(box: Box) -> None:
    """A Celery task's id is the job's id; whoever sends the same id again must mean the same job."""
    box.ledger.enqueue([submission("a", id="task-1")])
    before = box.picture()
    with pytest.raises(RefusedError, match="task-1"):
        box.ledger.enqueue([submission("a", id="task-1", body=request("a", x=1))])
    assert box.picture() == before


@pytest.mark.parametrize("mark", ["key", "entry"])
def test_one_call_that_contradicts_itself_enters_nothing(box: Box, mark: str) -> None:
    pair = [submission("a", **{mark: "same"}, body=request("a", n=number)) for number in (1, 2)]
    with pytest.raises(RefusedError, match="same"):
        box.ledger.enqueue(pair, batch="nightly" if mark == "entry" else "")
    assert box.names() == UNTOUCHED


@pytest.mark.parametrize("mark", ["key", "entry"])
def test_one_call_that_repeats_itself_enters_one_job(box: Box, mark: str) -> None:
    pair = [submission("a", **{mark: "same"}) for _ in range(2)]
    first, second = box.ledger.enqueue(pair, batch="nightly" if mark == "entry" else "").receipts
    assert (first.id, first.duplicate, second.duplicate) == (second.id, False, True)


class TestRepeatedByTheClient:
    """redis-py sends a command again when the connection broke before its answer came."""

    def test_the_same_call_again_is_no_duplicate(self, box: Box) -> None:
        many = [submission("a", key="ka"), submission("b", key="kb")]
        call = calls.enqueue(many, vault=PLAIN)
        first = box.ledger.run(call)
        before = box.picture()
        again = box.ledger.run(call)
        assert again.receipts == first.receipts
        assert not any(receipt.duplicate for receipt in again.receipts)
        assert box.picture() == before

    def test_also_when_a_worker_has_been_quick(self, box: Box) -> None:
        call = calls.enqueue([submission("a", id="j1")], vault=PLAIN)
        box.ledger.run(call)
        box.take()
        [receipt] = box.ledger.run(call).receipts
        assert (receipt.id, receipt.state, receipt.duplicate) == ("j1", State.SUBMITTING, False)
        assert box.claim().jobs == ()

    def test_in_a_batch(self, box: Box) -> None:
        call = calls.enqueue(
            [submission("a", entry="a"), submission("b", entry="b")], batch="nightly", vault=PLAIN
        )
        first = box.ledger.run(call)
        assert box.ledger.run(call).receipts == first.receipts
        assert box.ledger.batch("nightly").total == 2


class TestManyGroups:
    """More jobs than one script call enters."""

    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(door, "ENTER_AT_ONCE", 3)

    def test_they_come_back_in_their_order(self, box: Box) -> None:
        names = [f"n{number}" for number in range(10)]
        entered = box.ledger.enqueue([submission(name, entry=name) for name in names], batch="nightly")
        assert [receipt.name for receipt in entered.receipts] == names
        assert entered.wake
        assert box.ledger.batch("nightly").total == 10

    def test_a_conflict_in_the_last_group_enters_nothing_of_the_first(self, box: Box) -> None:
        box.enter("n9", batch="nightly")
        before = box.picture()
        many = [
            submission(f"n{number}", entry=f"n{number}", body=request("x", n=number)) for number in range(10)
        ]
        with pytest.raises(RefusedError, match="n9"):
            box.ledger.enqueue(many, batch="nightly")
        assert box.picture() == before

    def test_a_contradiction_across_groups_enters_nothing(self, box: Box) -> None:
        many = [submission(f"n{number}", entry=f"n{number}") for number in range(7)]
        many.append(replace(many[0], id="other", body=request("n0", x=1)))
        with pytest.raises(RefusedError, match="n0"):
            box.ledger.enqueue(many, batch="nightly")
        assert box.names() == UNTOUCHED

    @pytest.mark.parametrize("there", [True, False], ids=["a batch that there is", "a new batch"])
    def test_a_conflict_that_comes_up_in_between_enters_nothing(
        self, box: Box, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        """Another producer enters one of the entries, with another request, after all have been checked."""
        old = box.enter("old", batch="nightly") if there else []
        many = [submission(f"n{number}", entry=f"n{number}") for number in range(7)]
        began = 0

        def multi(pipeline: redis.client.Pipeline) -> None:
            nonlocal began
            began += 1
            if began == 1:
                other = submission("n5", id="theirs", entry="n5", body=request("n5", x=1))
                box.ledger.run(calls.enqueue([other], batch="nightly", vault=PLAIN))
            begin(pipeline)

        begin = redis.client.Pipeline.multi
        monkeypatch.setattr(redis.client.Pipeline, "multi", multi)
        with pytest.raises(RefusedError, match="n5"):
            box.ledger.enqueue(many, batch="nightly")
        assert began == 1
        assert sorted(box.ledger.batch_job_ids("nightly")) == sorted([*old, "theirs"])


def test_a_batch_larger_than_one_call(box: Box) -> None:
    count = door.ENTER_AT_ONCE + 7
    entered = box.ledger.enqueue(
        [submission(f"n{number}", id=f"j{number}", entry=f"n{number}") for number in range(count)],
        batch="big",
    )
    assert [receipt.id for receipt in entered.receipts] == [f"j{number}" for number in range(count)]
    assert box.ledger.batch("big").counts[State.QUEUED] == count


class TestRefused:
    """A job that arrived in a message and cannot be launched."""

    def test_it_is_there_to_be_read(self, box: Box) -> None:
        assert box.ledger.run(calls.refuse("task-1", name="trainer", message="region: is missing"))
        job = box.read("task-1")
        assert (job.name, job.state, job.request, job.attempts) == ("trainer", State.FAILED, {}, 0)
        assert job.error is not None
        assert (job.error.category, job.error.message) == ("invalid", "region: is missing")
        assert box.events() == [("task-1", "failed")]

    def test_again_changes_nothing(self, box: Box) -> None:
        box.ledger.run(calls.refuse("task-1", name="trainer", message="first"))
        before = box.picture()
        assert not box.ledger.run(calls.refuse("task-1", name="trainer", message="second"))
        assert box.picture() == before

    def test_a_job_that_exists_is_left_alone(self, box: Box) -> None:
        [job_id] = box.enter("trainer")
        before = box.picture()
        assert not box.ledger.run(calls.refuse(job_id, name="trainer", message="no"))
        assert box.picture() == before

    def test_it_can_never_be_launched(self, box: Box) -> None:
        box.ledger.run(calls.refuse("task-1", name="trainer", message="no"))
        assert box.rearm("task-1") == [calls.Done("failed", "refused")]
        assert box.claim().jobs == ()


class TestWakeUps:
    def test_one_is_enough_until_a_shift_has_begun(self, box: Box) -> None:
        assert box.ledger.enqueue([submission("a")]).wake
        assert not box.ledger.enqueue([submission("b")]).wake
        box.claim(first=True)
        assert box.ledger.enqueue([submission("c")]).wake

    def test_a_later_claim_of_the_same_shift_forgets_no_wake_up(self, box: Box) -> None:
        assert box.ledger.enqueue([submission("a")]).wake
        box.claim(first=False)
        assert not box.ledger.enqueue([submission("b")]).wake

    def test_none_is_sent_to_a_shift_that_looks_for_itself(self, box: Box) -> None:
        box.claim(watching=True)
        assert not box.ledger.enqueue([submission("a")]).wake
        box.claim(watching=False)
        assert box.ledger.enqueue([submission("b")]).wake

    def test_a_lost_one_is_sent_again(self, box: Box) -> None:
        assert box.ledger.enqueue([submission("a")]).wake
        key = box.keys.base + "wake"
        assert 0 < box.redis.pttl(key) <= 2000
        box.redis.delete(key)
        assert box.tick() == (True, 0)


def test_a_batch_shows_its_counts(box: Box) -> None:
    for state in [*set(State) - {State.QUEUED}, State.QUEUED]:
        box.in_state(state, f"n-{state}", batch="nightly")
    batch = box.ledger.batch("nightly")
    assert batch.total == len(State)
    assert batch.counts == dict.fromkeys(State, 1)
    assert not batch.done
    json.dumps(batch.document())


def test_an_id_that_redis_could_not_keep_apart_is_still_one_id(box: Box) -> None:
    ids = ["with space", "with:colon", "{brace}", "例", "a'b"]
    box.ledger.enqueue([submission("n", id=job_id) for job_id in ids])
    claim_id = "again"
    assert {job.id for job in box.claim(claim_id=claim_id).jobs} == set(ids)
    assert {job.id for job in box.claim(claim_id=claim_id).jobs} == set(ids)


def test_without_redis_the_error_is_ours(box: Box) -> None:
    from ledger import Ledger

    gone = Ledger("redis://:secret-password@127.0.0.1:1/0", box.prefix)
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1:1") as caught:
        gone.enqueue([submission()])
    assert "secret" not in str(caught.value)
    gone.close()
