"""The history of a job: what happened to it, one line each, the latest of them."""

from __future__ import annotations

import pytest

from ledger_box import HISTORY_KEPT, Box, report
from tasks.jobs import Happening
from tasks.states import Event, State

Line = tuple[str, str, int, str | None, str | None, str | None, str | None]


def line(one: Happening) -> Line:
    """All of it but the time."""
    return one.event, one.state, one.attempt, one.category, one.message, one.instance_id, one.by


def test_a_submission_and_a_claim_leave_no_line(box: Box) -> None:
    box.enter("a")
    job = box.take()
    assert box.history(job.id) == []


def test_how_an_attempt_ended(box: Box) -> None:
    box.enter("a")
    box.settle(report(box.take(), Event.DEFER, category="throttled", message="slow down"))
    job = box.take()
    box.settle(report(job, Event.CREATE, instance_id="i-1"))
    assert [line(one) for one in box.history(job.id)] == [
        ("defer", "retrying", 1, "throttled", "slow down", None, "w1"),
        ("create", "succeeded", 2, None, None, "i-1", "w1"),
    ]


def test_a_line_has_its_time(box: Box) -> None:
    box.enter("a")
    job = box.take()
    began = box.now()
    box.settle(report(job, Event.FAIL))
    [one] = box.history(job.id)
    assert began <= round(one.at.timestamp() * 1000) <= box.now()


def test_a_lost_worker(box: Box) -> None:
    box.enter("a")
    job = box.take_and_lose()
    box.tick()
    assert [line(one) for one in box.history(job.id)] == [
        ("expire", "verifying", 1, "unknown", "the worker was lost during the create call", None, "w1")
    ]


def test_lookups_and_what_they_found(box: Box) -> None:
    job = box.doubt("a")
    box.look_up_in_time(job.id)
    box.look_up_in_time(job.id, flaw="HTTP 500")
    box.look_up_in_time(job.id, {"i-1": "a"})
    assert [line(one) for one in box.history(job.id)] == [
        ("doubt", "verifying", 1, "unknown", "timeout", None, "w1"),
        ("lookup", "verifying", 1, None, "no instance of it in the list of instances", None, "lookup"),
        ("lookup", "verifying", 1, None, "the list of instances could not be read: HTTP 500", None, "lookup"),
        ("create", "succeeded", 1, None, None, "i-1", "lookup"),
    ]


def test_that_nothing_was_found(box: Box) -> None:
    job = box.doubt("a")
    box.look_up_until_settled(job.id)
    last = box.history(job.id)[-1]
    assert (last.event, last.state, last.by) == ("defer", "retrying", "lookup")
    assert last.message == "timeout; looked up 3 times: no instance of it in the list of instances"


def test_a_lookup_that_only_waits_for_a_call_leaves_no_line(box: Box) -> None:
    job = box.doubt("a")
    box.in_state(State.SUBMITTING, "a")
    before = box.history(job.id)
    box.look_up_in_time(job.id, {"i-1": "a"})
    assert box.history(job.id) == before


def test_what_was_left_to_a_person_and_what_the_person_said(box: Box) -> None:
    job = box.doubt("a")
    box.look_up_in_time(job.id, {"i-1": "a", "i-2": "a"})
    box.resolve(job.id, "i-2")
    _, park, create, reason = box.history(job.id)
    assert (park.event, park.state, park.by) == ("park", "uncertain", "lookup")
    assert park.message is not None
    assert "i-1, i-2" in park.message
    assert line(create) == ("create", "succeeded", 1, None, None, "i-2", "me@here")
    assert line(reason) == ("reason", "succeeded", 0, None, "I looked", None, "me@here")


def test_that_a_person_said_that_nothing_was_created(box: Box) -> None:
    job_id = box.in_state(State.UNCERTAIN, "a")
    box.resolve(job_id)
    message = "me@here says that no instance was created: I looked"
    assert line(box.history(job_id)[-1]) == ("fail", "failed", 1, "unknown", message, None, "me@here")


def test_what_people_did(box: Box) -> None:
    [job_id] = box.enter("a")
    box.cancel(job_id)
    box.rearm(job_id)
    assert [line(one) for one in box.history(job_id)] == [
        ("cancel", "cancelled", 0, None, None, None, None),
        ("rearm", "queued", 0, None, None, None, None),
    ]


def test_what_was_refused_leaves_no_line(box: Box) -> None:
    job_id = box.in_state(State.SUCCEEDED)
    before = box.history(job_id)
    box.cancel(job_id)
    box.rearm(job_id)
    box.resolve(job_id, "i-1")
    assert box.history(job_id) == before


def test_the_latest_lines_are_kept(box: Box) -> None:
    box.enter("a")
    for number in range(1, HISTORY_KEPT + 11):
        job = box.take()
        box.settle(report(job, Event.DEFER, message=f"no {number}"))
    kept = box.history(job.id)
    assert [one.attempt for one in kept] == list(range(11, HISTORY_KEPT + 11))
    assert kept[-1].message == f"no {HISTORY_KEPT + 10}"
    assert box.redis.llen(box.keys.base + "history:" + job.id) == HISTORY_KEPT


@pytest.mark.parametrize("character", ["x", "é", "库", "🚀"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_text_is_cut_between_two_characters(box: Box, character: str, shift: int) -> None:
    message = "." * shift + character * 600
    job_id = box.end(Event.FAIL, message=message)
    [one] = box.history(job_id)
    assert one.message is not None
    kept = one.message.removesuffix("...")
    assert kept != one.message
    assert message.startswith(kept)
    size = len(character.encode())
    assert 500 - size < len(kept.encode()) <= 500
    error = box.read(job_id).error
    assert error is not None
    assert error.message == message, "the job's own message is whole"


@pytest.mark.parametrize("message", ["x" * 500, "库" * 166, 'a "quoted" \\ text\n\twith \x00 and \x7f'])
def test_a_text_that_is_not_too_long_is_whole(box: Box, message: str) -> None:
    job_id = box.end(Event.FAIL, message=message)
    assert [one.message for one in box.history(job_id)] == [message]


def test_it_lives_as_long_as_its_job(box: Box) -> None:
    job_id = box.in_state(State.FAILED)
    key = box.keys.base + "history:" + job_id
    assert box.redis.pttl(key) == -1
    box.wait_for_time(box.now())
    assert box.tidy() == 1
    assert not box.redis.exists(key)
