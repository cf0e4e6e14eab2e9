"""Tracking events: their schema, and sending them to Prefect.

`prefect-tracktor receive`, or a webhook in Prefect Cloud, creates them from Tracktor's webhooks.
"""

from prefect_tracktor.events.prefect_api import send_events
from prefect_tracktor.events.schema import (
    Kind,
    Subject,
    condition_event,
    condition_event_name,
    event_name,
    fulfillment_event,
    order_event,
    shop_resource_id,
    status_slug,
)

__all__ = [
    "Kind",
    "Subject",
    "condition_event",
    "condition_event_name",
    "event_name",
    "fulfillment_event",
    "order_event",
    "send_events",
    "shop_resource_id",
    "status_slug",
]
