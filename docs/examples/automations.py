"""Automations as code; running it again replaces them."""

from datetime import timedelta
from uuid import UUID

from prefect.automations import (
    AutomationCore,
    EventTrigger,
    PauseDeployment,
    Posture,
    RunDeployment,
    SendNotification,
)
from prefect.client.orchestration import get_client

from prefect_tracktor.events import shop_resource_id

FAILED_RUNS = "Tell the team of failed Tracktor runs"
MANY_RUN = "Many parcels in trouble: run"
MANY_PAUSE = "Many parcels in trouble: pause"


def tell_of_failed_runs(channel_id: UUID) -> AutomationCore:
    """Notify a channel when a run of this pack's deployments fails, crashes or does not start.

    An `IncompleteRun` is a failed run; its message says what is left to be done. A run is late
    if nothing serves its deployment, and no worker is there.
    """
    return AutomationCore(
        name=FAILED_RUNS,
        trigger=EventTrigger(
            expect={
                "prefect.flow-run.Failed",
                "prefect.flow-run.Crashed",
                "prefect.flow-run.Late",
            },
            match_related={
                "prefect.resource.id": "prefect.tag.tracktor",
                "prefect.resource.role": "tag",
            },
            posture=Posture.Reactive,
        ),
        actions=[
            SendNotification(
                block_document_id=channel_id,
                subject="{{ flow.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.name }}: {{ flow_run.state.message }}",
            )
        ],
    )


def run_when_many_get_into_trouble(
    deployment_id: UUID, account: str, *, parcels: int = 20, within: timedelta = timedelta(hours=1)
) -> AutomationCore:
    """Run a deployment at once when many parcels newly get into trouble, say of one carrier.

    The events are those of `announce_exceptions` for the account, as credentials name it.
    """
    return AutomationCore(
        name=MANY_RUN,
        trigger=_many_in_trouble(account, parcels, within),
        actions=[RunDeployment(deployment_id=deployment_id, parameters={"dry_run": True})],
    )


def pause_when_many_get_into_trouble(
    deployment_id: UUID,
    account: str,
    channel_id: UUID,
    *,
    parcels: int = 20,
    within: timedelta = timedelta(hours=1),
) -> AutomationCore:
    """Pause a deployment instead, and say so: a person looks before customers are written to."""
    return AutomationCore(
        name=MANY_PAUSE,
        trigger=_many_in_trouble(account, parcels, within),
        actions=[
            PauseDeployment(deployment_id=deployment_id),
            SendNotification(
                block_document_id=channel_id,
                subject="Many parcels in trouble",
                body="A deployment was paused. Look at the parcels, then switch it on again.",
            ),
        ],
    )


def replace(automation: AutomationCore) -> UUID:
    """Make an automation in place of those that have its name."""
    remove(automation.name)
    with get_client(sync_client=True) as client:
        return client.create_automation(automation)


def remove(name: str) -> None:
    """Remove the automations of this name."""
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


def _many_in_trouble(account: str, parcels: int, within: timedelta) -> EventTrigger:
    return EventTrigger(
        expect={"tracktor.fulfillment.exception.*"},
        # of one account, where several shops send their events to the same Prefect
        match_related={"prefect.resource.id": shop_resource_id(account)},
        posture=Posture.Reactive,
        threshold=parcels,
        within=within,
    )
