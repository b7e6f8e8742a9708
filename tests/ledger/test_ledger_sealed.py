"""A ledger whose secrets are sealed: submitted again, read and claimed with the right, older, other and no keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from cryptography.fernet import Fernet

from ledger import calls
from ledger.door import ENTER_AT_ONCE, AtRest
from ledger_box import Box, request, submission
from tasks.errors import RefusedError
from tasks.states import State

A, B, C = (Fernet.generate_key().decode() for _ in range(3))

With = Callable[..., Box]


@pytest.fixture
def with_keys(box: Box) -> Iterator[With]:
    """The box' ledger, through the eyes of a process that has these keys."""
    with ExitStack() as stack:

        def made(*keys: str) -> Box:
            one = Box(box.url, box.prefix, keys)
            stack.callback(one.ledger.close)
            return one

        yield made


def nightly(box: Box, *names: str, **changes: object) -> Sequence[bool]:
    """Submit these entries; whether each existed already."""
    many = [submission(name, entry=name, key=f"k-{name}", body=request(name, **changes)) for name in names]
    return [receipt.duplicate for receipt in box.ledger.enqueue(many, batch="nightly").receipts]


def test_neither_the_request_nor_the_token_is_in_redis_in_the_clear(box: Box, with_keys: With) -> None:
    sealing = with_keys(A)
    [job_id] = sealing.enter("a", body=request("a", script="sentinel-script"))
    sealing.ledger.run(calls.store_token("sentinel-token", source="login", vault=sealing.ledger.vault))
    assert "sentinel" not in json.dumps(box.picture())
    assert box.fields(job_id)["request"].startswith("sealed:")
    assert sealing.ledger.job(job_id).request == json.loads(request("a", script="sentinel-script"))
    claim = sealing.claim(api_key="")
    assert [job.request for job in claim.jobs] == [request("a", script="sentinel-script")]
    assert claim.token is not None
    assert claim.token.value == "sentinel-token"
    assert "sentinel" not in repr(claim)


ROTATIONS = [
    ((), (A,)),  # switched on
    ((A,), (A,)),
    ((A,), (A, B)),  # the next key is made known
    ((A,), (B, A)),  # and used
    ((B, A), (B,)),  # the old one is taken away
]


@pytest.mark.parametrize(("before", "after"), ROTATIONS)
@pytest.mark.parametrize("size", [3, ENTER_AT_ONCE + 1])
def test_a_batch_submitted_again_after_a_change_of_keys_enters_only_what_is_missing(
    box: Box, with_keys: With, before: Sequence[str], after: Sequence[str], size: int
) -> None:
    names = [f"n{number}" for number in range(size)]
    assert not any(nightly(with_keys(*before), *names[1:]))
    assert nightly(with_keys(*after), *names) == [False] + [True] * (size - 1)
    assert {job.name for job in with_keys(*after).ledger.list_jobs(limit=0) if job.request} == set(names)


@pytest.mark.parametrize(("before", "after"), ROTATIONS)
def test_another_request_is_a_conflict_after_a_change_of_keys_too_and_what_differs_is_shown(
    box: Box, with_keys: With, before: Sequence[str], after: Sequence[str]
) -> None:
    nightly(with_keys(*before), "a", "b")
    old = box.picture()
    with pytest.raises(RefusedError, match=r"differing: size\)"):
        nightly(with_keys(*after), "a", "b", size=2)
    assert box.picture() == old


@pytest.mark.parametrize("after", [(), (B,)])
def test_what_cannot_be_compared_for_want_of_the_key_is_a_conflict(
    box: Box, with_keys: With, after: Sequence[str]
) -> None:
    """Rather than a second launch of the same thing."""
    nightly(with_keys(A), "a")
    old = box.picture()
    with pytest.raises(RefusedError, match="not to be seen without the key"):
        nightly(with_keys(*after), "a")
    assert box.picture() == old


def test_the_same_call_again_is_no_conflict_although_it_is_sealed_anew(with_keys: With) -> None:
    one = submission("a", id="j1", key="k")
    assert not with_keys(A).ledger.enqueue([one]).receipts[0].duplicate
    assert not with_keys(A).ledger.enqueue([one]).receipts[0].duplicate


@pytest.mark.parametrize("keys", [(), (B,)])
def test_a_poller_without_the_key_reads_all_but_the_request(with_keys: With, keys: Sequence[str]) -> None:
    sealing = with_keys(A)
    [job_id] = sealing.enter("a")
    poller = with_keys(*keys).ledger
    job = poller.job(job_id)
    assert (job.state, job.name, job.request) == (State.QUEUED, "a", None)
    assert [one.id for one in poller.list_jobs()] == [job_id]
    assert job.document()["request"] is None
    assert job.document(show_script=True)["request"] is None


@pytest.mark.parametrize("keys", [(), (B,)])
def test_a_claim_without_the_key_takes_a_job_without_request_and_no_token(
    box: Box, with_keys: With, keys: Sequence[str]
) -> None:
    sealing = with_keys(A)
    sealing.enter("a")
    sealing.ledger.run(calls.store_token("t", source="login", vault=sealing.ledger.vault))
    claim = with_keys(*keys).claim(api_key="")
    assert ([job.request for job in claim.jobs], claim.token, claim.token_sealed) == ([None], None, True)
    held = box.redis.hget(box.keys.token, "value")
    assert sealing.ledger.vault.open(held) == "t"


def test_plain_and_sealed_records_stand_side_by_side(box: Box, with_keys: With) -> None:
    box.enter("plain")
    sealing = with_keys(A)
    sealing.enter("sealed")
    assert {job.name for job in sealing.ledger.list_jobs() if job.request} == {"plain", "sealed"}
    assert {job.request for job in sealing.claim().jobs} == {request("plain"), request("sealed")}


def test_at_rest_counts_what_is_plain_what_opens_and_what_does_not(box: Box, with_keys: With) -> None:
    box.enter("plain")
    with_keys(A).enter("old", "older")  # share a request but for their names
    with_keys(B).enter("new")
    box.ledger.run(calls.store_token("t", source="login", vault=with_keys(B).ledger.vault))
    box.ledger.run(calls.refuse("never", name="x", message="m"))  # holds no request
    assert box.ledger.at_rest() == AtRest(plain=1, opened=0, locked=3)
    assert with_keys(B).ledger.at_rest() == AtRest(plain=1, opened=2, locked=1)
    assert with_keys(B, A).ledger.at_rest() == AtRest(plain=1, opened=3, locked=0)
