"""Parsing of times in the formats of databases and programming languages."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.times import naive_times_in, parse_time, parse_zone

TEN = dt.datetime(2026, 11, 2, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-02T10:00:00Z",
        "2026-11-02T10:00:00 Z",
        "2026-11-02T10:00Z",
        "2026-11-02T10:00:00.000+0000",
        "2026-11-02T10:00:00,000Z",
        "2026-11-02T10:00:00.0000000Z",
        "20261102T100000Z",
        "20261102100000",
        "2026-11-02 10:00:00",
        "2026-11-02 10:00:00.000000",
        "2026-11-02 10:00:00 UTC",
        "2026-11-02 05:00:00 -0500",
        "2026-11-02 05:00:00 -05:00",
        "2026-11-02 12:00:00 +02",
        "2026-11-02 05:00:00 GMT-5",
        "2026-11-02 05:00:00 EST",
        "2026-11-02 05:00:00 America/New_York",
        "2026-11-02T05:00:00-05:00[America/New_York]",
        "2026-11-02T05:00:00[America/New_York]",
        "2026-11-02 10:00 AM",
        "2026/11/02 10:00:00",
        "02.11.2026 10:00",
        "Mon, 02 Nov 2026 10:00:00 GMT",
        "Mon, 2 Nov 2026 05:00:00 -0500",
        "02 Nov 2026 10:00:00 +0000 (UTC)",
        "Mon Nov 02 2026 10:00:00 GMT+0000 (Coordinated Universal Time)",
        "Mon Nov  2 10:00:00 2026",
        "Nov 2, 2026 10:00 am",
        "November 2nd, 2026 at 10:00 a.m.",
        "/Date(1793613600000)/",
        1793613600,
        1793613600.0,
        1793613600000,
        1793613600000000,
        "1793613600",
        "1793613600000",
        {"date": "2026-11-02 10:00:00.000000", "timezone_type": 3, "timezone": "UTC"},
        {"date": "2026-11-02 05:00:00.000000", "timezone_type": 1, "timezone": "-05:00"},
        {"date": "2026-11-02 05:00:00.000000", "timezone_type": 2, "timezone": "EST"},
        {"date": "2026-11-02 05:00:00", "timezone_type": 3, "timezone": "America/New_York"},
        {"$date": 1793613600000},
        {"$date": {"$numberLong": "1793613600000"}},
        {"$date": "2026-11-02T10:00:00Z"},
        {"$timestamp": {"t": 1793613600, "i": 1}},
        {"sec": 1793613600, "usec": 0},
        {"seconds": 1793613600, "nanos": 0},
    ],
)
def test_common_time_formats_are_parsed(written: Any) -> None:
    time = parse_time(written)
    assert time == TEN
    assert time is not None
    assert time.utcoffset() is not None


@pytest.mark.parametrize(
    "written",
    [None, "", "  ", 0, False, [], {}, "0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "1970-01-01"],
)
def test_values_for_never_are_none(written: Any) -> None:
    assert parse_time(written) is None


@pytest.mark.parametrize(
    "written",
    [
        "N/A", "soon", "3 hours ago", "yesterday", "10:00", "2026", "2026-11", "Nov 2026", "May",
        "02/11/2026", "2026-11-02 10:00:00 BST", "2026-13-02", "2026-11-02T25:00:00Z",
        "1999-12-31T00:00:00Z", "9999-12-31T23:59:59Z", 5, -5, 20261102, 10**30, float("nan"),
        float("inf"), True, ["2026-11-02"], {"date": 5}, {"$date": None, "a": 1}, "1" * 500,
    ],
)  # fmt: skip
def test_ambiguous_times_are_refused_without_repeating_them(written: Any) -> None:
    with pytest.raises(ValueError, match=r"^not a time") as refused:
        parse_time(written)
    assert str(written) not in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "clock", "utc"),
    [
        ("UTC", "2026-11-02 10:00:00", "2026-11-02 10:00"),
        ("America/New_York", "2026-07-01 10:00:00", "2026-07-01 14:00"),
        ("America/New_York", "2026-12-01 10:00:00", "2026-12-01 15:00"),
        ("Australia/Sydney", "2026-11-02 10:00:00", "2026-11-01 23:00"),
        ("Asia/Kolkata", "2026-11-02", "2026-11-01 18:30"),
        # clocks go from 2:00 to 3:00, and from 2:00 to 1:00
        ("America/New_York", "2026-03-08 02:30:00", "2026-03-08 07:30"),
        ("America/New_York", "2026-11-01 01:30:00", "2026-11-01 05:30"),
        ("Australia/Lord_Howe", "2026-10-04 02:15:00", "2026-10-03 15:45"),
    ],
)
def test_a_time_without_an_offset_is_in_the_accounts_zone(zone: str, clock: str, utc: str) -> None:
    expected = dt.datetime.fromisoformat(f"{utc}+00:00")
    with naive_times_in(parse_zone(zone)):
        forms = [clock, {"date": clock}]
        assert [parse_time(form) for form in forms] == [expected, expected]
        # a time with an offset keeps it
        assert parse_time("2026-11-02T10:00:00Z") == parse_time(1793613600) == TEN
    assert parse_time("2026-11-02 10:00:00") == TEN


@given(
    zone=st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
    seconds=st.integers(946_800_000, 4_100_000_000),
)
def test_an_hour_that_occurs_twice_is_read_as_the_first(zone: ZoneInfo, seconds: int) -> None:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    local = moment.astimezone(zone)
    with naive_times_in(zone):
        read = parse_time(local.replace(tzinfo=None).isoformat())
    assert read is not None
    # the first of two equal hours: an order rather seems older than newer
    assert read == moment if not local.fold else read < moment
    assert read.utcoffset() == dt.timedelta()


@given(
    st.datetimes(
        dt.datetime.fromisoformat("2000-01-02"),
        dt.datetime.fromisoformat("2099-12-30"),
        timezones=st.timezones(),
    )
)
def test_the_offset_of_a_time_is_respected(time: dt.datetime) -> None:
    offset = time.utcoffset()
    assert offset is not None
    fixed = time.replace(tzinfo=dt.timezone(offset))
    assert parse_time(fixed.isoformat()) == fixed


@pytest.mark.parametrize(
    "name", ["Berlin", "", "EDT", "../../etc/passwd", "UTC+1", "x" * 5000, "\0"]
)
def test_an_unknown_time_zone_is_refused_with_examples(name: str) -> None:
    with pytest.raises(ValueError, match="America/New_York"):
        parse_zone(name)
