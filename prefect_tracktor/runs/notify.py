"""Choose, show, send, settle: what all flows that write to customers do once they can choose.

Everything is read, chosen and rendered before the first message goes out; the ledger keeps any
other run, at any time, from telling a customer the same again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from uuid import uuid4

from prefect import get_run_logger
from prefect.runtime import flow_run

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    LedgerError,
    LedgerReplaced,
    LimitExceeded,
    TemplateError,
    TracktorError,
)
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.sending import (
    MailChannel,
    Outcome,
    OutgoingEmail,
    SendResult,
    outcome_of,
)
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, says_cancelled
from prefect_tracktor.reporting import Progress, label_of, publish_summary, publish_table
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import RunReport, in_words, sentences
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import shared_ledger
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from prefect_tracktor.storage.ledger_memory import LedgerMemory
from prefect_tracktor.text import mask_email

Row = dict[str, str | int]

# orders are read again some at a time, which are then good for so long
_LOOKED_AT_TOGETHER = 50
_TOGETHER_SECONDS = 60
_GONE = "Tracktor does not know the order any more"

# what a customer may be told of a parcel, in the order in which it happens
_STEPS = tuple(map(str, ShipmentStatus))
_TOLD = frozenset({NoticeState.SENT, NoticeState.CLAIMED})
# so many orders without an address are suspicious, if no other has one
_MANY = 5


class MailReport(RunReport):
    """What a run that writes to customers found and did; order ids throughout.

    An order stands in several lists where its parcels fared differently.

    Attributes:
        affected: Those with a parcel that its customer should hear about.
        due: Those whose customer was due to get an email in this run.
        sent: Those whose customer got an email.
        rehearsed: Those whose message went to the rehearsal address instead.
        already_told: Those whose customer an earlier or simultaneous run wrote to.
        no_email: Those without a usable e-mail address.
        refused: Those whose address the mail server refused, now or earlier; not tried again.
        deferred: Those whose message could not be sent now; the next run tries again.
        uncertain: Those whose message may or may not have been sent by a run that was
            interrupted; never sent again unless a person clears the claim in the ledger.
        in_progress: Those whom another run was still writing to when this one ended; that run
            reports what became of them.
        undated: Those with a parcel that was passed over, since it is not known when it reached
            its status, or that time is still to come.
        cancelled: Those with a parcel that was passed over, since it or the order is cancelled,
            voided or refunded.
        superseded: Those whose message was not sent, since something happened to their parcels
            after they were read.

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
    in_progress: tuple[int, ...] = ()
    undated: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return super().complete and not (self.deferred or self.uncertain)


@dataclass(frozen=True, slots=True)
class Notification:
    """What one message is about."""

    template: EmailTemplate
    reasons: Sequence[tuple[Fulfillment, str]]


@dataclass(frozen=True, slots=True)
class _Case:
    """What an order's customer may be told in one message: the parcels by the ledger's keys."""

    order: Order
    template: EmailTemplate
    notices: dict[NoticeKey, Fulfillment]


@dataclass(frozen=True, slots=True)
class _Due:
    """A message that is to be sent, and when the order that it speaks of was read."""

    order_id: int
    place: int
    template: EmailTemplate
    keys: frozenset[NoticeKey]
    read_at: float
    row: Row


Choose = Callable[[Order], Iterable[Notification]]
Watch = Callable[[Iterable[Order]], None]


def mail_channel(
    credentials: TracktorCredentials,
    mailer: Mailer,
) -> MailChannel:
    """How a flow run writes to customers, from the flow's parameters."""
    return MailChannel(
        account=credentials.account,
        run=str(flow_run.get_id() or uuid4()),
        mailer=mailer,
        ledger=mailer.ledger or shared_ledger(),
        memory=LedgerMemory.of(credentials.account, base_url=credentials.base_url),
        address_key=credentials.uuid.lower().encode(),
    )


