"""What jobs that were entered alike have in common is kept once, and jobs of an older launchq are read as ever."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet

from ledger_box import Box, request, submission
from tasks.errors import RefusedError
from tasks.jobs import Choice, Submission
from tasks.states import Event

KEY = Fernet.generate_key().decode()


def templates(box: Box) -> list[str]:
    return [name for name in box.names() if name.startswith("template:")]


def entered(box: Box, *many: Submission, batch: str = "") -> None:
    box.ledger.enqueue(many, batch=batch)


def as_an_older_launchq_kept_it(box: Box, job_id: str) -> None:
    """Have everything in the job's own hash, and no template."""
    own, merged = box.own_fields(job_id), box.fields(job_id)
    job = box.ledger.job(job_id)
    if merged["request"].startswith("sealed:"):
        body = json.dumps(job.request, separators=(",", ":"))
        merged |= {"request": box.ledger.vault.seal(body), "digest": box.ledger.vault.digests(body)[0]}
    box.redis.delete(box.keys.job(job_id), box.keys.base + "template:" + own["template"])
    box.redis.hset(box.keys.job(job_id), mapping=merged)


def test_jobs_that_differ_in_their_names_share_one(box: Box) -> None:
    ids = box.enter("a", "b", batch="nightly") + box.enter("c")
    assert len(templates(box)) == 1
    assert [box.ledger.job(job_id).request for job_id in ids] == [{"name": name} for name in "abc"]
    assert {job.request for job in box.claim().jobs} == {request(name) for name in "abc"}


def test_a_start_and_a_key_are_a_jobs_own(box: Box) -> None:
    entered(box, submission("a", key="k"), submission("b"))
    box.enter("c", not_before=timedelta(hours=1))
    assert len(templates(box)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"body": request("b", script="x")},
        {"lane": "elsewhere"},
        {"wait_for_capacity": True, "lane": ""},
        {"unique_names": True},
        {"max_attempts": 3},
        {"until": 60.0},
        {"fallbacks": (Choice("elsewhere", 0.0, request("b")),)},
    ],
    ids=str,
)
def test_what_is_tried_otherwise_has_one_of_its_own(box: Box, other: dict[str, object]) -> None:
    entered(box, submission("a"), submission("b", **other))
    assert len(templates(box)) == 2


@pytest.mark.parametrize("name", ['with "quotes"', "back\\slash", "潞晨云", "tab\there", "\u2028", "x" * 300])
def test_a_name_is_sent_as_it_was_given(box: Box, name: str) -> None:
    body = json.dumps({"name": name, "imageId": "i"}, ensure_ascii=False, separators=(",", ":"))
    entered(box, submission(name, id="j", body=body))
    [job] = box.claim().jobs
    assert job.request == body


def test_a_body_with_its_name_elsewhere_stays_as_it_is(box: Box) -> None:
    body = '{"imageId":"i","name":"a"}'
    entered(box, submission("a", body=body))
    assert [job.request for job in box.claim().jobs] == [body]


def test_it_goes_with_the_last_of_its_jobs(box: Box) -> None:
    box.end(Event.CREATE, "a")
    [later] = box.enter("b")
    box.wait_for_time(box.now() + 1)
    assert box.tidy() == 1
    assert len(templates(box)) == 1
    box.cancel(later)
    box.wait_for_time(box.now() + 1)
    assert box.tidy() == 1
    assert not templates(box)


def test_a_job_without_its_template_is_never_sent(box: Box) -> None:
    box.enter("a")
    [name] = templates(box)
    key = box.keys.base + name
    kept = box.redis.hgetall(key)
    box.redis.delete(key)
    assert [job.request for job in box.claim().jobs] == [None]
    box.redis.hset(key, mapping=kept)  # what the audit misses otherwise


@pytest.fixture(params=[(), (KEY,)], ids=["plain", "sealed"])
def kept(request: pytest.FixtureRequest, box: Box) -> Box:
    """The box as a process with these keys sees it."""
    return Box(box.url, box.prefix, request.param)


class TestOlderJobs:
    def test_they_are_read_claimed_and_ended(self, kept: Box) -> None:
        [job_id] = kept.enter("a", max_attempts=3)
        as_an_older_launchq_kept_it(kept, job_id)
        assert kept.ledger.job(job_id).request == {"name": "a"}
        [job] = kept.claim().jobs
        assert (job.request, job.max_attempts) == (request("a"), 3)

    def test_they_stand_for_the_same_request(self, kept: Box) -> None:
        entered(kept, submission("a", id="old", entry="a", key="k"), batch="nightly")
        as_an_older_launchq_kept_it(kept, "old")
        again = kept.ledger.enqueue([submission("a", entry="a", key="k")], batch="nightly")
        assert [(one.id, one.duplicate) for one in again.receipts] == [("old", True)]

    def test_another_request_is_refused(self, kept: Box) -> None:
        entered(kept, submission("a", id="old", entry="a"), batch="nightly")
        as_an_older_launchq_kept_it(kept, "old")
        with pytest.raises(RefusedError, match="script"):
            entered(kept, submission("a", entry="a", body=request("a", script="x")), batch="nightly")
