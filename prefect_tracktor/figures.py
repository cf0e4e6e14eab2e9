"""Statistics of a shop's parcels, from orders read one by one, in bounded memory."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from prefect_tracktor.conditions import Condition
from prefect_tracktor.models import (
    ExceptionStatus,
    Fulfillment,
    Order,
    ShipmentStatus,
    exception_label,
)
from prefect_tracktor.reporting.artifacts import publish_charts
from prefect_tracktor.reporting.charts import Chart
from prefect_tracktor.reporting.markdown import Cell, Row, admin_link, carrier_of, tracking_link
from prefect_tracktor.reporting.words import in_list

_UNKNOWN = "Unknown"
_OTHER = "Other"
_MOST_NAMES = 100
_MOST_BARS = 10

# age groups by their most days
_AGES = {3: "0 to 3 days", 7: "4 to 7 days", 14: "8 to 14 days", 30: "15 to 30 days"}
_OLDER = "More than 30 days"

# without an update for this long, Tracktor stops tracking a parcel
_TRACKED = timedelta(days=30)
_MOST_HOURS = 24 * 365
_HOUR = timedelta(hours=1)
_END_OF_TIMES = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Tally:
    """Counts by condition, carrier and age."""

    by_condition: Counter[str] = field(default_factory=Counter)
    by_carrier: Counter[str] = field(default_factory=Counter)
    by_age: Counter[str] = field(default_factory=Counter)

    def add(self, condition: str, carrier: str, since: datetime | None, now: datetime) -> None:
        self.by_condition[_name_in(self.by_condition, condition)] += 1
        self.by_carrier[_name_in(self.by_carrier, carrier or _UNKNOWN)] += 1
        self.by_age[_age(since, now)] += 1

    def charts(self, condition: str, age: str, unit: str) -> list[Chart]:
        """Return a chart for each of the three; ages are in order, the others by count."""
        if not self.by_condition:
            return []
        ages = {name: self.by_age[name] for name in (*_AGES.values(), _OLDER, _UNKNOWN)}
        return [
            Chart(f"By {condition.lower()}", condition, unit, _largest(self.by_condition)),
            Chart("By carrier", "Carrier", unit, _largest(self.by_carrier)),
            Chart(f"By {age.lower()}", age, unit, ages),
        ]


@dataclass(slots=True)
class ExceptionStats:
    """Counts of the parcels that a scan reads, and of their exceptions."""

    orders: int = 0
    parcels: int = 0
    with_exception: int = 0
    _tally: _Tally = field(default_factory=_Tally)
    _now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def take(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self.orders += 1
            self.parcels += len(order.fulfillments)
            for parcel in order.undelivered:
                if parcel.exception_status and not order.has_cancelled(parcel):
                    self.with_exception += 1
                    exception = exception_label(parcel.exception_status)
                    carrier, since = carrier_of(parcel), parcel.last_news_at
                    self._tally.add(exception, carrier, since, self._now)

    def charts(self) -> list[Chart]:
        return self._tally.charts("Exception", "Time since the last update", "Parcels")

    def publish(self, *, mode: str) -> None:
        """Publish the charts as an artifact, unless nothing was read."""
        if not self.orders:
            return
        publish_charts(
            "parcels-with-exceptions",
            self.charts(),
            title="Parcels with exceptions",
            lead=f"{self.with_exception:,} of {self.parcels:,} parcels have an exception and have"
            f" not been delivered. This run read {self.orders:,} orders.",
            description=f"{mode}. Charts of all exceptions.",
            counted=("Parcels with exceptions", self.with_exception, self.parcels),
        )


class Digest:
    """Counts of all conditions in a shop, and rows of the most important orders."""

    def __init__(self, now: datetime, *, rows_at_most: int = 1000) -> None:
        self.orders = 0
        self.new = 0
        self._now = now
        self._rows_at_most = rows_at_most
        self._tally = _Tally()
        self._heap: list[tuple[tuple[bool, Decimal, timedelta, int], Row]] = []

    def take(self, order: Order, conditions: Iterable[Condition], *, is_new: bool = True) -> None:
        """Count an order's exceptions and delays, unless they are cancelled."""
        found = [c for c in conditions if c.kind != "status" and not c.cancelled]
        if not found:
            return
        for condition in found:
            carrier = carrier_of(condition.parcel) if condition.parcel else ""
            self._tally.add(condition.label, carrier, _since(condition), self._now)
        begun = [since for condition in found if (since := _since(condition))]
        age = max(timedelta(0), self._now - min(begun, default=self._now))
        value = order.total_price
        self.orders += 1
        self.new += is_new
        # new ones first, then by value, then by age
        rank = (is_new, Decimal(-1) if value is None else value, age, -self.orders)
        row: Row = {
            "New": "New" if is_new else "",
            "Order": admin_link(order),
            "Condition": in_list(list(dict.fromkeys(condition.label for condition in found))),
            "Carrier": _carrier(found),
            "Days": str(age.days) if begun else "",
            "Value": "" if value is None else f"{value:,.2f}",
            "Order id": str(order.order_id),
        }
        push = heapq.heappush if len(self._heap) < self._rows_at_most else heapq.heappushpop
        push(self._heap, (rank, row))

    @property
    def rows(self) -> list[Row]:
        """The most important rows, the first one first."""
        return [row for _, row in sorted(self._heap, key=lambda entry: entry[0], reverse=True)]

    def charts(self) -> list[Chart]:
        return self._tally.charts(
            "Condition", "Time since it began, or since the last update", "Cases"
        )


