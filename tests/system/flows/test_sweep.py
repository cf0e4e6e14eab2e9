"""One flow for many shops: each with its own documents, and none in the way of another."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from prefect_tracktor import (
    CompletedOrders,
    IncompleteRun,
    InvalidInput,
    Mailer,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
    flows,
)
from prefect_tracktor.flows import ShopOutcome, SweepReport, SweptShop, sweep_shops
from prefect_tracktor.flows.sweep import SweepableFlow
from prefect_tracktor.runs.sweep import ShopRun
from prefect_tracktor.sandbox import API_KEY, Faults, MailServer, Sandbox, Shop
from tests.support.mailers import mailer_of
from tests.system.flows.conftest import written_to
from tests.system.flows.test_what_runs_say import artifacts_of

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
def accounts(
    prefect_api: None, mail: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Sandbox]]:
    """A Tracktor account for each shop, and the documents that are saved for it."""
    folder = tmp_path_factory.mktemp("orders")
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
    """The same accounts, of which nobody has asked anything yet."""
    mail.clear()
    for tracktor in accounts.values():
        tracktor.reset_calls()
        tracktor.faults = Faults()
    return accounts


def credentials_of(tracktor: Sandbox, **further: Any) -> TracktorCredentials:
    fields = {"uuid": tracktor.uuid, "api_key": tracktor.api_key, "base_url": tracktor.base_url}
    return TracktorCredentials.model_validate(fields | further)


def three(**own: dict[str, Any]) -> list[SweptShop]:
    """The shops, and the parameters that a shop has of its own."""
    return [SweptShop(name, own.get(name, {})) for name in NAMES]


@pytest.fixture
def new_ledgers(accounts: dict[str, Sandbox], tmp_path: Path, mail: MailServer) -> Iterator[None]:
    """A ledger of the test's own in each shop's mailer."""
    kept: dict[str, Any] = {name: Mailer.load(name) for name in NAMES}
    for name, mailer in kept.items():
        ledger = NotificationLedger(url=f"sqlite:///{tmp_path / name}.sqlite3")
        changed = Mailer.model_validate(dict(mailer) | {"ledger": ledger})
        changed.save(name, overwrite=True)
    yield
    for name, mailer in kept.items():
        mailer.save(name, overwrite=True)


def swept(*arguments: Any, **options: Any) -> SweepReport:
    """The report of a sweep that leaves something undone."""
    with pytest.raises(IncompleteRun) as caught:
        sweep_shops(*arguments, **options)
    report: SweepReport = caught.value.report
    return report


def outcome_of(report: SweepReport, shop: str) -> ShopOutcome:
    return next(entry for entry in report.shops if entry.shop == shop)


@pytest.mark.parametrize("shops_at_once", [1, 3])
def test_every_shop_writes_to_its_own_customers_in_its_own_name(
    tracktors: dict[str, Sandbox], mail: MailServer, new_ledgers: None, shops_at_once: int
) -> None:
    report = sweep_shops(EMAILS, three(), shops_at_once=shops_at_once)
    assert report.done == NAMES
    for name, tracktor in tracktors.items():
        customers = tracktor.shop.customers_to_write_to()
        assert set(report.reports[name].sent) == set(customers)
        own = [message for message in mail.messages if message.sender == f"orders@{name}.example"]
        recipients = [recipient for message in own for recipient in message.recipients]
        assert sorted(recipients) == sorted(customers.values())


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that other tests made for all shops are none of these tests'."""
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "all-shops")


def test_what_goes_wrong_in_one_shop_does_not_touch_the_others(
    tracktors: dict[str, Sandbox], mail: MailServer, new_ledgers: None
) -> None:
    tracktors["berlin"].faults = Faults(not_json=1)
    hasty = credentials_of(tracktors["berlin"], limits={"max_attempts": 1})
    wrong = credentials_of(tracktors["paris"], api_key="wrong")
    shops = three(berlin={"credentials": hasty}, paris={"credentials": wrong})

    report = swept(EMAILS, shops)

    assert report.incomplete == ("berlin",)
    berlin = report.reports["berlin"]
    assert len(berlin.failed) + sum(berlin.left_out.values()) == 30
    assert report.failed == ("paris",)
    assert "refused the" in outcome_of(report, "paris").reason
    assert report.done == ("rome",)
    rome = tracktors["rome"].shop.customers_to_write_to()
    assert sorted(written_to(mail)) == sorted(rome.values())


