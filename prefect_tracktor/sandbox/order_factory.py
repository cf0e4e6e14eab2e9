"""The orders that a seed makes up: drawn when asked for, the same on every machine. No state."""

import datetime as dt
import zlib
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus

SHOP_URL = "https://sandbox-shop.example"
CUSTOM_LABELS = ("Preparing your order", "Cutting", "Sewing", "Gravur läuft", "Ready for pickup")

_FIRST_ORDER_ID, _ORDER_ID_STEP = 5_000_000_001_001, 1_001
_FIRST_FULFILLMENT_ID, _FULFILLMENT_ID_STEP = 4_000_000_000_000, 4_500
_FULFILLMENT_IDS_PER_ORDER = 4
_FIRST_ORDER_NUMBER = 1001
_HISTORY = dt.timedelta(days=120)
_SHIPPED_FREE_FROM = 60.0

# first name, last name, local part of the email address
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
# the columns of an export of Shopify
EXPORT_COLUMNS = (
    *("Name", "Email", "Financial Status", "Paid at", "Fulfillment Status", "Fulfilled at"),
    *("Accepts Marketing", "Currency", "Subtotal", "Shipping", "Taxes", "Total"),
    *("Discount Code", "Discount Amount", "Shipping Method", "Created at"),
    *("Lineitem quantity", "Lineitem name", "Lineitem price", "Lineitem compare at price"),
    *("Lineitem sku", "Lineitem requires shipping", "Lineitem taxable"),
    *("Lineitem fulfillment status", "Billing Name", "Shipping Name", "Notes", "Cancelled at"),
    *("Payment Method", "Refunded Amount", "Vendor", "Id", "Tags", "Risk Level", "Source"),
    *("Lineitem discount", "Phone"),
)


class Kind(Enum):
    """What an order is there for."""

    WRITE_TO = "has an email address and an expired parcel that has not arrived"
    JUST_READY = "has an email address and one parcel, which has all its way before it"
    EXPIRED_DELIVERED = "expired, but delivered"
    EXPIRED_BY_PHONE = "expired, but without an email address"
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


class Parcel(NamedTuple):
    """A parcel's condition."""

    shipment_status: str
    exception_status: str | None = None


