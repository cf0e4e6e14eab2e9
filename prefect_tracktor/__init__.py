"""Prefect blocks, tasks and ready-made flows for Tracktor, the order tracking of Shopify stores."""

from importlib.metadata import version

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.client import AsyncTracktorClient, TracktorClient
from prefect_tracktor.conditions import Condition, conditions_of, most_urgent
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    APIConnectionError,
    AuthenticationError,
    BatchFailed,
    ChannelError,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    LimitExceeded,
    NotFound,
    RateLimited,
    ReadOnlyAccount,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.oauth2 import OAuth2
from prefect_tracktor.messages.template import Brand, EmailTemplate, Words
from prefect_tracktor.models import (
    Carrier,
    ExceptionStatus,
    Fulfillment,
    LineItem,
    Order,
    OrderFacts,
    ShipmentStatus,
    StatusOption,
    TrackingStatus,
    Webhook,
    WebhookTopic,
)
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.shopify.credentials import ShopifyCredentials
from prefect_tracktor.sources import (
    EventOrders,
    OrderFile,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
)
from prefect_tracktor.statuses.desired import DesiredStatus
from prefect_tracktor.statuses.plan import StatusStage
from prefect_tracktor.storage.completed_orders import CompletedOrders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import ThresholdOverride, Thresholds
from prefect_tracktor.tracking.rows import tracking_rows
from prefect_tracktor.webhooks.subscriptions import WantedWebhook, WebhookSubscription

__version__ = version("prefect-tracktor")

__all__ = [
    "APIConnectionError",
    "AsyncTracktorClient",
    "AuthenticationError",
    "Batch",
    "BatchFailed",
    "Brand",
    "Carrier",
    "ChannelError",
    "CompletedOrders",
    "Condition",
    "DesiredStatus",
    "EmailTemplate",
    "EventOrders",
    "ExceptionStatus",
    "Failure",
    "Fulfillment",
    "HttpChannel",
    "IncompleteRun",
    "InvalidInput",
    "InvalidResponse",
    "LimitExceeded",
    "LineItem",
    "Mailer",
    "Mode",
    "NotFound",
    "NotificationLedger",
    "NotificationRule",
    "OAuth2",
    "Order",
    "OrderFacts",
    "OrderFile",
    "RateLimited",
    "ReadOnlyAccount",
    "ReadingOptions",
    "ServerError",
    "ShipmentStatus",
    "ShopifyCredentials",
    "ShopifyOrders",
    "StatusFile",
    "StatusOption",
    "StatusQuery",
    "StatusStage",
    "ThresholdOverride",
    "Thresholds",
    "TrackingStatus",
    "TracktorClient",
    "TracktorCredentials",
    "TracktorError",
    "TransportLimits",
    "UnprocessableValue",
    "WantedWebhook",
    "Webhook",
    "WebhookSubscription",
    "WebhookTopic",
    "Words",
    "conditions_of",
    "most_urgent",
    "tracking_rows",
]
