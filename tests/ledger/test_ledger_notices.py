"""What people are to be told: noted once, in the step that makes it happen, gathered, and handed to one sender at a time."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from ledger import calls
from ledger.calls import Limits
from ledger.notices import BURST, GIVE_UP_SECONDS, Message, deliveries, posted, take_messages
from ledger_box import LANE, Box, report, sold_out, submission
from tasks.notices import KINDS, Notice, read_notices
from tasks.states import Event, State

MARK = "json-000000000000"


def take(
    box: Box, *marks: str, asker: str = "", kinds: Any = KINDS, lasts: float = 60, again: float = 0
) -> list[Message]:
    """One look of a sender, who gathers nothing."""
    call = take_messages(
        asker or uuid.uuid4().hex, marks or [MARK], kinds, lasts=lasts, gather=0, again=again
    )
    return box.ledger.run(call)


def told(box: Box, mark: str = MARK, *, again: float = 0) -> list[Notice]:
    """What this address is told now, by kind; the message has been sent, and the next may go at once."""
    asker = uuid.uuid4().hex
    notices = []
    for message in take(box, mark, asker=asker, again=again):
        notices += read_notices(message.documents)
        assert box.ledger.run(posted(asker, message, "sent")) == ("sent", True)
    time_passes(box, mark)
    return sorted(notices, key=lambda notice: notice.kind)


def time_passes(box: Box, mark: str = MARK) -> None:
    """By hand: the lease or the rest is over, the next try is due, the rate is paid for."""
    box.redis.hset(box.keys.base + "delivery:" + mark, mapping={"leaseEnd": 0, "nextAt": 0, "paidTill": 0})


@pytest.fixture
def heard(box: Box) -> Box:
    """A ledger of which a worker has said that it has an address."""
    assert take(box) == []
    return box


def fail_all(box: Box, *messages: str) -> None:
    jobs = box.claim().jobs
    box.settle(
        *(
            report(job, Event.FAIL, category="rejected", message=messages[at % len(messages)])
            for at, job in enumerate(jobs)
        )
    )


def test_nothing_is_noted_while_nobody_wants_to_hear_of_it(box: Box) -> None:
    box.enter("a", "b", batch="nightly")
    fail_all(box, "no such image")
    box.ledger.run(calls.block("no token"))
    assert not [name for name in box.names() if name.startswith(("notify", "outbox", "delivery"))]


def test_many_failures_of_a_batch_are_one_notice_that_counts_them(heard: Box) -> None:
    heard.enter(*(f"t-{at}" for at in range(50)), batch="nightly")
    fail_all(heard, "no such image", "no such image", "no such region")
    done, failed = told(heard)
    assert (failed.kind, failed.count, failed.facts["batchId"]) == ("jobFailed", 50, "nightly")
    assert failed.reasons == [("no such image", 34), ("no such region", 16)]
    assert [job["name"] for job in failed.facts["jobs"]] == [f"t-{at}" for at in range(5)]
    assert (done.kind, done.count) == ("batchDone", 1)
    assert done.facts["counts"] == {"succeeded": 0, "failed": 50, "cancelled": 0, "uncertain": 0}
    assert told(heard) == []
    heard.audit()


def test_a_batch_ends_with_its_last_job_and_again_after_a_retry(heard: Box) -> None:
    [first, second] = heard.enter("a", "b", batch="nightly")
    jobs = {job.id: job for job in heard.claim().jobs}
    heard.settle(report(jobs[first], Event.CREATE))
    assert told(heard) == []
    heard.settle(report(jobs[second], Event.FAIL, message="no"))
    assert [notice.kind for notice in told(heard)] == ["batchDone", "jobFailed"]
    begun = heard.redis.hget(heard.keys.batch("nightly"), "begunAt")
    heard.wait_for_time(int(begun))
    heard.rearm(second)
    heard.settle(report(heard.take(), Event.CREATE))
    [again] = told(heard)
    assert again.facts["counts"]["succeeded"] == 2
    assert again.facts["begunAt"] > int(begun)


def test_failures_that_go_on_are_told_ever_less_often_and_all_at_the_end_of_their_batch(heard: Box) -> None:
    heard.enter(*(f"t-{at}" for at in range(6)), batch="nightly")

    def fail_one() -> None:
        heard.settle(report(heard.take(), Event.FAIL, message="no"))

    fail_one()
    assert [notice.count for notice in told(heard, again=60)] == [1]
    fail_one()
    fail_one()
    assert told(heard, again=60) == [], "it is told again after a minute"
    [told_key] = [heard.keys.base + name for name in heard.names() if name.startswith("told:")]
    assert heard.redis.get(told_key).split()[0] == "60000"
    heard.ledger.run(calls.refuse("other", name="other", message="no"))
    assert [notice.facts["jobs"][0]["id"] for notice in told(heard, again=60)] == ["other"], (
        "what is new is told"
    )
    delivery, outbox = heard.keys.base + "delivery:" + MARK, heard.keys.base + "outbox:" + MARK
    assert heard.redis.hget(delivery, "since") == heard.redis.get(told_key).split()[1], "looked at when due"
    held = heard.redis.hget(outbox, "jobFailed jobs nightly")
    heard.redis.hset(outbox, "jobFailed jobs nightly", re.sub(r'"notBefore":\d+', '"notBefore":0', held))
    heard.redis.hset(delivery, "since", 0)
    assert [notice.count for notice in told(heard, again=60)] == [2]
    assert heard.redis.get(told_key).split()[0] == "120000"
    for _ in range(3):
        fail_one()
    assert {notice.kind: notice.count for notice in told(heard, again=60)} == {"jobFailed": 3, "batchDone": 1}
    heard.audit()


def test_what_needs_a_person_is_told_once(heard: Box) -> None:
    uncertain = heard.in_state(State.UNCERTAIN, "lost", batch="nightly")
    heard.ledger.run(calls.refuse("invalid", name="wrong", message="no image"))
    for _ in range(3):
        heard.ledger.run(calls.block("refused", credentials="c", refused=True))
    by_what = {notice.facts.get("what"): notice for notice in told(heard)}
    assert by_what["uncertain"].facts["jobs"] == [{"id": uncertain, "name": "lost"}]
    assert by_what["failed"].reasons == [("no image", 1)]
    assert (by_what["blocked"].count, by_what["blocked"].facts["reason"]) == (1, "credentials")
    heard.resolve(uncertain)  # its batch had ended before
    assert [notice.kind for notice in told(heard)] == ["jobFailed"]


def test_a_batch_that_is_held_after_failures_needs_a_person(heard: Box) -> None:
    many = [submission(name, entry=name) for name in "abcde"]
    heard.ledger.enqueue(many, batch="nightly", limits=Limits(stop_after=2))
    fail_all(heard, "no such image")
    [failed, held] = told(heard)
    assert (failed.kind, failed.count) == ("jobFailed", 2)
    assert held.facts == {"what": "held", "batchId": "nightly", "failed": 2}
    assert told(heard) == []


def test_a_lane_that_opens_is_told_of_once(heard: Box) -> None:
    heard.enter(*(f"s-{at}" for at in range(4)), wait_for_capacity=True)
    [first, second] = heard.claim().jobs
    heard.settle(sold_out(first), sold_out(second))
    heard.lane_comes()
    heard.settle(report(heard.take(), Event.CREATE))
    [opening] = told(heard)
    assert (opening.kind, opening.count) == ("capacityArrived", 1)
    assert (opening.facts["lane"], opening.facts["waiting"]) == (LANE, 3)
    for job in heard.claim().jobs:
        heard.settle(report(job, Event.CREATE))
    assert told(heard) == []


def test_each_address_is_told_what_it_wants_and_nothing_else(heard: Box) -> None:
    other = "slack-111111111111"
    take(heard, other, kinds=["batchDone"])
    heard.end(Event.FAIL, "a", batch="nightly", message="no")
    assert {notice.kind for notice in told(heard)} == {"jobFailed", "batchDone"}
    call = take_messages("w", [other], ["batchDone"], lasts=60, gather=0)
    [message] = heard.ledger.run(call)
    assert [notice.kind for notice in read_notices(message.documents)] == ["batchDone"]


def test_one_sender_has_a_message_until_it_is_sent_or_its_lease_is_over(heard: Box) -> None:
    heard.end(Event.FAIL, "a", message="no")
    [message] = take(heard, asker="w1")
    assert take(heard, asker="w1") == [message], "the answer was lost, and redis-py asks again"
    assert take(heard, asker="w2") == []
    time_passes(heard)
    [again] = take(heard, asker="w2")
    assert (again.id, again.documents, again.tries) == (message.id, message.documents, 2)
    assert heard.ledger.run(posted("w1", message, "refused", text="too late")) == ("", True)
    assert heard.ledger.run(posted("w2", again, "sent")) == ("sent", True)
    assert heard.ledger.run(posted("w2", again, "sent")) == ("", True)
    time_passes(heard)
    assert take(heard) == []
    [delivery] = heard.ledger.run(deliveries())
    assert (delivery.sent, delivery.lost, delivery.held, delivery.error) == (1, 0, 0, None)


def test_what_is_put_off_stays_the_same_message_while_more_is_gathered(heard: Box) -> None:
    heard.end(Event.FAIL, "a", message="no")
    [message] = take(heard, asker="w1")
    assert heard.ledger.run(posted("w1", message, "later", text="HTTP 503", delay=60)) == ("later", True)
    heard.end(Event.FAIL, "b", message="no")
    heard.redis.hset(heard.keys.base + "delivery:" + MARK, "leaseEnd", 0)
    assert take(heard) == [], "its next try is in a minute"
    time_passes(heard)
    [again] = take(heard, asker="w2")
    assert (again.id, again.documents) == (message.id, message.documents)
    later = posted("w2", again, "later", text="HTTP 503", delay=60)
    assert heard.ledger.run(later) == ("later", False), "that is no news"
    time_passes(heard)
    heard.redis.hincrby(heard.keys.base + "delivery:" + MARK, "takenAt", -round(GIVE_UP_SECONDS * 1000))
    [again] = take(heard, asker="w3")
    assert heard.ledger.run(posted("w3", again, "later", text="HTTP 503")) == ("given up", False)
    time_passes(heard)
    assert [notice.facts["jobs"][0]["name"] for notice in told(heard)] == ["b"]


def test_an_address_gets_only_so_many_messages_at_once(heard: Box) -> None:
    for at in range(BURST + 1):
        heard.end(Event.FAIL, f"a-{at}", message="no")
        messages = take(heard, asker=f"w{at}")
        assert len(messages) == (at < BURST)
        for message in messages:
            heard.ledger.run(posted(f"w{at}", message, "sent"))
            heard.redis.hset(heard.keys.base + "delivery:" + MARK, "leaseEnd", 0)  # the rest after a message


def test_a_full_outbox_goes_on_counting(heard: Box) -> None:
    outbox = heard.keys.base + "outbox:" + MARK
    heard.redis.hset(outbox, mapping={f"fill {at}": "{}" for at in range(500)})
    for batch in ("one", "two"):
        heard.end(Event.CREATE, "a", batch=batch)
    assert heard.redis.hlen(outbox) == 501
    notice = read_notices("[" + heard.redis.hget(outbox, "batchDone") + "]")[0]
    assert (notice.count, notice.facts) == (2, {"further": True})


def test_an_address_that_no_worker_has_any_more_is_forgotten_with_what_was_held_for_it(heard: Box) -> None:
    heard.end(Event.FAIL, "a", message="no")
    heard.tidy()
    assert "outbox:" + MARK in heard.names()
    heard.redis.hset(heard.keys.base + "notify", MARK, f"{heard.now() - 8 * 86_400_000} jobFailed")
    heard.tidy()
    assert not [name for name in heard.names() if name.startswith(("notify", "outbox", "delivery"))]
