"""Claiming: what is due, in order, once; and never what may have bought an instance."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from harness import wait_until
from ledger import Ledger, calls
from ledger.vault import PLAIN
from ledger_box import API_KEY, TINY, Box, report, submission
from tasks.states import ENDS, WATCHED, Event, State


def test_a_claimed_job(box: Box) -> None:
    box.ledger.enqueue(
        [submission("a", id="j1", max_attempts=3, wait_for_capacity=True), submission("b", id="j2")]
    )
    began = box.now()
    claim = box.claim(lease=35)
    ended = box.now()
    assert (claim.why, claim.token) == ("", None)
    first, second = sorted(claim.jobs, key=lambda job: job.id)
    assert (first.id, first.attempt, first.tries, first.max_attempts, first.waits) == ("j1", "1", 0, 3, True)
    assert (second.id, second.attempt, second.tries, second.max_attempts, second.waits) == (
        "j2",
        "1",
        0,
        None,
        False,
    )
    fields = box.fields("j1")
    assert (fields["state"], fields["attempt"], fields["attempts"], fields["worker"]) == (
        "submitting",
        "1",
        "0",
        "w1",
    )
    assert began + 35_000 <= int(fields["dueAt"]) <= ended + 35_000
    assert box.events("j1") == [("j1", "queued"), ("j1", "submitting")]


def test_the_attempts_number_is_in_the_ledger_before_the_call(box: Box) -> None:
    box.enter("a")
    for number in range(1, 5):
        job = box.take()
        assert (job.attempt, box.fields(job.id)["attempt"]) == (str(number), str(number))
        box.settle(report(job, Event.DEFER))


def test_no_more_than_the_limit(box: Box) -> None:
    box.enter(*(f"n{number}" for number in range(5)))
    assert [len(box.claim(2).jobs) for _ in range(4)] == [2, 2, 1, 0]


def test_a_limit_of_nothing_takes_nothing(box: Box) -> None:
    box.enter("a")
    assert box.claim(0).jobs == ()


def test_the_earliest_due_goes_first(box: Box) -> None:
    [late] = box.enter("a-late-one", not_before=timedelta(milliseconds=30))
    [early] = box.enter("early", not_before=timedelta(milliseconds=10))
    box.wait_for_time(int(box.fields(late)["dueAt"]))
    assert [job.id for job in box.claim(1).jobs + box.claim(1).jobs] == [early, late]


def test_what_is_not_due_is_left(box: Box) -> None:
    box.enter("a")
    box.settle(report(box.take(), Event.DEFER, delay=60))
    claim = box.claim()
    assert claim.jobs == ()
    assert claim.wait is not None
    assert 59 < claim.wait <= 60


def test_a_delay_that_is_over_makes_a_job_due(box: Box) -> None:
    box.enter("a")
    job = box.take()
    before = box.now()
    box.settle(report(job, Event.DEFER, delay=0.05))
    again = wait_until(lambda: box.claim().jobs, description="the job to be due again", interval=0.002)
    assert box.now() >= before + 50
    assert (again[0].id, again[0].attempt) == (job.id, "2")


def test_an_empty_ledger(box: Box) -> None:
    claim = box.claim()
    assert (claim.why, claim.wake, claim.wait, claim.jobs) == ("", False, None, ())


@pytest.mark.parametrize("state", sorted({*ENDS, *WATCHED, State.RETRYING, State.SCHEDULED}))
def test_only_what_waits_is_claimed(box: Box, state: State) -> None:
    box.in_state(state)
    before = box.picture()
    assert box.claim().jobs == ()
    assert box.picture() == before


class TestAgain:
    """The answer of a claim was lost on its way, and the worker asks again with the same claim id."""

    def test_it_gets_the_same_jobs(self, box: Box) -> None:
        box.enter("a", "b", "c")
        first = box.claim(2, claim_id="c1")
        before = box.picture()
        again = box.claim(2, claim_id="c1")
        assert again.jobs == first.jobs
        assert len(first.jobs) == 2
        assert box.picture() == before

    def test_it_gets_no_more_even_with_more_room(self, box: Box) -> None:
        box.enter("a", "b", "c")
        assert len(box.claim(1, claim_id="c1").jobs) == 1
        assert len(box.claim(3, claim_id="c1").jobs) == 1

    def test_it_does_not_get_what_has_been_settled(self, box: Box) -> None:
        box.enter("a", "b", "c")
        first = box.claim(claim_id="c1")
        events = (Event.CREATE, Event.DOUBT, Event.FAIL)
        box.settle(*(report(job, event) for job, event in zip(first.jobs, events, strict=True)))
        assert box.claim(claim_id="c1").jobs == ()

    def test_it_does_not_get_a_later_attempt_of_its_job(self, box: Box) -> None:
        box.enter("a")
        [job] = box.claim(claim_id="c1").jobs
        box.settle(report(job, Event.DEFER))
        box.take()
        assert box.claim(claim_id="c1").jobs == ()

    def test_another_claim_gets_none_of_them(self, box: Box) -> None:
        box.enter("a", "b")
        box.claim(claim_id="c1")
        assert box.claim(claim_id="c2").jobs == ()

    def test_also_while_the_account_is_closed(self, box: Box) -> None:
        """The jobs are the worker's already: their calls may be under way, and their leases run."""
        box.enter("a", "b")
        job, other = box.claim(1, claim_id="c1").jobs[0], box.take()
        box.settle(report(other, Event.DEFER, pause=60))
        assert [again.id for again in box.claim(claim_id="c1").jobs] == [job.id]
        assert box.claim().why == "paused"

    def test_it_is_kept_for_as_long_as_the_lease(self, box: Box) -> None:
        box.enter("a")
        box.claim(claim_id="c1", lease=35)
        assert 34_000 < box.redis.pttl(box.keys.base + "claim:c1") <= 35_000

    def test_a_claim_that_took_nothing_leaves_nothing(self, box: Box) -> None:
        box.claim(claim_id="c1")
        assert "claim:c1" not in box.names()


