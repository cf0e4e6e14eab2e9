"""Block documents made from environment variables. Read it, copy it, edit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect.blocks.core import Block
from prefect_email import EmailServerCredentials

from prefect_tracktor import (
    EmailTemplate,
    NotificationLedger,
    OrderFile,
    SettledOrders,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
)

# All documents carry this name: `TracktorCredentials.load("tracktor")`, and so on.
NAME = "tracktor"

Environment = Mapping[str, str]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """One block document and where its values come from.

    Attributes:
        block: The block's class.
        values: Reads the fields whose variable is set; the others stay as they are.
        required: The variables without which it cannot be made, each with where to get it.
        keep: Whether a document that exists already is left alone, as people edit it in the UI.
        instead: The block that makes this one needless where it has a document.
        optional: Whether only some flows need it.
    """

    block: type[Block]
    values: Callable[[Environment], Values]
    required: Mapping[str, str]
    keep: bool = False
    instead: type[Block] | None = None
    optional: bool = False

    def missing(self, environment: Environment) -> dict[str, str]:
        """The required variables that are not set, with where to get each.

        Args:
            environment: The variables.

        Returns:
            Name and hint of each that is missing or blank.
        """
        return {
            name: hint
            for name, hint in self.required.items()
            if not environment.get(name, "").strip()
        }


def _given(environment: Environment, fields: Mapping[str, str]) -> Values:
    """The fields whose variable is set."""
    values = {field: environment.get(name, "").strip() for field, name in fields.items()}
    return {field: value for field, value in values.items() if value}


def _from(**fields: str) -> Callable[[Environment], Values]:
    """Each field from the variable of this name."""
    return lambda environment: _given(environment, fields)


def _credentials(environment: Environment) -> Values:
    fields = {
        "uuid": "TRACKTOR_UUID",
        "api_key": "TRACKTOR_API_KEY",
        "base_url": "TRACKTOR_BASE_URL",
    }
    limits = _given(
        environment,
        {
            "max_concurrency": "TRACKTOR_MAX_CONCURRENCY",
            "requests_per_second": "TRACKTOR_REQUESTS_PER_SECOND",
        },
    )
    return _given(environment, fields) | ({"limits": limits} if limits else {})


def _webhook_subscription(environment: Environment) -> Values:
    topics = environment.get("TRACKTOR_WEBHOOK_TOPICS", "").split(",")
    chosen = [topic.strip() for topic in topics if topic.strip()]
    address = _given(environment, {"address": "TRACKTOR_WEBHOOK_ADDRESS"})
    return address | ({"topics": chosen} if chosen else {})


def _shopify_credentials(environment: Environment) -> Values:
    fields = {
        "shop": "SHOPIFY_SHOP",
        "client_id": "SHOPIFY_CLIENT_ID",
        "client_secret": "SHOPIFY_CLIENT_SECRET",
        "access_token": "SHOPIFY_ACCESS_TOKEN",
        "api_version": "SHOPIFY_API_VERSION",
        "base_url": "SHOPIFY_BASE_URL",
    }
    values = _given(environment, fields)
    # there is one way in: who names the other gives up the one before
    if "client_id" in values:
        return {"access_token": ""} | values
    if "access_token" in values:
        return {"client_id": "", "client_secret": ""} | values
    return values


def _shopify_orders(environment: Environment) -> Values:
    # the saved credentials, so that this document refers to them
    return {"credentials": ShopifyCredentials.load(NAME)} | _given(
        environment, {"include_delivered": "SHOPIFY_INCLUDE_DELIVERED"}
    )


DOCUMENTS = (
    Document(
        TracktorCredentials,
        _credentials,
        {
            "TRACKTOR_UUID": "the account's uuid, in Tracktor's settings in the Shopify admin",
            "TRACKTOR_API_KEY": "the account's API key, in the same place",
        },
    ),
    Document(
        EmailServerCredentials,
        _from(
            smtp_server="SMTP_SERVER",
            smtp_port="SMTP_PORT",
            smtp_type="SMTP_TYPE",
            username="SMTP_USERNAME",
            password="SMTP_PASSWORD",  # noqa: S106  # the name of a variable
        ),
        {
            "SMTP_SERVER": "the host name of your mail provider's SMTP server; beside it, where"
            " needed, SMTP_PORT, SMTP_TYPE (SSL, STARTTLS or INSECURE), SMTP_USERNAME and"
            " SMTP_PASSWORD",
        },
    ),
    Document(NotificationLedger, _from(url="TRACKTOR_LEDGER_URL"), {}),
    Document(EmailTemplate, _from(), {}, keep=True),
    Document(
        OrderFile,
        _from(path="TRACKTOR_ORDERS", column="TRACKTOR_ORDERS_COLUMN"),
        {
            "TRACKTOR_ORDERS": "path or address of an orders export (in the Shopify admin: Orders,"
            " Export), which your own pipeline keeps fresh",
        },
        instead=ShopifyOrders,
    ),
    Document(
        ShopifyCredentials,
        _shopify_credentials,
        {
            "SHOPIFY_SHOP": "the shop, such as your-store.myshopify.com; beside it"
            " SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET of a Dev Dashboard app, or"
            " SHOPIFY_ACCESS_TOKEN",
        },
        instead=OrderFile,
    ),
    Document(
        ShopifyOrders,
        _shopify_orders,
        {"SHOPIFY_SHOP": "as above"},
        keep=True,
        instead=OrderFile,
    ),
    Document(
        SettledOrders,
        # beside the ledger: workers that share one share the other
        _from(url="TRACKTOR_LEDGER_URL", after_days="TRACKTOR_SETTLED_AFTER_DAYS"),
        {},
    ),
    Document(
        StatusFile,
        _from(
            path="TRACKTOR_STATUSES",
            order_id_column="TRACKTOR_STATUSES_ORDER_ID_COLUMN",
            status_column="TRACKTOR_STATUSES_STATUS_COLUMN",
        ),
        {"TRACKTOR_STATUSES": "path or address of a file with order_id and status on each row"},
        optional=True,
    ),
    Document(
        StatusQuery,
        _from(url="TRACKTOR_STATUS_URL", query="TRACKTOR_STATUS_QUERY"),
        {
            "TRACKTOR_STATUS_URL": "the database that knows what orders ought to show",
            "TRACKTOR_STATUS_QUERY": "a query that gives order_id and status",
        },
        optional=True,
    ),
    Document(
        WebhookSubscription,
        _webhook_subscription,
        {
            "TRACKTOR_WEBHOOK_ADDRESS": "the https address of your receiver, or of a webhook in"
            " Prefect Cloud",
        },
        optional=True,
    ),
)
