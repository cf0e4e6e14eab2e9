"""Prefect blocks, tasks and ready-made flows for Tracktor, the order tracking of Shopify stores."""

from importlib.metadata import version

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.client import AsyncTracktorClient, TracktorClient
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    BadCredentials,
    BatchFailed,
    ConnectionTrouble,
    IncompleteRun,
    InvalidInput,
    LimitExceeded,
    NotFound,
    RateLimited,
    RejectedValue,
    ServerTrouble,
    TracktorError,
    UnreadableAnswer,
)
from prefect_tracktor.mail.ledger import NotificationLedger
from prefect_tracktor.mail.template import EmailTemplate
from prefect_tracktor.models import (
    Carrier,
    ExceptionStatus,
    Fulfillment,
    LineItem,
    Order,
    ShipmentStatus,
    StatusOption,
    TrackingStatus,
    Webhook,
    WebhookTopic,
)
from prefect_tracktor.settled import SettledOrders
from prefect_tracktor.shopify.credentials import ShopifyCredentials
from prefect_tracktor.sources import OrderFile, ShopifyOrders, StatusFile, StatusQuery
from prefect_tracktor.statuses.desired import DesiredStatus
from prefect_tracktor.statuses.plan import StatusStage
from prefect_tracktor.transport import TransportLimits
from prefect_tracktor.webhooks import WantedWebhook, WebhookSubscription

__version__ = version("prefect-tracktor")

__all__ = [
    "AsyncTracktorClient",
    "BadCredentials",
    "Batch",
    "BatchFailed",
    "Carrier",
    "ConnectionTrouble",
    "DesiredStatus",
    "EmailTemplate",
    "ExceptionStatus",
    "Failure",
    "Fulfillment",
    "IncompleteRun",
    "InvalidInput",
    "LimitExceeded",
    "LineItem",
    "NotFound",
    "NotificationLedger",
    "Order",
    "OrderFile",
    "RateLimited",
    "RejectedValue",
    "ServerTrouble",
    "SettledOrders",
    "ShipmentStatus",
    "ShopifyCredentials",
    "ShopifyOrders",
    "StatusFile",
    "StatusOption",
    "StatusQuery",
    "StatusStage",
    "TrackingStatus",
    "TracktorClient",
    "TracktorCredentials",
    "TracktorError",
    "TransportLimits",
    "UnreadableAnswer",
    "WantedWebhook",
    "Webhook",
    "WebhookSubscription",
    "WebhookTopic",
]
