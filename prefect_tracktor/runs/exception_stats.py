"""How much of a shop is in trouble: the charts of the flows that see exceptions while scanning."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prefect_tracktor.models import Fulfillment, Order, exception_label
from prefect_tracktor.reporting import Chart, publish_charts

_UNKNOWN = "Unknown"
_MOST_BARS = 10

# by how many whole days ago the last news may be, at most
_AGES = {3: "0 to 3 days", 7: "4 to 7 days", 14: "8 to 14 days", 30: "15 to 30 days"}
_OLDER = "More than 30 days"


@dataclass(slots=True)
class ExceptionStats:
    """Counts the parcels of the orders that a scan reads, and those of them that are in trouble."""

    orders: int = 0
    parcels: int = 0
    by_exception: Counter[str] = field(default_factory=Counter)
    by_carrier: Counter[str] = field(default_factory=Counter)
    by_age: Counter[str] = field(default_factory=Counter)
    _now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def take(self, orders: Iterable[Order]) -> None:
        """Count the parcels of orders."""
        for order in orders:
            self.orders += 1
            self.parcels += len(order.fulfillments)
            self._count(
                parcel
                for parcel in order.undelivered
                if parcel.exception_status and not order.has_cancelled(parcel)
            )

    def _count(self, parcels: Iterable[Fulfillment]) -> None:
        for parcel in parcels:
            self.by_exception[exception_label(parcel.exception_status or "")] += 1
            self.by_carrier[_carrier(parcel)] += 1
            self.by_age[_age(parcel, self._now)] += 1

    def charts(self) -> list[Chart]:
        """The counts as charts, the largest first; ages from the youngest to the oldest."""
        if not self.by_exception:
            return []
        ages = {age: self.by_age[age] for age in (*_AGES.values(), _OLDER, _UNKNOWN)}
        return [
            Chart("By exception", "Exception", "Parcels", _largest(self.by_exception)),
            Chart("By carrier", "Carrier", "Parcels", _largest(self.by_carrier)),
            Chart("By time since the parcel's last news", "Last news", "Parcels", ages),
        ]

    def publish(self) -> None:
        """Show the charts as an artifact, unless nothing was read; no look-up is made for them."""
        if not self.orders:
            return
        in_trouble = self.by_exception.total()
        publish_charts(
            "parcels-in-trouble",
            self.charts(),
            title="Parcels with exceptions",
            lead=f"{in_trouble:,} of {self.parcels:,} parcels have an exception and have not been"
            f" delivered. This run read {self.orders:,} orders.",
            description="Charts of all exceptions.",
        )


def _carrier(parcel: Fulfillment) -> str:
    carrier = parcel.carrier
    return (carrier and (carrier.name or carrier.slug)) or parcel.shopify_carrier or _UNKNOWN


def _age(parcel: Fulfillment, now: datetime) -> str:
    steps = [*parcel.status, *([parcel.latest_status] if parcel.latest_status else [])]
    last = max((step.datetime for step in steps if step.datetime), default=None)
    if last is None:
        return _UNKNOWN
    days = (now - last) // timedelta(days=1)
    return next((name for most, name in _AGES.items() if days <= most), _OLDER)


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The largest first, as many as can be looked at; the others in one."""
    ranked = counts.most_common()
    if len(ranked) <= _MOST_BARS:
        return dict(ranked)
    shown, others = Counter(dict(ranked[: _MOST_BARS - 1])), ranked[_MOST_BARS - 1 :]
    shown[f"{len(others):,} others"] += sum(count for _, count in others)
    return dict(shown)
