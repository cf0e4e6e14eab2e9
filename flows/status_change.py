"""On an event: email the customer, once, that a parcel has reached a status.

**Touches**: customers, by email. Tracktor is only read. The deployment `email-status-changes` finds
statuses for which no event arrived.
"""

# The events come from `prefect-tracktor receive`, or from a webhook in Prefect Cloud.

from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger

from prefect_tracktor import Mailer, TracktorCredentials
from prefect_tracktor.deploy import Shop, deployment_of, notified_statuses, saved
from prefect_tracktor.events import Kind, event_name, shop_resource_id
from prefect_tracktor.flows import notify_status_change


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    credentials = saved(TracktorCredentials, shop)
    return deployment_of(
        notify_status_change,
        shop,
        name="notify-status-change",
        description=__doc__,
        triggers=[
            DeploymentEventTrigger(
                name=f"{shop.prefix}A parcel reached a status",
                expect={event_name(Kind.FULFILLMENT, key) for key in notified_statuses(shop)},
                match={"prefect.resource.id": "tracktor.fulfillment.*"},
                # only events of this account, because several may send events to one Prefect
                match_related={"prefect.resource.id": shop_resource_id(credentials.account)},
                parameters={
                    "fulfillment_id": "{{ event.payload.fulfillment_id }}",
                    "order_id": "{{ event.payload.order_id }}",
                    "status": "{{ event.payload.shipment_status }}",
                },
            )
        ],
        parameters={
            "credentials": credentials,
            "mailer": saved(Mailer, shop),
            # in an hour; more is a fault, such as a carrier that reports a year's parcels at once
            "max_emails": 500,
        },
        # so that customers do not wait for each other; the ledger prevents duplicate emails
        at_once=4,
    )
