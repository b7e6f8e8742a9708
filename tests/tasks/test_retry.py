"""What follows from each verdict, and how long anything can go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.retry import REASONS, RETRY_AFTER_CAP, UNSENT, Outcome, RetryPolicy, decide
from tasks.states import MOVES, Event, State
from tasks.verdicts import Judgement, Verdict

POLICY = RetryPolicy(max_attempts=8, base=1.0, cap=60.0, capacity_interval=30.0)
DICE = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    base=st.floats(0.001, 10),
    cap=st.floats(0.001, 600),
    capacity_interval=st.floats(0.001, 600),
)
JUDGEMENTS = st.builds(
    Judgement,
    st.sampled_from(Verdict),
    st.just("the API's own text"),
    retry_after=st.none() | st.floats(0, 1e9),
)


def decided(
    verdict: Verdict,
    *,
    tries: int = 0,
    max_attempts: int = 8,
    waits: bool = False,
    dice: float = 0.5,
    retry_after: float | None = None,
    policy: RetryPolicy = POLICY,
) -> Outcome:
    judgement = Judgement(
        verdict, "the API's own text", "notebook-1" if verdict is Verdict.CREATED else "", retry_after
    )
    return decide(
        judgement, tries=tries, max_attempts=max_attempts, waits_for_capacity=waits, policy=policy, dice=dice
    )


def test_created() -> None:
    assert decided(Verdict.CREATED) == Outcome(Event.CREATE, instance_id="notebook-1")


def test_rejected_fails_with_the_apis_own_text() -> None:
    assert decided(Verdict.REJECTED) == Outcome(Event.FAIL, "rejected", "the API's own text")


def test_unknown_is_doubted_however_many_tries_are_left() -> None:
    for tries in (0, 7, 99):
        outcome = decided(Verdict.UNKNOWN, tries=tries)
        assert (outcome.event, outcome.category, outcome.instance_id) == (Event.DOUBT, "unknown", "")
        assert outcome.message == "the API's own text"
        assert (outcome.counts, outcome.spends) == (True, True)


@pytest.mark.parametrize("tries", [0, 7, 99])
def test_an_expired_login_is_tried_again_at_once_and_costs_nothing(tries: int) -> None:
    outcome = decided(Verdict.AUTH_EXPIRED, tries=tries)
    assert outcome == Outcome(Event.DEFER, "auth", "the API's own text", counts=False)
    assert (outcome.delay, outcome.spends, outcome.pause, outcome.blocks) == (0, False, 0, False)


@pytest.mark.parametrize("tries", [0, 7, 99])
def test_an_empty_balance_blocks_the_account_and_fails_no_job(tries: int) -> None:
    outcome = decided(Verdict.BLOCKED, tries=tries)
    assert outcome == Outcome(Event.DEFER, "balance", "the API's own text", counts=False, blocks=True)
    assert (outcome.delay, outcome.spends) == (0, False)


@pytest.mark.parametrize("tries", [0, 7, 99])
def test_a_spot_job_waits_for_capacity_as_long_as_it_takes(tries: int) -> None:
    outcome = decided(Verdict.NO_CAPACITY, tries=tries, waits=True)
    assert (outcome.event, outcome.reason, outcome.delay) == (Event.DEFER, "capacity", 30)
    assert (outcome.counts, outcome.spends, outcome.pause) == (True, False, 0)


@given(dice=DICE)
def test_the_wait_for_capacity_has_a_little_jitter(dice: float) -> None:
    assert 27 <= decided(Verdict.NO_CAPACITY, waits=True, dice=dice).delay <= 33


def test_any_other_job_fails_for_want_of_capacity() -> None:
    assert decided(Verdict.NO_CAPACITY) == Outcome(Event.FAIL, "capacity", "the API's own text")


@given(dice=DICE, tries=st.integers(0, 6))
def test_transient_waits_by_exponential_backoff_with_full_jitter(dice: float, tries: int) -> None:
    outcome = decided(Verdict.NOT_SENT, tries=tries, dice=dice)
    ceiling = min(60.0, 2.0**tries)
    assert (outcome.event, outcome.reason, outcome.spends) == (Event.DEFER, "transient", True)
    assert outcome.delay == pytest.approx(ceiling * dice)
    assert 0 <= outcome.delay < ceiling or outcome.delay == ceiling * dice


def test_full_jitter_reaches_from_nothing_to_the_ceiling() -> None:
    assert decided(Verdict.NOT_SENT, tries=3, dice=0.0).delay == 0
    assert decided(Verdict.NOT_SENT, tries=3, dice=0.999).delay == pytest.approx(8, rel=0.01)


@given(policy=POLICIES, tries=st.integers(1, 10_000))
def test_the_ceiling_grows_up_to_the_cap_and_never_beyond(policy: RetryPolicy, tries: int) -> None:
    assert policy.ceiling(tries) <= policy.ceiling(tries + 1) <= policy.cap
    assert policy.ceiling(1) == min(policy.base, policy.cap)


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(None, 4.0), (0.0, 0.0), (7.0, 7.0), (3601.0, RETRY_AFTER_CAP), (1e9, RETRY_AFTER_CAP)],
)
def test_a_throttle_pauses_the_account_for_as_long_as_asked(retry_after: float | None, pause: float) -> None:
    outcome = decided(Verdict.THROTTLED, tries=2, retry_after=retry_after, dice=0.25)
    assert (outcome.event, outcome.reason, outcome.spends) == (Event.DEFER, "throttled", True)
    assert outcome.pause == pause
    # The job is due a little after the account opens, and not all jobs in the same moment.
    assert outcome.delay == pause + 0.25


def test_the_last_throttled_try_still_pauses_the_account() -> None:
    outcome = decided(Verdict.THROTTLED, tries=7, retry_after=5)
    assert (outcome.event, outcome.pause) == (Event.FAIL, 5)


@pytest.mark.parametrize("verdict", [Verdict.NOT_SENT, Verdict.THROTTLED])
@pytest.mark.parametrize("max_attempts", [1, 2, 8])
def test_the_budget_ends_with_its_last_try(verdict: Verdict, max_attempts: int) -> None:
    for tries in range(max_attempts + 3):
        event = decided(verdict, tries=tries, max_attempts=max_attempts).event
        assert event is (Event.FAIL if tries >= max_attempts - 1 else Event.DEFER)


@given(
    judgement=JUDGEMENTS,
    tries=st.integers(0, 20),
    max_attempts=st.integers(1, 10),
    waits=st.booleans(),
    policy=POLICIES,
    dice=DICE,
)
def test_every_decision_is_one_that_the_ledger_can_write_down(
    judgement: Judgement, tries: int, max_attempts: int, waits: bool, policy: RetryPolicy, dice: float
) -> None:
    outcome = decide(
        judgement, tries=tries, max_attempts=max_attempts, waits_for_capacity=waits, policy=policy, dice=dice
    )
    assert outcome.event in MOVES[State.SUBMITTING]
    assert outcome.delay >= 0
    assert 0 <= outcome.pause <= max(RETRY_AFTER_CAP, policy.cap)
    assert outcome.reason in REASONS if outcome.event is Event.DEFER else outcome.reason == ""
    assert outcome.counts or not outcome.spends
    # Only what certainly bought nothing may be tried again; what is unknown never.
    assert (outcome.event is Event.DOUBT) == (judgement.verdict is Verdict.UNKNOWN)
    assert (outcome.event is Event.CREATE) == (judgement.verdict is Verdict.CREATED)


@given(
    judgements=st.lists(JUDGEMENTS, min_size=1, max_size=60),
    max_attempts=st.integers(1, 6),
    waits=st.booleans(),
    dice=DICE,
)
def test_no_run_of_answers_spends_more_tries_than_the_budget_has(
    judgements: list[Judgement], max_attempts: int, waits: bool, dice: float
) -> None:
    tries = passing = 0
    for judgement in judgements:
        outcome = decide(
            judgement,
            tries=tries,
            max_attempts=max_attempts,
            waits_for_capacity=waits,
            policy=POLICY,
            dice=dice,
        )
        passing += judgement.verdict in {Verdict.NOT_SENT, Verdict.THROTTLED, Verdict.UNKNOWN}
        tries += outcome.spends
        assert tries == passing <= max_attempts
        if outcome.event is not Event.DEFER:
            break
        assert tries < max_attempts


def test_an_attempt_that_was_not_made_costs_nothing() -> None:
    assert (UNSENT.event, UNSENT.reason, UNSENT.counts, UNSENT.spends) == (
        Event.DEFER,
        "transient",
        False,
        False,
    )
