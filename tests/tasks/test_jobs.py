"""A job and a batch as everybody outside sees them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from harness import body
from tasks.errors import InputError, OutdatedError
from tasks.jobs import (
    KEY_LENGTH,
    Batch,
    Job,
    JobError,
    Receipt,
    Submission,
    moment,
    rfc3339,
    sent_body,
    sent_name,
)
from tasks.policy import Policy
from tasks.request import parse_request
from tasks.states import ENDS, State

REQUEST = parse_request(body("trainer", isSpotInstance=True))
FIELDS = {"state": "queued", "name": "trainer", "createdAt": "1795543200123", "updatedAt": "1795543201000"}


def job(**fields: str) -> Job:
    return Job.from_redis("j1", {**FIELDS, **fields})


def test_a_new_jobs_document() -> None:
    request = json.dumps({"name": "trainer"})
    found = job(dueAt="1795543200123", attempts="0", batchId="nightly", request=request)
    assert found.document() == {
        "id": "j1",
        "batchId": "nightly",
        "name": "trainer",
        "state": "queued",
        "reason": None,
        "instanceId": None,
        "error": None,
        "attempts": 0,
        "fallback": None,
        "dueAt": "2026-11-24T18:00:00.123Z",
        "createdAt": "2026-11-24T18:00:00.123Z",
        "updatedAt": "2026-11-24T18:00:01.000Z",
        "request": {"name": "trainer"},
        "history": [],
    }
    json.dumps(found.document())


def test_emptied_fields_are_none() -> None:
    found = job(batchId="", reason="", instanceId="", message="", category="")
    assert (found.batch_id, found.reason, found.instance_id, found.error) == (None, None, None, None)


def test_an_error_has_its_category_and_message() -> None:
    found = job(state="failed", category="rejected", message='字段 "x" 未设置')
    assert found.error == JobError("rejected", '字段 "x" 未设置')
    assert found.document()["error"] == {"category": "rejected", "message": '字段 "x" 未设置'}


@pytest.mark.parametrize("state", State)
def test_only_a_job_that_goes_on_is_due(state: State) -> None:
    found = job(state=state, dueAt="1795543200000")
    assert found.ended == (state in ENDS) == (found.due_at is None)


def test_the_init_script_is_shown_only_where_asked_for() -> None:
    script = "export TOKEN=secret-token"
    request = body("x")
    request["instanceConfiguration"]["initScript"] = script
    found = job(request=json.dumps(request))
    assert "secret-token" not in json.dumps(found.document())
    assert found.document(show_script=True)["request"] == request
    assert found.request == request  # showing it changed nothing
    assert "secret-token" not in repr(found)


def test_a_state_that_is_not_of_the_table_is_an_error_not_a_guess() -> None:
    with pytest.raises(OutdatedError, match=r"job j1 is 'unheard-of'.*newer launchq"):
        job(state="unheard-of")


def counts(**numbers: int) -> dict[State, int]:
    return {state: numbers.get(state, 0) for state in State}


@pytest.mark.parametrize(
    ("numbers", "done"),
    [
        ({"succeeded": 2, "uncertain": 1}, True),
        ({"failed": 1, "cancelled": 2}, True),
        ({"succeeded": 2, "retrying": 1}, False),
        ({"succeeded": 2, "submitting": 1}, False),
        ({"queued": 3}, False),
    ],
)
def test_a_batch_is_done_when_every_job_has_ended(numbers: dict[str, int], done: bool) -> None:
    batch = Batch("nightly", 3, counts(**numbers), datetime(2026, 11, 24, tzinfo=UTC))
    assert batch.document() == {
        "id": "nightly",
        "total": 3,
        "counts": {**{str(state): 0 for state in State}, **numbers},
        "createdAt": "2026-11-24T00:00:00.000Z",
        "done": done,
        "held": None,
        "maxParallel": None,
        "stopAfterFailures": None,
    }


def test_a_batch_says_what_it_may_do_and_why_it_does_nothing() -> None:
    when = datetime(2026, 11, 24, tzinfo=UTC)
    shown = Batch("b", 1, counts(queued=1), when, held="failures", max_parallel=3, stop_after=2).document()
    assert (shown["held"], shown["maxParallel"], shown["stopAfterFailures"]) == ("failures", 3, 2)


def test_a_receipt() -> None:
    assert Receipt("j1", "trainer", State.QUEUED, True).document() == {
        "id": "j1",
        "name": "trainer",
        "state": "queued",
        "duplicate": True,
    }


def test_a_submission_carries_the_request_as_it_will_be_sent() -> None:
    made = Submission.of(REQUEST, "j1", entry="trainer#2", key="k", policy=Policy(max_attempts=3))
    assert (made.id, made.name, made.entry, made.key) == ("j1", "trainer", "trainer#2", "k")
    assert made.policy == Policy(3, wait_for_capacity=True, until=86400), "it is spot, and waits for a day"
    assert made.lane == f"{REQUEST.region}/{REQUEST.instance_type_id}/spot"  # fmt: skip
    assert made.body == REQUEST.wire_json()
    assert parse_request(json.loads(made.body)) == REQUEST
    assert made.body not in repr(made)


@pytest.mark.parametrize("key", ["", " ", "k" * (KEY_LENGTH + 1), "a\nb", "a\x00b", "half \ud83d"])
def test_a_key_that_cannot_be_used(key: str) -> None:
    with pytest.raises(InputError, match="key"):
        Submission.of(REQUEST, "j1", key=key)


@pytest.mark.parametrize("key", ["k" * KEY_LENGTH, "每晚 训练:1/2"])
def test_a_key_that_can(key: str) -> None:
    assert Submission.of(REQUEST, "j1", key=key).key == key


def test_no_key_is_none() -> None:
    assert Submission.of(REQUEST, "j1").key == ""


@pytest.mark.parametrize("number", [0, -1, 1.5, "3", True])
def test_a_number_of_attempts_that_cannot_be_used(number: Any) -> None:
    with pytest.raises(InputError, match="maxAttempts"):
        Submission.of(REQUEST, "j1", policy=Policy(max_attempts=number))


def test_every_problem_of_a_submission_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Submission.of(REQUEST, "j1", key="a\nb", policy=Policy(max_attempts=0, until=-1))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_moment(nothing: str | None) -> None:
    assert moment(nothing) is None
    assert rfc3339(None) is None


def test_moments_are_in_utc_with_milliseconds() -> None:
    assert moment("0") == datetime(1970, 1, 1, tzinfo=UTC)
    assert rfc3339(moment(1795543200007)) == "2026-11-24T18:00:00.007Z"
    assert rfc3339(moment("1795543200000")) == "2026-11-24T18:00:00.000Z"


def test_the_name_sent_is_the_name_given_unless_it_is_to_be_unique() -> None:
    job_id = "bc17eb4f-c15a-4748-b7df-149a73ab18c7"
    given = '{"name":"训练 1","imageId":"x"}'
    assert sent_name("训练 1", job_id, unique=False) == "训练 1"
    assert sent_body(given, job_id, unique=False) is given
    assert sent_name("训练 1", job_id, unique=True) == "训练 1-bc17eb4f"
    assert sent_body(given, job_id, unique=True) == '{"name":"训练 1-bc17eb4f","imageId":"x"}'


def test_tags_differ_where_a_producer_gives_its_jobs_ids_that_begin_alike() -> None:
    first, second = (sent_name("a", f"order-2026-{number}", unique=True) for number in (1, 2))
    assert first != second
    assert all(re.fullmatch("a-[0-9a-f]{8}", name) for name in (first, second))


def test_a_document_shows_the_name_that_was_sent() -> None:
    found = job(name="trainer", unique="1", request='{"name":"trainer"}')
    assert found.document()["name"] == "trainer"
    assert found.document()["request"]["name"] == found.sent_name != "trainer"


def test_a_history_line_has_all_its_fields_in_json() -> None:
    line = '{"at":"1795543200123","event":"park","state":"uncertain","attempt":"2","category":"unknown","message":"看","by":"lookup"}'
    assert Job.from_redis("j1", FIELDS, [line]).document()["history"] == [
        {
            "at": "2026-11-24T18:00:00.123Z",
            "event": "park",
            "state": "uncertain",
            "attempt": 2,
            "category": "unknown",
            "message": "看",
            "instanceId": None,
            "by": "lookup",
        }
    ]
