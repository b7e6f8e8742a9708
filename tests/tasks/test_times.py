"""Reading the times at which people want things to start, above all where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.times import read_time

BERLIN, NEW_YORK, SHANGHAI, LORD_HOWE = (
    ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe")
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "local", "expected"),
    [
        (BERLIN, "2026-03-29T01:59", "2026-03-29T00:59"),
        (BERLIN, "2026-03-29T03:00", "2026-03-29T01:00"),
        (BERLIN, "2026-10-25T01:59", "2026-10-24T23:59"),
        (BERLIN, "2026-10-25T03:00", "2026-10-25T02:00"),
        (NEW_YORK, "2026-03-08T01:59:59", "2026-03-08T06:59:59"),
        (NEW_YORK, "2026-03-08T03:00", "2026-03-08T07:00"),
        (NEW_YORK, "2026-11-01T00:59", "2026-11-01T04:59"),
        (NEW_YORK, "2026-11-01T02:00", "2026-11-01T07:00"),
        (LORD_HOWE, "2026-10-04T01:59", "2026-10-03T15:29"),
        (LORD_HOWE, "2026-10-04T02:30", "2026-10-03T15:30"),
        (LORD_HOWE, "2026-04-05T01:29", "2026-04-04T14:29"),
        (LORD_HOWE, "2026-04-05T02:00", "2026-04-04T15:30"),
        (SHANGHAI, "2026-03-29T02:30", "2026-03-28T18:30"),
        (SHANGHAI, "2026-10-25T02:30", "2026-10-24T18:30"),
        (SHANGHAI, "2026-12-01T02:00", "2026-11-30T18:00"),
    ],
)
def test_a_time_without_an_offset_is_one_of_the_zone(zone: ZoneInfo, local: str, expected: str) -> None:
    assert read_time(local, zone=zone, now=NOW) == utc(expected)


@pytest.mark.parametrize(
    ("zone", "local"),
    [
        (BERLIN, "2026-03-29T02:00"),
        (BERLIN, "2026-03-29T02:59:59"),
        (NEW_YORK, "2026-03-08T02:00"),
        (NEW_YORK, "2026-03-08T02:30"),
        (LORD_HOWE, "2026-10-04T02:00"),
        (LORD_HOWE, "2026-10-04T02:29"),
        (SHANGHAI, "1991-04-14T02:30"),
    ],
)
def test_one_that_the_clocks_skip_is_refused_and_the_zone_named(zone: ZoneInfo, local: str) -> None:
    with pytest.raises(InputError, match=f"does not exist in {zone}: the clocks skip it"):
        read_time(local, zone=zone, now=NOW)


@pytest.mark.parametrize(
    ("zone", "local", "first"),
    [
        (BERLIN, "2026-10-25T02:00", "2026-10-25T00:00"),
        (BERLIN, "2026-10-25T02:59", "2026-10-25T00:59"),
        (NEW_YORK, "2026-11-01T01:00", "2026-11-01T05:00"),
        (NEW_YORK, "2026-11-01T01:59", "2026-11-01T05:59"),
        (LORD_HOWE, "2026-04-05T01:30", "2026-04-04T14:30"),
        (LORD_HOWE, "2026-04-05T01:59", "2026-04-04T14:59"),
    ],
)
def test_one_that_they_show_twice_is_the_first(zone: ZoneInfo, local: str, first: str) -> None:
    assert read_time(local, zone=zone, now=NOW) == utc(first)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-29T02:30+01:00", "2026-03-29T01:30"),
        ("2026-10-25T02:30+02:00", "2026-10-25T00:30"),
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30"),
        ("2026-12-01T02:00Z", "2026-12-01T02:00"),
        (" 2026-12-01 02:00:03.250+08:00\n", "2026-11-30T18:00:03.250"),
    ],
)
def test_an_offset_says_all_there_is_to_say(text: str, expected: str) -> None:
    assert read_time(text, zone=BERLIN, now=NOW) == utc(expected)


@pytest.mark.parametrize(
    ("zone", "now", "clock", "expected"),
    [
        (SHANGHAI, "2026-11-30T17:59", "02:00", "2026-11-30T18:00"),
        (SHANGHAI, "2026-11-30T18:00", "02:00", "2026-12-01T18:00"),
        (SHANGHAI, "2026-12-31T15:30", "0:15", "2026-12-31T16:15"),
        (BERLIN, "2026-03-28T12:00", "12:59", "2026-03-29T10:59"),
        (BERLIN, "2026-03-28T12:00", "03:30", "2026-03-29T01:30"),
        (BERLIN, "2026-03-28T12:00", "02:30", "2026-03-30T00:30"),
        (BERLIN, "2026-10-24T12:00", "13:59", "2026-10-25T12:59"),
        (BERLIN, "2026-10-25T00:15", "02:30", "2026-10-25T00:30"),
        (BERLIN, "2026-10-25T00:45", "02:30", "2026-10-26T01:30"),
        (BERLIN, "2026-10-25T01:15", "02:30", "2026-10-26T01:30"),
        (BERLIN, "2026-10-25T01:15", "03:30", "2026-10-25T02:30"),
        (NEW_YORK, "2026-03-08T05:00", "02:30", "2026-03-09T06:30"),
        (NEW_YORK, "2026-11-01T04:00", "01:30", "2026-11-01T05:30"),
        (NEW_YORK, "2026-11-01T04:00", "2:00", "2026-11-01T07:00"),
        (LORD_HOWE, "2026-10-03T15:00", "02:15", "2026-10-04T15:15"),
        (LORD_HOWE, "2026-10-03T15:00", "02:30", "2026-10-03T15:30"),
        (LORD_HOWE, "2026-04-04T14:00", "01:45", "2026-04-04T14:45"),
    ],
)
def test_a_time_of_day_is_the_next_one(zone: ZoneInfo, now: str, clock: str, expected: str) -> None:
    assert read_time(clock, zone=zone, now=utc(now)) == utc(expected)


@given(
    st.sampled_from([BERLIN, NEW_YORK, SHANGHAI, LORD_HOWE]),
    st.integers(0, 366 * 24 * 60 * 60),
    st.integers(0, 23),
    st.integers(0, 59),
)
def test_it_is_what_the_clock_shows_then_and_soon(
    zone: ZoneInfo, second: int, hour: int, minute: int
) -> None:
    now = NOW + timedelta(seconds=second)
    found = read_time(f"{hour}:{minute:02}", zone=zone, now=now)
    shown = found.astimezone(zone)
    assert (shown.hour, shown.minute, shown.second, shown.microsecond) == (hour, minute, 0, 0)
    assert timedelta(0) < found - now <= timedelta(hours=49)


@pytest.mark.parametrize(
    "text", ["", "soon", "24:00", "12:60", "2026-13-01T00:00", "2026-02-30", "12:00+08:00", "1e9"]
)
def test_what_is_no_time_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_time(text, zone=SHANGHAI, now=NOW, where="jobs.yaml", path="schedule.at")
    [problem] = caught.value.problems
    assert (problem.path, problem.where) == ("schedule.at", "jobs.yaml")
    assert "2026-12-01T02:00" in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        (SHANGHAI, "0001-01-01T00:00"),
        (NEW_YORK, "9999-12-31T23:59"),
        (SHANGHAI, "0001-01-01T00:00+14:00"),
        (SHANGHAI, "9999-12-31T23:59-12:00"),
    ],
)
def test_what_is_out_of_all_bounds_is_refused(zone: ZoneInfo, text: str) -> None:
    with pytest.raises(InputError, match="out of all bounds"):
        read_time(text, zone=zone, now=NOW)
