"""Webhook subscriptions, and the receiver that turns deliveries into Prefect events."""

from typing import TYPE_CHECKING

from prefect_tracktor.lazy import imported_when_used

if TYPE_CHECKING:
    from prefect_tracktor.webhooks.cloud import cloud_webhook_template as cloud_webhook_template
    from prefect_tracktor.webhooks.queue import WebhookQueue as WebhookQueue
    from prefect_tracktor.webhooks.subscriptions import WantedWebhook as WantedWebhook
    from prefect_tracktor.webhooks.subscriptions import WebhookSubscription as WebhookSubscription

    __all__: list[str]
else:  # or type checkers would believe in any name
    __getattr__, __dir__, __all__ = imported_when_used(__name__)
