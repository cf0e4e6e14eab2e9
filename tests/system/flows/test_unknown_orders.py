"""Runs that read suspiciously few orders fail."""

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
def test_a_run_without_orders_fails_unless_allowed(
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


def test_a_reconciliation_without_rows_fails_unless_allowed(server: OrderServer) -> None:
    with pytest.raises(InvalidInput, match=r"^desired contains no order"):
        reconcile_manual_statuses(server.credentials, [])
    assert reconcile_manual_statuses(
        server.credentials, [], reading=ReadingOptions(allow_empty=True)
    ).complete
    # a row without a desired status counts
    assert reconcile_manual_statuses(server.credentials, [DesiredStatus(1)]).skipped == (1,)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_run_is_incomplete_if_tracktor_knows_none_of_many_orders(
    server: OrderServer, flow: Callable[..., Any]
) -> None:
    unknown = list(range(101, 151))
    with pytest.raises(IncompleteRun, match=r"none of the 50 orders: the account exists") as raised:
        flow(server.credentials, unknown, dry_run=True)
    report = raised.value.report
    assert report.missing == tuple(unknown)
    assert report.calls == len(server.calls)


def test_the_error_names_an_unknown_account(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    server.gone = True
    with pytest.raises(IncompleteRun, match="not know the account either: check base_url and uuid"):
        announce_exceptions(server.credentials, list(server.orders), ledger=ledger)


def test_a_run_is_incomplete_once_when_most_orders_become_unknown(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    # with a name that no Prefect variable may have
    flow = announce_exceptions.with_options(name="Ausnahmen täglich melden")

    def run(orders: list[int], **options: Any) -> Any:
        return flow(server.credentials, orders, ledger=ledger, **options)

    known, most_unknown = list(range(1, 11)), list(range(1, 41))
    assert run(known).complete
    for dry_run in (True, False):
        with pytest.raises(IncompleteRun, match="does not know most of the orders, 30 of 40"):
            run(most_unknown, dry_run=dry_run)
    assert run(most_unknown).complete
    assert run(known).complete
    with pytest.raises(IncompleteRun, match="does not know most of the orders"):
        run(most_unknown)


def test_a_few_unknown_orders_do_not_fail_the_run(
    server: OrderServer, ledger: NotificationLedger
) -> None:
    report = announce_exceptions(server.credentials, [101, 102], ledger=ledger)
    assert report.missing == (101, 102)
    assert report.calls == len(server.calls) == 3


@pytest.mark.parametrize("order_id", [None, 1])
def test_an_event_of_an_unknown_account_fails_the_run(
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


def test_verify_fails_for_a_wrong_address_or_account(server: OrderServer) -> None:
    server.credentials.verify()
    server.gone = True
    with pytest.raises(NotFound, match="no such account at this address: check base_url and uuid"):
        server.credentials.verify()


def test_verify_fails_for_an_account_without_statuses(server: OrderServer) -> None:
    server.options = []
    with pytest.raises(InvalidResponse, match="check base_url and uuid"):
        server.credentials.verify()
