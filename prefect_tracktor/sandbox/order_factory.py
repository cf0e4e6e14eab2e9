"""The orders that a seed makes up: drawn when asked for, the same on every machine. No state."""

import datetime as dt
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from random import Random
from typing import Any

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus

SHOP_URL = "https://sandbox-shop.example"
CUSTOM_LABELS = ("Preparing your order", "Cutting", "Sewing", "Gravur läuft", "Ready for pickup")

_FIRST_ORDER_ID, _ORDER_ID_STEP = 5_000_000_001_001, 1_001
_FIRST_FULFILLMENT_ID, _FULFILLMENT_ID_STEP = 4_000_000_000_000, 4_500
_FULFILLMENT_IDS_PER_ORDER = 4
_FIRST_ORDER_NUMBER = 1001
_HISTORY = dt.timedelta(days=120)
_SHIPPED_FREE_FROM = 60.0

# first name, last name, local part of the e-mail address
_CUSTOMERS = (
    ("Zoë", "Janssen", "zoe"),
    ("Łukasz", "Wójcik", "lukasz"),
    ("小龙", "李", "xiaolong"),
    ("Jürgen", "Müller-Lüdenscheidt", "juergen"),
    ("Sinéad", "O'Brien", "sinead"),
    ("Ada", "Miller", "ada"),
    ("Søren", "Ångström", "soren"),
    ("José María", "de la Cruz", "jose.maria"),
    ("Νίκη", "Παπαδοπούλου", "niki"),
    ("Оксана", "Шевченко", "oksana"),
    ("Grace", "Brown", "grace"),
    ("さくら", "田中", "sakura"),
)
# slug, name, how a tracking number begins
_CARRIERS = (
    ("ups", "UPS", "1Z"),
    ("usps", "USPS", "94"),
    ("dhl", "DHL Express", "JD"),
    ("dpd", "DPD", "05"),
    ("royal-mail", "Royal Mail", "RM"),
)
_PRODUCTS = (
    ("Blue mug", 14.9),
    ("Linen shirt, café au lait", 59.0),
    ("Walnut board", 39.5),
    ('Frame 8" x 10"', 24.0),
    ("Wool socks", 11.25),
    ("Crème brûlée set", 72.8),
)
# the steps of a parcel's life: key, label, hours since the order
_STEPS = tuple(
    (str(status), status.label, hours)
    for status, hours in zip(ShipmentStatus, (8, 30, 90, 96), strict=True)
)
_STEP_NUMBERS = {key: number for number, (key, _, _) in enumerate(_STEPS)}
_HOURS_TO_CUSTOM_STEP = 16
_HOURS_TO_DELIVERY = _STEPS[-1][2]


class Kind(Enum):
    """What an order is there for."""

    WRITE_TO = "has an e-mail address and an expired parcel that has not arrived"
    JUST_READY = "has an e-mail address and one parcel, which has all its way before it"
    EXPIRED_DELIVERED = "expired, but delivered"
    EXPIRED_BY_PHONE = "expired, but without an e-mail address"
    NOT_FOUND = ExceptionStatus.NOT_FOUND
    EXCEPTION = ExceptionStatus.EXCEPTION
    UNDELIVERED = ExceptionStatus.UNDELIVERED
    PENDING = ExceptionStatus.PENDING
    CUSTOM = "in one of the shop's own statuses"
    UNFULFILLED = "has no parcels yet"
    ORDER_READY = ShipmentStatus.ORDER_READY
    IN_TRANSIT = ShipmentStatus.IN_TRANSIT
    OUT_FOR_DELIVERY = ShipmentStatus.OUT_FOR_DELIVERY
    DELIVERED = ShipmentStatus.DELIVERED