class TestLostWorkers:
    def test_what_a_lost_worker_had_is_never_handed_out_but_looked_up(self, box: Box) -> None:
        box.enter("a")
        job = box.take_and_lose()
        claim = box.claim()
        assert (claim.jobs, claim.lookup) == ((), True)
        assert box.state(job.id) == "submitting"
        assert box.turn().mine
        fields = box.fields(job.id)
        assert (fields["state"], fields["category"], fields["attempt"], fields["attempts"]) == (
            "verifying", "unknown", "1", "1",
        )  # fmt: skip
        assert box.claim().jobs == ()

    def test_also_when_its_own_claim_asks_again(self, box: Box) -> None:
        box.enter("a")
        [job] = box.claim(claim_id="c1", lease=TINY).jobs
        # A millisecond more: what the claim took is noted by a clock that Redis reads a little later.
        box.wait_for_time(int(box.fields(job.id)["dueAt"]) + 1)
        assert box.claim(claim_id="c1").jobs == ()
        box.tick()
        assert box.claim(claim_id="c1").jobs == ()
        assert box.state(job.id) == "verifying"

    def test_it_holds_up_nobody(self, box: Box) -> None:
        box.enter("lost")
        lost = box.take_and_lose()
        [other] = box.enter("other")
        assert [job.id for job in box.claim(1).jobs] == [other]
        assert box.state(lost.id) == "submitting"


