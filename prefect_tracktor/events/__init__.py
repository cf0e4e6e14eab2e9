"""Tracking events: their schema, and sending them to Prefect.

`prefect-tracktor receive` makes them of Tracktor's webhooks; in Prefect Cloud, one of its own
webhooks can do so.
"""

from prefect_tracktor.events.prefect_api import send_events
from prefect_tracktor.events.schema import (
    Kind,
    Subject,
    condition_event,
    condition_event_name,
    event_name,
    exception_event,
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
    "exception_event",
    "fulfillment_event",
    "order_event",
    "send_events",
    "shop_resource_id",
    "status_slug",
]
