"""`email_expired_exceptions`: one email to each affected customer, and no silent miss."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, State
from prefect.settings import PREFECT_HOME

from prefect_tracktor import (
    AuthenticationError,
    EmailTemplate,
    IncompleteRun,
    InvalidInput,
    LimitExceeded,
    Mailer,
    NotificationLedger,
    Order,
    OrderFile,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.conditions import parcels_in_exception
from prefect_tracktor.errors import InvalidResponse, LedgerError, MailServerError, TemplateError
from prefect_tracktor.flows.expired_exceptions import EXPIRED
from prefect_tracktor.models import ExceptionStatus
from prefect_tracktor.sandbox import Faults, MailFaults, MailServer, ResponseFormat, Sandbox, Shop
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from tests.integration.messages.scripted import scripted
from tests.support.mailers import SENDER
from tests.system.flows.conftest import Run, written_to


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop with six affected customers."""
    with Sandbox(Shop(orders=30, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def customers(tracktor: Sandbox) -> list[str]:
    """The addresses of the affected customers, from the shop."""
    return sorted(
        str(order["order_email"])
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        if order["order_email"]
        and any(
            parcel["exception_status"] == "expired" and parcel["shipment_status"] != "delivered"
            for parcel in order["fulfillments"]
        )
    )


def test_three_runs_send_exactly_one_email_to_each_affected_customer(
    run: Run, mail: MailServer, customers: list[str]
) -> None:
    first = run()
    assert sorted(written_to(mail)) == customers
    assert len(first.sent) == len(customers) == 6
    assert len(first.read) == 30
    assert first.complete
    second, third = run(), run()
    assert sorted(written_to(mail)) == customers
    assert second.already_told == third.already_told == first.sent
    assert second.sent == second.due == ()


def test_a_mailer_without_a_ledger_uses_the_shared_one(
    run: Run,
    mail: MailServer,
    customers: list[str],
    ledger: NotificationLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "of-the-deployments")
    ledger.save("of-the-deployments", overwrite=True)
    run(ledger=ledger)
    assert len(run(ledger=None).already_told) == len(customers)
    assert sorted(written_to(mail)) == customers


def test_an_email_names_order_and_parcel_and_has_the_reply_to_address(
    run: Run, mail: MailServer, tracktor: Sandbox
) -> None:
    report = run(reply_to="Help <help@sandbox-shop.example>")
    received = mail.messages[0]
    order = tracktor.shop.order(report.sent[0])
    assert received.recipients == (order["order_email"],)
    message = received.message
    assert message["To"] == order["order_email"]
    assert str(message["From"]) == SENDER
    assert str(message["Reply-To"]) == "Help <help@sandbox-shop.example>"
    assert order["order_name"] in message["Subject"]
    text = message.get_body(("plain",))
    html = message.get_body(("html",))
    assert text is not None
    assert html is not None
    for parcel in order["fulfillments"]:
        expired = parcel["exception_status"] == "expired"
        is_named = expired and parcel["shipment_status"] != "delivered"
        assert (str(parcel["tracking_number"]) in text.get_content()) == is_named


def test_a_dry_run_lists_due_emails_and_sends_none(
    run: Run, mail: MailServer, customers: list[str]
) -> None:
    rehearsal = {"mode": "rehearsal", "rehearsal_address": "staff@shop.example"}
    for option in ({"dry_run": True}, {"dry_run": True} | rehearsal, {"mode": "dry_run"}):
        report = run(**option)
        assert report.dry_run
        assert len(report.due) == len(customers)
        assert report.sent == ()
        assert not mail.messages
        mail.stop()
    mail.start()
    assert len(run().sent) == len(customers), "a dry run records nothing"


def test_only_a_mailer_in_live_mode_sends_to_customers(
    run: Run, mail: MailServer, mailer: Mailer, customers: list[str]
) -> None:
    staff = "staff@sandbox-shop.example"
    for mode in ("dry_run", "Live", "nonsense"):
        run(mailer=mailer.model_copy(update={"mode": mode, "rehearsal_address": staff}))
        assert not mail.messages, mode
    report = run(mailer=mailer.model_copy(update={"mode": "rehearsal", "rehearsal_address": staff}))
    assert set(written_to(mail)) == {staff}
    assert len(report.rehearsed) == len(customers)
    assert report.sent == ()
    assert all(m.message["Subject"].startswith("[Rehearsal]") for m in mail.messages)
    mail.clear()
    run()
    assert sorted(written_to(mail)) == customers


def test_too_many_emails_stop_the_run_before_the_first(run: Run, mail: MailServer) -> None:
    with pytest.raises(LimitExceeded, match="6 messages are due and max_emails is 5"):
        run(max_emails=5)
    assert not mail.messages
    assert len(run(max_emails=6).sent) == 6


def test_each_exception_has_a_different_text(run: Run, mail: MailServer) -> None:
    statuses = frozenset({ExceptionStatus.EXPIRED, ExceptionStatus.UNDELIVERED})
    assert len(run(exception_statuses=statuses).sent) > 6
    subjects = [received.message["Subject"].partition(": ")[2] for received in mail.messages]
    assert subjects.count("the tracking has stopped") == 6
    assert len(set(subjects)) > 1


def test_a_template_error_for_one_order_fails_only_that_order(
    run: Run, mail: MailServer, tracktor: Sandbox, customers: list[str]
) -> None:
    first = next(iter(tracktor.shop.customers_to_write_to()))
    name = tracktor.shop.order(first)["order_name"]
    template = EmailTemplate(subject=f"{{{{ 1 // (0 if order.order_name == '{name}' else 1) }}}}")
    with pytest.raises(IncompleteRun, match="subject") as incomplete:
        run(template=template)
    assert [failure.id for failure in incomplete.value.report.failed] == [first]
    assert len(mail.messages) == len(customers) - 1


def test_a_template_error_for_every_order_stops_the_run(run: Run, mail: MailServer) -> None:
    with pytest.raises(TemplateError, match="subject"):
        run(template=EmailTemplate(subject="{{ 1 // (order.order_id - order.order_id) }}"))
    assert not mail.messages


def test_orders_can_come_from_a_file(
    run: Run, mail: MailServer, tracktor: Sandbox, customers: list[str], tmp_path: Path
) -> None:
    tracktor.shop.write_orders_csv(tmp_path / "orders.csv")
    run(orders=OrderFile(path=str(tmp_path / "orders.csv")), chunk_size=7)
    assert sorted(written_to(mail)) == customers


def test_cancelled_orders_of_an_export_get_no_email(
    run: Run, tracktor: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled, refunded, unsent, *others = tracktor.shop.customers_to_write_to()
    rows = [
        "Financial Status,Fulfillment Status,Cancelled at,Id",
        f"paid,fulfilled,2026-10-03 09:00:00 -0400,{cancelled}",
        f"refunded,fulfilled,,{refunded}",
        f"paid,unfulfilled,,{unsent}",
        *(f"paid,fulfilled,,{order_id}" for order_id in others),
    ]
    (tmp_path / "orders.csv").write_text("\n".join([*rows, ""]))
    report = run(orders=OrderFile(path=str(tmp_path / "orders.csv")))
    assert set(report.sent) == set(others)
    assert report.left_out == {"cancelled": 1, "refunded": 1, "unfulfilled": 1}
    assert report.counts["left out as refunded"] == 1
    assert "Orders left out: 1 cancelled, 1 refunded, 1 unfulfilled." in caplog.text
    assert others


def test_an_invalid_line_of_a_file_stops_the_run_before_the_first_email(
    run: Run, mail: MailServer, tracktor: Sandbox, tmp_path: Path
) -> None:
    lines = ["Id", *map(str, tracktor.shop.order_ids), "5001x"]
    (tmp_path / "orders.csv").write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=r"orders\.csv.*32"):
        run(orders=OrderFile(path=str(tmp_path / "orders.csv")))
    assert not mail.messages


def test_unknown_orders_are_reported_and_do_not_stop_the_run(
    run: Run, tracktor: Sandbox, customers: list[str]
) -> None:
    report = run(orders=[1, *tracktor.shop.order_ids, 2])
    assert report.missing == (1, 2)
    assert len(report.sent) == len(customers)
    assert report.complete


def test_unreadable_orders_make_the_run_incomplete(
    run: Run, tracktor: Sandbox, credentials: TracktorCredentials, mail: MailServer
) -> None:
    hasty = credentials.model_copy(update={"limits": TransportLimits(max_attempts=1)})
    tracktor.faults = Faults(server_error=0.3, seed=4)
    with pytest.raises(IncompleteRun, match="could not be read") as caught:
        run(credentials=hasty)
    report = caught.value.report
    assert report.failed
    assert len(report.read) + len(report.failed) == 30
    assert len(report.sent) == len(mail.messages)
    tracktor.faults = Faults()
    run()
    assert len(written_to(mail)) == len(set(written_to(mail))) == 6


def test_wrong_credentials_stop_the_email_run(run: Run, credentials: TracktorCredentials) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    with pytest.raises(AuthenticationError):
        run(credentials=wrong)


def test_a_negative_max_emails_is_refused_before_reading(run: Run, tracktor: Sandbox) -> None:
    with pytest.raises(InvalidInput, match="max_emails"):
        run(max_emails=-1)
    assert not tracktor.calls


def test_an_unreachable_mail_server_stops_the_run_before_reading(
    run: Run, mail: MailServer, tracktor: Sandbox
) -> None:
    mail.stop()
    with pytest.raises(MailServerError):
        run()
    assert not tracktor.calls


def test_an_unreachable_ledger_stops_the_run_before_reading(run: Run, tracktor: Sandbox) -> None:
    with pytest.raises(LedgerError), stamina.set_testing(True, attempts=1):
        run(ledger=NotificationLedger(url="postgresql://nobody@127.0.0.1:1/nothing"))
    assert not tracktor.calls


def test_a_refused_address_is_given_up_and_a_deferred_one_is_retried(
    run: Run, mail: MailServer, customers: list[str]
) -> None:
    refused, *others = customers
    mail.faults = MailFaults(
        refused=frozenset({refused}), deferred=frozenset(others[:2]), deferrals=99
    )
    with pytest.raises(IncompleteRun, match="the next run tries again") as caught:
        run()
    report = caught.value.report
    assert (len(report.refused), len(report.deferred)) == (1, 2)
    assert sorted(written_to(mail)) == others[2:]
    mail.faults = MailFaults()
    again = run()
    assert again.refused == report.refused
    assert again.sent == report.deferred
    assert sorted(written_to(mail)) == others


def test_refused_addresses_are_retried_if_the_server_accepted_none(
    run: Run, mail: MailServer, customers: list[str]
) -> None:
    mail.faults = MailFaults(refused=frozenset(customers))
    with pytest.raises(IncompleteRun) as caught:
        run()
    assert len(caught.value.report.deferred) == len(customers)
    mail.faults = MailFaults()
    assert len(run().sent) == len(customers)


def test_the_same_refusal_for_every_address_ends_the_run_with_a_remedy(
    run: Run, customers: list[str]
) -> None:
    refusal = "550 5.4.5 Daily user sending limit exceeded."
    with (
        scripted(**{".": [lambda: refusal]}) as server,
        pytest.raises(IncompleteRun, match=r"550 5\.4\.5 Daily user.*reached a limit") as caught,
    ):
        run(port=server.port)
    assert len(server.contents) == 3
    assert len(caught.value.report.deferred) == len(customers)


def test_text_that_looks_like_an_encoded_header_stays_in_the_subject(
    run: Run, mail: MailServer
) -> None:
    name = "=?utf-8?q?Ann=0D=0ABcc:_eve@evil.example=0D=0A=0D=0A<h1>Pay_again</h1>?="
    run(template=EmailTemplate(subject=f"{name}, about your order {{{{ order.order_name }}}}"))
    assert mail.messages
    for received in mail.messages:
        assert received.message["Subject"].startswith(f"{name}, about")
        assert received.message["Bcc"] is None
        assert received.message.get_content_type() == "multipart/alternative"


def test_an_uncertain_email_is_reported_until_a_person_confirms_it(
    run: Run, mail: MailServer, ledger: NotificationLedger, customers: list[str]
) -> None:
    from datetime import timedelta

    mail.faults = MailFaults(drop_after_data=3)
    with pytest.raises(
        IncompleteRun, match="an interrupted run may have sent the message"
    ) as caught:
        run()
    uncertain = caught.value.report.uncertain
    assert len(uncertain) == 2
    mail.faults = MailFaults()
    with pytest.raises(IncompleteRun) as again:
        run()
    assert sorted(again.value.report.uncertain) == sorted(uncertain)
    assert sorted(written_to(mail)) == customers
    claims = [notice.key for notice in ledger.uncertain(older_than=timedelta(0))]
    assert ledger.confirm_uncertain(claims, older_than=timedelta(0)) >= 2
    assert run().complete
    assert sorted(written_to(mail)) == customers


def test_a_lost_smtp_connection_is_opened_again(
    run: Run, mail: MailServer, customers: list[str]
) -> None:
    mail.faults = MailFaults(drop_every=2)
    run()
    assert sorted(written_to(mail)) == customers


def test_the_same_emails_are_sent_for_any_response_format(
    run: Run, tracktor: Sandbox, mail: MailServer, customers: list[str]
) -> None:
    tracktor.response_format = ResponseFormat(
        wrapped=False,
        status_as_object=True,
        numbers_as_strings=True,
        empty_strings_for_null=True,
        times_without_offset=True,
    )
    run()
    assert sorted(written_to(mail)) == customers


def test_the_same_emails_are_sent_despite_faults_of_every_kind(
    run: Run, tracktor: Sandbox, mail: MailServer, customers: list[str]
) -> None:
    tracktor.faults = Faults.everything(rate=0.4, seed=7)
    with stamina.set_testing(True, attempts=20):
        report = run()
    assert sorted(written_to(mail)) == customers
    assert len(report.read) == 30
    assert sum(tracktor.faults_met.values()) > 5


def test_a_parcel_that_expires_later_gets_a_separate_email(
    run: Run, tracktor: Sandbox, mail: MailServer
) -> None:
    order = next(
        order
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        if len(order["fulfillments"]) == 2
        and order["order_email"]
        and not any(order["exception_statuses"])
    )
    first, second = (parcel["fulfillment_id"] for parcel in order["fulfillments"])
    numbers = [str(parcel["tracking_number"]) for parcel in order["fulfillments"]]
    for fulfillment_id, number, other in ((first, *numbers), (second, *reversed(numbers))):
        tracktor.shop.set_parcel(
            fulfillment_id, shipment_status="in_transit", exception_status="expired"
        )
        mail.clear()
        run(orders=[order["order_id"]])
        [received] = mail.messages
        text = received.message.get_body(("plain",))
        assert text is not None
        assert number in text.get_content()
        assert other not in text.get_content()


def test_a_notice_claimed_by_another_run_is_not_sent(
    run: Run,
    tracktor: Sandbox,
    mail: MailServer,
    ledger: NotificationLedger,
    credentials: TracktorCredentials,
) -> None:
    order_id = next(iter(tracktor.shop.customers_to_write_to()))
    keys = [
        NoticeKey(credentials.account, order_id, parcel["fulfillment_id"], "exception:expired")
        for parcel in tracktor.shop.order(order_id)["fulfillments"]
    ]
    ledger.claim(keys, run="other")
    with pytest.raises(IncompleteRun) as caught:
        run()
    assert caught.value.report.uncertain == (order_id,)
    assert len(mail.messages) == 5
    ledger.complete(keys, NoticeState.SENT, run="other")
    assert order_id in run().already_told


async def artifacts_of(state: State[Any]) -> list[Artifact]:
    async with get_client() as client:
        run_id = state.state_details.flow_run_id
        return await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        )


def test_a_run_publishes_a_table_and_a_summary_without_personal_data(
    run: Run, tracktor: Sandbox
) -> None:
    state: Any = run(return_state=True)
    shown = asyncio.run(artifacts_of(state))
    kinds = {artifact.key: artifact for artifact in shown if artifact.key}
    assert {"expired-exceptions", "expired-exceptions-summary"} <= kinds.keys()
    table = json.loads(str(kinds["expired-exceptions"].data))
    outcomes = [row["Outcome"] for row in table]
    assert outcomes.count("Sent") == 6
    everything = " ".join(str(artifact.data) for artifact in shown)
    for order in map(tracktor.shop.order, tracktor.shop.order_ids):
        assert str(order["order_email"] or "nobody@") not in everything
        assert str(order["customer_last_name"] or "no name") not in everything


def test_logs_and_stored_files_hold_no_personal_data_and_no_api_key(
    run: Run, tracktor: Sandbox, credentials: TracktorCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    tracktor.faults = Faults.everything(rate=0.3, seed=2)
    hasty = credentials.model_copy(update={"limits": TransportLimits(max_attempts=2)})
    before = set(PREFECT_HOME.value().rglob("*"))
    caplog.set_level("DEBUG")
    with pytest.raises(IncompleteRun):
        run(credentials=hasty)
    written = [p for p in set(PREFECT_HOME.value().rglob("*")) - before if p.is_file()]
    ours = "\n".join(
        record.getMessage() for record in caplog.records if "mail.log" not in record.name
    )
    kept = b" ".join(path.read_bytes() for path in written if "sqlite" not in path.name)
    private = [str(o["order_email"]) for o in map(tracktor.shop.order, tracktor.shop.order_ids)]
    for secret in [tracktor.api_key, *filter("None".__ne__, private)]:
        assert secret not in ours
        assert secret.encode() not in kept


PARCEL = st.fixed_dictionaries(
    {
        "fulfillment_id": st.integers(1, 10**12),
        "exception_status": st.sampled_from(["expired", "pending", "brand new", "", None]),
        "shipment_status": st.sampled_from(["in_transit", "delivered", "Sewing", None]),
        "latest_status": st.sampled_from([None, {"key": "delivered"}, {"key": "in_transit"}]),
    }
)


@given(st.lists(PARCEL, max_size=5, unique_by=lambda parcel: str(parcel["fulfillment_id"])))
def test_undelivered_parcels_with_the_exception_are_affected(
    parcels: list[dict[str, Any]],
) -> None:
    order = Order.model_validate({"order_id": 1, "fulfillments": parcels})
    delivered = [
        p["shipment_status"] == "delivered" or p["latest_status"] == {"key": "delivered"}
        for p in parcels
    ]
    expected = [
        parcel["fulfillment_id"]
        for parcel, arrived in zip(parcels, delivered, strict=True)
        if parcel["exception_status"] == "expired" and not arrived
    ]
    assert [p.fulfillment_id for p in parcels_in_exception(order, EXPIRED)] == expected


def test_an_exception_that_no_parcel_has_makes_the_order_unreadable() -> None:
    order = Order(order_id=1, exception_statuses=("expired",))
    with pytest.raises(InvalidResponse, match="none of its parcels has"):
        parcels_in_exception(order, EXPIRED)