class TestAccount:
    def test_a_pause_stops_claims_and_ends_by_itself(self, box: Box) -> None:
        box.enter("a", "b")
        first = box.take()
        box.settle(report(first, Event.DEFER, category="throttled", message="slow down", pause=0.08))
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.wake) == ("paused", (), False)
        assert claim.wait is not None
        assert 0 < claim.wait <= 0.08
        wait_until(lambda: box.claim().jobs, description="the pause to end", interval=0.005)
        assert box.account() == {"state": "open"}

    def test_a_blocked_account_lets_one_job_through_now_and_then(self, box: Box) -> None:
        box.enter(*"abcd")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="余额不足", blocks=True))
        blocked = box.claim()
        assert (blocked.why, blocked.jobs) == ("blocked", ())
        assert blocked.wait is not None
        assert calls.PROBE_SECONDS - 1 < blocked.wait <= calls.PROBE_SECONDS
        open_the_probe(box)
        assert len(box.claim().jobs) == 1
        closed = box.claim()
        assert (closed.why, closed.jobs) == ("blocked", ())
        assert closed.wait is not None
        assert closed.wait > calls.PROBE_SECONDS - 1

    def test_a_probe_that_creates_opens_the_account(self, box: Box) -> None:
        box.enter(*"abcd")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="余额不足", blocks=True))
        open_the_probe(box)
        probe = box.take()
        box.settle(report(probe, Event.CREATE))
        assert box.account() == {"state": "open"}
        assert len(box.claim().jobs) == 3

    def test_a_probe_that_finds_no_money_closes_it_again(self, box: Box) -> None:
        box.enter(*"abcd")
        refusal = {"category": "balance", "message": "余额不足", "blocks": True, "counts": False}
        box.settle(report(box.take(), Event.DEFER, **refusal))
        since = box.account()["since"]
        open_the_probe(box)
        box.settle(report(box.take(), Event.DEFER, **refusal))
        assert box.claim().why == "blocked"
        assert box.account()["since"] == since

    def test_a_lost_lease_does_not_use_up_the_probe(self, box: Box) -> None:
        box.enter("a")
        job = box.take()
        box.enter("lost")
        lost = box.take_and_lose()
        box.enter("b", "c")
        box.settle(report(job, Event.DEFER, category="balance", message="no", blocks=True))
        open_the_probe(box)
        assert [len(box.claim().jobs) for _ in range(3)] == [1, 0, 0]
        assert box.state(lost.id) == "submitting"

    def test_a_claim_with_nothing_due_does_not_use_up_the_probe(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="no", blocks=True, delay=60))
        open_the_probe(box)
        assert box.claim().jobs == ()
        box.enter("b")
        assert len(box.claim().jobs) == 1

    def test_without_a_token_nothing_is_taken(self, box: Box) -> None:
        box.enter("a")
        before = box.picture()
        claim = box.claim(api_key="")
        assert (claim.why, claim.jobs, claim.token, claim.wait) == ("token", (), None, None)
        assert box.picture() == before

    def test_with_a_token_it_comes_with_the_jobs(self, box: Box) -> None:
        box.enter("a")
        box.ledger.run(calls.store_token("secret-token", vault=PLAIN, source="login", life=3600))
        claim = box.claim(api_key="")
        assert len(claim.jobs) == 1
        assert claim.token is not None
        assert (claim.token.value, claim.token.version, claim.token.life) == ("secret-token", "1", 3600)
        assert claim.token.left is not None
        assert 3599 < claim.token.left <= 3600
        assert "secret-token" not in repr(claim)

    def test_a_token_whose_end_is_not_known_is_good(self, box: Box) -> None:
        box.enter("a")
        box.ledger.run(calls.store_token("secret-token", vault=PLAIN, source="set-token"))
        claim = box.claim(api_key="")
        assert len(claim.jobs) == 1
        assert claim.token is not None
        assert (claim.token.left, claim.token.life) == (None, None)

    def test_a_token_that_has_ended_is_none(self, box: Box) -> None:
        box.enter("a")
        box.ledger.run(calls.store_token("secret-token", vault=PLAIN, source="login", life=TINY))
        box.wait_for_time(box.now() + 2)
        claim = box.claim(api_key="")
        assert (claim.why, claim.jobs) == ("token", ())

    def test_who_needs_no_token_gets_none(self, box: Box) -> None:
        box.ledger.run(calls.store_token("secret-token", vault=PLAIN, source="login"))
        assert box.claim(api_key=API_KEY).token is None


def open_the_probe(box: Box) -> None:
    """As if the time until the next probe were over."""
    box.redis.hset(box.keys.account, "until", box.now())


