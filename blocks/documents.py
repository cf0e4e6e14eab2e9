"""Block documents made from environment variables. Read it, copy it, edit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Document:
    """One block document and where its values come from.

    Attributes:
        block: The block's class.
        make: Makes the block from the environment.
        required: The variables without which it cannot be made, each with where to get it.
        keep: Whether a document that exists already is left alone, as people edit it in the UI.
        instead: The block that makes this one needless where it has a document.
        optional: Whether only some flows need it.
    """

    block: type[Block]
    make: Callable[[Environment], Block]
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


def _given(environment: Environment, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields whose variable is set; the others keep the block's default."""
    values = {field: environment.get(name, "").strip() for field, name in fields.items()}
    return {field: value for field, value in values.items() if value}


def _credentials(environment: Environment) -> Block:
    fields = {
        "uuid": "TRACKTOR_UUID",
        "api_key": "TRACKTOR_API_KEY",
        "base_url": "TRACKTOR_BASE_URL",
    }
    limits = {
        "max_concurrency": "TRACKTOR_MAX_CONCURRENCY",
        "requests_per_second": "TRACKTOR_REQUESTS_PER_SECOND",
    }
    return TracktorCredentials.model_validate(
        _given(environment, fields) | {"limits": _given(environment, limits)}
    )


def _email_server(environment: Environment) -> Block:
    fields = {
        "smtp_server": "SMTP_SERVER",
        "smtp_port": "SMTP_PORT",
        "smtp_type": "SMTP_TYPE",
        "username": "SMTP_USERNAME",
        "password": "SMTP_PASSWORD",
    }
    server: Block = EmailServerCredentials.model_validate(_given(environment, fields))
    return server


def _ledger(environment: Environment) -> Block:
    return NotificationLedger.model_validate(_given(environment, {"url": "TRACKTOR_LEDGER_URL"}))


def _orders(environment: Environment) -> Block:
    fields = {"path": "TRACKTOR_ORDERS", "column": "TRACKTOR_ORDERS_COLUMN"}
    return OrderFile.model_validate(_given(environment, fields))


def _settled(environment: Environment) -> Block:
    # beside the ledger: workers that share one share the other
    fields = {"url": "TRACKTOR_LEDGER_URL", "after_days": "TRACKTOR_SETTLED_AFTER_DAYS"}
    return SettledOrders.model_validate(_given(environment, fields))


def _status_file(environment: Environment) -> Block:
    fields = {
        "path": "TRACKTOR_STATUSES",
        "order_id_column": "TRACKTOR_STATUSES_ORDER_ID_COLUMN",
        "status_column": "TRACKTOR_STATUSES_STATUS_COLUMN",
    }
    return StatusFile.model_validate(_given(environment, fields))


def _status_query(environment: Environment) -> Block:
    fields = {"url": "TRACKTOR_STATUS_URL", "query": "TRACKTOR_STATUS_QUERY"}
    return StatusQuery.model_validate(_given(environment, fields))


def _webhook_subscription(environment: Environment) -> Block:
    topics = environment.get("TRACKTOR_WEBHOOK_TOPICS", "").split(",")
    chosen = [topic.strip() for topic in topics if topic.strip()]
    return WebhookSubscription.model_validate(
        _given(environment, {"address": "TRACKTOR_WEBHOOK_ADDRESS"})
        | ({"topics": chosen} if chosen else {})
    )


def _shopify_credentials(environment: Environment) -> Block:
    fields = {
        "shop": "SHOPIFY_SHOP",
        "client_id": "SHOPIFY_CLIENT_ID",
        "client_secret": "SHOPIFY_CLIENT_SECRET",
        "access_token": "SHOPIFY_ACCESS_TOKEN",
        "api_version": "SHOPIFY_API_VERSION",
        "base_url": "SHOPIFY_BASE_URL",
    }
    return ShopifyCredentials.model_validate(_given(environment, fields))


def _shopify_orders(environment: Environment) -> Block:
    # the saved credentials, so that this document refers to them
    return ShopifyOrders.model_validate(
        {"credentials": ShopifyCredentials.load(NAME)}
        | _given(environment, {"include_delivered": "SHOPIFY_INCLUDE_DELIVERED"})
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
        _email_server,
        {
            "SMTP_SERVER": "the host name of your mail provider's SMTP server; beside it, where"
            " needed, SMTP_PORT, SMTP_TYPE (SSL, STARTTLS or INSECURE), SMTP_USERNAME and"
            " SMTP_PASSWORD",
        },
    ),
    Document(NotificationLedger, _ledger, {}),
    Document(EmailTemplate, lambda _environment: EmailTemplate(), {}, keep=True),
    Document(
        OrderFile,
        _orders,
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
    Document(SettledOrders, _settled, {}),
    Document(
        StatusFile,
        _status_file,
        {"TRACKTOR_STATUSES": "path or address of a file with order_id and status on each row"},
        optional=True,
    ),
    Document(
        StatusQuery,
        _status_query,
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