def test_a_shop_without_documents_fails_and_says_which_are_missing(
    tracktors: dict[str, Sandbox],
) -> None:
    shops = [SweptShop("oslo"), three()[0]]
    report = swept(EMAILS, shops, parameters={"dry_run": True})
    reason = outcome_of(report, "oslo").reason
    assert "credentials: there is no block tracktor-credentials/oslo" in reason
    assert "tracktor-shopify-orders/oslo or tracktor-order-file/oslo" in reason
    assert "mailer: there is no block tracktor-mailer/oslo" in reason
    assert report.failed == ("oslo",)
    assert report.done == ("berlin",)


def test_a_parameter_of_another_type_fails_its_shop_alone(tracktors: dict[str, Sandbox]) -> None:
    shops = three(berlin={"max_emails": "many"})[:2]
    report = swept(EMAILS, shops, parameters={"dry_run": True})
    assert outcome_of(report, "berlin").reason == "ParameterTypeError; see its run"
    assert report.done == ("paris",)


def test_a_block_may_be_written_out_and_a_wrong_one_fails_its_shop_alone(
    tracktors: dict[str, Sandbox],
) -> None:
    mailer = {"host": "smtp.example", "sender": "Berlin <a@berlin.example>"}
    shops = three(berlin={"mailer": mailer}, paris={"mailer": {}}, rome={"credentials": 5})
    report = swept(EMAILS, shops)
    assert [(one.outcome, one.mode) for one in report.shops] == [
        ("done", "dry_run"),
        ("failed", ""),
        ("failed", ""),
    ]


def test_a_dry_run_that_is_switched_off_in_words_is_none(tracktors: dict[str, Sandbox]) -> None:
    report = sweep_shops("announce_exceptions", three()[:1], parameters={"dry_run": "false"})
    assert report.mode == "live"


