"""A run that read next to nothing is not green: no orders at all, or none that Tracktor knows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import (
    DesiredStatus,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    NotFound,
    NotificationLedger,
    OrderFile,
    ReadingOptions,
    StatusStage,
)
from prefect_tracktor.flows import (
    advance_custom_statuses,
    announce_exceptions,
    email_expired_exceptions,
    email_status_changes,
    notify_status_change,
    reconcile_manual_statuses,
)
from prefect_tracktor.sandbox import MailServer
from tests.support.mailers import mailer_at, mailer_of
from tests.support.orders import OrderServer, order, parcel

pytestmark = pytest.mark.usefixtures("prefect_api")

STAGES = [StatusStage("Sewing", 3)]
MAIL = {"mailer": mailer_at(25)}


@pytest.fixture
def server() -> Iterator[OrderServer]:
    with OrderServer() as server:
        server.orders = {number: order(number, parcel(number)) for number in range(1, 11)}
        yield server


FLOWS: list[Callable[..., Any]] = [
    lambda credentials, orders, **options: advance_custom_statuses(
        credentials, orders, STAGES, **options
    ),
    announce_exceptions,
    lambda credentials, orders, **options: email_expired_exceptions(
        credentials, orders, **(MAIL | options)
    ),
    lambda credentials, orders, **options: email_status_changes(
        credentials, orders, **(MAIL | options)
    ),
]


@pytest.mark.parametrize("flow", FLOWS)
def test_no_orders_at_all_are_an_error_unless_they_may_be(
    server: OrderServer, tmp_path: Path, flow: Callable[..., Any]
) -> None:
    header = tmp_path / "export.csv"
    header.write_text("Name,Id\n")
    file = OrderFile(path=str(header))
    with pytest.raises(InvalidInput, match="contains no order"):
        flow(server.credentials, [], dry_run=True)
    if flow is announce_exceptions:
        with pytest.raises(InvalidInput, match="contains no order"):
            flow(server.credentials, file, dry_run=True)
    allowed = ReadingOptions(allow_empty=True)
    assert flow(server.credentials, file, dry_run=True, reading=allowed).read == ()


def test_no_rows_at_all_are_an_error_unless_they_may_be(server: OrderServer) -> None:
    with pytest.raises(InvalidInput, match=r"^desired contains no order"):
        reconcile_manual_statuses(server.credentials, [])
    assert reconcile_manual_statuses(
        server.credentials, [], reading=ReadingOptions(allow_empty=True)
    ).complete
    # a row that asks for nothing is one all the same
    assert reconcile_manual_statuses(server.credentials, [DesiredStatus(1)]).skipped == (1,)


@pytest.mark.parametrize("flow", FLOWS)
def test_that_none_of_many_orders_is_known_leaves_the_run_incomplete(
    server: OrderServer, flow: Callable[..., Any]
) -> None:
    unknown = list(range(101, 151))
    with pytest.raises(IncompleteRun, match=r"none of the 50 orders: the account exists") as raised:
        flow(server.credentials, unknown, dry_run=True)
    report = raised.value.report
    assert report.missing == tuple(unknown)
    assert report.calls == len(server.calls)


def test_that_the_account_is_unknown_too_is_said(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    server.gone = True
    with pytest.raises(IncompleteRun, match="not know the account either: check base_url and uuid"):
        announce_exceptions(server.credentials, list(server.orders), ledger=ledger)


def test_that_most_orders_are_unknown_is_said_when_it_is_new(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    def run(orders: list[int], **options: Any) -> Any:
        return announce_exceptions(server.credentials, orders, ledger=ledger, **options)

    known, most_unknown = list(range(1, 11)), list(range(1, 41))
    assert run(known).complete
    for dry_run in (True, False):
        with pytest.raises(IncompleteRun, match="does not know most of the orders, 30 of 40"):
            run(most_unknown, dry_run=dry_run)
    assert run(most_unknown).complete
    assert run(known).complete
    with pytest.raises(IncompleteRun, match="does not know most of the orders"):
        run(most_unknown)


def test_a_few_unknown_orders_are_in_the_report_alone(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    report = announce_exceptions(server.credentials, [101, 102], ledger=ledger)
    assert report.missing == (101, 102)
    assert report.calls == len(server.calls) == 3


@pytest.mark.parametrize("order_id", [None, 1])
def test_an_event_that_no_account_knows_of_is_not_green(
    server: OrderServer, ledger: NotificationLedger, order_id: int | None
) -> None:
    server.gone = True
    with MailServer() as mail, pytest.raises(IncompleteRun, match="check base_url and uuid"):
        notify_status_change(
            server.credentials,
            70_001,
            mailer_of(mail, ledger=ledger),
            status="in_transit",
            order_id=order_id,
            retry_delays_seconds=[],
        )


def test_verify_finds_a_wrong_address_or_account_first(server: OrderServer) -> None:
    server.credentials.verify()
    server.gone = True
    with pytest.raises(NotFound, match="no such account at this address: check base_url and uuid"):
        server.credentials.verify()


def test_verify_takes_an_account_without_statuses_for_none(server: OrderServer) -> None:
    server.options = []
    with pytest.raises(InvalidResponse, match="check base_url and uuid"):
        server.credentials.verify()