def _carrier(conditions: Iterable[Condition]) -> Cell:
    """Return the names of the parcels' carriers; for a single parcel, a link to its page."""
    parcels = {c.parcel.fulfillment_id: c.parcel for c in conditions if c.parcel}
    links = [tracking_link(parcel) for parcel in parcels.values()]
    return links[0] if len(links) == 1 else ", ".join(dict.fromkeys(map(str, links)))


@dataclass(slots=True)
class PeriodFigures:
    """A carrier's parcels in a period: in transit, with an exception, newly stalled, delivered."""

    parcels: int = 0
    with_exceptions: int = 0
    stalled: int = 0
    delivered: int = 0
    hours_to_delivery: Counter[int] = field(default_factory=Counter)

    @property
    def exception_share(self) -> float | None:
        return self.with_exceptions / self.parcels if self.parcels else None

    def days_to_delivery(self, share: float) -> float | None:
        """Return the days within which this share of the parcels with a known start arrived."""
        hours = percentile(self.hours_to_delivery, share)
        return None if hours is None else hours / 24


class CarrierFigures:
    """Statistics of carriers in a period, and in the period of the same length before it.

    A parcel counts if it was in transit in the period. Its exception counts whenever it began, as
    Tracktor does not say when. A stall counts in the period in which it began.
    """

    def __init__(self, begin: datetime, end: datetime) -> None:
        self._periods = ((begin, end), (begin - (end - begin), begin))
        self._carriers: dict[str, tuple[PeriodFigures, PeriodFigures]] = defaultdict(
            lambda: (PeriodFigures(), PeriodFigures())
        )

    def take(self, order: Order, conditions: Iterable[Condition] = ()) -> None:
        found = list(conditions)
        for parcel in order.fulfillments:
            if not order.has_cancelled(parcel):
                number = parcel.fulfillment_id
                of_parcel = [c for c in found if c.parcel and c.parcel.fulfillment_id == number]
                carrier = _name_in(self._carriers, carrier_of(parcel) or _UNKNOWN)
                self._take(carrier, parcel, of_parcel)

    def _take(self, carrier: str, parcel: Fulfillment, conditions: list[Condition]) -> None:
        begun = parcel.moved_at or _END_OF_TIMES
        arrived = min(parcel.times_of({ShipmentStatus.DELIVERED}), default=_END_OF_TIMES)
        tracked_until = min(arrived, (parcel.last_news_at or begun - _TRACKED) + _TRACKED)
        has_exception = any(parcel.times_of(frozenset(ExceptionStatus))) or any(
            condition.kind == "exception" for condition in conditions
        )
        stalls = [c.since for c in conditions if c.kind == "stalled" and c.since]
        for which, (begin, end) in enumerate(self._periods):
            has_stalled = any(begin <= time < end for time in stalls)
            if has_stalled or (begun < end and tracked_until >= begin):
                figures = self._carriers[carrier][which]
                figures.parcels += 1
                figures.with_exceptions += has_exception
                figures.stalled += has_stalled
                if begin <= arrived < end:
                    figures.delivered += 1
                    figures.hours_to_delivery.update(_hours_in_transit(parcel, arrived))

    def __iter__(self) -> Iterator[tuple[str, PeriodFigures, PeriodFigures]]:
        """Yield each carrier with this period and the one before, the largest carrier first."""
        ranked = sorted(self._carriers.items(), key=lambda entry: -entry[1][0].parcels)
        return ((carrier, now, before) for carrier, (now, before) in ranked)

    def table(self) -> list[Row]:
        """Return a row for each carrier, with the figures of the period before in brackets."""
        rows: list[Row] = []
        for carrier, *periods in self:
            now, before = map(_shown, periods)
            figures = {name: f"{now[name]} ({before[name]})" for name in now}
            rows.append({"Carrier": carrier, **figures})
        return rows


