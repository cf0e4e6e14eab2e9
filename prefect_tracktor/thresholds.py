"""Thresholds: after how many days, or business days, a parcel or an order is delayed."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from prefect_tracktor.forms import FORM
from prefect_tracktor.models import Fulfillment, Order, status_key
from prefect_tracktor.times import ZoneName, parse_zone

_SATURDAY = 5
_MOST_DAYS = 3650


class Delay(StrEnum):
    """The conditions that begin after a number of days, the most urgent first."""

    STALLED = "stalled"
    IN_TRANSIT_TOO_LONG = "in_transit_too_long"
    LABEL_ONLY = "label_only"
    NOT_SHIPPED = "not_shipped"


def _two_letters(country: str) -> str:
    code = country.strip().upper()
    if code and not (len(code) == len("DE") and code.isascii() and code.isalpha()):
        raise ValueError("must be a two-letter country code, such as DE or US")
    return code


_Key = Annotated[str, AfterValidator(str.strip)]
_Days = Annotated[float, Field(gt=0, le=_MOST_DAYS, allow_inf_nan=False)]
_OtherDays = Annotated[float, Field(ge=0, le=_MOST_DAYS, allow_inf_nan=False)]


class ThresholdOverride(BaseModel):
    """Other thresholds for a carrier, a country, a shipping method, or a combination of these.

    Attributes:
        carrier: The carrier's name or key, such as dhl; empty for all.
        country: The two-letter code of the country that the order is sent to; empty for all. The
            source must know the country: Shopify, or an export of it.
        shipping_method: The name of the shipping method in the shop; empty for all. The source must
            know it: Shopify, or an export of it.
        stalled_days: As above; 0 for no change.
        in_transit_too_long_days: As above; 0 for no change.
        label_only_days: As above; 0 for no change.
        not_shipped_days: As above; 0 for no change.

    Raises:
        pydantic.ValidationError: It is for nothing or changes nothing, or a value is invalid.

    Example:
        >>> ThresholdOverride(country="us", in_transit_too_long_days=20).country
        'US'
    """

    model_config = FORM | ConfigDict(title="Override")

    carrier: _Key = ""
    country: Annotated[str, AfterValidator(_two_letters)] = ""
    shipping_method: _Key = ""
    stalled_days: _OtherDays = 0
    in_transit_too_long_days: _OtherDays = 0
    label_only_days: _OtherDays = 0
    not_shipped_days: _OtherDays = 0

    @model_validator(mode="after")
    def _is_for_something(self) -> Self:
        if not (self.carrier or self.country or self.shipping_method):
            raise ValueError(
                "carrier, country and shipping_method are all empty: set one of them, or change the"
                " thresholds themselves"
            )
        if not any(_days(self, delay) for delay in Delay):
            raise ValueError("it changes no threshold: set one of its numbers of days")
        if self.carrier and self.not_shipped_days:
            raise ValueError(
                "not_shipped_days has no effect with a carrier, as an order that is not shipped has"
                " none: leave one of them out"
            )
        return self

    def applies_to(self, order: Order, parcel: Fulfillment | None) -> bool | None:
        """Whether it is for this parcel, or for an order without one; `None` if unknown."""
        facts = order.facts
        fits = [
            _fits(self.carrier, _carriers(parcel)),
            _fits(self.country, [facts.country]),
            _fits(self.shipping_method, [facts.shipping_method]),
        ]
        return False if False in fits else None if None in fits else True


def _fits(wanted: str, names: Iterable[str | None]) -> bool | None:
    known = [status_key(name) for name in names if name]
    return not wanted or (status_key(wanted) in known if known else None)


def _carriers(parcel: Fulfillment | None) -> list[str | None]:
    if parcel is None:
        return []
    carrier = parcel.carrier
    names = [carrier.slug, carrier.name] if carrier else []
    return [*names, parcel.shopify_carrier]


class Thresholds(BaseModel):
    """After how many days a parcel or an order counts as delayed.

    Fractions are allowed: 2.5 days are 60 hours.

    Of the overrides, the first one that applies and gives the number wins. If it is unknown whether
    one applies, the longer time counts.

    Attributes:
        stalled_days: Days without an update from the carrier, after the parcel moved.
        in_transit_too_long_days: Days since the carrier's first update, without a delivery.
        label_only_days: Days since the label was made, without an update from the carrier.
        not_shipped_days: Days since the order was placed, and nothing was shipped. The source must
            include unfulfilled orders.
        business_days: Leave out Saturdays, Sundays and the holidays below.
        holidays: Dates that are not business days.
        time_zone: The time zone in which business days begin and end, such as Europe/Berlin.
        overrides: Other thresholds for some carriers, countries or shipping methods. The first one
            that applies and gives the number wins.

    Raises:
        pydantic.ValidationError: A value is invalid, or there are holidays without business days.

    Example:
        >>> thresholds = Thresholds(business_days=True, holidays=["2026-12-25"])
        >>> friday = datetime(2026, 12, 18, 15, tzinfo=UTC)
        >>> thresholds.later(friday, days=5).isoformat()
        '2026-12-28T15:00:00+00:00'
    """

    model_config = FORM

    stalled_days: _Days = 7
    in_transit_too_long_days: _Days = 20
    label_only_days: _Days = 3
    not_shipped_days: _Days = 7
    business_days: bool = Field(default=False, title="Business days")
    holidays: frozenset[date] = Field(default=frozenset(), examples=[["2026-12-25", "2027-01-01"]])
    time_zone: ZoneName = "UTC"
    overrides: tuple[ThresholdOverride, ...] = ()

    @model_validator(mode="after")
    def _holidays_count(self) -> Self:
        if self.holidays and not self.business_days:
            raise ValueError("holidays has no effect without business_days: turn it on")
        return self

    def begins(
        self, delay: Delay, started: datetime, order: Order, parcel: Fulfillment | None
    ) -> datetime:
        """Return when a delay begins, for days that count from `started`."""
        at_least, days = 0.0, _days(self, delay)
        for override in self.overrides:
            applies, other_days = override.applies_to(order, parcel), _days(override, delay)
            if applies is None:
                at_least = max(at_least, other_days)
            elif applies and other_days:
                days = other_days
                break
        return self.later(started, days=max(at_least, days))

    def later(self, start: datetime, *, days: float) -> datetime:
        """Add days to a time, or business days.

        Only the hours of business days count: one day after Saturday noon is the end of Monday.

        Args:
            start: The time; it must be aware.
            days: The number of days.
        """
        if not self.business_days:
            return start + timedelta(days=days)
        zone, left = parse_zone(self.time_zone), timedelta(days=days)
        clock = start.astimezone(zone).replace(tzinfo=None)
        while True:
            midnight = datetime.combine(clock.date() + timedelta(days=1), time.min)
            if clock.weekday() < _SATURDAY and clock.date() not in self.holidays:
                if left <= midnight - clock:
                    return max(start, (clock + left).replace(tzinfo=zone).astimezone(UTC))
                left -= midnight - clock
            clock = midnight


def _days(thresholds: Thresholds | ThresholdOverride, delay: Delay) -> float:
    days: float = getattr(thresholds, f"{delay}_days")
    return days


DEFAULT_THRESHOLDS = Thresholds()
