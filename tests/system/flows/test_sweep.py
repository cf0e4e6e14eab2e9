"""Sweeps: one flow for many shops, each with its own blocks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ParameterTypeError

from prefect_tracktor import (
    CompletedOrders,
    IncompleteRun,
    InvalidInput,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.flows import (
    ShopOutcome,
    SweepReport,
    SweptShop,
    email_expired_exceptions,
    sweep_shops,
)
from prefect_tracktor.flows.sweep import SweepableFlow
from prefect_tracktor.runs.sweep import sweep
from prefect_tracktor.sandbox import API_KEY, Faults, MailServer, Sandbox, Shop
from tests.support.mailers import mailer_of
from tests.system.flows.test_run_names_and_artifacts import artifacts_of

pytestmark = pytest.mark.usefixtures("prefect_api")

NAMES = ("berlin", "paris", "rome")
EMAILS: SweepableFlow = "email_expired_exceptions"
PASSWORD = "pa55-word-that-nobody-may-see"

Sweep = Callable[..., SweepReport]


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    """One mail server for all shops."""
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shops' order files and ledgers."""
    return tmp_path_factory.mktemp("shops")


@pytest.fixture(scope="module")
def accounts(prefect_api: None, mail: MailServer, folder: Path) -> Iterator[dict[str, Sandbox]]:
    """A Tracktor account for each shop, and the blocks that are saved for it."""
    with ExitStack() as running:
        accounts = {}
        for number, name in enumerate(NAMES, start=1):
            uuid = f"00000000-0000-4000-8000-00000000000{number}"
            shop = Shop(orders=30, expired=3, seed=number)
            tracktor = running.enter_context(Sandbox(shop, uuid=uuid))
            shop.write_orders_csv(folder / f"{name}.csv")
            credentials_of(tracktor).save(name, overwrite=True)
            OrderFile(path=str(folder / f"{name}.csv")).save(name, overwrite=True)
            ledger = NotificationLedger(url=f"sqlite:///{folder / name}.sqlite3")
            ledger.save(name, overwrite=True)
            sender = f"{name} <orders@{name}.example>"
            mailer = mailer_of(mail, sender=sender, ledger=ledger, username="", password=PASSWORD)
            mailer.save(name, overwrite=True)
            accounts[name] = tracktor
        yield accounts


@pytest.fixture
def tracktors(accounts: dict[str, Sandbox], mail: MailServer) -> dict[str, Sandbox]:
    """The same accounts, without earlier calls and messages."""
    mail.clear()
    for tracktor in accounts.values():
        tracktor.reset_calls()
        tracktor.faults = Faults()
    return accounts


def credentials_of(tracktor: Sandbox, **further: Any) -> TracktorCredentials:
    fields = {"uuid": tracktor.uuid, "api_key": tracktor.api_key, "base_url": tracktor.base_url}
    return TracktorCredentials.model_validate(fields | further)


def three_shops(**own: dict[str, Any]) -> list[SweptShop]:
    """The shops with their own parameters."""
    return [SweptShop(name, own.get(name, {})) for name in NAMES]


@pytest.fixture
def new_ledgers(accounts: dict[str, Sandbox], folder: Path) -> None:
    """Delete each shop's ledger."""
    for file in folder.glob("*.sqlite3*"):
        file.unlink()


def swept(*arguments: Any, **options: Any) -> SweepReport:
    """The report of an incomplete sweep."""
    with pytest.raises(IncompleteRun) as caught:
        sweep_shops(*arguments, **options)
    report: SweepReport = caught.value.report
    return report


def outcome_of(report: SweepReport, shop: str) -> ShopOutcome:
    return next(entry for entry in report.shops if entry.shop == shop)


def check_emails(mail: MailServer, name: str, tracktor: Sandbox) -> None:
    """Check that a shop emailed all of its own customers, in its own name."""
    own = [message for message in mail.messages if message.sender == f"orders@{name}.example"]
    recipients = [recipient for message in own for recipient in message.recipients]
    assert sorted(recipients) == sorted(tracktor.shop.customers_to_write_to().values())


