"""All blocks; Prefect imports this module, an entry point, to load a saved one."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.shopify.credentials import ShopifyCredentials
from prefect_tracktor.sources import OrderFile, ShopifyOrders, StatusFile, StatusQuery
from prefect_tracktor.storage.completed_orders import CompletedOrders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.subscriptions import WebhookSubscription

__all__ = [
    "CompletedOrders",
    "EmailTemplate",
    "HttpChannel",
    "Mailer",
    "NotificationLedger",
    "OrderFile",
    "ShopifyCredentials",
    "ShopifyOrders",
    "StatusFile",
    "StatusQuery",
    "TracktorCredentials",
    "WebhookQueue",
    "WebhookSubscription",
]
