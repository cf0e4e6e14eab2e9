"""Webhook subscriptions, and the receiver that turns deliveries into Prefect events."""

from prefect_tracktor.webhooks.cloud import cloud_webhook_template
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.subscriptions import WantedWebhook, WebhookSubscription

__all__ = ["WantedWebhook", "WebhookQueue", "WebhookSubscription", "cloud_webhook_template"]