class TestCallingForHelp:
    def test_a_shift_that_is_full_calls_another(self, box: Box) -> None:
        box.enter("a", "b", "c")
        box.claim(0, first=True)  # the wake-up of the submission has been answered
        box.redis.delete(box.keys.base + "wake")
        claim = box.claim(2, watching=True)
        assert (claim.wake, claim.wait) == (True, 0)

    def test_once(self, box: Box) -> None:
        box.enter("a", "b", "c")
        box.redis.delete(box.keys.base + "wake")
        assert [box.claim(1).wake, box.claim(1).wake] == [True, False]

    def test_not_when_it_took_all_there_was(self, box: Box) -> None:
        box.enter("a", "b")
        box.redis.delete(box.keys.base + "wake")
        assert not box.claim(2).wake


def test_many_workers_at_once_take_each_job_once(box: Box) -> None:
    box.ledger.enqueue([submission("n", id=f"j{number}") for number in range(300)])
    taken: list[str] = []

    def work(name: str) -> None:
        ledger = Ledger(box.url, box.prefix)
        for turn in range(40):
            claim = ledger.run(
                calls.claim(
                    f"{name}-{turn}",
                    limit=10,
                    lease=60,
                    worker=name,
                    api_key=API_KEY,
                    first=False,
                    watching=False,
                    vault=PLAIN,
                )
            )
            taken.extend(job.id for job in claim.jobs)
            if not claim.jobs:
                break
        ledger.close()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"j{number}" for number in range(300))


class TestListing:
    """A name that is sent as it is waits for a listing from before it, by which its instance is told from others."""

    def test_where_none_was_made_it_waits_and_one_is_wanted(self, box: Box) -> None:
        box.never_listed()
        [job_id] = box.enter("a")
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup, claim.wait) == ("listing", (), True, 0.05)
        assert box.state(job_id) == "queued"

    def test_while_somebody_makes_it_no_other_is_wanted(self, box: Box) -> None:
        box.never_listed()
        box.enter("a")
        box.turn("other")
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup, claim.wait) == ("listing", (), False, 0.05)

    def test_once_it_was_made_the_job_goes(self, box: Box) -> None:
        box.never_listed()
        box.enter("a")
        box.look_up()
        claim = box.claim()
        assert (claim.why, len(claim.jobs), claim.lookup) == ("", 1, False)

    def test_where_none_can_be_had_it_does_not_wait(self, box: Box) -> None:
        box.never_listed()
        box.enter("a")
        box.look_up(flaw="HTTP 500")
        claim = box.claim()
        assert (claim.why, len(claim.jobs), claim.lookup) == ("", 1, False)

    def test_after_a_while_it_waits_again_for_one(self, box: Box) -> None:
        box.never_listed()
        box.enter("a")
        failed = box.now() - round(calls.RELIST_SECONDS * 1000) - 1
        box.redis.hset(box.keys.base + "listing", "failedAt", failed)
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup) == ("listing", (), True)

    def test_one_that_is_too_old_is_none(self, box: Box) -> None:
        listed_seconds_ago(box, calls.BASELINE_SECONDS + 1)
        box.enter("a")
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup) == ("listing", (), True)

    def test_a_tagged_name_does_not_wait(self, box: Box) -> None:
        box.never_listed()
        [job_id] = box.enter("a", unique_names=True)
        claim = box.claim()
        assert (claim.why, [job.id for job in claim.jobs], claim.lookup) == ("", [job_id], False)

    def test_what_goes_before_one_that_waits_goes(self, box: Box) -> None:
        box.never_listed()
        [tagged] = box.enter("a", unique_names=True)
        box.wait_for_time(box.now())
        box.enter("b")
        claim = box.claim()
        assert (claim.why, [job.id for job in claim.jobs], claim.lookup) == ("listing", [tagged], True)

    @pytest.mark.xfail(strict=True, reason="claim.lua stops at the first job that waits for a listing")
    def test_it_holds_up_no_tagged_name(self, box: Box) -> None:
        box.never_listed()
        box.enter("b")
        box.wait_for_time(box.now())
        [tagged] = box.enter("a", unique_names=True)
        claim = box.claim()
        assert (claim.why, [job.id for job in claim.jobs], claim.lookup) == ("listing", [tagged], True)

    @pytest.mark.parametrize(
        ("age", "took", "wanted"),
        [
            (calls.RELIST_SECONDS - 1, 0, False),
            (calls.RELIST_SECONDS + 1, 0, True),
            (calls.RELIST_SECONDS + 1, 10, False),
            (199, 10, False),
            (201, 10, True),
        ],
    )
    def test_one_that_is_getting_old_is_made_again_and_nobody_waits(
        self, box: Box, age: float, took: float, wanted: bool
    ) -> None:
        listed_seconds_ago(box, age, took=took)
        box.enter("a")
        claim = box.claim()
        assert (claim.why, len(claim.jobs), claim.lookup) == ("", 1, wanted)

    def test_not_while_there_is_nothing_to_claim(self, box: Box) -> None:
        listed_seconds_ago(box, calls.BASELINE_SECONDS + 1)
        assert not box.claim().lookup

    def test_not_for_tagged_names(self, box: Box) -> None:
        listed_seconds_ago(box, calls.RELIST_SECONDS + 1)
        box.enter("a", unique_names=True)
        assert not box.claim().lookup

    def test_not_soon_after_one_that_failed(self, box: Box) -> None:
        listed_seconds_ago(box, calls.RELIST_SECONDS + 1)
        box.look_up(flaw="HTTP 500")
        box.enter("a")
        claim = box.claim()
        assert (len(claim.jobs), claim.lookup) == (1, False)


