"""Automations as code."""

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

FAILED_RUNS = "Notify the team of failed Tracktor runs"
MANY_RUN = "Many new exceptions: run"
MANY_PAUSE = "Many new exceptions: pause"


def notify_of_failed_runs(channel_id: UUID) -> AutomationCore:
    """Notify a channel when a run with the tag `tracktor` fails, crashes or does not start.

    An `IncompleteRun` is a failed run; its message says what is left. A run is late
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


def run_on_many_exceptions(
    deployment_id: UUID, account: str, *, parcels: int = 20, within: timedelta = timedelta(hours=1)
) -> AutomationCore:
    """Run a deployment at once when many parcels have a new exception.

    The events are those of `announce_exceptions` for the account, as credentials name it.
    """
    return AutomationCore(
        name=MANY_RUN,
        trigger=_many_exceptions(account, parcels, within),
        actions=[RunDeployment(deployment_id=deployment_id, parameters={"dry_run": True})],
    )


def pause_on_many_exceptions(
    deployment_id: UUID,
    account: str,
    channel_id: UUID,
    *,
    parcels: int = 20,
    within: timedelta = timedelta(hours=1),
) -> AutomationCore:
    """Pause a deployment and notify a channel, so that a person looks before emails go out."""
    return AutomationCore(
        name=MANY_PAUSE,
        trigger=_many_exceptions(account, parcels, within),
        actions=[
            PauseDeployment(deployment_id=deployment_id),
            SendNotification(
                block_document_id=channel_id,
                subject="Many new exceptions",
                body="A deployment was paused. Check the parcels, then turn it on again.",
            ),
        ],
    )


def replace(automation: AutomationCore) -> UUID:
    """Create an automation, and delete others with its name."""
    remove(automation.name)
    with get_client(sync_client=True) as client:
        return client.create_automation(automation)


def remove(name: str) -> None:
    """Delete the automations with this name."""
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


def _many_exceptions(account: str, parcels: int, within: timedelta) -> EventTrigger:
    return EventTrigger(
        expect={"tracktor.fulfillment.exception.*"},
        # of one account, where several shops send their events to the same Prefect
        match_related={"prefect.resource.id": shop_resource_id(account)},
        posture=Posture.Reactive,
        threshold=parcels,
        within=within,
    )
