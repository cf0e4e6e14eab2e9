"""Order factory: generates orders from a seed, the same on every machine."""

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
_FREE_SHIPPING_FROM = 60.0

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
# slug, name, start of a tracking number
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
# the steps of a parcel: key, label, hours since the order
_STEPS = tuple(
    (str(status), status.label, hours)
    for status, hours in zip(ShipmentStatus, (8, 30, 90, 96), strict=True)
)
_STEP_NUMBERS = {key: number for number, (key, _, _) in enumerate(_STEPS)}
_HOURS_TO_CUSTOM_STEP = 16
# the columns of Shopify's orders export
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


class Scenario(Enum):
    """The case that an order represents."""

    EXPIRED = "has an email address and an expired parcel that has not arrived"
    JUST_READY = "has an email address and one parcel, which is ready to be sent"
    EXPIRED_DELIVERED = "has an expired parcel that was delivered"
    EXPIRED_BY_PHONE = "has an expired parcel and no email address"
    NOT_FOUND = ExceptionStatus.NOT_FOUND
    EXCEPTION = ExceptionStatus.EXCEPTION
    UNDELIVERED = ExceptionStatus.UNDELIVERED
    PENDING = ExceptionStatus.PENDING
    CUSTOM = "has a custom status"
    UNFULFILLED = "has no parcels yet"
    ORDER_READY = ShipmentStatus.ORDER_READY
    IN_TRANSIT = ShipmentStatus.IN_TRANSIT
    OUT_FOR_DELIVERY = ShipmentStatus.OUT_FOR_DELIVERY
    DELIVERED = ShipmentStatus.DELIVERED


# in each 24 orders, every scenario once, and common ones more often
_SCENARIOS = (
    *(s for s in Scenario if s not in {Scenario.EXPIRED, Scenario.JUST_READY}),
    *[Scenario.DELIVERED] * 6,
    *[Scenario.IN_TRANSIT] * 4,
    Scenario.CUSTOM,
    Scenario.OUT_FOR_DELIVERY,
)


class Parcel(NamedTuple):
    shipment_status: str
    exception_status: str | None = None


class Item(NamedTuple):
    id: int
    name: str
    quantity: int
    price: float


class OrderFactory:
    """The generated orders of a shop, in their initial state."""

    def __init__(
        self, *, orders: int, seed: int, expired: int, just_ready: int, now: dt.datetime
    ) -> None:
        end = _FIRST_ORDER_ID + orders * _ORDER_ID_STEP
        self.order_ids = range(_FIRST_ORDER_ID, end, _ORDER_ID_STEP)
        self._seed = seed
        self._now = now
        expired_indexes = sorted(Random(f"{seed}/expired").sample(range(orders), expired))
        # the orders whose customers must be emailed: rank by index
        self.expired = {index: rank for rank, index in enumerate(expired_indexes)}
        self._just_ready: frozenset[int] = frozenset()
        if just_ready:
            others = [index for index in range(orders) if index not in self.expired]
            self._just_ready = frozenset(Random(f"{seed}/just ready").sample(others, just_ready))

    def scenario(self, index: int) -> Scenario:
        if index in self.expired:
            return Scenario.EXPIRED
        if index in self._just_ready:
            return Scenario.JUST_READY
        return _scenarios(self._seed, index // len(_SCENARIOS))[index % len(_SCENARIOS)]

    def generate(self, index: int) -> tuple[dict[str, Any], list[Item]]:
        """Generate an order, as the API returns it, and its lines."""
        random = Random(f"{self._seed}/order/{index}")
        scenario = self.scenario(index)
        order_id, number = self.order_ids[index], _FIRST_ORDER_NUMBER + index
        first_name, last_name, local_part = random.choice(_CUSTOMERS)
        has_email, has_phone = _contact(scenario, random)
        domain = random.choice(("com", "org", "net"))
        age = _HISTORY * (1 - (index + random.random()) / len(self.order_ids))
        created_at = (self._now - age).replace(microsecond=0)
        phone = f"+120255501{random.randrange(100):02}" if has_phone else None
        items = list(_items(order_id, random))
        parcels = _parcels(scenario, self.expired.get(index, 0), random)
        carrier = random.choice(_CARRIERS)
        delay_hours = random.uniform(0, 24)
        order: dict[str, Any] = {
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
            "days_since_ordered": self._days_to_delivery(created_at, parcels, delay_hours),
            "automatic_carrier_updates": scenario is not Scenario.CUSTOM,
            "fulfillments": [],
        }
        hours = [*(hours for _, _, hours in _STEPS), _HOURS_TO_CUSTOM_STEP]
        times = [
            min(self._now, created_at + dt.timedelta(hours=int(step + delay_hours)))
            for step in hours
        ]
        for place, parcel in enumerate(parcels):
            slot = index * _FULFILLMENT_IDS_PER_ORDER + place
            fulfillment = self._fulfillment(order, slot, parcel, carrier, times)
            fulfillment["line_items"] = [_line_item(item) for item in items[place :: len(parcels)]]
            order["fulfillments"].append(fulfillment)
        summarise(order)
        return order, items

    def _fulfillment(
        self,
        order: dict[str, Any],
        slot: int,
        parcel: Parcel,
        carrier: tuple[str, str, str],
        times: list[dt.datetime],
    ) -> dict[str, Any]:
        slug, name, prefix = carrier
        drawn = zlib.crc32(f"{self._seed}/{-1 - slot}".encode()) % 10**9
        tracking_number = f"{prefix}{drawn:010}{slot % _FULFILLMENT_IDS_PER_ORDER}"
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
            "latest_status": dict(latest),
            "status": steps,
        }

    def _days_to_delivery(
        self, created_at: dt.datetime, parcels: tuple[Parcel, ...], delay_hours: float
    ) -> int:
        end = self._now
        if parcels and all(p.shipment_status == ShipmentStatus.DELIVERED for p in parcels):
            end = min(end, created_at + dt.timedelta(hours=_STEPS[-1][2] + delay_hours))
        return (end - created_at).days