@dataclass(slots=True)
class MailRun:
    """One run of a flow that writes to customers."""

    scan: Scan
    channel: MailChannel
    choose: Choose
    title: str
    key: str
    dry_run: bool = False
    max_emails: int = 500
    sent_lately: Callable[[], int] = lambda: 0
    include_cancelled: bool = False
    watch: Watch = lambda _orders: None
    undated: list[int] = field(default_factory=list)
    _rows_of: dict[int, tuple[OutgoingEmail, Row]] = field(default_factory=dict)
    _template_error: TemplateError | None = None
    _accepted: bool = False
    _finished: bool = False
    _ledger_is_gone: bool = False
    _affected: list[int] = field(default_factory=list)
    _due: list[int] = field(default_factory=list)
    _no_email: list[int] = field(default_factory=list)
    _unreadable: list[Failure] = field(default_factory=list)
    _waiting: list[_Due] = field(default_factory=list)
    _emails: list[tuple[OutgoingEmail, Row]] = field(default_factory=list)
    _now: dict[int, Order | tuple[Outcome, str]] = field(default_factory=dict)
    _now_read_at: float = 0.0
    _cancelled: list[int] = field(default_factory=list)
    _calls: int = 0
    _known: list[tuple[int, dict[NoticeKey, NoticeState], Row]] = field(default_factory=list)
    _outcomes: dict[Outcome, list[int]] = field(default_factory=lambda: defaultdict(list))
    _rows: list[Row] = field(default_factory=list)
    _advice: str = ""

    def carry_out(self) -> MailReport:
        """Choose, render and count all messages; unless it is a dry run, send them."""
        self._check()
        self._recognise()
        if not self.dry_run:
            self.channel.check()
        try:
            for batch in self.scan:
                self.watch(batch.found)
                self._take(batch)
            self._refuse_what_no_order_fits()
            self._refuse_too_many()
            if not self.dry_run:
                self._send()
            self._finished = True
        except LedgerError:
            self._ledger_is_gone = True
            raise
        finally:
            report = self._report()
            self._publish(report)
        if self._acts:
            left = (*report.deferred, *report.uncertain, *report.in_progress)
            self.scan.remember_completed(unless=left)
        if not report.complete:
            raise IncompleteRun(self._what_is_left(report), report=report)
        return report

    def _check(self) -> None:
        if self.max_emails < 0:
            raise InvalidInput(f"max_emails must be 0 or more, not {self.max_emails}")

    @property
    def _acts(self) -> bool:
        """Whether customers are written to, and what was done is remembered."""
        return not self.dry_run and not self.channel.is_rehearsal

    def _recognise(self) -> None:
        """See that the ledger is the one that the account was written to by before."""
        standing = self.channel.standing()
        get_run_logger().info(
            "The ledger is %s; it holds %s notices of this account as sent.",
            standing.place,
            standing.sent,
        )
        try:
            self._accepted = self.channel.recognise(standing)
        except LedgerReplaced as replaced:
            if self._acts:
                raise
            get_run_logger().warning("A run that sends would stop: %s", replaced)

    def _take(self, batch: Batch[Order]) -> None:
        """Take in a chunk: who is affected, who was told before, whom to write to."""
        cases = list(self._cases(batch.found))
        states = self._states(cases)
        for case in cases:
            self._decide(case, states)
        if len(self._due) > self.max_emails:
            self._emails.clear()  # none will be sent, and memory is not endless

    def _cases(self, orders: Iterable[Order]) -> Iterator[_Case]:
        for order in orders:
            try:
                yield from list(self._cases_of(order))
            except (InvalidResponse, InvalidInput) as unreadable:
                self._unreadable.append(Failure(order.order_id, str(unreadable)))

    def _cases_of(self, order: Order) -> Iterator[_Case]:
        for notification in self.choose(order):
            reasons = [told for told in notification.reasons if self._is_open(order, *told)]
            if len(reasons) < len(notification.reasons):
                self._cancelled.append(order.order_id)
            if reasons:
                key = partial(self.channel.key, order)
                notices = {key(parcel, reason): parcel for parcel, reason in reasons}
                yield _Case(order, notification.template, notices)

    def _is_open(self, order: Order, parcel: Fulfillment, reason: str) -> bool:
        """Whether there is still something to tell; a cancellation itself may be the news."""
        kind, _, status = reason.partition(":")
        is_the_news = kind == "status" and says_cancelled(status)
        return self.include_cancelled or is_the_news or not order.has_cancelled(parcel)

    def _states(self, cases: Iterable[_Case]) -> Mapping[NoticeKey, NoticeState]:
        keys = set(chain.from_iterable(case.notices for case in cases))
        return self.channel.ledger.states(keys | _later_of([keys]))

    def _decide(self, case: _Case, states: Mapping[NoticeKey, NoticeState]) -> None:
        order = case.order
        row = _row(order, case.notices)
        self._rows.append(row)
        self._affected.append(order.order_id)
        known, news = _known_and_new(case.notices, states)
        if known:
            self._known.append((order.order_id, known, row))
        if not news:
            return
        try:
            email = self._letter(case, news, row)
        except TemplateError as fails:
            self._template_error = self._template_error or fails
            self._unreadable.append(Failure(order.order_id, str(fails)))
            _describe(row, "Not rendered", str(fails))
            return
        if email:
            due = _Due(
                order.order_id,
                len(self._waiting),
                case.template,
                frozenset(news),
                self.scan.begun,
                row,
            )
            self._due.append(order.order_id)
            self._waiting.append(due)
            self._emails.append((replace(email, look_again=partial(self._again, due, email)), row))
            _describe(row, "Due, not sent")

    def _letter(
        self, case: _Case, news: Mapping[NoticeKey, Fulfillment], row: Row
    ) -> OutgoingEmail | None:
        try:
            return self.channel.email(case.order, news, case.template)
        except InvalidInput as unusable:
            self._no_email.append(case.order.order_id)
            _describe(row, "No e-mail address", str(unusable) if case.order.order_email else "")
        return None

    def _refuse_what_no_order_fits(self) -> None:
        """An odd order fails alone; a template that fails for each of them is at fault itself."""
        if self._template_error is not None and not self._emails:
            raise self._template_error

    def _refuse_too_many(self) -> None:
        due = len(self._due)
        before = self.sent_lately() if due else 0
        if due + before > self.max_emails:
            lately = f" and {before} were sent within the last hour," if before else ""
            raise LimitExceeded(
                f"{due} messages are due{lately} and max_emails is {self.max_emails}: nothing"
                " was sent. Look at this run's table; if it is right, run again with a higher"
                " max_emails."
            )

    def _send(self) -> None:
        if not self._emails:
            return
        emails = [email for email, _ in self._emails]
        self._rows_of = {id(email): (email, row) for email, row in self._emails}
        total = len(emails)
        if self._acts:
            if not self._accepted:
                keys = [key for email in emails for key in email.keys]
                self.channel.refuse_told_elsewhere(keys)
            self.channel.keep_in_mind()
        with Progress("tracktor-messages", description="Messages sent", total=total) as progress:
            for result in self.channel.post(emails):
                _, row = self._rows_of[id(result.email)]
                self._outcomes[result.outcome].append(result.email.order_id)
                _describe(row, result.outcome.label, result.reason)
                self._advice = result.advice or self._advice
                progress.advance(1)
        if self._acts:
            self._remember_how_much_was_sent()

    def _remember_how_much_was_sent(self) -> None:
        try:
            self.channel.keep_in_mind()
        except TracktorError as trouble:
            get_run_logger().warning("The next run knows less of this ledger: %s", trouble)

    def _again(self, due: _Due, email: OutgoingEmail) -> OutgoingEmail | SendResult:
        """The message as it must be when its turn has come."""
        by_now = self._by_now(due, email) if self._is_old(due.read_at) else email
        if isinstance(by_now, OutgoingEmail) and self._is_overtaken(due):
            by_now = SendResult(
                email, Outcome.SUPERSEDED, "the customer was told of a later status"
            )
        told = by_now.email if isinstance(by_now, SendResult) else by_now
        self._rows_of[id(told)] = (told, due.row)
        return by_now

    def _is_overtaken(self, due: _Due) -> bool:
        later = _later_of([due.keys])
        states = self.channel.ledger.states(later) if later else {}
        return any(_is_told(key, states) for key in due.keys)

    def _by_now(self, due: _Due, email: OutgoingEmail) -> OutgoingEmail | SendResult:
        now = self._order_by_now(due)
        if isinstance(now, Order):
            return self._renewed(due, email, now)
        outcome, reason = now
        return SendResult(email, outcome, reason)

    def _is_old(self, read_at: float, *, at_least_seconds: float = 0) -> bool:
        age = time.time() - read_at
        # a clock that was set back says nothing about a reading
        seconds = self.scan.reading.read_again_after_minutes * 60
        return not 0 <= age <= max(seconds, at_least_seconds)

    def _order_by_now(self, due: _Due) -> Order | tuple[Outcome, str]:
        """The order, read again with those whose turn comes next; or why it is not there."""
        is_fresh = not self._is_old(self._now_read_at, at_least_seconds=_TOGETHER_SECONDS)
        if due.order_id not in self._now or not is_fresh:
            some = self._waiting[due.place : due.place + _LOOKED_AT_TOGETHER]
            self._now_read_at = time.time()
            old = [d.order_id for d in some if self._is_old(d.read_at)]
            self._now = self._read_now([due.order_id, *old])
        return self._now[due.order_id]

    def _read_now(self, order_ids: list[int]) -> dict[int, Order | tuple[Outcome, str]]:
        again = Scan(
            self.scan.credentials,
            order_ids,
            ReadingOptions(chunk_size=_LOOKED_AT_TOGETHER),
            needs=self.scan.needs.of_each_order,
        )
        now: dict[int, Order | tuple[Outcome, str]] = {}
        try:
            for batch in again:
                now |= {order.order_id: order for order in batch.found}
                now |= {f.id: (Outcome.DEFERRED, _not_again(f.reason)) for f in batch.failed}
                now |= dict.fromkeys(batch.missing, (Outcome.SUPERSEDED, _GONE))
        except TracktorError as error:
            return dict.fromkeys(order_ids, (Outcome.DEFERRED, _not_again(str(error))))
        finally:
            self._calls += again.calls
        return now

    def _renewed(self, due: _Due, email: OutgoingEmail, order: Order) -> OutgoingEmail | SendResult:
        """The message about what is left of the news; what is new is for the next run."""
        unreadable = len(self._unreadable)
        notices = {
            key: parcel
            for case in self._cases([order])
            for key, parcel in case.notices.items()
            if key in due.keys
        }
        if len(self._unreadable) > unreadable:
            return SendResult(email, Outcome.DEFERRED, self._unreadable[-1].reason)
        if _lacks_what_it_had(order, due.keys - notices.keys()):
            reason = _not_again("the answer lacks what it had before")
            return SendResult(email, Outcome.DEFERRED, reason)
        if not notices:
            reason = "its parcels moved on before the message was sent"
            return SendResult(email, Outcome.SUPERSEDED, reason)
        due.row["To"] = mask_email(order.order_email)
        try:
            renewed = self._letter(_Case(order, due.template, notices), notices, due.row)
        except TemplateError as fails:
            return SendResult(email, Outcome.DEFERRED, str(fails))
        if renewed is None:
            return SendResult(email, Outcome.SUPERSEDED, "there is no usable address any more")
        return renewed

    def _report(self) -> MailReport:
        """All that is known now, with a last look at what other runs did."""
        self._add_told_before()
        outcomes = {outcome: tuple(dict.fromkeys(ids)) for outcome, ids in self._outcomes.items()}
        sent = outcomes.get(Outcome.SENT, ())
        rehearsal = self.channel.is_rehearsal
        found = self.scan.found(dry_run=self.dry_run, calls=self._calls)
        return MailReport(
            **found
            | {
                "failed": (*found["failed"], *self._unreadable),
                "suspicion": found["suspicion"] or self._suspicion(),
            },
            affected=tuple(dict.fromkeys(self._affected)),
            due=tuple(dict.fromkeys(self._due)),
            sent=() if rehearsal else sent,
            rehearsed=sent if rehearsal else (),
            already_told=outcomes.get(Outcome.ALREADY_TOLD, ()),
            no_email=tuple(dict.fromkeys(self._no_email)),
            refused=outcomes.get(Outcome.REFUSED, ()),
            deferred=outcomes.get(Outcome.DEFERRED, ()),
            uncertain=outcomes.get(Outcome.UNCERTAIN, ()),
            in_progress=outcomes.get(Outcome.IN_PROGRESS, ()),
            undated=tuple(dict.fromkeys(self.undated)),
            cancelled=tuple(dict.fromkeys(self._cancelled)),
            superseded=outcomes.get(Outcome.SUPERSEDED, ()),
        )

    def _suspicion(self) -> str:
        """Where no address is left at all, it is seldom the customers who have none."""
        orders = set(self._no_email)
        if len(orders) < _MANY or orders != set(self._affected):
            return ""
        return (
            f"none of the {len(orders)} orders to write about has a usable email address: check in"
            " Shopify that Tracktor may still read customers' data"
        )

    def _add_told_before(self) -> None:
        outcomes = [outcome_of(states.values()) for _, states, _ in self._known]
        if not self._ledger_is_gone:
            wait = self._acts and self._finished
            with suppress(LedgerError):
                # a claim that was open when we looked may have been settled since by its run
                told = [tuple(states) for _, states, _ in self._known]
                outcomes = self.channel.outcomes_elsewhere(told, wait=wait)
        for (order_id, _, row), outcome in zip(self._known, outcomes, strict=True):
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
        notes = [*([] if report.complete else [self._what_is_left(report)]), *report.notes]
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
        advice = f"{self._advice[:1].upper()}{self._advice[1:]}".rstrip(".")
        first = f"The first failed as: {report.failed[0].reason}" if report.failed else ""
        return sentences(report.suspicion, in_words(left), advice, first)


