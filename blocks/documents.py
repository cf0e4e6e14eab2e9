"""Which block documents there are, and from which variables they are made. Read, copy, edit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.blocks.core import Block
from prefect_email import EmailServerCredentials

from blocks.variables import Environment
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
from prefect_tracktor.mail.smtp import verify_login

Values = dict[str, Any]


def _as_they_are(values: Values) -> Values:
    return values


def _with_its_own_means(block: Any) -> None:
    block.verify()


@dataclass(frozen=True, slots=True)
class Document:
    """One block document and where its values come from.

    Attributes:
        block: The block's class.
        fields: The variable of each field; `limits.max_attempts` is a field of the field `limits`.
        required: The variables without which it cannot be made, each with where to get it.
        identity: The field that says whose it is, such as the account's uuid.
        others: The fields that hold another document of the same name.
        adapt: Brings the given values into the form that the block takes.
        verify: Sees whether a block works; raises an error if not.
        instead: The block that makes this one needless where it has a document.
        optional: Whether only some flows need it.
    """

    block: type[Block]
    fields: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    others: Mapping[str, type[Block]] = field(default_factory=dict)
    adapt: Callable[[Values], Values] = _as_they_are
    verify: Callable[[Any], None] = _with_its_own_means
    instead: type[Block] | None = None
    optional: bool = False

    @property
    def slug(self) -> str:
        """The slug of the block's type, by which documents are loaded."""
        return self.block.get_block_type_slug()

    def values(self, environment: Environment) -> Values:
        """The fields whose variable is set; the others are to stay as they are.

        Args:
            environment: The variables.

        Returns:
            Field values, as text.
        """
        values: Values = {}
        for path, variable in self.fields.items():
            if given := environment.get(variable, ""):
                *part, name = path.split(".")
                holder = values.setdefault(part[0], {}) if part else values
                holder[name] = given
        return self.adapt(values)

    def missing(self, environment: Environment) -> dict[str, str]:
        """The required variables that are not set, with where to get each.

        Args:
            environment: The variables.

        Returns:
            Name and hint of each that is missing.
        """
        return {name: hint for name, hint in self.required.items() if not environment.get(name)}


def _topics_apart(values: Values) -> Values:
    if "topics" not in values:
        return values
    topics = [topic.strip() for topic in values["topics"].split(",")]
    return values | {"topics": [topic for topic in topics if topic]}


def _one_way_in(values: Values) -> Values:
    """Who names one way into Shopify gives up the one before."""
    if "client_id" in values:
        return {"access_token": ""} | values
    if "access_token" in values:
        return {"client_id": "", "client_secret": ""} | values
    return values


DOCUMENTS = (
    Document(
        TracktorCredentials,
        {
            "uuid": "TRACKTOR_UUID",
            "api_key": "TRACKTOR_API_KEY",
            "base_url": "TRACKTOR_BASE_URL",
            "time_zone": "TRACKTOR_TIME_ZONE",
            "limits.max_concurrency": "TRACKTOR_MAX_CONCURRENCY",
            "limits.requests_per_second": "TRACKTOR_REQUESTS_PER_SECOND",
            "limits.shared_limit": "TRACKTOR_SHARED_LIMIT",
        },
        {
            "TRACKTOR_UUID": "the account's uuid, in Tracktor's settings in the Shopify admin",
            "TRACKTOR_API_KEY": "the account's API key, in the same place",
        },
        identity="uuid",
    ),
    Document(
        EmailServerCredentials,
        {
            "smtp_server": "SMTP_SERVER",
            "smtp_port": "SMTP_PORT",
            "smtp_type": "SMTP_TYPE",
            "username": "SMTP_USERNAME",
            "password": "SMTP_PASSWORD",
        },
        {
            "SMTP_SERVER": "the host name of your mail provider's SMTP server; beside it, where"
            " needed, SMTP_PORT, SMTP_TYPE (SSL, STARTTLS or INSECURE), SMTP_USERNAME and"
            " SMTP_PASSWORD",
        },
        identity="smtp_server",
        # a block of Prefect's own, with no way to see whether it works
        verify=verify_login,
    ),
    Document(NotificationLedger, {"url": "TRACKTOR_LEDGER_URL"}),
    Document(EmailTemplate),
    Document(
        OrderFile,
        {
            "path": "TRACKTOR_ORDERS",
            "column": "TRACKTOR_ORDERS_COLUMN",
            "include_cancelled": "TRACKTOR_ORDERS_INCLUDE_CANCELLED",
            "include_unfulfilled": "TRACKTOR_ORDERS_INCLUDE_UNFULFILLED",
        },
        {
            "TRACKTOR_ORDERS": "path or address of an orders export (in the Shopify admin: Orders,"
            " Export), which your own pipeline keeps fresh",
        },
        instead=ShopifyOrders,
    ),
    Document(
        ShopifyCredentials,
        {
            "shop": "SHOPIFY_SHOP",
            "client_id": "SHOPIFY_CLIENT_ID",
            "client_secret": "SHOPIFY_CLIENT_SECRET",
            "access_token": "SHOPIFY_ACCESS_TOKEN",
            "api_version": "SHOPIFY_API_VERSION",
            "base_url": "SHOPIFY_BASE_URL",
        },
        {
            "SHOPIFY_SHOP": "the shop, such as your-store.myshopify.com; beside it"
            " SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET of a Dev Dashboard app, or"
            " SHOPIFY_ACCESS_TOKEN",
        },
        identity="shop",
        adapt=_one_way_in,
        instead=OrderFile,
    ),
    Document(
        ShopifyOrders,
        {
            "fulfillment": "SHOPIFY_FULFILLMENT",
            "include_delivered": "SHOPIFY_INCLUDE_DELIVERED",
        },
        {"SHOPIFY_SHOP": "as above"},
        others={"credentials": ShopifyCredentials},
        instead=OrderFile,
    ),
    Document(
        SettledOrders,
        # beside the ledger: workers that share one share the other
        {"url": "TRACKTOR_LEDGER_URL", "after_days": "TRACKTOR_SETTLED_AFTER_DAYS"},
    ),
    Document(
        StatusFile,
        {
            "path": "TRACKTOR_STATUSES",
            "order_id_column": "TRACKTOR_STATUSES_ORDER_ID_COLUMN",
            "status_column": "TRACKTOR_STATUSES_STATUS_COLUMN",
        },
        {"TRACKTOR_STATUSES": "path or address of a file with order_id and status on each row"},
        optional=True,
    ),
    Document(
        StatusQuery,
        {"url": "TRACKTOR_STATUS_URL", "query": "TRACKTOR_STATUS_QUERY"},
        {
            "TRACKTOR_STATUS_URL": "the database that knows what orders ought to show",
            "TRACKTOR_STATUS_QUERY": "a query that gives order_id and status",
        },
        optional=True,
    ),
    Document(
        WebhookSubscription,
        {"address": "TRACKTOR_WEBHOOK_ADDRESS", "topics": "TRACKTOR_WEBHOOK_TOPICS"},
        {
            "TRACKTOR_WEBHOOK_ADDRESS": "the https address of your receiver, or of a webhook in"
            " Prefect Cloud",
        },
        adapt=_topics_apart,
        optional=True,
    ),
)

# all variables that documents are made from
VARIABLES = frozenset(name for document in DOCUMENTS for name in document.fields.values())
