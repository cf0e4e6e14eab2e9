"""Figures of a shop's parcels, from orders read one by one, in bounded memory."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
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

# by how many whole days ago something was, at most
_AGES = {3: "0 to 3 days", 7: "4 to 7 days", 14: "8 to 14 days", 30: "15 to 30 days"}
_OLDER = "More than 30 days"

# without news for so long, Tracktor follows a parcel no more
_FOLLOWED = timedelta(days=30)
_MOST_HOURS = 24 * 365
_HOUR = timedelta(hours=1)
_END_OF_TIMES = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Tally:
    """Counts things by what is the matter, carrier and age."""

    by_condition: Counter[str] = field(default_factory=Counter)
    by_carrier: Counter[str] = field(default_factory=Counter)
    by_age: Counter[str] = field(default_factory=Counter)

    def add(self, condition: str, carrier: str, since: datetime | None, now: datetime) -> None:
        """Count one."""
        self.by_condition[_name_in(self.by_condition, condition)] += 1
        self.by_carrier[_name_in(self.by_carrier, carrier or _UNKNOWN)] += 1
        self.by_age[_age(since, now)] += 1

    def charts(self, condition: str, age: str, unit: str) -> list[Chart]:
        """The counts as charts, the largest first; ages from the youngest to the oldest."""
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
    """Counts the parcels of the orders that a scan reads, and those of them with an exception."""

    orders: int = 0
    parcels: int = 0
    with_exception: int = 0
    _tally: _Tally = field(default_factory=_Tally)
    _now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def take(self, orders: Iterable[Order]) -> None:
        """Count the parcels of orders."""
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
        """The counts as charts."""
        return self._tally.charts("Exception", "Time since the last update", "Parcels")

    def publish(self, *, mode: str, series: str = "") -> None:
        """Show the charts as an artifact, unless nothing was read; no look-up is made for them."""
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
            series=series,
        )


class Digest:
    """What is the matter in a shop: counts of all, and the rows of the orders that matter most."""

    def __init__(
        self,
        now: datetime,
        *,
        seen: Callable[[Order, Condition], bool] = lambda _order, _condition: False,
        rows_at_most: int = 1000,
    ) -> None:
        # `seen` tells whether an earlier report had a condition
        self.orders = 0
        self.new = 0
        self._now = now
        self._seen = seen
        self._rows_at_most = rows_at_most
        self._tally = _Tally()
        self._heap: list[tuple[tuple[bool, Decimal, timedelta, int], Row]] = []

    def take(self, order: Order, conditions: Iterable[Condition]) -> None:
        """Count what is the matter with an order: statuses are not, nor what is cancelled."""
        found = [one for one in conditions if one.kind != "status" and not one.cancelled]
        if not found:
            return
        for one in found:
            carrier = carrier_of(one.parcel) if one.parcel else ""
            self._tally.add(one.label, carrier, _since(one), self._now)
        is_new = any(not self._seen(order, one) for one in found)
        begun = [since for one in found if (since := _since(one))]
        age = max(timedelta(0), self._now - min(begun, default=self._now))
        value = order.total_price
        self.orders += 1
        self.new += is_new
        # new ones first, then by value, then by age
        rank = (is_new, Decimal(-1) if value is None else value, age, -self.orders)
        row: Row = {
            "New": "New" if is_new else "",
            "Order": admin_link(order),
            "Condition": in_list(list(dict.fromkeys(one.label for one in found))),
            "Carrier": _carrier(found),
            "Days": str(age.days) if begun else "",
            "Value": "" if value is None else f"{value:,.2f}",
            "Order id": str(order.order_id),
        }
        push = heapq.heappush if len(self._heap) < self._rows_at_most else heapq.heappushpop
        push(self._heap, (rank, row))

    @property
    def rows(self) -> list[Row]:
        """The rows that matter most, in this order."""
        return [row for _, row in sorted(self._heap, key=lambda entry: entry[0], reverse=True)]

    def charts(self) -> list[Chart]:
        """The counts of all as charts."""
        return self._tally.charts(
            "Condition", "Time since it began, or since the last update", "Cases"
        )


def _carrier(conditions: Iterable[Condition]) -> Cell:
    """The carriers of the parcels; a link to the page of a single one, as a cell holds one link."""
    parcels = {one.parcel.fulfillment_id: one.parcel for one in conditions if one.parcel}
    links = [tracking_link(parcel) for parcel in parcels.values()]
    return links[0] if len(links) == 1 else ", ".join(dict.fromkeys(map(str, links)))


@dataclass(slots=True)
class PeriodFigures:
    """A carrier's parcels in a period: under way, with an exception, newly stalled, arrived."""

    parcels: int = 0
    with_exceptions: int = 0
    stalled: int = 0
    delivered: int = 0
    hours_to_delivery: Counter[int] = field(default_factory=Counter)

    @property
    def exception_share(self) -> float | None:
        """The share of the parcels that have an exception by now."""
        return self.with_exceptions / self.parcels if self.parcels else None

    def days_to_delivery(self, share: float) -> float | None:
        """In how many days at most such a share arrived, of those whose start is known."""
        hours = percentile(self.hours_to_delivery, share)
        return None if hours is None else hours / 24


