"""The tracking tables in DuckDB and PostgreSQL."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import dlt
import duckdb
import pytest
from sqlalchemy import create_engine, make_url, text

from prefect_tracktor import InvalidInput, Order, TracktorError
from prefect_tracktor.sandbox.shop import Shop
from prefect_tracktor.tracking import TABLES, load_tracking, tracking_rows
from tests.support.programs import PROJECT

COUNT = "SELECT count(*) FROM tracktor.{}"

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Query]]:
    """An empty warehouse as a dlt destination, and a function that queries it."""
    if request.param == "duckdb":
        path = str(tmp_path / "warehouse.duckdb")

        def query(statement: str) -> list[tuple[Any, ...]]:
            with duckdb.connect(path) as database:
                return list(database.execute(statement).fetchall())

        yield dlt.destinations.duckdb(path), query
        return
    url = make_url(request.getfixturevalue("new_postgresql_url"))
    engine = create_engine(url.set(drivername="postgresql+psycopg"))

    def query_postgresql(statement: str) -> list[tuple[Any, ...]]:
        with engine.connect() as database:
            return [tuple(row) for row in database.execute(text(statement))]

    # libpq accepts a socket's folder as a host; dlt requires a password
    socket = quote(str(url.query["host"]), safe="")
    place = f"postgresql://{url.username}:none@{socket}/{url.database}"
    yield dlt.destinations.postgres(place), query_postgresql
    engine.dispose()


@pytest.fixture(scope="module")
def orders() -> list[Order]:
    shop = Shop(orders=20)
    return [Order.model_validate(shop.order(order_id)) for order_id in shop.order_ids]


def counted(query: Query) -> dict[str, int]:
    return {name: query(COUNT.format(name))[0][0] for name in TABLES}


def order(*parcels: dict[str, Any], order_id: int = 1, **fields: Any) -> Order:
    usual = {"order_id": order_id, "total_price": "59.90", "fulfillments": parcels}
    return Order.model_validate(usual | fields)


def parcel(number: int, *statuses: str) -> dict[str, Any]:
    steps = [
        {"key": key, "datetime": f"2026-11-{day:02}T10:00:00Z"}
        for day, key in enumerate(statuses, start=1)
    ]
    return {"fulfillment_id": number, "status": steps}


def test_loading_twice_gives_the_same_rows_as_once(
    warehouse: tuple[Any, Query], orders: list[Order]
) -> None:
    destination, query = warehouse
    expected = dict.fromkeys(TABLES, 0)
    for name, _ in tracking_rows(orders):
        expected[name] += 1
    for _ in range(2):
        assert load_tracking(iter(orders), destination) == expected
        assert counted(query) == expected
    assert expected["parcel_steps"] > expected["parcels"] > expected["orders"] == 20


def test_reloading_an_order_deletes_its_old_parcels_and_keeps_other_orders(
    warehouse: tuple[Any, Query],
) -> None:
    destination, query = warehouse
    other = order(parcel(9, "in_transit"), order_id=2)
    two = order(parcel(17, "in_transit"), parcel(18, "delivered"), order_id=3)
    first = order(parcel(7, "order_ready", "in_transit"), parcel(8))
    load_tracking([first, other, two], destination)
    changed = order(parcel(7, "delivered"), total_price="10")
    load_tracking([changed, order(parcel(17), order_id=3)], destination)
    assert query("SELECT order_id, total_price FROM tracktor.orders ORDER BY 1") == [
        (1, Decimal(10)),
        (2, Decimal("59.90")),
        (3, Decimal("59.90")),
    ]
    assert query("SELECT fulfillment_id FROM tracktor.parcels ORDER BY 1") == [(7,), (9,), (17,)]
    assert query("SELECT fulfillment_id, status FROM tracktor.parcel_steps ORDER BY 1") == [
        (7, "delivered"),
        (9, "in_transit"),
    ]
    # also when the order has no parcel left
    load_tracking([order(order_id=3)], destination)
    assert query("SELECT fulfillment_id FROM tracktor.parcels ORDER BY 1") == [(7,), (9,)]
    assert counted(query) == {"orders": 3, "parcels": 2, "parcel_steps": 2}


def test_a_warehouse_gets_typed_times_and_no_personal_data_by_default(
    warehouse: tuple[Any, Query],
) -> None:
    destination, query = warehouse
    bought = order(parcel(7, "delivered"), order_email="ada@shop.example")
    load_tracking([bought], destination)
    [(reached,)] = query("SELECT reached_at FROM tracktor.parcel_steps")
    assert reached == datetime(2026, 11, 1, 10, tzinfo=UTC)
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders'"
    assert "customer_email" not in {name for (name,) in query(columns)}
    load_tracking([bought], destination, include_personal_data=True)
    assert query("SELECT customer_email FROM tracktor.orders") == [("ada@shop.example",)]


def test_an_unreachable_warehouse_is_reported_without_its_password() -> None:
    away = dlt.destinations.postgres("postgresql://me:geheim@127.0.0.1:1/shop")
    with pytest.raises(TracktorError, match=r"could not be loaded .* check dlt's") as caught:
        load_tracking([order()], away)
    assert "geheim" not in f"{caught.value!r}{caught.value.__context__!r}"


@pytest.mark.parametrize("destination", ["postgress", "postgresql://me:geheim@127.0.0.1:1/shop"])
def test_an_unknown_destination_is_refused_before_an_order_is_read(destination: str) -> None:
    orders = iter([order()])
    with pytest.raises(InvalidInput, match=r"destination: dlt cannot use .* name of one") as caught:
        load_tracking(orders, destination)
    assert "geheim" not in f"{caught.value!r}{caught.value.__context__!r}"
    assert next(orders).order_id == 1


def test_missing_warehouse_configuration_is_named() -> None:
    with pytest.raises(TracktorError, match=r"could not be loaded .*missing: credentials"):
        load_tracking([order()], "postgres")


def test_a_missing_dlt_is_reported_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dlt", None)
    with pytest.raises(ImportError, match=r"pip install 'prefect-tracktor\[dlt\]'"):
        load_tracking([order()], "duckdb")


# in forks, as importing dlt takes most of the time
LOADS = textwrap.dedent("""
    import json, os, sys
    from prefect_tracktor import Order
    from prefect_tracktor.tracking import load_tracking

    for name, settings in json.loads(sys.argv[1]).items():
        if not os.fork():
            os.environ.update(settings)
            import dlt
            load_tracking([Order(order_id=1)], dlt.destinations.duckdb(f"{name}.duckdb"))
            sys.exit()
        assert os.wait()[1] == 0, name
""")


def test_dlt_telemetry_is_off_unless_switched_on(tmp_path: Path) -> None:
    requests: set[str] = set()

    class Makers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.add(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Makers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        switches: dict[str, dict[str, str]] = {
            "usual": {},
            "switched-on": {"RUNTIME__DLTHUB_TELEMETRY": "true"},
        }
        endpoint = f"http://127.0.0.1:{server.server_port}"
        settings = {
            name: switch
            | {
                "HOME": str(tmp_path / name),
                "RUNTIME__DLTHUB_TELEMETRY_ENDPOINT": f"{endpoint}/{name}",
            }
            for name, switch in switches.items()
        }
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        environment.pop("RUNTIME__DLTHUB_TELEMETRY", None)
        subprocess.run(
            [sys.executable, "-c", LOADS, json.dumps(settings)],
            env=environment,
            cwd=tmp_path,
            check=True,
        )
        server.shutdown()
    assert requests == {"/switched-on"}