# one of each in every 24 orders, and more of what is common
_SCENARIOS = (
    *(kind for kind in Kind if kind not in {Kind.WRITE_TO, Kind.JUST_READY}),
    *[Kind.DELIVERED] * 6,
    *[Kind.IN_TRANSIT] * 4,
    Kind.CUSTOM,
    Kind.OUT_FOR_DELIVERY,
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel's condition."""

    shipment_status: str
    exception_status: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order."""

    id: int
    name: str
    quantity: int
    price: float


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """What was drawn for one order, before it is written out as JSON or CSV."""

    index: int
    order_id: int
    kind: Kind
    first_name: str
    last_name: str
    email: str | None
    phone: str | None
    created_at: dt.datetime
    items: tuple[Item, ...]
    parcels: tuple[Parcel, ...]
    carrier: tuple[str, str, str]
    hours_lost: float

    @property
    def name(self) -> str:
        """The order's name, as the shop's admin shows it."""
        return f"#{_FIRST_ORDER_NUMBER + self.index}"

    @property
    def full_name(self) -> str:
        """The customer's name."""
        return f"{self.first_name} {self.last_name}"

    @property
    def subtotal(self) -> float:
        """The price of all lines."""
        return round(sum(item.price * item.quantity for item in self.items), 2)

    @property
    def shipping(self) -> float:
        """The price of shipping."""
        return 0.0 if self.subtotal >= _SHIPPED_FREE_FROM else 4.9

    @property
    def total(self) -> float:
        """What the customer paid."""
        return round(self.subtotal + self.shipping, 2)


class OrderFactory:
    """All orders of a shop, as they were made up."""

    def __init__(
        self, *, orders: int, seed: int, expired: int, now: dt.datetime, just_ready: int = 0
    ) -> None:
        end = _FIRST_ORDER_ID + orders * _ORDER_ID_STEP
        self.order_ids = range(_FIRST_ORDER_ID, end, _ORDER_ID_STEP)
        self._seed = seed
        self._now = now
        chosen = sorted(Random(f"{seed}/expired").sample(range(orders), expired))
        self._to_write_to = {index: rank for rank, index in enumerate(chosen)}
        self._just_ready: frozenset[int] = frozenset()
        if just_ready:
            others = [index for index in range(orders) if index not in self._to_write_to]
            self._just_ready = frozenset(Random(f"{seed}/just ready").sample(others, just_ready))

    def __len__(self) -> int:
        return len(self.order_ids)

    def kind(self, index: int) -> Kind:
        """What an order is there for."""
        if index in self._to_write_to:
            return Kind.WRITE_TO
        if index in self._just_ready:
            return Kind.JUST_READY
        return _scenarios(self._seed, index // len(_SCENARIOS))[index % len(_SCENARIOS)]

    def in_trouble(self, status: str) -> Iterator[int]:
        """Where to look for orders with an exception, and an e-mail address to write to."""
        if status == ExceptionStatus.EXPIRED:
            return iter(self._to_write_to)
        return (index for index in range(len(self)) if self.kind(index).value == status)

    def spec(self, index: int) -> OrderSpec:
        """Draw an order."""
        random = Random(f"{self._seed}/order/{index}")
        kind = self.kind(index)
        first_name, last_name, local_part = random.choice(_CUSTOMERS)
        number = _FIRST_ORDER_NUMBER + index
        has_email, has_phone = _reachable_by(kind, random)
        domain = random.choice(("com", "org", "net"))
        order_id = self.order_ids[index]
        age = _HISTORY * (1 - (index + random.random()) / len(self))
        return OrderSpec(
            index=index,
            order_id=order_id,
            kind=kind,
            first_name=first_name,
            last_name=last_name,
            email=f"{local_part}.{number}@example.{domain}" if has_email else None,
            phone=f"+120255501{random.randrange(100):02}" if has_phone else None,
            created_at=(self._now - age).replace(microsecond=0),
            items=tuple(_items(order_id, random)),
            parcels=_parcels(kind, self._to_write_to.get(index, 0), random),
            carrier=random.choice(_CARRIERS),
            hours_lost=random.uniform(0, 24),
        )

    def written_out(self, spec: OrderSpec) -> dict[str, Any]:
        """An order as the API shows it."""
        times = [self._time(spec, hours) for _, _, hours in _STEPS]
        fulfillments = [
            self._fulfillment(spec, number, times) for number in range(len(spec.parcels))
        ]
        order = {
            "order_id": spec.order_id,
            "order_name": spec.name,
            "order_email": spec.email,
            "order_phone": spec.phone,
            "order_source_name": "web",
            "order_created_at": spec.created_at.isoformat(),
            "customer_first_name": spec.first_name,
            "customer_last_name": spec.last_name,
            "customer_full_name": spec.full_name,
            "total_price": spec.total,
            "line_item_count": len(spec.items),
            "statuses": [],
            "exception_statuses": [],
            "days_since_ordered": self._days_to_delivery(spec),
            "automatic_carrier_updates": spec.kind is not Kind.CUSTOM,
            "fulfillments": fulfillments,
        }
        summarise(order)
        return order

    def _fulfillment(self, spec: OrderSpec, number: int, times: list[str]) -> dict[str, Any]:
        parcel = spec.parcels[number]
        slug, carrier, prefix = spec.carrier
        slot = spec.index * _FULFILLMENT_IDS_PER_ORDER + number
        drawn = _scattered(self._seed, -1 - slot, 10**9)
        tracking_number = f"{prefix}{drawn:010}{number}"
        steps, latest = self._steps(spec, parcel.shipment_status, times)
        return {
            "shop_url": SHOP_URL,
            "order_id": spec.order_id,
            "order_name": spec.name,
            "shopify_carrier": carrier,
            "carrier": {"slug": slug, "name": carrier},
            "tracking_number": tracking_number,
            "tracking_url": f"https://tracking.example/{slug}/{tracking_number}",
            "fulfillment_id": _FIRST_FULFILLMENT_ID
            + slot * _FULFILLMENT_ID_STEP
            + drawn % _FULFILLMENT_ID_STEP,
            "fulfillment_status": "fulfilled",
            "shipment_status": str(parcel.shipment_status),
            "exception_status": parcel.exception_status and str(parcel.exception_status),
            "is_automatic": spec.kind is not Kind.CUSTOM,
            "line_items": [
                _line_item(item) for item in spec.items[number :: max(1, len(spec.parcels))]
            ],
            "latest_status": dict(latest),
            "status": steps,
        }

    def _steps(
        self, spec: OrderSpec, status: str, times: list[str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The built-in steps with the times of those reached, a custom one; and the latest."""
        last = _STEP_NUMBERS.get(status, 0)
        steps = [
            {"key": key, "label": label, "datetime": times[number] if number <= last else None}
            for number, (key, label, _) in enumerate(_STEPS)
        ]
        if status in _STEP_NUMBERS:
            return steps, steps[last]
        time = self._time(spec, _HOURS_TO_CUSTOM_STEP)
        custom = {"key": key_of(status), "label": status, "datetime": time}
        return [*steps, custom], custom

    def _time(self, spec: OrderSpec, hours: float) -> str:
        time = spec.created_at + dt.timedelta(hours=int(hours + spec.hours_lost))
        return min(time, self._now).isoformat(timespec="seconds")

    def _days_to_delivery(self, spec: OrderSpec) -> int:
        end = self._now
        if spec.parcels and all(
            parcel.shipment_status == ShipmentStatus.DELIVERED for parcel in spec.parcels
        ):
            hours = _HOURS_TO_DELIVERY + spec.hours_lost
            end = min(end, spec.created_at + dt.timedelta(hours=hours))
        return (end - spec.created_at).days


def index_of_fulfillment(fulfillment_id: int) -> int:
    """The place of the order that a parcel would belong to."""
    slot = (fulfillment_id - _FIRST_FULFILLMENT_ID) // _FULFILLMENT_ID_STEP
    return slot // _FULFILLMENT_IDS_PER_ORDER


def key_of(label: str) -> str:
    """The key of one of the shop's own statuses."""
    return label.casefold().replace(" ", "_")


def summarise(order: dict[str, Any]) -> None:
    """Write what an order says about its parcels, in place."""
    parcels = order["fulfillments"]
    if parcels:
        order["statuses"] = [parcel["shipment_status"] for parcel in parcels]
        order["exception_statuses"] = [
            parcel["exception_status"] for parcel in parcels if parcel["exception_status"]
        ]


def _scattered(seed: int, index: int, below: int) -> int:
    return zlib.crc32(f"{seed}/{index}".encode()) % below


@lru_cache(maxsize=1024)
def _scenarios(seed: int, number: int) -> tuple[Kind, ...]:
    """A shuffled scenarios, so that every kind turns up soon in a shop of any size."""
    return tuple(Random(f"{seed}/scenarios/{number}").sample(_SCENARIOS, len(_SCENARIOS)))


def _reachable_by(kind: Kind, random: Random) -> tuple[bool, bool]:
    """Whether the customer left an e-mail address, and a phone number: one of them at least."""
    no_email, phone = random.random() < 0.1, random.random() < 0.5
    match kind:
        case Kind.WRITE_TO | Kind.JUST_READY | Kind.EXPIRED_DELIVERED:
            return True, phone
        case Kind.EXPIRED_BY_PHONE:
            return False, True
        case _:
            return not no_email, no_email or phone


def _items(order_id: int, random: Random) -> Iterator[Item]:
    for number in range(random.choice((1, 1, 2, 2, 3, 4))):
        name, price = random.choice(_PRODUCTS)
        yield Item(order_id * 2 + number, name, random.choice((1, 1, 1, 2, 3)), price)


def _line_item(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "quantity": item.quantity,
        "requires_shipping": True,
        "id": item.id,
        "product_id": 7_000_000_000_000 + zlib.crc32(item.name.encode()),
        "variant_id": 8_000_000_000_000 + zlib.crc32(item.name.encode()),
    }


def _parcels(kind: Kind, rank: int, random: Random) -> tuple[Parcel, ...]:
    if kind is Kind.UNFULFILLED:
        return ()
    if kind is Kind.WRITE_TO:
        return (_expired(random), *_beside_an_expired_one(rank, random))
    if kind is Kind.JUST_READY:
        return (Parcel(ShipmentStatus.ORDER_READY),)
    further = random.choice((0, 0, 0, 1, 2))
    if kind is Kind.CUSTOM:
        return (Parcel(random.choice(CUSTOM_LABELS)),) * (1 + further)
    beside = (Parcel(random.choice((ShipmentStatus.DELIVERED, ShipmentStatus.IN_TRANSIT))),)
    return (_first_parcel(kind, random), *beside * further)


def _first_parcel(kind: Kind, random: Random) -> Parcel:
    match kind.value:
        case ShipmentStatus() as status:
            return Parcel(status)
        case ExceptionStatus() as exception:
            return Parcel(random.choice(_UNDER_WAY), exception)
    if kind is Kind.EXPIRED_DELIVERED:
        return Parcel(ShipmentStatus.DELIVERED, ExceptionStatus.EXPIRED)
    return _expired(random)


_UNDER_WAY = (
    ShipmentStatus.IN_TRANSIT,
    ShipmentStatus.IN_TRANSIT,
    ShipmentStatus.ORDER_READY,
    ShipmentStatus.OUT_FOR_DELIVERY,
)


def _expired(random: Random) -> Parcel:
    return Parcel(random.choice(_UNDER_WAY), ExceptionStatus.EXPIRED)


def _beside_an_expired_one(rank: int, random: Random) -> tuple[Parcel, ...]:
    """A few have two expired parcels, or a second one that is all right; from small shops on."""
    match rank % 10:
        case 1:
            return (_expired(random),)
        case 4:
            return (Parcel(ShipmentStatus.IN_TRANSIT),)
        case 7:
            return (Parcel(ShipmentStatus.DELIVERED),)
        case _:
            return ()