class Item(NamedTuple):
    """A line of an order."""

    id: int
    name: str
    quantity: int
    price: float


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

    def kind(self, index: int) -> Kind:
        """What an order is there for."""
        if index in self._to_write_to:
            return Kind.WRITE_TO
        if index in self._just_ready:
            return Kind.JUST_READY
        return _scenarios(self._seed, index // len(_SCENARIOS))[index % len(_SCENARIOS)]

    def with_exception(self, status: str) -> Iterator[int]:
        """Where to look for orders with an exception, and an email address to write to."""
        if status == ExceptionStatus.EXPIRED:
            return iter(self._to_write_to)
        return (i for i in range(len(self.order_ids)) if self.kind(i).value == status)

    def draw(self, index: int) -> tuple[dict[str, Any], list[Item]]:
        """An order as the API shows it, and its lines."""
        random = Random(f"{self._seed}/order/{index}")
        kind = self.kind(index)
        order_id, number = self.order_ids[index], _FIRST_ORDER_NUMBER + index
        first_name, last_name, local_part = random.choice(_CUSTOMERS)
        has_email, has_phone = _reachable_by(kind, random)
        domain = random.choice(("com", "org", "net"))
        age = _HISTORY * (1 - (index + random.random()) / len(self.order_ids))
        created_at = (self._now - age).replace(microsecond=0)
        phone = f"+120255501{random.randrange(100):02}" if has_phone else None
        items = list(_items(order_id, random))
        parcels = _parcels(kind, self._to_write_to.get(index, 0), random)
        carrier = random.choice(_CARRIERS)
        hours_lost = random.uniform(0, 24)
        order = {
            "order_id": order_id,
            "order_name": f"#{number}",
            "order_email": f"{local_part}.{number}@example.{domain}" if has_email else None,
            "order_phone": phone,
            "order_source_name": "web",
            "order_created_at": created_at.isoformat(),
            "customer_first_name": first_name,
            "customer_last_name": last_name,
            "customer_full_name": f"{first_name} {last_name}",
            "total_price": round(_subtotal(items) + _shipping(items), 2),
            "line_item_count": len(items),
            "statuses": [],
            "exception_statuses": [],
            "days_since_ordered": self._days_to_delivery(created_at, parcels, hours_lost),
            "automatic_carrier_updates": kind is not Kind.CUSTOM,
            "fulfillments": [],
        }
        hours = [*(hours for _, _, hours in _STEPS), _HOURS_TO_CUSTOM_STEP]
        times = [
            min(self._now, created_at + dt.timedelta(hours=int(step + hours_lost)))
            for step in hours
        ]
        order["fulfillments"] = [
            self._fulfillment(order, place, parcel, carrier, times)
            | {"line_items": [_line_item(item) for item in items[place :: len(parcels)]]}
            for place, parcel in enumerate(parcels)
        ]
        summarise(order)
        return order, items

    def _fulfillment(
        self,
        order: dict[str, Any],
        place: int,
        parcel: Parcel,
        carrier: tuple[str, str, str],
        times: list[dt.datetime],
    ) -> dict[str, Any]:
        slug, name, prefix = carrier
        index = self.order_ids.index(order["order_id"])
        slot = index * _FULFILLMENT_IDS_PER_ORDER + place
        drawn = zlib.crc32(f"{self._seed}/{-1 - slot}".encode()) % 10**9
        tracking_number = f"{prefix}{drawn:010}{place}"
        steps, latest = _steps(parcel.shipment_status, times)
        return {
            "shop_url": SHOP_URL,
            "order_id": order["order_id"],
            "order_name": order["order_name"],
            "shopify_carrier": name,
            "carrier": {"slug": slug, "name": name},
            "tracking_number": tracking_number,
            "tracking_url": f"https://tracking.example/{slug}/{tracking_number}",
            "fulfillment_id": _FIRST_FULFILLMENT_ID
            + slot * _FULFILLMENT_ID_STEP
            + drawn % _FULFILLMENT_ID_STEP,
            "fulfillment_status": "fulfilled",
            "shipment_status": str(parcel.shipment_status),
            "exception_status": parcel.exception_status and str(parcel.exception_status),
            "is_automatic": order["automatic_carrier_updates"],
            "line_items": [],
            "latest_status": dict(latest),
            "status": steps,
        }

    def _days_to_delivery(
        self, created_at: dt.datetime, parcels: tuple[Parcel, ...], hours_lost: float
    ) -> int:
        end = self._now
        if parcels and all(p.shipment_status == ShipmentStatus.DELIVERED for p in parcels):
            end = min(end, created_at + dt.timedelta(hours=_STEPS[-1][2] + hours_lost))
        return (end - created_at).days


def export_rows(order: dict[str, Any], items: list[Item]) -> Iterator[dict[str, Any]]:
    """An order's rows in an export of Shopify: one per line; the first has the order's values."""
    fulfilled = bool(order["fulfillments"])
    time = f"{dt.datetime.fromisoformat(order['order_created_at']):%Y-%m-%d %H:%M:%S %z}"
    every_row = {"Name": order["order_name"], "Email": order["order_email"], "Created at": time}
    first_row = {
        "Financial Status": "paid",
        "Paid at": time,
        "Fulfillment Status": "fulfilled" if fulfilled else "unfulfilled",
        "Fulfilled at": time if fulfilled else None,
        "Currency": "EUR",
        "Subtotal": f"{_subtotal(items):.2f}",
        "Shipping": f"{_shipping(items):.2f}",
        "Total": f"{order['total_price']:.2f}",
        "Shipping Method": "Standard",
        "Billing Name": order["customer_full_name"],
        "Shipping Name": order["customer_full_name"],
        "Id": str(order["order_id"]),
        "Source": "web",
        "Phone": order["order_phone"],
    }
    # what the other rows repeat differs between real exports
    if order["order_id"] % 2:
        every_row["Id"] = first_row["Id"]
    for number, item in enumerate(items):
        line = {
            "Lineitem quantity": item.quantity,
            "Lineitem name": item.name,
            "Lineitem price": f"{item.price:.2f}",
            "Lineitem fulfillment status": "fulfilled" if fulfilled else "pending",
            "Vendor": "Sandbox Shop",
        }
        yield every_row | line | ({} if number else first_row)


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


def _subtotal(items: list[Item]) -> float:
    return round(sum(item.price * item.quantity for item in items), 2)


def _shipping(items: list[Item]) -> float:
    return 0.0 if _subtotal(items) >= _SHIPPED_FREE_FROM else 4.9


def _steps(status: str, times: list[dt.datetime]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The built-in steps with the times of those reached, a custom one; and the latest."""
    reached = [time.isoformat(timespec="seconds") for time in times]
    last = _STEP_NUMBERS.get(status, 0)
    steps = [
        {"key": key, "label": label, "datetime": reached[number] if number <= last else None}
        for number, (key, label, _) in enumerate(_STEPS)
    ]
    if status in _STEP_NUMBERS:
        return steps, steps[last]
    custom = {"key": key_of(status), "label": status, "datetime": reached[-1]}
    return [*steps, custom], custom


@lru_cache(maxsize=1024)
def _scenarios(seed: int, number: int) -> tuple[Kind, ...]:
    """A shuffled scenarios, so that every kind turns up soon in a shop of any size."""
    return tuple(Random(f"{seed}/scenarios/{number}").sample(_SCENARIOS, len(_SCENARIOS)))


def _reachable_by(kind: Kind, random: Random) -> tuple[bool, bool]:
    """Whether the customer left an email address, and a phone number: one of them at least."""
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