def test_a_sweep_emails_each_shops_customers_and_stores_no_secret(
    tracktors: dict[str, Sandbox], mail: MailServer, new_ledgers: None
) -> None:
    given = {"credentials": credentials_of(tracktors["rome"])}
    report = sweep_shops(
        EMAILS, three_shops(rome=given), parameters={"max_emails": 50}, shops_at_once=3
    )
    assert report.done == NAMES
    for name, tracktor in tracktors.items():
        assert set(report.reports[name].sent) == set(tracktor.shop.customers_to_write_to())
        check_emails(mail, name, tracktor)
    parent, runs = runs_of_the_sweep()
    assert {run.name for run in runs} == {f"Live: shop {name}" for name in NAMES}
    assert {run.state_name for run in runs} == {"Completed"}
    record = "".join(run.model_dump_json() for run in (parent, *runs))
    assert "max_emails" in record
    assert PASSWORD not in record
    assert API_KEY not in record


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the shared blocks that other tests saved."""
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "all-shops")


def test_an_error_in_one_shop_does_not_stop_a_sweep(
    tracktors: dict[str, Sandbox], mail: MailServer, new_ledgers: None
) -> None:
    tracktors["berlin"].faults = Faults(not_json=1)
    hasty = credentials_of(tracktors["berlin"], limits={"max_attempts": 1})
    wrong = credentials_of(tracktors["paris"], api_key="wrong")
    shops = three_shops(berlin={"credentials": hasty}, paris={"credentials": wrong})

    report = swept(EMAILS, [SweptShop("oslo"), *shops])

    assert report.incomplete == ("berlin",)
    berlin = report.reports["berlin"]
    assert len(berlin.failed) + sum(berlin.left_out.values()) == 30
    assert report.failed == ("oslo", "paris")
    assert "refused the" in outcome_of(report, "paris").reason
    assert report.done == ("rome",)
    check_emails(mail, "rome", tracktors["rome"])
    assert len(mail.messages) == len(tracktors["rome"].shop.customers_to_write_to())
    without_blocks = outcome_of(report, "oslo").reason
    assert "credentials: there is no block tracktor-credentials/oslo" in without_blocks
    assert "tracktor-shopify-orders/oslo or tracktor-order-file/oslo" in without_blocks
    assert "mailer: there is no block tracktor-mailer/oslo" in without_blocks


def test_a_shops_parameters_override_common_ones_and_invalid_ones_fail_it_alone(
    tracktors: dict[str, Sandbox], new_ledgers: None
) -> None:
    account = {"uuid": "00000000-0000-4000-8000-00000000000f", "api_key": API_KEY}
    mailer = {"host": "smtp.example", "sender": "Berlin <a@berlin.example>"}
    shops = [
        *three_shops(
            berlin={"mailer": mailer}, paris={"max_emails": 0}, rome={"max_emails": "many"}
        ),
        SweptShop("oslo", {"credentials": account, "orders": [1], "mailer": {}}),
        SweptShop("bern", {"credentials": 5, "orders": [1], "mailer": mailer}),
        SweptShop("graz", {"credentials": 5, "orders": [1], "mailer": {}, "reading": "fast"}),
    ]
    report = swept(EMAILS, shops, parameters={"max_emails": 10})
    found = {one.shop: (one.outcome, one.mode, one.reason) for one in report.shops}
    assert found["berlin"] == ("done", "dry_run", "")
    assert len(report.reports["berlin"].due) == 3
    assert found["paris"][:2] == ("failed", "live")
    assert "max_emails is 0" in found["paris"][2]
    problems = {
        "rome": "max_emails: Input should be a valid integer",
        "oslo": "mailer.host: Field required",
        "bern": "credentials: Input should be",
        "graz": "reading: Input should be",
    }
    for shop, problem in problems.items():
        assert found[shop][:2] == ("failed", "")
        assert problem in found[shop][2]


def test_a_sweep_prefers_the_shopify_orders_of_a_shop_to_its_order_file(
    tracktors: dict[str, Sandbox],
) -> None:
    tracktor = tracktors["rome"]
    shopify = ShopifyCredentials(
        shop="rome", access_token=tracktor.shopify_access_token, base_url=tracktor.shopify_url
    )
    ShopifyOrders(credentials=shopify).save("rome")
    try:
        parameters = {"dry_run": True, "reading": {"allow_empty": True}}
        sweep_shops("announce_exceptions", [SweptShop("rome")], parameters=parameters)
    finally:
        ShopifyOrders.delete("rome")
    assert any(path.startswith("admin/") for _, path in tracktor.calls)


def test_common_parameters_of_a_sweep_may_be_a_block_name_or_text(
    tracktors: dict[str, Sandbox], ledger: NotificationLedger
) -> None:
    ledger.save("common", overwrite=True)
    shops = three_shops(berlin={"ledger": "nowhere"})[:2]
    parameters = {"ledger": "common", "dry_run": "false"}
    report = swept("announce_exceptions", shops, parameters=parameters)
    assert report.mode == "live"
    assert report.reports["paris"].announced
    assert ledger.standing(credentials_of(tracktors["paris"]).account).sent
    assert "ledger: there is no block" in outcome_of(report, "berlin").reason


def test_a_sweep_uses_completed_orders_of_the_shop_or_the_shared_ones(
    tracktors: dict[str, Sandbox], tmp_path: Path
) -> None:
    blocks = {"berlin": "berlin", "paris": "all-shops", "rome": "other"}
    completed = {shop: tracktors[shop].shop.order_ids[0] for shop in NAMES}
    for shop, name in blocks.items():
        orders = CompletedOrders(url=f"sqlite:///{tmp_path / name}.sqlite3")
        account = credentials_of(tracktors[shop]).account
        orders.remember(account, {completed[shop]: datetime(2026, 1, 1, tzinfo=UTC)})
        orders.save(name)
    shops = three_shops(
        paris={"reading": {"chunk_size": 10}}, rome={"reading": {"completed_orders": "other"}}
    )
    try:
        report = sweep_shops("announce_exceptions", shops, parameters={"dry_run": True})
    finally:
        for name in blocks.values():
            CompletedOrders.delete(name)
    for shop in NAMES:
        assert completed[shop] in report.reports[shop].completed


@pytest.mark.parametrize(
    ("common", "own"),
    [(1, {"berlin": False, "paris": "no"}), ("false", {"berlin": True, "paris": "yes"})],
)
def test_a_shop_is_in_dry_run_if_the_sweep_shop_or_mailer_is(
    tracktors: dict[str, Sandbox], mail: MailServer, common: Any, own: dict[str, Any]
) -> None:
    given: dict[str, Any] = {name: {"dry_run": dry_run} for name, dry_run in own.items()}
    given["rome"] = {"dry_run": False, "mailer": mailer_of(mail, mode="dry_run")}
    report = sweep_shops(EMAILS, three_shops(**given), parameters={"dry_run": common})
    for name in NAMES:
        assert report.reports[name].due
        assert report.reports[name].dry_run
    assert not mail.messages


def test_an_unknown_flow_is_refused_before_a_sweep_starts(tracktors: dict[str, Sandbox]) -> None:
    with pytest.raises(ParameterTypeError, match="flow_name"):
        sweep_shops("email_everybody", three_shops())  # type: ignore[call-overload]  # on purpose
    assert not any(tracktor.calls for tracktor in tracktors.values())


def test_a_sweep_refuses_one_account_under_two_names(tracktors: dict[str, Sandbox]) -> None:
    credentials = {"credentials": credentials_of(tracktors["berlin"])}
    written_out = {"credentials": {"uuid": tracktors["berlin"].uuid, "api_key": API_KEY}}
    for of_paris in (credentials, written_out):
        with pytest.raises(InvalidInput, match="'berlin' and 'paris' have the same Tracktor acco"):
            sweep(email_expired_exceptions, EMAILS, three_shops(paris=of_paris)[:2], {}, 1)
    assert not any(tracktor.calls for tracktor in tracktors.values())


def runs_of_the_sweep() -> tuple[FlowRun, list[FlowRun]]:
    """The latest sweep, and its subflow runs."""
    with get_client(sync_client=True) as prefect:
        [run] = prefect.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": ["Sweep shops"]}}),
            limit=1,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        return run, prefect.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id])
            )
        )


def test_a_sweep_shows_the_modes_of_all_its_shops(
    tracktors: dict[str, Sandbox],
    mail: MailServer,
    new_ledgers: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rehearsal = mailer_of(mail, mode="rehearsal", rehearsal_address="me@shop.example")
    shops = three_shops(
        paris={"mailer": mailer_of(mail, mode="dry_run")}, rome={"mailer": rehearsal}
    )
    report = sweep_shops(EMAILS, shops)
    check_emails(mail, "berlin", tracktors["berlin"])
    modes = "Live, rehearsal, dry run"
    assert [entry.mode for entry in report.shops] == ["live", "dry_run", "rehearsal"]
    assert [entry.report.mode for entry in report.shops] == ["live", "dry_run", "rehearsal"]
    parent, runs = runs_of_the_sweep()
    assert parent.name == f"{modes}: Sweep shops, {EMAILS}"
    assert {run.name for run in runs} == {
        "Live: shop berlin",
        "Dry run: shop paris",
        "Rehearsal: shop rome",
    }
    assert {"live", "rehearsal", "dry run"} <= set(parent.tags)
    first = next(line for line in caplog.messages if line.startswith("Sweep"))
    assert first == f"Sweep of 3 shops, {EMAILS}: {modes.lower()}."
    assert parent.state is not None
    assert str(parent.state.message) == f"{modes}: 3 of 3 shops done."
    artifacts = artifacts_of(parent)
    assert str(artifacts["sweep"].description).startswith(f"{modes}. The outcome")
    assert str(artifacts["sweep-summary"].data).startswith(f"# Sweep: {modes.lower()}\n")
