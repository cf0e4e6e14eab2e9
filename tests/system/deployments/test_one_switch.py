"""A shop in dry run emails no customer, and a read-only account is not changed.

This holds for every way to start a run: a schedule, an event, an automation, the run form, a
pipeline, a sweep, and a run created earlier. Runs are executed here as in their own process, which
is faster; `test_plain_prefect.py` tests a serving process whose shop is switched to dry run.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from blocks.documents import DOCUMENTS
from prefect_tracktor import Mailer, Mode, TracktorCredentials
from prefect_tracktor.deploy.apply import read_all
from prefect_tracktor.events import Kind, event_name, shop_resource_id
from prefect_tracktor.flows import SweptShop, sweep_shops
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from prefect_tracktor.setup.blocks import save_blocks
from tests.support.programs import waiting
from tests.system.deployments.conftest import (
    Server,
    deploy_all,
    execute,
    remove_deployments,
    variables_of,
)

MAIL = "Email expired exceptions/email-expired-exceptions"
ON_EVENT = "Notify status change/notify-status-change"
EVERY_SIX_HOURS = "Email status changes/email-status-changes"
# dry_run=False in a run has no effect: it can only add safety
ACT = {"dry_run": False}
ME = "me@your-shop.example"
IMPORTED = "warehouse.orders.imported.for.one.switch"

Switch = Callable[..., None]
Start = Callable[[Server], UUID]


@pytest.fixture(scope="module")
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=60, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def switch(
    prefect_api: None,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Switch:
    """Save the shop's blocks in a mode, as `prefect-tracktor blocks` does."""
    folder = tmp_path_factory.mktemp("shop")
    tracktor.shop.write_orders_csv(folder / "orders.csv")
    unfulfilled = next(
        i for i in tracktor.shop.order_ids if not tracktor.shop.order(i)["fulfillments"]
    )
    (folder / "plan.csv").write_text(f"order_id,status\n{unfulfilled},Sewing\n")

    def switch(**variables: str) -> None:
        usual = variables_of(tracktor, mail, folder)
        assert save_blocks(usual | variables, DOCUMENTS) == 0

    return switch


@pytest.fixture(scope="module")
def waiting_run(server: Server, switch: Switch, pool: str) -> Iterator[UUID]:
    """A run that was created while the shop was live, and has not started."""
    remove_deployments(server.client)
    switch(TRACKTOR_MODE="live", TRACKTOR_READ_ONLY="false")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKTOR_NOTIFY", "delivered")
        patched.setenv("TRACKTOR_ANNOUNCE_EXCEPTIONS", "1")
        assert deploy_all() == 0
        late: State[None] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
        run = server.client.create_flow_run_from_deployment(
            server[MAIL].id, parameters=ACT, state=late
        )
        # checked here, because the server is updated later
        trigger = EventTrigger(expect={IMPORTED}, posture=Posture.Reactive)
        action = RunDeployment(deployment_id=server[MAIL].id, parameters=ACT)
        automation = AutomationCore(name=IMPORTED, trigger=trigger, actions=[action])
        made = server.client.create_automation(automation)
        yield run.id
        server.client.delete_automation(made)


@pytest.fixture(scope="module")
def switched(waiting_run: UUID, switch: Switch) -> None:
    """All deployments exist; the shop is in dry run and read only now."""
    switch(TRACKTOR_MODE="dry run", TRACKTOR_READ_ONLY="true")


@pytest.fixture
def parcel(tracktor: Sandbox) -> dict[str, object]:
    """A parcel that has just been delivered."""
    order = tracktor.shop.order(next(iter(tracktor.shop.customers_to_write_to())))
    fulfillment_id = order["fulfillments"][0]["fulfillment_id"]
    return tracktor.shop.set_parcel(fulfillment_id, shipment_status="delivered")


def runs_of(server: Server, name: str) -> dict[UUID, FlowRun]:
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[server[name].id]))
    return {run.id: run for run in read_all(server.client.read_flow_runs, deployment_filter=of_it)}


def next_run(server: Server, name: str, before: dict[UUID, FlowRun]) -> UUID:
    """Wait for a new run of a deployment."""
    for attempt in waiting():
        with attempt:
            new = runs_of(server, name).keys() - before.keys()
            assert new
    return next(iter(new))


def by_the_run_form(server: Server) -> UUID:
    """Send the request of the form *Run → Custom run*."""
    made = httpx.post(
        f"{PREFECT_API_URL.value()}/deployments/{server[MAIL].id}/create_flow_run",
        json={"parameters": server[MAIL].parameters | ACT},
    )
    return UUID(made.raise_for_status().json()["id"])


def by_a_pipeline(server: Server) -> UUID:
    run = run_deployment(MAIL, parameters=ACT, timeout=0)
    assert isinstance(run, FlowRun)
    return run.id


def by_an_automation(server: Server) -> UUID:
    before = runs_of(server, MAIL)
    emit_event(IMPORTED, resource={"prefect.resource.id": "warehouse.import"})
    return next_run(server, MAIL, before)


def by_another_flow(server: Server) -> UUID:
    return server.client.create_flow_run_from_deployment(
        server[EVERY_SIX_HOURS].id, parameters=ACT
    ).id


