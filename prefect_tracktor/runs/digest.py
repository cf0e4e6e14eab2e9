"""The job of reporting to the team what needs attention in a shop, new orders first."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from inspect import iscoroutine
from typing import Any, ClassVar
from uuid import uuid4

from prefect import runtime
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prefect_tracktor.conditions import (
    Condition,
    conditions_of,
    probable_typos,
    requested_conditions,
)
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput, InvalidResponse, MailServerError, TracktorError
from prefect_tracktor.figures import CarrierFigures, Digest
from prefect_tracktor.forms import FORM
from prefect_tracktor.messages.delivery import Delivery, DeliveryOutcome
from prefect_tracktor.messages.email import compose, validated_address
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.smtp import MailSession
from prefect_tracktor.messages.template import RenderedEmail
from prefect_tracktor.models import Order
from prefect_tracktor.reporting.artifacts import publish_charts, publish_table
from prefect_tracktor.reporting.markdown import Link, Row
from prefect_tracktor.runs.cases import Case, Outcome
from prefect_tracktor.runs.checks import refuse_completed
from prefect_tracktor.runs.engine import Job
from prefect_tracktor.runs.needs import TO_WATCH
from prefect_tracktor.runs.report import Listed, RunReport
from prefect_tracktor.storage.ledger import WHOLE_ORDER, NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.table_files import csv_text
from prefect_tracktor.thresholds import Delay, Thresholds

# the limit of the strictest notification service
_CHARACTERS_AT_MOST = 1800
_ROWS_IN_A_MAIL = 50
_ROWS_AT_MOST = 5000


class TeamDigest(BaseModel):
    """The team's report: content and recipients.

    Attributes:
        notify: A saved notification block of any kind, its type and name, as
            `slack-webhook/team`; empty for none.
        mail_to: Addresses of the team, which get an email with a CSV file; it needs a mailer.
        period_days: Also report how carriers did in so many days, such as 7 for a weekly report; 0
            for no such figures. Such a report is also sent if nothing is new.
        conditions: Which exceptions and delays to report, such as exception:expired,
            exception:all, stalled.
        name: The ledger records reports under this name. A report with another name, such as a
            weekly one, has a record of its own.

    Raises:
        pydantic.ValidationError: A value is invalid; the message names the field.

    Example:
        >>> TeamDigest(notify="slack-webhook/team", period_days=7).name
        'team'
    """

    model_config = FORM | ConfigDict(title="Digest")

    notify: str = Field(default="", pattern=r"^$|^[a-z0-9-]+/[a-z0-9-]+$")
    mail_to: tuple[str, ...] = Field(default=(), max_length=20)
    period_days: int = Field(default=0, ge=0, le=92)
    conditions: frozenset[str] = frozenset({"exception:all", *map(str, Delay)})
    name: str = Field(default="team", pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$", max_length=60)

    @field_validator("mail_to")
    @classmethod
    def _addresses_are_valid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(validated_address(address, field="mail_to") for address in value)

    @field_validator("conditions")
    @classmethod
    def _conditions_are_known(cls, value: frozenset[str]) -> frozenset[str]:
        if requested_conditions(value, field="conditions").statuses.keys:
            raise ValueError("a digest is about exceptions and delays, not about statuses")
        return value


class DigestReport(RunReport):
    """The result of a report to the team; all ids are order ids.

    Attributes:
        reported: New orders, if they were sent, or shown in this run's table alone.
        rehearsed: New orders, if they went to the rehearsal address.
        recorded: New orders, if they were shown in this run's table alone.
        reported_before: Orders with nothing new.

    Example:
        >>> from prefect_tracktor.runs.cases import Ended
        >>> DigestReport(cases=(Ended(7, Outcome.SENT),)).reported
        (7,)
    """

    reported: ClassVar[Listed] = Listed(Outcome.SENT, Outcome.RECORDED)
    rehearsed: ClassVar[Listed] = Listed(Outcome.REHEARSED)
    recorded: ClassVar[Listed] = Listed(Outcome.RECORDED)
    reported_before: ClassVar[Listed] = Listed(Outcome.ALREADY_TOLD)

    @property
    def new(self) -> tuple[int, ...]:
        """Orders with an exception or delay that no earlier report had."""
        return self.due


class DigestJob(Job[Order, Case, DigestReport]):
    """Reports to the team, and then records in the ledger what it reported.

    After an error between the two, the digest is sent again: better twice than never. Only an
    address that is refused for good, when others have the digest, does not count.
    """

    acting = "Orders reported"
    table = "What needs attention: new since the last report first, then by value and age."
    report_type = DigestReport
    needs = TO_WATCH

    def __init__(
        self,
        credentials: TracktorCredentials,
        ledger: NotificationLedger,
        to: TeamDigest,
        *,
        mailer: Mailer | None,
        thresholds: Thresholds,
        dry_run: bool,
    ) -> None:
        if to.mail_to and mailer is None:
            raise InvalidInput("mail_to needs a mailer: give one, or leave the addresses out")
        is_off = not Mode.sends(mailer.mode) if mailer else credentials.read_only
        super().__init__(title="Digest", key="digest", limit=None, dry_run=dry_run or is_off)
        self._account = credentials.account
        self._ledger = ledger
        self._to = to
        self._mailer = mailer
        self._thresholds = thresholds
        self._requested = requested_conditions(to.conditions)
        self.notes += probable_typos(self._requested)
        self._is_rehearsal = mailer is not None and mailer.mode == Mode.REHEARSAL
        self._mail_to = {f"mail_to[{place}]": to for place, to in enumerate(to.mail_to)}
        if mailer and self._is_rehearsal:
            self._mail_to = {"the rehearsal address": mailer.rehearsal_address}
        self._block: NotificationBlock | None = None
        self._news: list[NoticeKey] = []
        self._read = 0
        self._now = datetime.now(UTC)
        self._digest = Digest(self._now, rows_at_most=_ROWS_AT_MOST)
        self._figures = CarrierFigures(self._now - timedelta(days=to.period_days), self._now)

    @property
    def takes_effect(self) -> bool:
        """Whether the team gets the digest, and not only the rehearsal address."""
        return not self._is_rehearsal

    @property
    def has_work(self) -> bool:
        """Whether something is new, or figures of a period are wanted."""
        return bool(self.planned or self._to.period_days)

    def prepare(self) -> None:
        """Check the period, load the notification block, and log in to the mail server."""
        if days := self._to.period_days:
            refuse_completed(
                self.reading.options,
                2 * days,
                about="the digest has figures of a period and of the one before",
                lower="period_days of the digest",
            )
        self._block = _notification_block(self._to.notify) if self._to.notify else None
        if self._mailer and self._mail_to:
            with self.noted_in_dry_run(MailServerError):
                self._mailer.verify()

    def choose(self, orders: Sequence[Order]) -> None:
        """Add a case for each order with conditions, new ones or those of an earlier report."""
        found = {order.order_id: self._conditions(order) for order in orders}
        reported = self._ledger.states(key for conditions in found.values() for key in conditions)
        for order in orders:
            conditions = found[order.order_id]
            news = [key for key in conditions if key not in reported]
            self._read += 1
            self._digest.take(order, conditions.values(), is_new=bool(news))
            self._figures.take(order, conditions.values())
            self._news += news
            if conditions:
                outcome = Outcome.DUE if news else Outcome.ALREADY_TOLD
                self._add(order, outcome, planned=bool(news))

    def _conditions(self, order: Order) -> dict[NoticeKey, Condition]:
        try:
            found = conditions_of(order, self._thresholds, self._now, requested=self._requested)
            return {self._key(order.order_id, c): c for c in found if not c.cancelled}
        except (InvalidResponse, InvalidInput) as unreadable:
            self._add(order, Outcome.UNREADABLE, str(unreadable))
            return {}

    def _key(self, order_id: int, condition: Condition) -> NoticeKey:
        parcel = condition.parcel.fulfillment_id if condition.parcel else WHOLE_ORDER
        reason = f"digest:{self._to.name}:{condition.name}"
        return NoticeKey(self._account, order_id, parcel, reason)

    def _add(
        self, order: Order, outcome: Outcome, reason: str = "", *, planned: bool = False
    ) -> None:
        self.cases.append(
            Case(
                id=order.order_id,
                columns={"Order": str(order.order_id)},
                outcome=outcome,
                reason=reason,
                planned=planned,
            )
        )

    def act(self) -> Iterator[Case]:
        """Send the digest everywhere, then record what was reported."""
        run = str(runtime.flow_run.id or uuid4())
        deliveries = [*self._post(), *self._mail(run)]
        errors = "; ".join(delivery.reason for delivery in deliveries if delivery.reason)
        outcomes = {delivery.outcome for delivery in deliveries}
        only_refused = outcomes == {DeliveryOutcome.REFUSED}
        if only_refused or outcomes - {DeliveryOutcome.SENT, DeliveryOutcome.REFUSED}:
            raise TracktorError(
                f"the digest was not sent everywhere, so the next run repeats it: {errors}"
            )
        outcome = Outcome.SENT if deliveries else Outcome.RECORDED
        if self.takes_effect:
            self._ledger.complete(self._news, NoticeState.SENT, run=run)
        for case in self.planned:
            case.end(Outcome.REHEARSED if self._is_rehearsal else outcome)
            yield case
        if errors:  # repeated for one dead address, the digest would come to all others each time
            raise TracktorError(
                "the digest was sent, but not to an address that was refused for good; correct it"
                f" or remove it: {errors}"
            )

    def _post(self) -> Iterator[Delivery]:
        """Send the digest through the notification block."""
        if self._block is None or self._is_rehearsal:
            return
        text = "\n".join([self._lead, *self._within(_CHARACTERS_AT_MOST - len(self._lead))])
        try:
            with self._block.raise_on_failure():  # otherwise Prefect's blocks only log a failure
                notified: Any = self._block.notify(text, subject=self._subject)
                if iscoroutine(notified):  # a block of the user's, written like Prefect's base
                    run_coro_as_sync(notified)
        except Exception as error:  # noqa: BLE001  # each service has errors of its own
            # its text may repeat the address, which is a secret
            reason = f"{self._to.notify} did not accept it ({type(error).__name__})"
            yield Delivery(DeliveryOutcome.DEFERRED, reason)
        else:
            yield Delivery(DeliveryOutcome.SENT)

    def _mail(self, run: str) -> Iterator[Delivery]:
        """Send the digest to each address."""
        mailer = self._mailer
        if mailer is None or not self._mail_to:
            return
        try:
            with MailSession(mailer) as session:
                for place, recipient in self._mail_to.items():
                    message = compose(
                        self._email,
                        sender=mailer.sender_mailbox,
                        recipient=recipient,
                        reply_to=mailer.reply_to_mailbox,
                        message_key=f"{run} {self.key} {place}",
                        attachment=("digest.csv", self._csv),
                    )
                    sent = session.send(message, recipient=recipient)
                    yield replace(sent, reason=sent.reason and f"{place}: {sent.reason}")
        except MailServerError as down:
            yield Delivery(DeliveryOutcome.DEFERRED, str(down))

    @property
    def _subject(self) -> str:
        prefix = "[Rehearsal] " if self._is_rehearsal else ""
        return f"{prefix}{self._digest.new:,} new orders need attention"

    @property
    def _lead(self) -> str:
        known = self._digest.orders - self._digest.new
        unclear = sum(case.outcome is Outcome.UNREADABLE for case in self.cases)
        unread = len(self.reading.failed) + unclear
        missing = f" {unread:,} orders could not be read, and are not counted." if unread else ""
        return (
            f"{self._digest.new:,} new orders need attention; {known:,} were in an earlier report."
            f"{missing}"
        )

    def _lines(self) -> Iterator[str]:
        """Yield a line for each carrier and each order; the carriers first, as they are few."""
        carriers = self._carriers
        if carriers:
            yield f"Carriers in {self._to.period_days} days (and in those before):"
        for row in carriers:
            yield "- " + ", ".join(f"{name} {value}" for name, value in row.items())
        for row in self._digest.rows:
            days = f"{row['Days']} days" if row["Days"] else ""
            parts = [row["New"], row["Order"], row["Condition"], row["Carrier"], days, row["Value"]]
            yield "- " + ", ".join(str(part) for part in [*parts, _url(row["Order"])] if part)

    def _within(self, characters: int) -> Iterator[str]:
        """Yield as many lines as fit, and where the others are."""
        lines = list(self._lines())
        for place, line in enumerate(lines):
            characters -= len(line) + 1
            if characters < 0:
                where = runtime.flow_run.ui_url or "Prefect's UI"
                yield f"{len(lines) - place:,} more are in the run's table: {where}"
                return
            yield line

    @property
    def _email(self) -> RenderedEmail:
        rows = self._digest.rows
        lines = list(self._lines())
        lines = lines[: len(lines) - len(rows) + _ROWS_IN_A_MAIL]
        if more := len(rows) - _ROWS_IN_A_MAIL:
            lines += [f"{more:,} more are in the attached file."] if more > 0 else []
        tables = [self._carriers, rows[:_ROWS_IN_A_MAIL]]
        html = "".join(_html_table(table) for table in tables if table)
        return RenderedEmail(
            self._subject,
            "\n".join([self._lead, "", *lines]),
            f"<!doctype html><html><body><p>{escape(self._lead)}</p>{html}</body></html>",
        )

    @property
    def _csv(self) -> str:
        columns = ("new", "order_id", "order", "condition", "carrier", "days", "value", "link")
        names = ("New", "Order id", "Order", "Condition", "Carrier", "Days", "Value")
        rows = ([*(str(row[name]) for name in names), _url(row["Order"])] for row in self.rows)
        return csv_text(columns, (dict(zip(columns, row, strict=True)) for row in rows))

    @property
    def _carriers(self) -> list[Row]:
        return self._figures.table() if self._to.period_days else []

    @property
    def rows(self) -> Sequence[Row]:
        """The most important orders."""
        return self._digest.rows

    def publish(self) -> None:
        """Publish the charts with the trend, and the table of carriers."""
        publish_charts(
            "digest-charts",
            self._digest.charts(),
            title="What needs attention",
            lead=self._lead,
            description="Charts by condition, carrier and age.",
            counted=("Orders", self._digest.orders, self._read),
            series=f"{self._account}:{self._to.name}",
        )
        if self._carriers:
            days = self._to.period_days
            description = f"Carriers in the last {days} days; in brackets the {days} days before."
            publish_table("carriers", self._carriers, description=description)


def _notification_block(name: str) -> NotificationBlock:
    """Load a saved notification block of any kind."""
    try:
        block = Block.load(name)
    except Exception as error:  # noqa: BLE001  # a type that is not installed is a KeyError
        raise InvalidInput(
            f"notify: the block {name!r} cannot be loaded ({type(error).__name__}): write the type"
            " and the name of a saved notification block, as slack-webhook/team"
        ) from None
    if not isinstance(block, NotificationBlock):
        raise InvalidInput(f"notify: {name!r} is not a notification block")
    return block


def _url(cell: object) -> str:
    return cell.url if isinstance(cell, Link) else ""


def _html_table(rows: Sequence[Row]) -> str:
    head = "".join(f'<th align="left">{escape(name)}</th>' for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{_html_cell(cell)}</td>' for cell in row.values())}</tr>"
        for row in rows
    )
    return f'<table cellpadding="4"><tr>{head}</tr>{body}</table>'


def _html_cell(cell: object) -> str:
    url, text = _url(cell), escape(str(cell))
    return f'<a href="{escape(url)}">{text}</a>' if url else text
