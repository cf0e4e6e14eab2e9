"""Choose, show, send, settle: what all flows that write to customers do once they can choose.

Everything is read, chosen and rendered before the first message goes out; the ledger keeps any
other run, at any time, from telling a customer the same again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from uuid import uuid4

from prefect import get_run_logger
from prefect.runtime import flow_run
from prefect_email import EmailServerCredentials

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.documents import shared_ledger
from prefect_tracktor.errors import IncompleteRun, InvalidInput, LimitExceeded, UnreadableAnswer
from prefect_tracktor.flows.report import RunReport, in_words
from prefect_tracktor.flows.scan import Scan
from prefect_tracktor.mail.ledger import LedgerError, NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.mail.message import parse_mailbox, validated_address
from prefect_tracktor.mail.outbox import Correspondence, Letter, Outcome, outcome_of
from prefect_tracktor.mail.smtp import check_rate
from prefect_tracktor.mail.template import EmailTemplate
from prefect_tracktor.masking import mask_email, refuse_masked
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.reporting import Progress, label_of, publish_summary, publish_table

Row = dict[str, str | int]


class MailReport(RunReport):
    """What a run that writes to customers found and did; order ids throughout.

    An order stands in several lists where its parcels fared differently.

    Attributes:
        affected: Those with a parcel that its customer should hear about.
        due: Those whose customer was to be written to in this run.
        sent: Those whose customer was written to.
        rehearsed: Those whose message went to `redirect_to` instead.
        already_told: Those whose customer an earlier or simultaneous run wrote to.
        no_email: Those without a usable e-mail address.
        refused: Those whose address the mail server refused, now or earlier; not tried again.
        deferred: Those whose message could not be sent now; the next run tries again.
        uncertain: Those whose message may or may not have been sent by a run that was
            interrupted; never sent again unless a person clears the claim in the ledger.
        undated: Those with a parcel that was passed over, since it is not known when it reached
            its status.

    Example:
        >>> MailReport(read=(1, 2), affected=(2,), sent=(2,)).complete
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
    undated: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return not (self.failed or self.deferred or self.uncertain)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What one message is about.

    Attributes:
        template: Its words.
        reasons: What the customer is told, by parcel; the ledger remembers it by these words.

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> Occasion(EmailTemplate(), [(parcel, "exception:expired")]).reasons[0][1]
        'exception:expired'
    """

    template: EmailTemplate
    reasons: Sequence[tuple[Fulfillment, str]]


Choose = Callable[[Order], Iterable[Occasion]]
Watch = Callable[[Iterable[Order]], None]


def correspondence_of(
    credentials: TracktorCredentials,
    email_server: EmailServerCredentials,
    *,
    sender: str,
    ledger: NotificationLedger | None,
    redirect_to: str,
    reply_to: str,
    messages_per_second: float | None = None,
) -> Correspondence:
    """How a flow run writes to customers, from the flow's parameters.

    Args:
        credentials: The Tracktor account.
        email_server: The mail server.
        sender: Who writes.
        ledger: Who was told what; the shared one if left out.
        redirect_to: The address that gets all messages in a rehearsal; empty in earnest.
        reply_to: The address for answers; empty for the sender's.
        messages_per_second: How many messages may be sent in any second.

    Returns:
        The correspondence.

    Raises:
        InvalidInput: An address or the rate cannot be right, or the mail server's password was
            masked.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> correspondence_of(
        ...     credentials,
        ...     EmailServerCredentials(smtp_server="smtp.example.com"),
        ...     sender="Your Shop <orders@your-shop.example>",
        ...     ledger=ledger,
        ...     redirect_to="",
        ...     reply_to="",
        ... ).sender.addr_spec
        'orders@your-shop.example'
    """
    check_rate(messages_per_second)
    refuse_masked(email_server.password.get_secret_value(), field="email_server.password")
    return Correspondence(
        account=credentials.account,
        run=str(flow_run.get_id() or uuid4()),
        server=email_server,
        ledger=ledger or shared_ledger(),
        sender=parse_mailbox(sender, field="sender"),
        reply_to=parse_mailbox(reply_to, field="reply_to") if reply_to else None,
        redirect_to=validated_address(redirect_to, field="redirect_to") if redirect_to else None,
        messages_per_second=messages_per_second,
    )


@dataclass(slots=True)
class MailRun:
    """One run of a flow that writes to customers.

    Attributes:
        scan: Reads the orders that are concerned.
        correspondence: How it writes.
        choose: What the customer of an order should hear about.
        title: What the run does, for people.
        key: What its artifacts are found by.
        dry_run: Show who would be written to, and send nothing.
        max_emails: If more messages than this are due, stop before the first.
        watch: What else looks at the orders that were read, such as for a chart.
        undated: What `choose` notes of orders with a parcel that it passes over, since it is not
            known when it reached its status.

    Example:
        >>> from prefect import flow
        >>> from prefect_email import EmailServerCredentials
        >>> @flow
        ... def nobody(credentials: TracktorCredentials, orders: list[int]) -> int:
        ...     scan = Scan(credentials, orders, chunk_size=500)
        ...     correspondence = correspondence_of(
        ...         credentials,
        ...         EmailServerCredentials(smtp_server="smtp.example.com"),
        ...         sender="Your Shop <orders@your-shop.example>",
        ...         ledger=ledger,
        ...         redirect_to="",
        ...         reply_to="",
        ...     )
        ...     nothing = lambda order: []
        ...     run = MailRun(scan, correspondence, nothing, title="No", key="no", dry_run=True)
        ...     return len(run.carry_out().read)
        >>> nobody(credentials, order_ids[:5])
        5
    """

    scan: Scan
    correspondence: Correspondence
    choose: Choose
    title: str
    key: str
    dry_run: bool = False
    max_emails: int = 500
    watch: Watch = lambda _orders: None
    undated: list[int] = field(default_factory=list)
    _affected: list[int] = field(default_factory=list)
    _due: list[int] = field(default_factory=list)
    _no_email: list[int] = field(default_factory=list)
    _unreadable: list[Failure] = field(default_factory=list)
    _letters: list[tuple[Letter, Row]] = field(default_factory=list)
    _known: list[tuple[int, dict[NoticeKey, NoticeState], Row]] = field(default_factory=list)
    _outcomes: dict[Outcome, list[int]] = field(default_factory=lambda: defaultdict(list))
    _rows: list[Row] = field(default_factory=list)
    _advice: str = ""

    def carry_out(self) -> MailReport:
        """Choose, render and count all messages; unless it is a dry run, send them.

        Returns:
            What was found and done.

        Raises:
            InvalidInput: `max_emails` is negative; nothing was read.
            LimitExceeded: More than `max_emails` messages are due; nothing was sent.
            TemplateError: A template fails for an order; nothing was sent.
            MailServerError: The mail server cannot be used; nothing was sent.
            IncompleteRun: All that could be done was done, and something is left.
        """
        if self.max_emails < 0:
            raise InvalidInput(f"max_emails must be 0 or more, not {self.max_emails}")
        if not self.dry_run:
            self.correspondence.check()
        try:
            for batch in self.scan:
                self.watch(batch.found)
                self._take(batch)
            self._refuse_too_many()
            if not self.dry_run:
                self._send()
        finally:
            report = self._report()
            self._publish(report)
        if not report.dry_run and not report.rehearsed:
            self.scan.remember_settled(unless=(*report.deferred, *report.uncertain))
        if not report.complete:
            raise IncompleteRun(self._what_is_left(report), report=report)
        return report

    def _take(self, batch: Batch[Order]) -> None:
        """Take in a chunk: who is affected, who was told before, whom to write to."""
        cases = [
            (order, occasion, self._notices(order, occasion))
            for order in batch.found
            for occasion in self._occasions(order)
        ]
        keys = chain.from_iterable(notices for _, _, notices in cases)
        states = self.correspondence.ledger.states(keys)
        for order, occasion, notices in cases:
            self._decide(order, occasion.template, notices, states)
        if len(self._due) > self.max_emails:
            self._letters.clear()  # none will be sent, and memory is not endless

    def _occasions(self, order: Order) -> Iterable[Occasion]:
        try:
            return list(self.choose(order))
        except UnreadableAnswer as unreadable:
            self._unreadable.append(Failure(order.order_id, str(unreadable)))
            return ()

    def _notices(self, order: Order, occasion: Occasion) -> dict[NoticeKey, Fulfillment]:
        """The parcels by what the ledger knows them by."""
        return {
            self.correspondence.key(order, parcel, reason): parcel
            for parcel, reason in occasion.reasons
        }

    def _decide(
        self,
        order: Order,
        template: EmailTemplate,
        notices: Mapping[NoticeKey, Fulfillment],
        states: Mapping[NoticeKey, NoticeState],
    ) -> None:
        row = _row(order, notices)
        self._rows.append(row)
        self._affected.append(order.order_id)
        known = {key: states[key] for key in notices if key in states}
        news = {key: parcel for key, parcel in notices.items() if key not in states}
        if known:
            self._known.append((order.order_id, known, row))
        if not news:
            return
        try:
            letter = self.correspondence.letter(order, news, template)
        except InvalidInput as unusable:
            self._no_email.append(order.order_id)
            reason = str(unusable) if order.order_email else ""
            _describe(row, "No e-mail address", reason)
            return
        self._due.append(order.order_id)
        self._letters.append((letter, row))
        _describe(row, "Due, not sent")

    def _refuse_too_many(self) -> None:
        if len(self._due) > self.max_emails:
            raise LimitExceeded(
                f"{len(self._due)} messages are due and max_emails is {self.max_emails}: nothing"
                " was sent. Look at this run's table; if it is right, run again with a higher"
                " max_emails."
            )

    def _send(self) -> None:
        if not self._letters:
            return
        letters = [letter for letter, _ in self._letters]
        rows = [row for _, row in self._letters]
        total = len(letters)
        with Progress("tracktor-messages", description="Messages sent", total=total) as progress:
            # each letter has one outcome, in the order of the letters
            for row, posted in zip(rows, self.correspondence.post(letters), strict=True):
                self._outcomes[posted.outcome].append(posted.letter.order_id)
                _describe(row, posted.outcome.label, posted.reason)
                self._advice = posted.advice or self._advice
                progress.advance(1)

    def _report(self) -> MailReport:
        """All that is known now, with a last look at what other runs did."""
        self._add_told_before()
        outcomes = {outcome: tuple(dict.fromkeys(ids)) for outcome, ids in self._outcomes.items()}
        sent = outcomes.get(Outcome.SENT, ())
        rehearsal = bool(self.correspondence.redirect_to)
        return MailReport(
            dry_run=self.dry_run,
            calls=self.scan.calls,
            read=tuple(self.scan.read),
            settled=tuple(self.scan.settled),
            missing=tuple(self.scan.missing),
            failed=(*self.scan.failed, *self._unreadable),
            affected=tuple(dict.fromkeys(self._affected)),
            due=tuple(dict.fromkeys(self._due)),
            sent=() if rehearsal else sent,
            rehearsed=sent if rehearsal else (),
            already_told=outcomes.get(Outcome.ALREADY_TOLD, ()),
            no_email=tuple(dict.fromkeys(self._no_email)),
            refused=outcomes.get(Outcome.REFUSED, ()),
            deferred=outcomes.get(Outcome.DEFERRED, ()),
            uncertain=outcomes.get(Outcome.UNCERTAIN, ()),
            undated=tuple(dict.fromkeys(self.undated)),
        )

    def _add_told_before(self) -> None:
        then = dict(chain.from_iterable(states.items() for _, states, _ in self._known))
        try:
            # a claim that was open when we looked may have been settled since by its run
            now = self.correspondence.ledger.states(then)
        except LedgerError:
            now = then
        for order_id, states, row in self._known:
            outcome = outcome_of(map(now.get, states))
            self._outcomes[outcome].append(order_id)
            if not row["Outcome"]:
                _describe(row, outcome.label)

    def _publish(self, report: MailReport) -> None:
        counts = report.counts
        get_run_logger().info(", ".join(f"{n} {name}" for name, n in counts.items() if n))
        publish_table(
            self.key,
            self._rows,
            description="Who was concerned; outcomes.",
        )
        notes = [] if report.complete else [self._what_is_left(report)]
        if report.dry_run:
            notes.append("This was a dry run: nothing was sent.")
        publish_summary(f"{self.key}-summary", title=self.title, counts=counts, notes=notes)

    def _what_is_left(self, report: MailReport) -> str:
        left = {
            "could not be read; the next run reads them again": [f.id for f in report.failed],
            "could not be written to now; the next run tries again": report.deferred,
            "may or may not have been written to by a run that was interrupted; look at"
            " NotificationLedger.uncertain()": report.uncertain,
        }
        words = [in_words(left)]
        if self._advice:
            words.append(f"{self._advice[:1].upper()}{self._advice[1:]}".rstrip("."))
        if report.failed:
            words.append(f"The first failed as: {report.failed[0].reason}")
        return ". ".join(words)


def _row(order: Order, notices: Mapping[NoticeKey, Fulfillment]) -> Row:
    return {
        "Order": order.order_name or str(order.order_id),
        "To": mask_email(order.order_email),
        "Outcome": "",
        "Reason": "",
        "About": ", ".join(sorted({_subject(key) for key in notices})),
        "Parcels": len(notices),
        "Order id": str(order.order_id),
    }


def _subject(key: NoticeKey) -> str:
    """What a notice is about, for people."""
    return label_of(key.reason.partition(":")[2])


def _describe(row: Row, outcome: str, reason: str = "") -> None:
    row |= {"Outcome": outcome, "Reason": reason}