class CarrierFigures:
    """How carriers fared in a period and in the one before, which is as long.

    Parcels are those that were under way in the period; with exceptions are those of them that have
    one by now, as Tracktor does not tell since when. A stall counts in the period when it began.
    """

    def __init__(self, begin: datetime, end: datetime) -> None:
        self._periods = ((begin, end), (begin - (end - begin), begin))
        self._carriers: dict[str, tuple[PeriodFigures, PeriodFigures]] = defaultdict(
            lambda: (PeriodFigures(), PeriodFigures())
        )

    def take(self, order: Order, conditions: Iterable[Condition] = ()) -> None:
        """Count the parcels of an order, with its conditions."""
        found = list(conditions)
        for parcel in order.fulfillments:
            if not order.has_cancelled(parcel):
                number = parcel.fulfillment_id
                own = [one for one in found if one.parcel and one.parcel.fulfillment_id == number]
                carrier = _name_in(self._carriers, carrier_of(parcel) or _UNKNOWN)
                self._take(carrier, parcel, own)

    def _take(self, carrier: str, parcel: Fulfillment, conditions: list[Condition]) -> None:
        begun = parcel.moved_at or _END_OF_TIMES
        arrived = min(parcel.times_of({ShipmentStatus.DELIVERED}), default=_END_OF_TIMES)
        followed_until = min(arrived, (parcel.last_news_at or begun - _FOLLOWED) + _FOLLOWED)
        has_exception = any(parcel.times_of(frozenset(ExceptionStatus))) or any(
            condition.kind == "exception" for condition in conditions
        )
        stalls = [one.since for one in conditions if one.kind == "stalled" and one.since]
        for which, (begin, end) in enumerate(self._periods):
            has_stalled = any(begin <= time < end for time in stalls)
            if has_stalled or (begun < end and followed_until >= begin):
                figures = self._carriers[carrier][which]
                figures.parcels += 1
                figures.with_exceptions += has_exception
                figures.stalled += has_stalled
                if begin <= arrived < end:
                    figures.delivered += 1
                    figures.hours_to_delivery.update(_hours_on_the_way(parcel, arrived))

    def __iter__(self) -> Iterator[tuple[str, PeriodFigures, PeriodFigures]]:
        """Each carrier, this period and the one before; the one with most parcels first."""
        ranked = sorted(self._carriers.items(), key=lambda entry: -entry[1][0].parcels)
        return ((carrier, now, before) for carrier, (now, before) in ranked)

    def table(self) -> list[Row]:
        """A row for each carrier, each figure with that of the period before in brackets."""
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
    """The smallest of counted values that such a share of them all is not above."""
    # exact, where a product of floats may end a little beside a whole number
    wanted = Decimal(str(share)) * sum(counts.values())
    reached = 0
    for value in sorted(counts):
        reached += counts[value]
        if reached and reached >= wanted:
            return value
    return None


def _since(condition: Condition) -> datetime | None:
    """When a condition began, or else the last update; of exceptions Tracktor tells no more."""
    parcel = condition.parcel
    return condition.since or (parcel.last_news_at if parcel else None)


def _hours_on_the_way(parcel: Fulfillment, arrived: datetime) -> Iterator[int]:
    """How long the carrier had the parcel; nothing if it is not known when it got it."""
    began = min(parcel.times_of({ShipmentStatus.IN_TRANSIT}), default=arrived + _HOUR)
    if began <= arrived:
        yield min(_MOST_HOURS, (arrived - began) // _HOUR)


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return _UNKNOWN
    days = (now - since) // timedelta(days=1)
    return next((name for most, name in _AGES.items() if days <= most), _OLDER)


def _name_in(names: Mapping[str, object], name: str) -> str:
    """The name, unless there are too many names: they come from outside."""
    return name if name in names or len(names) < _MOST_NAMES else _OTHER


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The largest first, as many as can be looked at; the others in one."""
    ranked = counts.most_common()
    if len(ranked) <= _MOST_BARS:
        return dict(ranked)
    shown, others = Counter(dict(ranked[: _MOST_BARS - 1])), ranked[_MOST_BARS - 1 :]
    shown[f"{len(others):,} others"] += sum(count for _, count in others)
    return dict(shown)
