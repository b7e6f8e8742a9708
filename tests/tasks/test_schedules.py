"""Which triggers of a schedule are run, and what is stored of its entries."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import body
from tasks.cron import Cron
from tasks.errors import InputError
from tasks.intake import read_input
from tasks.schedules import (
    PART,
    CatchUp,
    Overlap,
    Result,
    Schedule,
    Timing,
    batch_of,
    checked_name,
    contents_differ,
    decide,
    refuse_start_times,
    stored,
    submissions,
)

TWO = datetime(2026, 12, 1, 2, tzinfo=UTC)
"""The trigger that is due; the cron of these tests is hourly."""
WEEK = 7 * 86400.0


def schedule(
    catch_up: str = "last",
    *,
    zone: str = "UTC",
    paused: bool = False,
    deadline: float = 3600,
    overlap: str = "allow",
) -> Schedule:
    timing = Timing(Cron("0 * * * *", zone), deadline, Overlap(overlap), CatchUp(catch_up))
    return Schedule("n", timing, 1, 1, "r", paused, TWO, None, None, None, TWO, TWO)


def history(one: Schedule, now: datetime, *, busy: str | None = None) -> list[tuple[str, str]]:
    """What becomes of every trigger from two o'clock to now: (its hour, the result); the last is the next one."""
    told, trigger = [], TWO
    while trigger <= now:
        decision = decide(one, trigger, now, begun=False, busy=busy, longest=WEEK)
        told.append((f"{trigger:%H:%M}", str(decision.result)))
        assert decision.next is not None
        assert decision.next > trigger
        trigger = decision.next
    return [*told, (f"{trigger:%H:%M}", "next")]


@pytest.mark.parametrize(
    ("catch_up", "deadline", "minutes_later", "expected"),
    [
        # In time: whatever the policy says.
        ("none", 0, 0.9, [("02:00", "ran"), ("03:00", "next")]),
        ("last", 0, 0.9, [("02:00", "ran"), ("03:00", "next")]),
        # One was missed.
        ("none", 3600, 1, [("02:00", "missed"), ("03:00", "next")]),
        ("last", 3600, 60 - 1, [("02:00", "ran"), ("03:00", "next")]),
        ("last", 1200, 20, [("02:00", "ran"), ("03:00", "next")]),
        ("last", 1200, 20.1, [("02:00", "missed"), ("03:00", "next")]),
        # Several were: 02:00 to 05:00 at 05:10.
        ("none", 4 * 3600, 190, [("02:00", "missed"), ("06:00", "next")]),
        ("last", 4 * 3600, 190, [("02:00", "missed"), ("05:00", "ran"), ("06:00", "next")]),
        ("last", 300, 190, [("02:00", "missed"), ("06:00", "next")]),
        ("all", 4 * 3600, 190, [("02:00", "ran"), ("03:00", "ran"), ("04:00", "ran"), ("05:00", "ran"), ("06:00", "next")]),
        ("all", 7800, 190, [("02:00", "missed"), ("03:00", "ran"), ("04:00", "ran"), ("05:00", "ran"), ("06:00", "next")]),
        # The last of them is in time.
        ("none", 3600, 180.5, [("02:00", "missed"), ("05:00", "ran"), ("06:00", "next")]),
        # A long outage is not walked through one by one.
        ("last", 3600, 365 * 1440 + 10, [("02:00", "missed"), ("02:00", "ran"), ("03:00", "next")]),
    ],
)  # fmt: skip
def test_after_an_outage_its_policy_says_which_triggers_are_run(
    catch_up: str, deadline: float, minutes_later: float, expected: list[tuple[str, str]]
) -> None:
    now = TWO + timedelta(minutes=minutes_later)
    assert history(schedule(catch_up, deadline=deadline), now) == expected


def test_a_trigger_is_skipped_while_the_batch_before_is_not_done_and_says_which() -> None:
    one = schedule(overlap="skip")
    decision = decide(one, TWO, TWO, begun=False, busy="n@before", longest=WEEK)
    assert (decision.result, decision.message) == (Result.SKIPPED, "batch n@before is not done yet")
    assert decision.next == TWO + timedelta(hours=1)
    assert decide(one, TWO, TWO, begun=False, busy=None, longest=WEEK).result is Result.RAN
    assert decide(schedule(), TWO, TWO, begun=False, busy="n@before", longest=WEEK).result is Result.RAN


def test_what_has_begun_is_run_to_its_end_unless_its_jobs_may_be_forgotten() -> None:
    one = replace(schedule("none", deadline=0, overlap="skip"), paused=True)
    late = TWO + timedelta(days=6)
    assert decide(one, TWO, late, begun=True, busy="n@before", longest=WEEK).result is Result.RAN
    assert decide(one, TWO, late, begun=False, busy=None, longest=WEEK).result is Result.SKIPPED
    # A job that has been forgotten would be launched a second time.
    later = TWO + timedelta(days=7)
    assert decide(one, TWO, later, begun=True, busy=None, longest=WEEK).result is Result.MISSED
    long = schedule("all", deadline=1e9)
    assert decide(long, TWO, later, begun=False, busy=None, longest=WEEK).result is Result.MISSED


