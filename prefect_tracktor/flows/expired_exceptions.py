"""`email_expired_exceptions`: write to the customers whose parcels' tracking has expired.

Five steps, as in every flow: find, read, choose, act, report.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect_email import EmailServerCredentials

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import IncompleteRun, InvalidInput, LimitExceeded, UnreadableAnswer
from prefect_tracktor.flows.report import RunReport
from prefect_tracktor.flows.scan import Scan
from prefect_tracktor.mail.ledger import LedgerError, NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.mail.message import parse_mailbox, validated_address
from prefect_tracktor.mail.outbox import Correspondence, Letter, Outcome, outcome_of
from prefect_tracktor.mail.template import EmailTemplate
from prefect_tracktor.masking import mask_email
from prefect_tracktor.models import ExceptionStatus, Fulfillment, Order
from prefect_tracktor.reporting import Progress, publish_summary, publish_table, shown
from prefect_tracktor.settled import SettledOrders
from prefect_tracktor.sources import Orders

Row = dict[str, str | int]

EXPIRED = frozenset({ExceptionStatus.EXPIRED})


class ExpiredExceptionsReport(RunReport):
    """What a run of `email_expired_exceptions` found and did; order ids throughout.

    An order stands in several lists where its parcels fared differently.

    Attributes:
        affected: Those with an undelivered parcel in one of the exception statuses.
        due: Those whose customer was to be written to in this run.
        sent: Those whose customer was written to.
        rehearsed: Those whose message went to `redirect_to` instead.
        already_told: Those whose customer an earlier or simultaneous run wrote to.
        no_email: Those without a usable e-mail address.
        refused: Those whose address the mail server refused, now or earlier; not tried again.
        deferred: Those whose message could not be sent now; the next run tries again.
        uncertain: Those whose message may or may not have been sent by a run that was
            interrupted; never sent again unless a person clears the claim in the ledger.

    Example:
        >>> ExpiredExceptionsReport(read=(1, 2), affected=(2,), sent=(2,)).complete
        True
    """

    affected: tuple[int, ...] = ()
    due: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    rehearsed: tuple[int, ...] = ()
    already_told: tuple[int, ...] = ()
    no_email: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    deferred: tuple[int, ...] = ()
    uncertain: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return not (self.failed or self.deferred or self.uncertain)


@flow(name="E-mail expired exceptions", flow_run_name="email-expired-exceptions")
def email_expired_exceptions(
    credentials: TracktorCredentials,
    orders: Orders,
    email_server: EmailServerCredentials,
    *,
    sender: str,
    template: EmailTemplate | None = None,
    ledger: NotificationLedger | None = None,
    exception_statuses: frozenset[ExceptionStatus] = EXPIRED,
    dry_run: bool = False,
    max_emails: int = 500,
    redirect_to: str | None = None,
    reply_to: str | None = None,
    chunk_size: int = 500,
    settled: SettledOrders | None = None,
) -> ExpiredExceptionsReport:
    """Write once to each customer whose parcel's tracking has expired.

    One message per order names all its parcels that are affected, not delivered, and not yet told
    about. Nothing is sent before every order is read, every message is rendered, and their number
    is within the limit. Running it again, or twice at once, writes to nobody twice.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, or where to find them: in a file, or in Shopify.
        email_server: The mail server.
        sender: Who writes, such as "Your Shop <orders@your-shop.example>".
        template: What is written; the default speaks of expired tracking only.
        ledger: Where it is kept who was told what; by default a SQLite file in the Prefect home of
            the machine that runs this. Workers that do not share it need PostgreSQL.
        exception_statuses: Which exceptions to write about.
        dry_run: Show who would be written to, and send nothing.
        max_emails: If more messages than this are due, stop before the first.
        redirect_to: Send all messages to this address instead, as a rehearsal.
        reply_to: Where answers go; the sender by default.
        chunk_size: How many orders one task run reads.
        settled: What remembers the orders that can no longer change, so that these are not read
            again.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument cannot be right; nothing was read or sent.
        LimitExceeded: More than `max_emails` messages are due; nothing was sent.
        TemplateError: The template fails for an order; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        IncompleteRun: All that could be done was done, and something is left: orders that could
            not be read, messages deferred or uncertain. Its `report` says which.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> from prefect_tracktor.flows import email_expired_exceptions
        >>> report = email_expired_exceptions(
        ...     credentials,
        ...     order_ids,
        ...     EmailServerCredentials(smtp_server="smtp.example.com"),
        ...     sender="Your Shop <orders@your-shop.example>",
        ...     dry_run=True,
        ... )
        >>> len(report.due)
        20
    """
    if max_emails < 0:
        raise InvalidInput(f"max_emails must be 0 or more, not {max_emails}")
    orders_read = Scan(credentials, orders, chunk_size=chunk_size, settled=settled)
    correspondence = Correspondence(
        account=credentials.account,
        run=str(flow_run.get_id() or uuid4()),
        server=email_server,
        ledger=ledger or NotificationLedger(),
        template=_fitting_template(template, exception_statuses),
        sender=parse_mailbox(sender, field="sender"),
        reply_to=parse_mailbox(reply_to, field="reply_to") if reply_to else None,
        redirect_to=validated_address(redirect_to, field="redirect_to") if redirect_to else None,
    )
    if not dry_run:
        correspondence.check()
    findings = _Findings(orders_read, correspondence, exception_statuses, max_emails=max_emails)
    try:
        for batch in orders_read:
            findings.choose(batch)
        findings.refuse_too_many()
        if not dry_run:
            findings.act()
    finally:
        report = findings.report(dry_run=dry_run)
        _publish(report, findings.rows)
    if not report.complete:
        raise IncompleteRun(_what_is_left(report), report=report)
    return report


def affected_parcels(
    order: Order, exception_statuses: Collection[ExceptionStatus]
) -> tuple[Fulfillment, ...]:
    """The parcels that their customer should hear about: in trouble, and not delivered.

    Args:
        order: The order as Tracktor knows it.
        exception_statuses: Which exceptions count as trouble.

    Returns:
        The parcels, in the order's order.

    Raises:
        UnreadableAnswer: The order names such an exception and holds no parcels at all.

    Example:
        >>> order = Order(
        ...     order_id=1,
        ...     fulfillments=[
        ...         {"fulfillment_id": 7, "exception_status": "expired"},
        ...         {"fulfillment_id": 8, "exception_status": "expired",
        ...          "shipment_status": "delivered"},
        ...     ],
        ... )
        >>> [parcel.fulfillment_id for parcel in affected_parcels(order, EXPIRED)]
        [7]
    """
    if not order.fulfillments and set(order.exception_statuses) & set(exception_statuses):
        raise UnreadableAnswer("the order names an exception, but the answer holds no fulfillments")
    return tuple(
        parcel
        for parcel in order.fulfillments
        if parcel.exception_status in exception_statuses and not parcel.is_delivered
    )


@dataclass
class _Findings:
    """What a run knows so far: order ids by what became of them, and the letters to be sent."""

    scan: Scan
    correspondence: Correspondence
    exception_statuses: Collection[ExceptionStatus]
    max_emails: int
    affected: list[int] = field(default_factory=list)
    due: list[int] = field(default_factory=list)
    no_email: list[int] = field(default_factory=list)
    unreadable: list[Failure] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    known: dict[int, dict[NoticeKey, NoticeState]] = field(default_factory=dict)
    outcomes: dict[Outcome, list[int]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[int, Row] = field(default_factory=dict)

    def choose(self, batch: Batch[Order]) -> None:
        """Take in a chunk: who is affected, who was told before, whom to write to."""
        cases = {order.order_id: self._notices(order) for order in batch.found}
        states = self.correspondence.ledger.states(chain.from_iterable(cases.values()))
        for order in batch.found:
            if parcels := cases[order.order_id]:
                self._decide(order, parcels, states)
        if len(self.due) > self.max_emails:
            self.letters.clear()  # none will be sent, and memory is not endless

    def _notices(self, order: Order) -> dict[NoticeKey, Fulfillment]:
        """The affected parcels by what the ledger knows them by."""
        try:
            parcels = affected_parcels(order, self.exception_statuses)
        except UnreadableAnswer as unreadable:
            self.unreadable.append(Failure(order.order_id, str(unreadable)))
            return {}
        return {
            self.correspondence.key(order, parcel, f"exception:{parcel.exception_status}"): parcel
            for parcel in parcels
        }

    def _decide(
        self,
        order: Order,
        parcels: Mapping[NoticeKey, Fulfillment],
        states: Mapping[NoticeKey, NoticeState],
    ) -> None:
        self.affected.append(order.order_id)
        self.rows[order.order_id] = _row(order, parcels.values())
        known = {key: states[key] for key in parcels if key in states}
        news = {key: parcel for key, parcel in parcels.items() if key not in states}
        if known:
            self.known[order.order_id] = known
        if not news:
            return
        try:
            letter = self.correspondence.letter(order, news)
        except InvalidInput as unusable:
            self.no_email.append(order.order_id)
            reason = str(unusable) if order.order_email else ""
            self._describe(order.order_id, "No e-mail address", reason)
            return
        self.due.append(order.order_id)
        self.letters.append(letter)
        self._describe(order.order_id, "Due, not sent")

    def _describe(self, order_id: int, outcome: str, reason: str = "") -> None:
        self.rows[order_id] |= {"Outcome": outcome, "Reason": reason}

    def refuse_too_many(self) -> None:
        """Stop before the first message when there are more than allowed."""
        if len(self.due) > self.max_emails:
            raise LimitExceeded(
                f"{len(self.due)} messages are due and max_emails is {self.max_emails}: nothing was"
                " sent. Look at this run's table; if it is right, run again with a higher"
                " max_emails."
            )

    def act(self) -> None:
        """Send what is due."""
        if not self.letters:
            return
        total = len(self.letters)
        with Progress("tracktor-messages", description="Messages", total=total) as progress:
            for posted in self.correspondence.post(self.letters):
                order_id = posted.letter.order_id
                self.outcomes[posted.outcome].append(order_id)
                self._describe(order_id, posted.outcome.label, posted.reason)
                progress.advance(1)

    def report(self, *, dry_run: bool) -> ExpiredExceptionsReport:
        """All that is known now, with a last look at what other runs did."""
        for order_id, outcome in self._told_before().items():
            self.outcomes[outcome].append(order_id)
            if not self.rows[order_id]["Outcome"]:
                self._describe(order_id, outcome.label)
        sent = tuple(self.outcomes[Outcome.SENT])
        rehearsal = bool(self.correspondence.redirect_to)
        return ExpiredExceptionsReport(
            dry_run=dry_run,
            calls=self.scan.calls,
            read=tuple(self.scan.read),
            settled=tuple(self.scan.settled),
            missing=tuple(self.scan.missing),
            failed=(*self.scan.failed, *self.unreadable),
            affected=tuple(self.affected),
            due=tuple(self.due),
            sent=() if rehearsal else sent,
            rehearsed=sent if rehearsal else (),
            already_told=tuple(self.outcomes[Outcome.ALREADY_TOLD]),
            no_email=tuple(self.no_email),
            refused=tuple(self.outcomes[Outcome.REFUSED]),
            deferred=tuple(self.outcomes[Outcome.DEFERRED]),
            uncertain=tuple(self.outcomes[Outcome.UNCERTAIN]),
        )

    def _told_before(self) -> dict[int, Outcome]:
        then = dict(chain.from_iterable(states.items() for states in self.known.values()))
        try:
            # a claim that was open when we looked may have been settled since by its run
            now = self.correspondence.ledger.states(then)
        except LedgerError:
            now = then
        return {order_id: outcome_of(map(now.get, keys)) for order_id, keys in self.known.items()}


def _row(order: Order, parcels: Collection[Fulfillment]) -> Row:
    return {
        "Order": order.order_name or str(order.order_id),
        "Order id": str(order.order_id),
        "Parcels": len(parcels),
        "To": mask_email(order.order_email),
        "Outcome": "",
        "Reason": "",
    }


def _fitting_template(
    template: EmailTemplate | None, exception_statuses: Collection[ExceptionStatus]
) -> EmailTemplate:
    if not exception_statuses:
        raise InvalidInput("exception_statuses is empty: name at least one, such as 'expired'")
    if template is None and set(exception_statuses) != EXPIRED:
        raise InvalidInput(
            "the default template speaks of expired tracking only: give a template that fits"
            f" {', '.join(sorted(exception_statuses))}"
        )
    return template or EmailTemplate()


def _publish(report: ExpiredExceptionsReport, rows: Mapping[int, Row]) -> None:
    logger = get_run_logger()
    counts = report.counts
    logger.info(", ".join(f"{count} {name}" for name, count in counts.items() if count))
    publish_table(
        "expired-exceptions",
        list(rows.values()),
        description="Whom this run found with parcels in trouble, and what became of it.",
    )
    notes = [] if report.complete else [_what_is_left(report)]
    if report.dry_run:
        notes.append("This was a dry run: nothing was sent.")
    publish_summary(
        "expired-exceptions-summary",
        title="Customers with expired tracking",
        counts=counts,
        notes=notes,
    )


def _what_is_left(report: ExpiredExceptionsReport) -> str:
    left = {
        "could not be read; the next run reads them again": [f.id for f in report.failed],
        "could not be written to now; the next run tries again": report.deferred,
        "may or may not have been written to by a run that was interrupted; look at"
        " NotificationLedger.uncertain()": report.uncertain,
    }
    return "; ".join(
        f"{len(ids)} orders ({shown(ids)}) {what}" for what, ids in left.items() if ids
    )
