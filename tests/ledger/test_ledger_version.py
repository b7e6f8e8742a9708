"""Two versions of launchq on one ledger: the older one leaves it alone, but for the calls that it has in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ledger import calls, scripts, version
from ledger.version import LEDGER_VERSION
from ledger_box import Box, report
from tasks.errors import OutdatedError
from tasks.states import Event, State


@contextmanager
def newer_launchq(by: int = 1) -> Iterator[int]:
    """Inside, the calls are those of a launchq whose ledger version is higher."""

    def set_to(number: int) -> None:
        version.LEDGER_VERSION = number
        scripts._head.cache_clear()
        scripts.script.cache_clear()

    set_to(LEDGER_VERSION + by)
    try:
        yield LEDGER_VERSION + by
    finally:
        set_to(LEDGER_VERSION)


def mark(box: Box) -> int:
    return box.ledger.run(calls.status()).version


def greet(box: Box) -> None:
    box.ledger.run(calls.greet(""))


def test_producers_and_workers_leave_a_mark_and_an_older_one_never_lowers_it(box: Box) -> None:
    assert mark(box) == 0
    box.enter("a")
    assert mark(box) == LEDGER_VERSION
    with newer_launchq(by=9) as newest:
        greet(box)
    assert mark(box) == newest
    greet(box)
    box.enter("b")
    assert mark(box) == newest, "which is not the text that is larger"


def test_a_newer_producer_is_enough(box: Box) -> None:
    with newer_launchq():
        box.enter("a")
    assert box.claim().why == "version"


def test_an_older_worker_claims_nothing_and_may_be_woken_for_nothing(box: Box) -> None:
    with newer_launchq():
        greet(box)
    [job_id] = box.enter("a")
    before = box.picture(without=["workers"])
    claim = box.claim(first=True, watching=True)
    assert (claim.why, claim.wake, claim.wait, claim.jobs) == ("version", False, None, ())
    with pytest.raises(
        OutdatedError, match=f"its ledger version is {LEDGER_VERSION + 1}, here it is {LEDGER_VERSION}"
    ):
        box.tick()
    assert box.picture(without=["workers"]) == before
    assert list(box.ledger.run(calls.status()).workers) == ["w1"], "it is alive all the same"
    assert not {"wake", "watch"} & set(box.names()), "neither holds back a wake-up for the newer ones"
    with newer_launchq():
        assert box.tick() == (True, 0)
        assert box.take().id == job_id


def test_an_older_one_expires_no_lease_however_it_looks(box: Box) -> None:
    [job_id] = box.enter("a", batch="b")
    box.take_and_lose()
    with newer_launchq():
        greet(box)
    box.claim()
    with pytest.raises(OutdatedError):
        box.tick()
    box.read(job_id)
    box.ledger.batch("b")
    mark(box)
    assert box.state(job_id) == "submitting"
    with newer_launchq():
        box.tick()
    assert box.state(job_id) != "submitting"


def test_an_older_one_ends_what_it_has_begun(box: Box) -> None:
    box.enter("a", "b")
    first = box.claim(1, claim_id="asked again")
    with newer_launchq():
        greet(box)
    assert box.claim(1, claim_id="asked again").jobs == first.jobs, (
        "its answer was lost, its jobs are its own"
    )
    assert box.settle(report(first.jobs[0], Event.CREATE)) == ["succeeded"]


def test_an_older_one_settles_no_doubt_by_a_lookup_that_it_had_begun(box: Box) -> None:
    job_id = box.in_state(State.VERIFYING)
    box.time_comes(job_id)
    turn = box.turn("older")
    assert [doubt.id for doubt in turn.doubts] == [job_id]
    with newer_launchq():
        greet(box)
    before = box.picture()
    assert box.verify("older", turn.doubts, {}) == []
    assert not box.turn("older").mine
    assert box.picture() == before


def test_a_state_that_only_a_newer_one_knows_is_told_and_not_guessed(box: Box) -> None:
    [job_id] = box.enter("a", key="k")
    box.redis.hset(box.keys.job(job_id), "state", "hibernating")
    for look in (lambda: box.read(job_id), box.ledger.list_jobs, lambda: box.enter("a", key="k")):
        with pytest.raises(OutdatedError, match=f"{job_id} is 'hibernating'"):
            look()
    assert mark(box) == LEDGER_VERSION
    box.redis.hset(box.keys.job(job_id), "state", "queued")