def _later(key: NoticeKey) -> Iterator[NoticeKey]:
    """What a customer must not have been told of a parcel before this is told."""
    kind, _, subject = key.reason.partition(":")
    if kind == "status":
        after = _STEPS[_STEPS.index(subject) + 1 :] if subject in _STEPS else ()
    else:
        after = _STEPS[-1:]
    return (replace(key, reason=f"status:{step}") for step in after)


def _later_of(keys: Iterable[Iterable[NoticeKey]]) -> set[NoticeKey]:
    return {later for key in chain.from_iterable(keys) for later in _later(key)}


def _is_told(key: NoticeKey, states: Mapping[NoticeKey, NoticeState]) -> bool:
    """Whether something later was told, or may have been."""
    return not _TOLD.isdisjoint(map(states.get, _later(key)))


def _lacks_what_it_had(order: Order, gone: Iterable[NoticeKey]) -> bool:
    """Whether an answer says nothing of parcels that are no news any more, or has no address."""
    shown = {parcel.fulfillment_id for parcel in order.fulfillments if parcel.current_status}
    return not shown.issuperset(key.fulfillment_id for key in gone) or (
        "order_email" not in order.fields_read
    )


def _not_again(reason: str) -> str:
    return f"it could not be read again: {reason}"


def _known_and_new(
    notices: Mapping[NoticeKey, Fulfillment], states: Mapping[NoticeKey, NoticeState]
) -> tuple[dict[NoticeKey, NoticeState], dict[NoticeKey, Fulfillment]]:
    """What the ledger knows of the notices or of later ones, and what remains to be told."""
    known: dict[NoticeKey, NoticeState] = {}
    news: dict[NoticeKey, Fulfillment] = {}
    for key, parcel in notices.items():
        if key in states:
            known[key] = states[key]
        elif _is_told(key, states):
            known |= {later: states[later] for later in _later(key) if later in states}
        else:
            news[key] = parcel
    return known, news


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
