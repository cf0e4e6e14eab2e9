"""Lenient parsing of times, with a time zone for those without an offset.

The forms are common in the databases and languages of web apps [inferred]: ISO 8601, RFC 2822, SQL,
JavaScript, objects of PHP and MongoDB, numbers of seconds or milliseconds.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import product
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.parsing import is_nothing, parse_whole_number, unwrapped

# A time outside is a mistake: it means "never", or its unit is not the one assumed.
_FIRST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_END_OF_TIMES = datetime(2100, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# how web apps write "never": zeros of SQL, PHP, Unix, .NET and Go
_NEVER = ("0000-00-00", "-0001-11-30", "1970-01-01", "0001-01-01")
# powers of a thousand that make seconds, milliseconds, microseconds and nanoseconds of a number
_EPOCH_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))

_ABBREVIATIONS = {
    "UTC": 0, "GMT": 0, "Z": 0, "UT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2,
    "EEST": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8,
    "PDT": -7, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "JST": 9,
}  # fmt: skip
_ZONE = re.compile(
    r"""(?x)
    (?P<clock> .* \d (?: \s? [AaPp][Mm] \b )? ) \s*
    (?:
        (?: UTC | GMT | Z )? (?P<sign> [+-] )
        (?P<hours> \d{2} | (?<= [CT] [+-] ) \d ) :? (?P<minutes> \d{2} )?
        | (?P<word> [A-Za-z]{1,4} | [A-Za-z]+ (?: / [A-Za-z0-9_+-]+ ){1,2} )
    )
    """
)
_DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d %b %Y",
    "%d %B %Y", "%b %d %Y", "%B %d %Y", "%d-%b-%Y",
)  # fmt: skip
_CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I %p", " %I:%M %p", " %I:%M:%S %p",
)  # fmt: skip
_FORMATS = (*map("".join, product(_DATES, _CLOCKS)), "%b %d %H:%M:%S %Y", "%Y%m%d%H%M%S")

_naive_times_in: ContextVar[tzinfo] = ContextVar("naive_times_in", default=UTC)


@contextmanager
def naive_times_in(zone: tzinfo) -> Iterator[None]:
    """Read times without an offset in this zone, within the `with` block."""
    token = _naive_times_in.set(zone)
    try:
        yield
    finally:
        _naive_times_in.reset(token)


def parse_zone(name: str) -> tzinfo:
    """Return the time zone with an IANA name, the value of a field `time_zone`."""
    try:
        return UTC if name.upper() in {"UTC", "Z"} else ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise InvalidInput(
            f"time_zone: {name[:40]!r} is not the name of a time zone: write it as"
            " 'America/New_York', 'Europe/Berlin' or 'UTC'"
            " (en.wikipedia.org/wiki/List_of_tz_database_time_zones)"
        ) from None


def _checked_zone(name: str) -> str:
    parse_zone(name)
    return name


ZoneName = Annotated[str, AfterValidator(_checked_zone)]


def parse_time(value: Any) -> datetime | None:
    """Read a time; the result is aware."""
    if type(value) is str and value[:3] == "202" and value[4:5] == "-":  # nearly always
        try:
            return _aware(datetime.fromisoformat(value))
        except ValueError:
            pass  # it needs the slower way below
    if is_nothing(value) or value is False or value == 0:
        return None
    try:
        time = _time_of(value)
    except (OverflowError, ValueError, TypeError):
        raise ValueError("not a time") from None
    if time is not None and not _FIRST_TIME <= time < _END_OF_TIMES:
        raise ValueError("not a time of a parcel")
    return time


def _time_of(value: Any) -> datetime | None:
    value = unwrapped(value)
    if isinstance(value, dict):
        return _time_of_object(value)
    if isinstance(value, datetime):
        return _aware(value)
    if isinstance(value, str):
        return _time_of_text(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _time_of_number(value)
    raise ValueError("not a time")


def _time_of_object(value: dict[str, Any]) -> datetime | None:
    match value:
        case {"date": str(date), "timezone": str(zone)}:  # PHP's DateTime
            return _time_of_text(f"{date.strip()} {zone.strip()}")
        case {"date": str(date)}:
            return _time_of_text(date.strip())
        case {"$timestamp": {"t": seconds}} | {"sec": seconds} | {"seconds": seconds}:
            number = parse_whole_number(seconds)
            return None if number is None else _time_of_number(number)
    raise ValueError("not a time")


def _time_of_number(number: float) -> datetime | None:
    if not number:
        return None
    if not math.isfinite(number):
        raise ValueError("not a time")
    for limit, per_second in _EPOCH_UNITS:
        if abs(number) < limit:
            return _EPOCH + timedelta(seconds=number / per_second)
    raise ValueError("not a time")


def _time_of_text(text: str) -> datetime | None:
    if text.startswith(_NEVER):
        return None
    if text[4:5] == "-":
        with suppress(ValueError):
            return _aware(datetime.fromisoformat(text))
    if of_dotnet := re.fullmatch(r"/Date\((-?\d{1,17})(?:[+-]\d{4})?\)/", text):
        return _time_of_number(int(of_dotnet[1]))
    if re.fullmatch(r"\d{9,19}(\.\d{1,9})?", text) and len(text) != len("20261102100000"):
        return _time_of_number(float(text) if "." in text else int(text))
    return _time_of_clock(_normal(text))


def _normal(text: str) -> str:
    """Remove commas, the weekday, ordinal suffixes and notes in brackets."""
    text, _, zone = text.partition("[")  # as in 2026-11-02T10:00-05:00[America/New_York]
    text = re.sub(r"\s*\([^()]*\)$", "", text)
    text = re.sub(r"^(mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}\b,?\s*", "", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\b([ap])\.\s?m\.?", r"\1m", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[\d,])\s+at\s+(?=\d)", " ", text, flags=re.IGNORECASE)
    text = " ".join(re.sub(r",(?!\d)", " ", text).split())
    has_offset = re.search(r"(z|[+-]\d{2}:?\d{2})$", text, re.IGNORECASE)
    return text if has_offset or not zone else f"{text} {zone.rstrip(']')}"


def _time_of_clock(text: str) -> datetime:
    with suppress(ValueError):
        return _aware(datetime.fromisoformat(text))
    written = _ZONE.fullmatch(text)
    if written and not re.fullmatch(r"[AaPp][Mm]", written["word"] or ""):
        try:
            return _local(written["clock"].rstrip()).replace(tzinfo=_zone(written)).astimezone(UTC)
        except ValueError:
            if written["word"]:
                raise
    return _aware(_local(text))


def _zone(written: re.Match[str]) -> tzinfo:
    if word := written["word"]:
        hours = _ABBREVIATIONS.get(word.upper())
        return parse_zone(word) if hours is None else timezone(timedelta(hours=hours))
    offset = timedelta(hours=int(written["hours"]), minutes=int(written["minutes"] or 0))
    return timezone(-offset if written["sign"] == "-" else offset)


def _local(text: str) -> datetime:
    """Read a time without its zone; refuse a date that may be two days, such as 1/2/2026."""
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    found = set()
    for form in _FORMATS:
        with suppress(ValueError):
            found.add(datetime.strptime(text, form))  # noqa: DTZ007 - its zone is added later
    if len(found) != 1:
        raise ValueError("not a time")
    return found.pop()


def _aware(time: datetime) -> datetime:
    if time.tzinfo is not None:
        return time
    # in UTC: Python subtracts times of one zone without regard to daylight saving
    return time.replace(tzinfo=_naive_times_in.get()).astimezone(UTC)