def _shown(figures: PeriodFigures) -> dict[str, str]:
    share = figures.exception_share
    median, most = (figures.days_to_delivery(share) for share in (0.5, 0.9))
    return {
        "Parcels": f"{figures.parcels:,}",
        "Delivered": f"{figures.delivered:,}",
        "Median days": "-" if median is None else f"{median:.1f}",
        "90% within days": "-" if most is None else f"{most:.1f}",
        "With exceptions": "-" if share is None else f"{share:.0%}",
        "Newly stalled": f"{figures.stalled:,}",
    }


def percentile(counts: Mapping[int, int], share: float) -> int | None:
    """Return the smallest value that this share of all counted values does not exceed."""
    # exact: a product of floats may differ a little from a whole number
    wanted = Decimal(str(share)) * sum(counts.values())
    reached = 0
    for value in sorted(counts):
        reached += counts[value]
        if reached and reached >= wanted:
            return value
    return None


def _since(condition: Condition) -> datetime | None:
    """Return when a condition began, or the last update, as most exceptions have no begin."""
    parcel = condition.parcel
    return condition.since or (parcel.last_news_at if parcel else None)


def _hours_in_transit(parcel: Fulfillment, arrived: datetime) -> Iterator[int]:
    """Yield the hours in transit, unless the start is unknown."""
    began = min(parcel.times_of({ShipmentStatus.IN_TRANSIT}), default=arrived + _HOUR)
    if began <= arrived:
        yield min(_MOST_HOURS, (arrived - began) // _HOUR)


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return _UNKNOWN
    days = (now - since) // timedelta(days=1)
    return next((name for most, name in _AGES.items() if days <= most), _OLDER)


def _name_in(names: Mapping[str, object], name: str) -> str:
    """Return the name, or "Other" for a new one if there are too many."""
    return name if name in names or len(names) < _MOST_NAMES else _OTHER


def _largest(counts: Counter[str]) -> dict[str, int]:
    """Return the largest counts first, and the sum of all others."""
    ranked = counts.most_common()
    if len(ranked) <= _MOST_BARS:
        return dict(ranked)
    shown, others = Counter(dict(ranked[: _MOST_BARS - 1])), ranked[_MOST_BARS - 1 :]
    shown[f"{len(others):,} others"] += sum(count for _, count in others)
    return dict(shown)