def by_an_event(server: Server, parcel: dict[str, object]) -> UUID:
    """Emit the event of the receiver for a delivered parcel."""
    before = runs_of(server, ON_EVENT)
    credentials = TracktorCredentials.load("tracktor")
    assert isinstance(credentials, TracktorCredentials)
    emit_event(
        event_name(Kind.FULFILLMENT, "delivered"),
        resource={"prefect.resource.id": f"tracktor.fulfillment.{parcel['fulfillment_id']}"},
        related=[
            {
                "prefect.resource.id": shop_resource_id(credentials.account),
                "prefect.resource.role": "shop",
            }
        ],
        payload={
            "fulfillment_id": parcel["fulfillment_id"],
            "order_id": parcel["order_id"],
            "shipment_status": "delivered",
        },
    )
    return next_run(server, ON_EVENT, before)


def by_a_schedule(server: Server) -> UUID:
    """Add a schedule with other parameters, and have Prefect create its runs."""
    before, deployment = runs_of(server, MAIL), server[MAIL]
    own = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(minutes=1)), parameters=ACT, slug="own"
    )
    server.client.create_deployment_schedules(deployment.id, [own])
    now = datetime.now(UTC)
    due = {"start_time": str(now - timedelta(minutes=5)), "end_time": str(now)}
    url = f"{PREFECT_API_URL.value()}/deployments/{deployment.id}/schedule"
    httpx.post(url, json=due).raise_for_status()
    runs = runs_of(server, MAIL)
    made = [run for run in runs.keys() - before.keys() if runs[run].parameters["dry_run"] is False]
    assert all(runs[run].auto_scheduled for run in made)
    return made[0]


@pytest.mark.parametrize(
    "start", [by_the_run_form, by_a_pipeline, by_an_automation, by_another_flow, by_a_schedule]
)
def test_a_run_in_dry_run_mode_emails_no_customer(
    switched: None, server: Server, mail: MailServer, start: Start
) -> None:
    assert execute(start(server)).is_completed()
    assert not mail.messages


def test_a_run_started_by_an_event_emails_no_customer_in_dry_run_mode(
    switched: None, server: Server, mail: MailServer, parcel: dict[str, object]
) -> None:
    assert execute(by_an_event(server, parcel)).is_completed()
    assert not mail.messages


def test_a_run_created_before_the_switch_emails_no_customer(
    switched: None, waiting_run: UUID, mail: MailServer
) -> None:
    assert execute(waiting_run).is_completed()
    assert not mail.messages


def test_a_sweep_emails_no_customer_in_dry_run_mode(switched: None, mail: MailServer) -> None:
    shops = [SweptShop("tracktor", ACT)]
    report = sweep_shops("email_expired_exceptions", shops, parameters=ACT)
    assert report.done == ("tracktor",)
    assert report.reports["tracktor"].due
    assert not mail.messages


@pytest.mark.parametrize(
    "name",
    [
        "Reconcile manual statuses/reconcile-manual-statuses",
        "Sync webhooks/sync-webhooks",
        "Announce exceptions/announce-exceptions",
    ],
)
def test_a_read_only_account_is_not_changed_and_emits_no_events(
    switched: None, server: Server, tracktor: Sandbox, name: str
) -> None:
    tracktor.reset_calls()
    run = server.client.create_flow_run_from_deployment(server[name].id, parameters=ACT)
    assert execute(run.id).is_completed()
    assert {method for method, _ in tracktor.calls} == {"GET"}
    assert not tracktor.shop.webhooks
    wanted = {"filter": {"event": {"prefix": ["tracktor.fulfillment.exception."]}}}
    found = httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json=wanted)
    of_ours = [e for e in found.json()["events"] if run.id.hex in str(e) or str(run.id) in str(e)]
    assert not of_ours


def choose_mode(mode: Mode, **others: str) -> None:
    """Edit the shop's mailer, as a person does in Prefect's UI."""
    mailer = Mailer.load("tracktor")
    assert isinstance(mailer, Mailer)
    mailer.model_copy(update={"mode": mode, **others}).save("tracktor", overwrite=True)


def test_a_rehearsal_sends_all_emails_to_the_rehearsal_address(
    switched: None, server: Server, mail: MailServer
) -> None:
    mail.clear()
    choose_mode(Mode.REHEARSAL, rehearsal_address=ME)
    try:
        assert execute(by_the_run_form(server)).is_completed()
    finally:
        choose_mode(Mode.DRY_RUN)
    assert mail.messages
    assert {address for message in mail.messages for address in message.recipients} == {ME}


def test_the_same_deployment_emails_customers_once_the_mailer_is_live(
    switched: None, server: Server, mail: MailServer, tracktor: Sandbox
) -> None:
    mail.clear()
    choose_mode(Mode.LIVE)
    try:
        dry = server.client.create_flow_run_from_deployment(
            server[MAIL].id, parameters={"dry_run": True}
        )
        assert execute(dry.id).is_completed()
        assert not mail.messages
        assert execute(by_the_run_form(server)).is_completed()
    finally:
        choose_mode(Mode.DRY_RUN)
    customers = tracktor.shop.customers_to_write_to().values()
    assert sorted(message.recipients[0] for message in mail.messages) == sorted(customers)
