"""Webhook subscriptions, and the receiver that turns deliveries into Prefect events."""

from typing import TYPE_CHECKING

from prefect_tracktor.lazy import imported_when_used

if TYPE_CHECKING:
    from prefect_tracktor.webhooks.cloud import cloud_webhook_template as cloud_webhook_template
    from prefect_tracktor.webhooks.queue import WebhookQueue as WebhookQueue
    from prefect_tracktor.webhooks.subscriptions import WantedWebhook as WantedWebhook
    from prefect_tracktor.webhooks.subscriptions import WebhookSubscription as WebhookSubscription

_HOMES = {
    "WantedWebhook": "prefect_tracktor.webhooks.subscriptions",
    "WebhookQueue": "prefect_tracktor.webhooks.queue",
    "WebhookSubscription": "prefect_tracktor.webhooks.subscriptions",
    "cloud_webhook_template": "prefect_tracktor.webhooks.cloud",
}
__all__ = [*_HOMES]  # noqa: PLE0604

if not TYPE_CHECKING:  # or type checkers would believe in any name
    __getattr__, __dir__ = imported_when_used(__name__, _HOMES)