def test_orders_come_from_shopify_where_a_shop_has_that_document(
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


def test_a_document_of_another_name_can_be_named_for_all_shops(
    tracktors: dict[str, Sandbox], ledger: NotificationLedger
) -> None:
    ledger.save("common", overwrite=True)
    paris = three()[1:2]
    announce: SweepableFlow = "announce_exceptions"
    report = sweep_shops(announce, paris, parameters={"ledger": "common"})
    assert report.reports["paris"].announced
    assert ledger.standing(credentials_of(tracktors["paris"]).account).sent
    missing = swept(announce, paris, parameters={"ledger": "nowhere"})
    assert "ledger: there is no block" in outcome_of(missing, "paris").reason


def test_completed_orders_are_those_of_the_shop_or_of_all(
    tracktors: dict[str, Sandbox], tmp_path: Path
) -> None:
    paris, dry = three()[1:2], {"dry_run": True}
    account = credentials_of(tracktors["paris"]).account
    [some, *_] = tracktors["paris"].shop.order_ids
    given: dict[str, dict[str, Any]] = {
        "paris": {},
        "all-shops": {"reading": {"chunk_size": 10}},
        "other": {"reading": {"completed_orders": "other"}},
    }
    for name, options in given.items():
        completed = CompletedOrders(url=f"sqlite:///{tmp_path / name}.sqlite3")
        completed.remember(account, {some: datetime(2026, 1, 1, tzinfo=UTC)})
        completed.save(name)
        try:
            report = sweep_shops("announce_exceptions", paris, parameters=dry | options)
        finally:
            CompletedOrders.delete(name)
        assert some in report.reports["paris"].completed


def test_a_common_parameter_gives_way_to_a_shops_own(
    tracktors: dict[str, Sandbox], new_ledgers: None
) -> None:
    shops = three(paris={"max_emails": 0})[:2]
    report = swept(EMAILS, shops, parameters={"max_emails": 10})
    assert report.done == ("berlin",)
    assert "max_emails is 0" in outcome_of(report, "paris").reason


@pytest.mark.parametrize(
    ("shops", "options", "problem"),
    [
        ([], {}, "shops is empty"),
        (
            [SweptShop("berlin"), SweptShop("rome"), SweptShop("berlin")],
            {},
            r"shops\[2\]: 'berlin' is named twice",
        ),
        (
            [SweptShop("berlin")],
            {"parameters": {"max_mails": 1}},
            "parameters: .*no parameter 'max_mai",
        ),
        (
            [SweptShop("rome", {"x": 1})],
            {},
            r"shops\[0\].parameters: .*no parameter 'x'; it has cred",
        ),
        ([SweptShop("rome")], {"shops_at_once": 0}, "shops_at_once must be from 1 to 32, not 0"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_runs(
    tracktors: dict[str, Sandbox], shops: list[SweptShop], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        sweep_shops(EMAILS, shops, **options)
    assert not any(tracktor.calls for tracktor in tracktors.values())


@pytest.mark.parametrize(
    ("common", "own", "mode"),
    [
        (True, False, "live"),
        (False, True, "live"),
        ("false", "yes", "live"),
        (1, "no", "live"),
        (False, False, "dry_run"),
    ],
)
def test_a_shop_is_in_dry_run_if_the_sweep_or_the_shop_or_its_mailer_says_so(
    tracktors: dict[str, Sandbox], mail: MailServer, common: Any, own: Any, mode: str
) -> None:
    mailer = mailer_of(mail, mode=mode)
    shops = three(berlin={"dry_run": own, "mailer": mailer})[:1]
    report = sweep_shops(EMAILS, shops, parameters={"dry_run": common})
    assert report.reports["berlin"].due
    assert report.reports["berlin"].dry_run
    assert not mail.messages


def test_a_dry_run_that_is_neither_true_nor_false_is_refused(
    tracktors: dict[str, Sandbox], mail: MailServer
) -> None:
    with pytest.raises(InvalidInput, match="dry_run must be true or false"):
        sweep_shops(EMAILS, three(berlin={"dry_run": False}), parameters={"dry_run": "tru"})
    assert not mail.messages


def test_an_unknown_flow_is_refused_before_anything_runs(tracktors: dict[str, Sandbox]) -> None:
    with pytest.raises(ParameterTypeError, match="flow_name"):
        sweep_shops("email_everybody", three())  # type: ignore[call-overload]  # that is the test
    assert not any(tracktor.calls for tracktor in tracktors.values())


def test_the_same_account_under_two_names_is_refused(tracktors: dict[str, Sandbox]) -> None:
    credentials = {"credentials": credentials_of(tracktors["berlin"])}
    written_out = {"credentials": {"uuid": tracktors["berlin"].uuid, "api_key": API_KEY}}
    for of_paris in (credentials, written_out):
        with pytest.raises(InvalidInput, match="'berlin' and 'paris' have the same Tracktor acco"):
            sweep_shops(EMAILS, three(paris=of_paris))
    assert not any(tracktor.calls for tracktor in tracktors.values())


@pytest.mark.parametrize("name", ["", "Berlin", "berlin shop", "berlin_1", "../berlin", "-berlin"])
def test_a_name_that_no_document_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        SweptShop(name)


def test_every_flow_that_scans_or_syncs_can_be_swept() -> None:
    ready_made = {name for name in flows.__all__ if isinstance(getattr(flows, name), Flow)}
    # an event is of one shop; and a sweep of sweeps is none
    assert set(get_args(SweepableFlow)) == ready_made - {"notify_status_change", "sweep_shops"}


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


def test_a_sweep_says_the_modes_of_its_shops_wherever_people_look(
    tracktors: dict[str, Sandbox],
    mail: MailServer,
    new_ledgers: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rehearsal = mailer_of(mail, mode="rehearsal", rehearsal_address="me@shop.example")
    shops = three(paris={"mailer": mailer_of(mail, mode="dry_run")}, rome={"mailer": rehearsal})
    report = sweep_shops(EMAILS, shops)
    modes = "Live, rehearsal, dry run"
    assert [entry.mode for entry in report.shops] == ["live", "dry_run", "rehearsal"]
    assert [entry.report.mode for entry in report.shops] == ["live", "dry_run", "rehearsal"]
    sweep, runs = runs_of_the_sweep()
    assert sweep.name == f"{modes}: Sweep shops, {EMAILS}"
    assert {run.name for run in runs} == {
        "Live: shop berlin",
        "Dry run: shop paris",
        "Rehearsal: shop rome",
    }
    assert {"live", "rehearsal", "dry run"} <= set(sweep.tags)
    first = next(line for line in caplog.messages if line.startswith("Sweep"))
    assert first == f"Sweep of 3 shops, {EMAILS}: {modes.lower()}."
    assert sweep.state is not None
    assert str(sweep.state.message) == f"{modes}: 3 of 3 shops done."
    artifacts = artifacts_of(sweep)
    assert str(artifacts["sweep"].description).startswith(f"{modes}. The outcome")
    assert str(artifacts["sweep-summary"].data).startswith(f"# Sweep: {modes.lower()}\n")


ACCOUNT = {"uuid": "a" * 32, "api_key": "k"}
RULE = {"name": "late", "when": ["stalled"]}
CHANNEL = {"address": "https://hooks.example", "body": "{}", "mode": "live"}


@pytest.mark.parametrize(
    ("parameters", "modes"),
    [
        ({}, ["live"]),
        ({"dry_run": True, "mailer": "live"}, ["dry_run"]),
        ({"read_only": True}, ["dry_run"]),
        ({"read_only": True, "to": "anywhere"}, ["live"]),
        ({"mailer": "rehearsal"}, ["rehearsal"]),
        ({"rules": [RULE], "mailer": "rehearsal"}, ["rehearsal"]),
        ({"rules": [RULE | {"channel": CHANNEL}], "mailer": "dry_run"}, ["live"]),
        ({"rules": [RULE | {"channel": CHANNEL}]}, ["live"]),
        (
            {"rules": [RULE | {"channel": CHANNEL}], "digest": {"a": 1}, "mailer": "dry_run"},
            ["live", "dry_run"],
        ),
        ({"announce": ["stalled"], "read_only": True, "mailer": "live"}, ["dry_run"]),
        ({"export": "there", "mailer": "dry_run"}, ["live"]),
    ],
)
def test_what_a_shops_run_does_has_the_modes_of_its_blocks(
    parameters: dict[str, Any], modes: list[str]
) -> None:
    read_only = parameters.get("read_only", False)
    credentials = TracktorCredentials.model_validate(ACCOUNT | {"read_only": read_only})
    mode = parameters.get("mailer")
    mailer = mode and Mailer(
        host="smtp.example",
        sender="Shop <a@shop.example>",
        mode=mode,
        rehearsal_address="me@shop.example",
    )
    given = parameters | {"credentials": credentials, "mailer": mailer}
    assert ShopRun("berlin", given).modes == modes


def test_each_shop_has_a_run_of_its_own_and_no_record_holds_a_secret(
    tracktors: dict[str, Sandbox],
) -> None:
    given = {"credentials": credentials_of(tracktors["rome"])}
    common = {"dry_run": True, "max_emails": 50}
    sweep_shops(EMAILS, three(rome=given), parameters=common, shops_at_once=3)
    sweep, runs = runs_of_the_sweep()
    assert {run.name for run in runs} == {f"Dry run: shop {name}" for name in NAMES}
    assert {run.state_name for run in runs} == {"Completed"}
    record = "".join(run.model_dump_json() for run in (sweep, *runs))
    assert "max_emails" in record
    assert PASSWORD not in record
    assert API_KEY not in record