@given(
    st.sampled_from(list(CatchUp)),
    st.floats(0, 9e5),
    st.timedeltas(timedelta(0), timedelta(days=20)),
    st.booleans(),
)
def test_every_trigger_comes_to_an_end_and_none_is_run_beyond_its_deadline(
    catch_up: CatchUp, deadline: float, late: timedelta, begun: bool
) -> None:
    one, trigger, now = schedule(str(catch_up), deadline=deadline), TWO, TWO + late
    for _ in range(600):
        decision = decide(one, trigger, now, begun=False, busy=None, longest=WEEK)
        lateness = (now - trigger).total_seconds()
        if decision.result is Result.RAN:
            assert lateness < 60 or (catch_up != "none" and lateness <= deadline)
            assert lateness < WEEK
        assert decision.next is not None
        assert decision.next > trigger
        trigger = decision.next
        if trigger > now:
            break
    assert trigger > now
    assert trigger - now <= timedelta(hours=1)


def test_a_batch_bears_the_time_of_its_zone_and_no_two_triggers_the_same() -> None:
    one = replace(schedule(zone="Asia/Shanghai"), name="nightly")
    assert batch_of(one, TWO) == "nightly@2026-12-01T10:00+08:00"
    assert batch_of(one, TWO.replace(second=7), by_hand=True) == "nightly@2026-12-01T10:00:07+08:00"
    berlin = schedule(zone="Europe/Berlin")
    double = list(islice(berlin.timing.cron.from_(datetime(2026, 10, 24, 23, 30, tzinfo=UTC)), 3))
    assert [batch_of(berlin, one) for one in double] == [
        "n@2026-10-25T02:00+02:00",
        "n@2026-10-25T02:00+01:00",
        "n@2026-10-25T03:00+01:00",
    ]


@pytest.mark.parametrize("name", ["", " ", "a b", "a@b", "-n", "a\n", "a\x00b", "x" * 101])
def test_a_name_that_cannot_be_typed_or_told_from_a_batchs_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        checked_name(name)


FLEET = {
    "defaults": body("x", isSpotInstance=True),
    "launches": [
        {"name": "a", "retry": {"until": "1h", "maxAttempts": 3}, "uniqueNames": True},
        {"name": "b", "retry": {"until": "forever"}, "waitForCapacity": True, "strange": {"k": 1}},
        {"name": "c", "count": 300},
    ],
}


def test_the_jobs_of_a_run_are_those_of_a_submission_and_until_counts_from_the_trigger() -> None:
    entries = read_input(json.dumps(FLEET), source="f", allow_unknown=True).entries
    numbers = map(str, count())
    parts = stored(entries)
    assert len(parts) == math.ceil(302 / PART)
    jobs = [
        job
        for part in parts
        for job in submissions(part, late=timedelta(minutes=10), new_id=lambda: next(numbers))
    ]
    assert [job.entry for job in jobs] == [entry.identity for entry in entries]
    assert [json.loads(job.body) for job in jobs] == [entry.request.wire() for entry in entries]
    a, b, c = jobs[0].policy, jobs[1].policy, jobs[2].policy
    assert (a.until, a.max_attempts, a.unique_names) == (3000.0, 3, True)
    assert (b.until, b.wait_for_capacity) == (math.inf, True)
    assert c.until == 86400 - 600, "also where it is the default"
    assert jobs[0].lane.endswith("/spot")
    [over] = submissions(stored(entries[:1])[0], late=timedelta(hours=2), new_id=lambda: "1")
    assert over.policy.until == 0.001, "and ends at once, where that is over"


def test_differences_name_the_entries_and_paths_but_no_value() -> None:
    def parts(*bodies: dict[str, object]) -> list[str]:
        return stored(read_input(json.dumps(bodies), source="f").entries)

    secret = {"enableCommonData": False, "enableDocker": False, "initScript": "SECRET"}
    old = parts(body("a"), body("b"), body("c"))
    new = parts(body("a"), body("c", instanceConfiguration=secret), body("d"))
    told = list(contents_differ(old, new))
    assert told == ["b is gone", "c (instanceConfiguration.initScript)", "d is new"]


def test_an_entry_with_a_start_time_of_its_own_is_refused_where_it_stands() -> None:
    text = json.dumps({"launches": [body("a"), body("b", schedule={"at": "02:00"})]})
    entries = read_input(text, source="f.json").entries
    with pytest.raises(InputError, match=r"f.json.*schedule.at: cannot be in a recurring schedule"):
        refuse_start_times(entries)
    refuse_start_times(entries[:1])
