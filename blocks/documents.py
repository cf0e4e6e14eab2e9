"""The blocks that `prefect-tracktor blocks` saves, and the variables that their values come from.

Edit the list. Each entry has a block, the variable of each field, and the required variables with a
hint where to find their values.
"""

from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    HttpChannel,
    Mailer,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
)
from prefect_tracktor.setup import (
    Document,
    mode_remark,
    one_shopify_login,
    parse_channel,
    path_of_a_file_here,
    read_only_remark,
    split_topics,
)

DOCUMENTS = (
    Document(
        TracktorCredentials,
        fields={
            "uuid": "TRACKTOR_UUID",
            "api_key": "TRACKTOR_API_KEY",
            "base_url": "TRACKTOR_BASE_URL",
            "time_zone": "TRACKTOR_API_TIME_ZONE",
            "read_only": "TRACKTOR_READ_ONLY",
            "limits.max_concurrency": "TRACKTOR_MAX_CONCURRENCY",
            "limits.requests_per_second": "TRACKTOR_REQUESTS_PER_SECOND",
            "limits.shared_limit": "TRACKTOR_SHARED_LIMIT",
        },
        required={
            "TRACKTOR_UUID": "the account's uuid, in Tracktor's settings in the Shopify admin",
            "TRACKTOR_API_KEY": "the account's API key, in the same place",
        },
        identity="uuid",
        kept=["read_only"],
        remark=read_only_remark,
    ),
    Document(
        NotificationLedger,
        fields={"url": "TRACKTOR_LEDGER_URL", "messages_a_day": "TRACKTOR_MESSAGES_A_DAY"},
    ),
    Document(
        Mailer,
        fields={
            "host": "SMTP_HOST",
            "port": "SMTP_PORT",
            "security": "SMTP_SECURITY",
            "username": "SMTP_USERNAME",
            "password": "SMTP_PASSWORD",
            "sender": "TRACKTOR_SENDER",
            "reply_to": "TRACKTOR_REPLY_TO",
            "mode": "TRACKTOR_MODE",
            "rehearsal_address": "TRACKTOR_REHEARSAL_ADDRESS",
            "messages_per_second": "TRACKTOR_MESSAGES_PER_SECOND",
        },
        required={
            "SMTP_HOST": "the host name of your mail provider's SMTP server; if needed, set also"
            " SMTP_PORT, SMTP_SECURITY (starttls, tls or none), SMTP_USERNAME and"
            " SMTP_PASSWORD",
            "TRACKTOR_SENDER": "who writes to customers, such as 'Your Shop"
            " <orders@your-shop.example>'",
        },
        identity="host",
        others={"ledger": NotificationLedger},
        remark=mode_remark,
        instead=HttpChannel,
    ),
    Document(
        HttpChannel,
        fields={
            "address": "TRACKTOR_CHANNEL_ADDRESS",
            "body": "TRACKTOR_CHANNEL_BODY",
            # one switch for all emails and notices
            "mode": "TRACKTOR_MODE",
            "rehearsal_address": "TRACKTOR_CHANNEL_REHEARSAL_ADDRESS",
            "method": "TRACKTOR_CHANNEL_METHOD",
            "headers": "TRACKTOR_CHANNEL_HEADERS",
            "content_type": "TRACKTOR_CHANNEL_CONTENT_TYPE",
            "recipient": "TRACKTOR_CHANNEL_RECIPIENT",
            "success_statuses": "TRACKTOR_CHANNEL_SUCCESS_STATUSES",
            "idempotency_header": "TRACKTOR_CHANNEL_IDEMPOTENCY_HEADER",
            "requests_per_second": "TRACKTOR_CHANNEL_REQUESTS_PER_SECOND",
        },
        required={
            "TRACKTOR_CHANNEL_ADDRESS": "where notices are posted to, such as your SMS service's"
            " API",
            "TRACKTOR_CHANNEL_BODY": "what is posted, as a template of JSON; see Tell other"
            " services in the documentation",
        },
        identity="address",
        adapt=parse_channel,
        remark=mode_remark,
        optional=True,
    ),
    Document(EmailTemplate),
    Document(
        OrderFile,
        fields={
            "path": "TRACKTOR_ORDERS",
            "column": "TRACKTOR_ORDERS_COLUMN",
            "include_cancelled": "TRACKTOR_ORDERS_INCLUDE_CANCELLED",
            "include_unfulfilled": "TRACKTOR_ORDERS_INCLUDE_UNFULFILLED",
        },
        required={
            "TRACKTOR_ORDERS": "path or address of an orders export (in the Shopify admin: Orders,"
            " Export), which your own pipeline keeps up to date",
        },
        adapt=path_of_a_file_here,
        instead=ShopifyOrders,
    ),
    Document(
        ShopifyCredentials,
        fields={
            "shop": "SHOPIFY_SHOP",
            "client_id": "SHOPIFY_CLIENT_ID",
            "client_secret": "SHOPIFY_CLIENT_SECRET",
            "access_token": "SHOPIFY_ACCESS_TOKEN",
            "api_version": "SHOPIFY_API_VERSION",
            "base_url": "SHOPIFY_BASE_URL",
        },
        required={
            "SHOPIFY_SHOP": "the shop, such as your-store.myshopify.com; set also"
            " SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET of a Dev Dashboard app, or"
            " SHOPIFY_ACCESS_TOKEN",
        },
        identity="shop",
        adapt=one_shopify_login,
        instead=OrderFile,
    ),
    Document(
        ShopifyOrders,
        fields={
            "fulfillment": "SHOPIFY_FULFILLMENT",
            "include_delivered": "SHOPIFY_INCLUDE_DELIVERED",
        },
        required={"SHOPIFY_SHOP": "as above"},
        others={"credentials": ShopifyCredentials},
        instead=OrderFile,
    ),
    Document(
        CompletedOrders,
        # in the ledger's database, which all workers share
        fields={"url": "TRACKTOR_LEDGER_URL", "after_days": "TRACKTOR_COMPLETED_AFTER_DAYS"},
    ),
    Document(
        StatusFile,
        fields={
            "path": "TRACKTOR_STATUSES",
            "order_id_column": "TRACKTOR_STATUSES_ORDER_ID_COLUMN",
            "status_column": "TRACKTOR_STATUSES_STATUS_COLUMN",
        },
        required={
            "TRACKTOR_STATUSES": "path or address of a file with order_id and status on each row"
        },
        adapt=path_of_a_file_here,
        optional=True,
    ),
    Document(
        StatusQuery,
        fields={"url": "TRACKTOR_STATUS_URL", "query": "TRACKTOR_STATUS_QUERY"},
        required={
            "TRACKTOR_STATUS_URL": "the URL of the database with the desired statuses",
            "TRACKTOR_STATUS_QUERY": "a query that returns order_id and status",
        },
        optional=True,
    ),
    Document(
        WebhookSubscription,
        fields={"address": "TRACKTOR_WEBHOOK_ADDRESS", "topics": "TRACKTOR_WEBHOOK_TOPICS"},
        required={
            "TRACKTOR_WEBHOOK_ADDRESS": "the https address of your receiver, or of a webhook in"
            " Prefect Cloud",
        },
        adapt=split_topics,
        optional=True,
    ),
)
