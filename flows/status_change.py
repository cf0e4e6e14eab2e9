"""When an event tells of it: write to the customer that the parcel has reached a status.

The events come from `python -m prefect_tracktor.events`, or from a webhook in Prefect Cloud. For
what no event told of, `flows/status_changes.py` makes up.
"""

import os

from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger

from flows.shared import NotSetUp, Unusable, deployment_of, dry_run, for_writing_to_customers, saved
from prefect_tracktor import TracktorCredentials
from prefect_tracktor.events import Kind, event_name, shop_resource_id
from prefect_tracktor.flows import notify_status_change
from prefect_tracktor.flows.status_change import WITH_DEFAULT_WORDS
from prefect_tracktor.models import status_key


def statuses() -> list[str]:
    """The statuses that customers are to hear of, from `TRACKTOR_NOTIFY`.

    Others than in_transit, out_for_delivery and delivered need words of their own: the parameter
    `templates`.

    Returns:
        The statuses.

    Raises:
        NotSetUp: There is none.
        Unusable: There are no words for one.
    """
    names = map(status_key, os.environ.get("TRACKTOR_NOTIFY", "").split(","))
    wished = [name for name in names if name]
    if not wished:
        raise NotSetUp("set TRACKTOR_NOTIFY, such as delivered or in_transit,delivered")
    if without := sorted(set(wished) - WITH_DEFAULT_WORDS):
        raise Unusable(
            f"TRACKTOR_NOTIFY: there are no default words for {', '.join(without)}; there are for"
            f" {', '.join(sorted(WITH_DEFAULT_WORDS))}. For others give the parameter templates in"
            " flows/status_change.py and flows/status_changes.py"
        )
    return wished


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: `TRACKTOR_NOTIFY` names no status.
        KeyError: `TRACKTOR_SENDER` is not set.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    credentials = TracktorCredentials.model_validate(saved(TracktorCredentials))
    return deployment_of(
        notify_status_change,
        name="on-event",
        parameters={"credentials": saved(TracktorCredentials), "dry_run": dry_run()}
        | for_writing_to_customers(),
        triggers=[
            DeploymentEventTrigger(
                name="A parcel reached a status",
                expect={event_name(Kind.FULFILLMENT, status) for status in statuses()},
                match={"prefect.resource.id": "tracktor.fulfillment.*"},
                # of this account alone, where several send their events to the same Prefect
                match_related={"prefect.resource.id": shop_resource_id(credentials.account)},
                parameters={
                    "fulfillment_id": "{{ event.payload.fulfillment_id }}",
                    "order_id": "{{ event.payload.order_id }}",
                    "status": "{{ event.payload.shipment_status }}",
                },
            )
        ],
        # customers do not wait for each other; the ledger keeps each message to one
        one_at_a_time=False,
    )
