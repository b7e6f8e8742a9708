"""When recurring schedules come up, above all where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cron import Cron, read_cron
from tasks.errors import InputError

BERLIN, NEW_YORK, LORD_HOWE, SHANGHAI = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Shanghai",
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "cron", "base", "expected"),
    [
        # The clocks skip 02:00 to 03:00: a fixed time comes up right after the gap, a starred one does not come up.
        (BERLIN, "30 2 * * *", "2026-03-28T12:00", ["03-29T01:00", "03-30T00:30"]),
        (BERLIN, "10,30 2 * * *", "2026-03-28T12:00", ["03-29T01:00", "03-30T00:10", "03-30T00:30"]),
        (BERLIN, "*/30 2 * * *", "2026-03-28T12:00", ["03-30T00:00", "03-30T00:30"]),
        (BERLIN, "*/30 * * * *", "2026-03-29T00:10", ["03-29T00:30", "03-29T01:00", "03-29T01:30"]),
        # They show 02:00 to 03:00 twice: a fixed time comes up in the first, a starred one in both.
        (BERLIN, "30 2 * * *", "2026-10-24T12:00", ["10-25T00:30", "10-26T01:30"]),
        (BERLIN, "30 2 * * *", "2026-10-25T01:10", ["10-26T01:30"]),
        (
            BERLIN,
            "*/30 2 * * *",
            "2026-10-24T12:00",
            ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-26T01:00"],
        ),
        (NEW_YORK, "30 2 * * *", "2026-03-07T12:00", ["03-08T07:00", "03-09T06:30"]),
        (NEW_YORK, "*/30 * * * *", "2026-03-08T06:10", ["03-08T06:30", "03-08T07:00", "03-08T07:30"]),
        (NEW_YORK, "30 1 * * *", "2026-10-31T12:00", ["11-01T05:30", "11-02T06:30"]),
        (
            NEW_YORK,
            "*/30 1 * * *",
            "2026-10-31T12:00",
            ["11-01T05:00", "11-01T05:30", "11-01T06:00", "11-01T06:30", "11-02T06:00"],
        ),
        # Half an hour only.
        (LORD_HOWE, "15 2 * * *", "2026-10-03T00:00", ["10-03T15:30", "10-04T15:15"]),
        (LORD_HOWE, "*/15 2 * * *", "2026-10-03T00:00", ["10-03T15:30", "10-03T15:45", "10-04T15:00"]),
        (LORD_HOWE, "45 1 * * *", "2026-04-04T00:00", ["04-04T14:45", "04-05T15:15"]),
        (
            LORD_HOWE,
            "*/15 1 * * *",
            "2026-04-04T14:20",
            ["04-04T14:30", "04-04T14:45", "04-04T15:00", "04-04T15:15", "04-05T14:30"],
        ),
        (SHANGHAI, "30 2 * * *", "2026-03-28T12:00", ["03-28T18:30", "03-29T18:30"]),
        (SHANGHAI, "*/30 2 * * *", "2026-10-24T12:00", ["10-24T18:00", "10-24T18:30", "10-25T18:00"]),
        # Sunday is 0 and 7; both days given: either will do, as in every cron.
        (SHANGHAI, "0 0 * * 0", "2026-11-25T00:00", ["11-28T16:00", "12-05T16:00"]),
        (SHANGHAI, "0 0 * * 7", "2026-11-25T00:00", ["11-28T16:00", "12-05T16:00"]),
        (SHANGHAI, "0 0 * * sun", "2026-11-25T00:00", ["11-28T16:00", "12-05T16:00"]),
        (SHANGHAI, "0 8 26 * 0", "2026-11-25T01:00", ["11-26T00:00", "11-29T00:00"]),
        ("UTC", "0 0 29 2 *", "2028-03-01T00:00", ["2032-02-29T00:00"]),
    ],
)
def test_it_comes_up_as_debians_cron_has_it(zone: str, cron: str, base: str, expected: list[str]) -> None:
    wanted = [utc(one if one.startswith("20") else f"2026-{one}") for one in expected]
    found = read_cron(cron, zone, now=NOW).from_(utc(base))
    assert list(islice(found, len(wanted))) == wanted


@pytest.mark.parametrize(
    "wrong",
    ["", "0 2 * *", "0 0 2 * * *", "@daily", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8", "0 0 L * *",
     "0 0 * * 5L", "0 0 * * 5#2", "0 0 LW * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "0 0 31 2 *", "0 0 30 2 *", "٣ * * * *"],
)  # fmt: skip
def test_anything_but_five_fields_that_come_up_is_refused_with_a_right_example(wrong: str) -> None:
    with pytest.raises(InputError, match='"0 2 \\* \\* \\*" is every day'):
        read_cron(wrong, "UTC", now=NOW)


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "+08:00"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(InputError, match=r"--tz: .*Asia/Shanghai"):
        read_cron("0 2 * * *", zone, now=NOW)


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(2, 20).map(lambda step: f"*/{step}"),
        number.map(str),
        st.lists(number, min_size=2, max_size=3).map(lambda many: ",".join(map(str, many))),
        st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}"),
    )


CRONS = st.tuples(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 7)).map(" ".join)
ZONES = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, SHANGHAI, "UTC", "Africa/Cairo", "America/St_Johns"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (its way)


@settings(deadline=None)
@given(CRONS, ZONES, MOMENTS)
def test_what_comes_up_is_after_its_base_and_strictly_increasing(
    text: str, zone: str, base: datetime
) -> None:
    found = list(islice(read_cron(text, zone, now=NOW).from_(base), 20))
    assert found
    assert all(one < other for one, other in pairwise([base, *found]))
    assert all(one.second == one.microsecond == 0 for one in found)


@settings(max_examples=50, deadline=None)
@given(CRONS, ZONES, MOMENTS, st.integers(0, 3 * 86400))
def test_the_latest_is_the_last_one_in_between(text: str, zone: str, base: datetime, seconds: int) -> None:
    cron, until = Cron(text, zone), base + timedelta(seconds=seconds)
    between = list(takewhile(lambda one: one <= until, cron.from_(base)))
    assert cron.latest(base, until) == (between[-1] if between else None)
