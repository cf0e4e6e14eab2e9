"""Tracktor's webhooks as Prefect events.

Self-hosted, `prefect-tracktor receive` takes them (see `receiver`); in Prefect Cloud, one
of its own webhooks does (see `cloud`). What comes out is the same, and `tracking` says what.
"""

from prefect_tracktor.events.cloud import cloud_webhook_template
from prefect_tracktor.events.sending import send_events
from prefect_tracktor.events.spool import DeliverySpool
from prefect_tracktor.events.tracking import (
    Kind,
    Subject,
    event_name,
    exception_event,
    exception_event_name,
    fulfillment_event,
    order_event,
    shop_resource_id,
    status_slug,
)

__all__ = [
    "DeliverySpool",
    "Kind",
    "Subject",
    "cloud_webhook_template",
    "event_name",
    "exception_event",
    "exception_event_name",
    "fulfillment_event",
    "order_event",
    "send_events",
    "shop_resource_id",
    "status_slug",
]
