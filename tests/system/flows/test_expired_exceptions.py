"""The flow from orders to mailboxes: the right customers, once, and nothing in silence."""

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
    """A smaller shop: six customers ought to be written to."""
    with Sandbox(Shop(orders=30, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def right(tracktor: Sandbox) -> list[str]:
    """The customers who ought to be written to, found by looking at every order."""
    return sorted(
        str(order["order_email"])
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        if order["order_email"]
        and any(
            parcel["exception_status"] == "expired" and parcel["shipment_status"] != "delivered"
            for parcel in order["fulfillments"]
        )
    )


def test_three_runs_write_once_to_exactly_the_right_customers(
    run: Run, mail: MailServer, right: list[str]
) -> None:
    first = run()
    assert sorted(written_to(mail)) == right
    assert len(first.sent) == len(right) == 6
    assert len(first.read) == 30
    assert first.complete
    second, third = run(), run()
    assert sorted(written_to(mail)) == right
    assert second.already_told == third.already_told == first.sent
    assert second.sent == second.due == ()


def test_without_a_ledger_it_goes_by_that_of_the_deployments(
    run: Run,
    mail: MailServer,
    right: list[str],
    ledger: NotificationLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "of-the-deployments")
    ledger.save("of-the-deployments", overwrite=True)
    run(ledger=ledger)
    assert len(run(ledger=None).already_told) == len(right)
    assert sorted(written_to(mail)) == right


def test_a_message_says_what_the_customer_needs_and_answers_go_where_the_shop_wants_them(
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
        told = expired and parcel["shipment_status"] != "delivered"
        assert (str(parcel["tracking_number"]) in text.get_content()) == told


def test_a_dry_run_shows_and_sends_nothing_and_needs_no_mail_server(
    run: Run, mail: MailServer, right: list[str]
) -> None:
    rehearsal = {"mode": "rehearsal", "rehearsal_address": "staff@shop.example"}
    for option in ({"dry_run": True}, {"dry_run": True} | rehearsal, {"mode": "dry_run"}):
        report = run(**option)
        assert report.dry_run
        assert len(report.due) == len(right)
        assert report.sent == ()
        assert not mail.messages
        mail.stop()
    mail.start()
    assert len(run().sent) == len(right), "a dry run must not count as having told anybody"


def test_only_a_live_mailer_writes_to_customers_also_if_a_copy_never_checked_its_mode(
    run: Run, mail: MailServer, mailer: Mailer, right: list[str]
) -> None:
    staff = "staff@sandbox-shop.example"
    for mode in ("dry_run", "Live", "nonsense"):
        run(mailer=mailer.model_copy(update={"mode": mode, "rehearsal_address": staff}))
        assert not mail.messages, mode
    report = run(mailer=mailer.model_copy(update={"mode": "rehearsal", "rehearsal_address": staff}))
    assert set(written_to(mail)) == {staff}
    assert len(report.rehearsed) == len(right)
    assert report.sent == ()
    assert all(m.message["Subject"].startswith("[Rehearsal]") for m in mail.messages)
    mail.clear()
    run()
    assert sorted(written_to(mail)) == right


def test_more_messages_than_allowed_stop_the_run_before_the_first(
    run: Run, mail: MailServer
) -> None:
    with pytest.raises(LimitExceeded, match="6 messages are due and max_emails is 5"):
        run(max_emails=5)
    assert not mail.messages
    assert len(run(max_emails=6).sent) == 6


def test_other_exceptions_have_words_of_their_own(run: Run, mail: MailServer) -> None:
    statuses = frozenset({ExceptionStatus.EXPIRED, ExceptionStatus.UNDELIVERED})
    assert len(run(exception_statuses=statuses).sent) > 6
    subjects = [received.message["Subject"].partition(": ")[2] for received in mail.messages]
    assert subjects.count("the tracking has stopped") == 6
    assert len(set(subjects)) > 1


def test_an_order_that_the_template_fails_for_fails_alone(
    run: Run, mail: MailServer, tracktor: Sandbox, right: list[str]
) -> None:
    first = next(iter(tracktor.shop.customers_to_write_to()))
    name = tracktor.shop.order(first)["order_name"]
    template = EmailTemplate(subject=f"{{{{ 1 // (0 if order.order_name == '{name}' else 1) }}}}")
    with pytest.raises(IncompleteRun, match="subject") as incomplete:
        run(template=template)
    assert [failure.id for failure in incomplete.value.report.failed] == [first]
    assert len(mail.messages) == len(right) - 1


def test_a_template_that_fails_for_every_order_stops_the_run(run: Run, mail: MailServer) -> None:
    with pytest.raises(TemplateError, match="subject"):
        run(template=EmailTemplate(subject="{{ 1 // (order.order_id - order.order_id) }}"))
    assert not mail.messages


def test_orders_come_from_a_file_too(
    run: Run, mail: MailServer, tracktor: Sandbox, right: list[str], tmp_path: Path
) -> None:
    tracktor.shop.write_orders_csv(tmp_path / "orders.csv")
    run(orders=OrderFile(path=str(tmp_path / "orders.csv")), chunk_size=7)
    assert sorted(written_to(mail)) == right


def test_customers_of_orders_that_the_export_calls_cancelled_are_not_written_to(
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


def test_a_bad_line_stops_the_run_before_the_first_message(
    run: Run, mail: MailServer, tracktor: Sandbox, tmp_path: Path
) -> None:
    lines = ["Id", *map(str, tracktor.shop.order_ids), "5001x"]
    (tmp_path / "orders.csv").write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=r"orders\.csv.*32"):
        run(orders=OrderFile(path=str(tmp_path / "orders.csv")))
    assert not mail.messages


def test_unknown_orders_are_reported_and_end_nothing(
    run: Run, tracktor: Sandbox, right: list[str]
) -> None:
    report = run(orders=[1, *tracktor.shop.order_ids, 2])
    assert report.missing == (1, 2)
    assert len(report.sent) == len(right)
    assert report.complete


def test_orders_that_cannot_be_read_leave_the_run_visibly_incomplete(
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


def test_wrong_credentials_stop_the_run(run: Run, credentials: TracktorCredentials) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    with pytest.raises(AuthenticationError):
        run(credentials=wrong)


def test_a_limit_below_0_is_refused_before_anything_is_read(run: Run, tracktor: Sandbox) -> None:
    with pytest.raises(InvalidInput, match="max_emails"):
        run(max_emails=-1)
    assert not tracktor.calls


def test_a_mail_server_that_is_away_is_noticed_before_anything_is_read(
    run: Run, mail: MailServer, tracktor: Sandbox
) -> None:
    mail.stop()
    with pytest.raises(MailServerError):
        run()
    assert not tracktor.calls


def test_a_ledger_that_is_away_is_noticed_before_anything_is_read(
    run: Run, tracktor: Sandbox
) -> None:
    with pytest.raises(LedgerError), stamina.set_testing(True, attempts=1):
        run(ledger=NotificationLedger(url="postgresql://nobody@127.0.0.1:1/nothing"))
    assert not tracktor.calls


def test_an_address_that_does_not_exist_is_given_up_and_one_that_is_deferred_is_tried_again(
    run: Run, mail: MailServer, right: list[str]
) -> None:
    refused, *others = right
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


def test_an_address_that_nobody_is_taken_at_is_tried_again(
    run: Run, mail: MailServer, right: list[str]
) -> None:
    mail.faults = MailFaults(refused=frozenset(right))
    with pytest.raises(IncompleteRun) as caught:
        run()
    assert len(caught.value.report.deferred) == len(right)
    mail.faults = MailFaults()
    assert len(run().sent) == len(right)


def test_one_answer_for_everybody_ends_the_run_with_the_servers_words_and_what_helps(
    run: Run, right: list[str]
) -> None:
    refusal = "550 5.4.5 Daily user sending limit exceeded."
    with (
        scripted(**{".": [lambda: refusal]}) as server,
        pytest.raises(IncompleteRun, match=r"550 5\.4\.5 Daily user.*reached a limit") as caught,
    ):
        run(port=server.address.port)
    assert len(server.contents) == 3
    assert len(caught.value.report.deferred) == len(right)


def test_a_name_that_looks_encoded_stays_in_the_subject(run: Run, mail: MailServer) -> None:
    name = "=?utf-8?q?Ann=0D=0ABcc:_eve@evil.example=0D=0A=0D=0A<h1>Pay_again</h1>?="
    run(template=EmailTemplate(subject=f"{name}, about your order {{{{ order.order_name }}}}"))
    assert mail.messages
    for received in mail.messages:
        assert received.message["Subject"].startswith(f"{name}, about")
        assert received.message["Bcc"] is None
        assert received.message.get_content_type() == "multipart/alternative"


def test_a_message_that_may_have_arrived_is_reported_until_a_person_decides(
    run: Run, mail: MailServer, ledger: NotificationLedger, right: list[str]
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
    assert sorted(written_to(mail)) == right
    claims = [notice.key for notice in ledger.uncertain(older_than=timedelta(0))]
    assert ledger.confirm_uncertain(claims, older_than=timedelta(0)) >= 2
    assert run().complete
    assert sorted(written_to(mail)) == right


def test_a_connection_that_breaks_between_messages_is_made_anew(
    run: Run, mail: MailServer, right: list[str]
) -> None:
    mail.faults = MailFaults(drop_every=2)
    run()
    assert sorted(written_to(mail)) == right


def test_the_api_may_answer_in_any_of_its_forms(
    run: Run, tracktor: Sandbox, mail: MailServer, right: list[str]
) -> None:
    tracktor.response_format = ResponseFormat(
        wrapped=False,
        status_as_object=True,
        numbers_as_strings=True,
        empty_strings_for_null=True,
        times_without_offset=True,
    )
    run()
    assert sorted(written_to(mail)) == right


def test_every_kind_of_trouble_at_once_changes_nothing(
    run: Run, tracktor: Sandbox, mail: MailServer, right: list[str]
) -> None:
    tracktor.faults = Faults.everything(rate=0.4, seed=7)
    with stamina.set_testing(True, attempts=20):
        report = run()
    assert sorted(written_to(mail)) == right
    assert len(report.read) == 30
    assert sum(tracktor.faults_met.values()) > 5


def test_a_parcel_that_expires_later_is_told_about_on_its_own(
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


def test_what_another_run_claimed_is_left_to_it(
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


def test_the_run_leaves_a_table_and_a_summary_without_personal_data(
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


def test_nothing_that_is_kept_or_logged_holds_personal_data_or_the_key(
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
def test_affected_are_the_parcels_in_trouble_that_have_not_arrived(
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


def test_an_exception_without_any_parcel_is_no_answer() -> None:
    order = Order(order_id=1, exception_statuses=("expired",))
    with pytest.raises(InvalidResponse, match="none of its parcels has"):
        parcels_in_exception(order, EXPIRED)