def export_rows(order: dict[str, Any], items: list[Item]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an order in Shopify's export: one per line; the first has its totals."""
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
    # real exports differ in the values that the other rows repeat
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
    """Return the index of the order that a parcel id belongs to."""
    slot = (fulfillment_id - _FIRST_FULFILLMENT_ID) // _FULFILLMENT_ID_STEP
    return slot // _FULFILLMENT_IDS_PER_ORDER


def key_of(label: str) -> str:
    """Return the key of a custom status."""
    return label.casefold().replace(" ", "_")


def summarise(order: dict[str, Any]) -> None:
    """Update the fields of an order that summarize its parcels."""
    parcels = order["fulfillments"]
    if parcels:
        order["statuses"] = [parcel["shipment_status"] for parcel in parcels]
        order["exception_statuses"] = [
            parcel["exception_status"] for parcel in parcels if parcel["exception_status"]
        ]


def _subtotal(items: list[Item]) -> float:
    return round(sum(item.price * item.quantity for item in items), 2)


def _shipping(items: list[Item]) -> float:
    return 0.0 if _subtotal(items) >= _FREE_SHIPPING_FROM else 4.9


def _steps(status: str, times: list[dt.datetime]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a parcel's steps, built-in and custom, with times if reached; and the latest step."""
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
def _scenarios(seed: int, number: int) -> tuple[Scenario, ...]:
    """Shuffle the scenarios of 24 orders, so that even a small shop has each of them."""
    return tuple(Random(f"{seed}/scenarios/{number}").sample(_SCENARIOS, len(_SCENARIOS)))


def _contact(scenario: Scenario, random: Random) -> tuple[bool, bool]:
    """Draw whether there is an email address and a phone number; there is at least one."""
    no_email, phone = random.random() < 0.1, random.random() < 0.5
    match scenario:
        case Scenario.EXPIRED | Scenario.JUST_READY | Scenario.EXPIRED_DELIVERED:
            return True, phone
        case Scenario.EXPIRED_BY_PHONE:
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


def _parcels(scenario: Scenario, rank: int, random: Random) -> tuple[Parcel, ...]:
    if scenario is Scenario.UNFULFILLED:
        return ()
    if scenario is Scenario.EXPIRED:
        return (_expired(random), *_beside_expired(rank, random))
    if scenario is Scenario.JUST_READY:
        return (Parcel(ShipmentStatus.ORDER_READY),)
    further = random.choice((0, 0, 0, 1, 2))
    if scenario is Scenario.CUSTOM:
        return (Parcel(random.choice(CUSTOM_LABELS)),) * (1 + further)
    beside = (Parcel(random.choice((ShipmentStatus.DELIVERED, ShipmentStatus.IN_TRANSIT))),)
    return (_first_parcel(scenario, random), *beside * further)


def _first_parcel(scenario: Scenario, random: Random) -> Parcel:
    match scenario.value:
        case ShipmentStatus() as status:
            return Parcel(status)
        case ExceptionStatus() as exception:
            return Parcel(random.choice(_UNDER_WAY), exception)
    if scenario is Scenario.EXPIRED_DELIVERED:
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


def _beside_expired(rank: int, random: Random) -> tuple[Parcel, ...]:
    """Add an expired parcel, or one without exception, to a few; also in small shops."""
    match rank % 10:
        case 1:
            return (_expired(random),)
        case 4:
            return (Parcel(ShipmentStatus.IN_TRANSIT),)
        case 7:
            return (Parcel(ShipmentStatus.DELIVERED),)
        case _:
            return ()
