"""What a producer may say about when its job is tried, how often, and until when."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness import body
from tasks.errors import InputError
from tasks.jobs import Submission, lane_of
from tasks.policy import CAPACITY_PATIENCE, DEFAULT, LONGEST, Policy
from tasks.request import LaunchRequest, parse_request

DAY = 86400.0


def request(**changes: Any) -> LaunchRequest:
    return parse_request(body(**changes))


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize(("said", "waits"), [(None, None), (True, True), (False, False)])
def test_spot_instances_wait_for_capacity_and_others_do_not_unless_told(
    spot: bool, said: bool | None, waits: bool | None
) -> None:
    assert Policy(wait_for_capacity=said).waits(spot=spot) is (spot if waits is None else waits)


@pytest.mark.parametrize(
    ("policy", "spot", "until"),
    [
        (Policy(), True, DAY),
        (Policy(), False, math.inf),
        (Policy(wait_for_capacity=True), False, DAY),
        (Policy(wait_for_capacity=False), True, math.inf),
        (Policy(until=60), True, 60),
        (Policy(until=60), False, 60),
        (Policy(until=math.inf), True, math.inf),
    ],
)
def test_who_waits_for_capacity_waits_a_day_unless_told(policy: Policy, spot: bool, until: float) -> None:
    assert DAY == CAPACITY_PATIENCE
    assert policy.settled(spot=spot).until == until


def test_what_is_settled_stays_as_it_is() -> None:
    start = timedelta(hours=1)
    policy = Policy(3, True, not_before=start).settled(spot=True)
    assert policy == Policy(3, True, wait_for_capacity=True, until=DAY, not_before=start)
    assert policy.settled(spot=False) == policy


def test_the_default_is_without_problems() -> None:
    assert Policy() == DEFAULT
    assert list(DEFAULT.problems()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 1),
        ("max_attempts", 1000),
        ("until", 0.001),
        ("until", LONGEST),
        ("until", math.inf),
        ("not_before", timedelta(0)),
        ("not_before", timedelta(seconds=LONGEST)),
        ("not_before", datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_can_be_used(field: str, value: Any) -> None:
    assert list(Policy(**{field: value}).problems()) == []


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("max_attempts", 0, "maxAttempts"),
        ("max_attempts", -1, "maxAttempts"),
        ("max_attempts", True, "maxAttempts"),
        ("max_attempts", 1.0, "maxAttempts"),
        ("until", 0, "until"),
        ("until", -1, "until"),
        ("until", math.nan, "until"),
        ("until", -math.inf, "until"),
        ("until", LONGEST + 1, "until"),
        ("not_before", timedelta(seconds=-1), "notBefore"),
        ("not_before", timedelta(seconds=LONGEST + 1), "notBefore"),
        ("not_before", datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), "notBefore"),
    ],
)
def test_what_cannot_is_named(field: str, value: Any, path: str) -> None:
    policy = Policy(**{field: value})
    [problem] = policy.problems()
    assert path in str(InputError([problem]))
    with pytest.raises(InputError, match=path):
        Submission.of(request(), "j1", policy=policy)


class TestLane:
    def test_is_the_region_the_type_and_the_market(self) -> None:
        spot, other = (request(isSpotInstance=one) for one in (True, False))
        assert lane_of(spot, waits=True) == f"{spot.region}/{spot.instance_type_id}/spot"
        assert lane_of(other, waits=True) == f"{spot.region}/{spot.instance_type_id}/onDemand"

    def test_who_does_not_wait_has_a_line_of_their_own(self) -> None:
        one = request(isSpotInstance=True)
        assert lane_of(one, waits=False) == lane_of(one, waits=True) + "/once"

    @pytest.mark.parametrize("spot", [True, False])
    @pytest.mark.parametrize("waits", [None, True, False])
    def test_a_submission_is_in_the_one_that_its_policy_says(self, spot: bool, waits: bool | None) -> None:
        one = request(isSpotInstance=spot)
        made = Submission.of(one, "j1", policy=Policy(wait_for_capacity=waits))
        assert made.lane == lane_of(one, waits=bool(made.policy.wait_for_capacity))
