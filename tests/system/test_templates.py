"""The handbook page on the vendor's templates: its table and its recipes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import build_schema, parse, validate
from pydantic import SecretStr

from prefect_tracktor import (
    AuthenticationError,
    HttpChannel,
    Mode,
    NotificationLedger,
    ShopifyCredentials,
    UnprocessableValue,
)
from prefect_tracktor.flows import notify_customers
from tests.support.http_service import HttpService
from tests.support.json_server import JsonServer
from tests.support.orders import OrderServer, expired, order, parcel
from tests.support.programs import PROJECT
from tests.system.handbook.pages import blocks_of

PAGE = PROJECT / "docs/reference/templates.md"
CHANNELS = PROJECT / "docs/how-to/channels.md"
TEMPLATES = 31
# the part of Shopify's schema about tags
SCHEMA = build_schema("""
    type Query { shop: String }
    type UserError { field: [String!] message: String! }
    type TagsAddPayload { userErrors: [UserError!]! }
    type Mutation { tagsAdd(id: ID!, tags: [String!]!): TagsAddPayload }
""")


class TagsOfShopify(JsonServer):
    """Stores the tags of known orders as Shopify does."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, set[str]] = {"gid://shopify/Order/7": {"vip"}}
        self.denied = False

    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """Add tags to an order."""
        del method, path
        assert not validate(SCHEMA, parse(body["query"]))
        if self.denied:
            message = "Access denied for tagsAdd field. Required access: `write_orders`."
            return 200, {"errors": [{"message": message, "extensions": {"code": "ACCESS_DENIED"}}]}
        known = self.tags.get(body["variables"]["id"])
        if known is None:
            return 200, {"data": {"tagsAdd": {"userErrors": [{"message": "order not found"}]}}}
        known.update(body["variables"]["tags"])
        return 200, {"data": {"tagsAdd": {"userErrors": []}}}


def names_of(page: Any) -> dict[str, Any]:
    """Run the Python code of a page that needs no saved block; return the names it defines."""
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.language == "python" and "= notify_customers(" not in block.code:
            exec(compile(block.code, str(page), "exec"), names)  # noqa: S102  # our own page
    return names


def test_the_table_counts_each_template_once() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (?!What|---).+? \| (\d+) \| (.+) \| (\d+) \|$", page, re.MULTILINE)
    assert sum(int(count) for count, _, _ in rows) == TEMPLATES
    done = sum(int(done) for _, _, done in rows)
    assert done >= 28
    assert f"{done} of {TEMPLATES}" in page
    # the row of a missing template gives the reason
    assert all("not" in words for count, words, done in rows if int(done) < int(count))
    assert f"{done} are a flow, a rule or a tested recipe" in (PROJECT / "README.md").read_text()


@pytest.fixture
def services() -> Iterator[dict[str, HttpService]]:
    with (
        HttpService(status=201).serving() as sms,
        HttpService(status=202).serving() as klaviyo,
        HttpService().serving() as segment,
    ):
        yield {"sms": sms, "klaviyo": klaviyo, "segment": segment}


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("tool", ["klaviyo", "segment"])
def test_sms_and_marketing_events_are_posted_once_without_a_mailer(
    services: dict[str, HttpService], tool: str, tmp_path: Any
) -> None:
    names = names_of(CHANNELS)

    def at(name: str) -> HttpChannel:
        channel: HttpChannel = names[name]
        address = SecretStr(services[name].address)
        return channel.model_copy(update={"address": address, "mode": Mode.LIVE})

    rules = names_of(PAGE)["notices"](at("sms"), at(tool))
    ledger = NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with OrderServer(
        order(1, parcel(1, "delivered"), order_phone="+15550101"),
        order(2, expired(2), order_phone="+15550102"),
        order(3, parcel(3, "delivered"), order_phone=None),
    ) as tracktor:
        for _ in range(2):
            orders = list(tracktor.orders)
            report = notify_customers(tracktor.credentials, orders, rules, ledger=ledger)
    assert report.no_address == (3,)
    [sms] = services["sms"].posted
    assert sms.form["To"] == "+15550101"
    assert sms.form["Body"].startswith("Order #1: Delivered")
    bodies = [posted.body for posted in services[tool].posted]
    assert len(bodies) == 4  # the status of each parcel, and the exception of one
    assert len(set(bodies)) == 4
    assert sum("exception:expired" in body for body in bodies) == 1


@pytest.fixture
def shopify(prefect_api: None) -> Iterator[TagsOfShopify]:
    with TagsOfShopify() as server:
        address = server.credentials.base_url
        credentials = ShopifyCredentials(
            shop="your-store", access_token=SecretStr("shpat_s3cret"), base_url=address
        )
        credentials.save("tracktor", overwrite=True)
        yield server


def test_tagging_an_order_keeps_its_other_tags(shopify: TagsOfShopify) -> None:
    tag = names_of(PAGE)["tag_order"].with_options(retries=0)
    for _ in range(2):
        tag(7, "tracking expired")
    assert shopify.tags == {"gid://shopify/Order/7": {"vip", "tracking expired"}}
    with pytest.raises(UnprocessableValue, match=r"did not take the tags of order 8.*not found"):
        tag(8, "late")
    shopify.denied = True
    with pytest.raises(AuthenticationError, match="to set tags: write_orders"):
        tag(7, "late")