class TestLookupWanted:
    def due(self, box: Box) -> str:
        job = box.doubt("lost")
        box.time_comes(job.id)
        return job.id

    def test_when_a_doubt_is_due(self, box: Box) -> None:
        self.due(box)
        assert [box.claim().lookup, box.claim().lookup] == [True, True]

    def test_not_before(self, box: Box) -> None:
        box.doubt("lost")
        assert not box.claim().lookup

    def test_when_a_lease_is_over(self, box: Box) -> None:
        box.enter("a")
        box.take_and_lose()
        assert box.claim().lookup

    def test_not_while_somebody_makes_one(self, box: Box) -> None:
        self.due(box)
        box.turn("other")
        assert not box.claim().lookup

    def test_also_with_jobs_to_claim(self, box: Box) -> None:
        self.due(box)
        box.enter("a")
        claim = box.claim()
        assert (len(claim.jobs), claim.lookup) == (1, True)

    def test_also_while_the_account_cannot_pay(self, box: Box) -> None:
        self.due(box)
        box.end(Event.DEFER, "a", category="balance", message="余额不足", blocks=True)
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup) == ("blocked", (), True)

    def test_not_while_it_is_paused(self, box: Box) -> None:
        self.due(box)
        box.end(Event.DEFER, "a", category="throttled", message="slow down", pause=60)
        claim = box.claim()
        assert (claim.why, claim.jobs, claim.lookup) == ("paused", (), False)

    def test_not_without_a_token(self, box: Box) -> None:
        self.due(box)
        claim = box.claim(api_key="")
        assert (claim.why, claim.lookup) == ("token", False)


def listed_seconds_ago(box: Box, age: float, *, took: float = 0) -> None:
    """As if the last listing had been made so long ago, in so many seconds."""
    box.redis.hset(
        box.keys.base + "listing",
        mapping={"at": box.now() - round(age * 1000), "took": round(took * 1000)},
    )


class TestBaseline:
    """What the job keeps of the listing from before the first attempt that may have created its instance."""

    def test_each_attempt_has_its_own(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER))
        first = box.fields(box.ledger.list_jobs()[0].id)["since"]
        box.look_up()
        job = box.take()
        fields = box.fields(job.id)
        assert int(fields["since"]) > int(first)
        assert fields["baseline"] == box.redis.hget(box.keys.base + "listing", "at")

    def test_after_a_doubt_the_first_ones_stays(self, box: Box) -> None:
        job = box.doubt("a")
        before = box.redis.hmget(box.keys.job(job.id), "since", "baseline")
        box.look_up_until_settled(job.id)
        box.look_up()
        box.time_comes(job.id)
        box.take()
        assert box.redis.hmget(box.keys.job(job.id), "since", "baseline") == before

    def test_a_tagged_name_needs_none(self, box: Box) -> None:
        box.enter("a", unique_names=True)
        job = box.take()
        assert not {"since", "baseline"} & set(box.fields(job.id))
