"""Sending emails so that nobody gets one twice: claim, send, settle."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from enum import StrEnum

from prefect_tracktor.errors import LedgerReplaced, MailServerError
from prefect_tracktor.messages.email import compose, validated_address
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.replies import About
from prefect_tracktor.messages.smtp import Delivery, DeliveryOutcome, MailSession
from prefect_tracktor.messages.template import EmailTemplate, ShopInfo
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding

# how long a run waits, at its end, for what others are sending at the moment
_WAIT_FOR_OTHERS_SECONDS = 60
_LOOK_AGAIN_SECONDS = 1

# what a run may take to send: far more than it needs, and not all night
_SECONDS_TO_BEGIN = 600
_SECONDS_A_LETTER = 10

# equal answers in a row after which the next email would get the same one
_EQUAL_ANSWERS = 3
# different ones in a row that are about no recipient
_ANSWERS_IN_A_ROW = 10
# addresses in a row that do not exist: more than these are not believed, and then it is enough
_BELIEVED_IN_A_ROW = 4
_REFUSALS_IN_A_ROW = 10
_UNCERTAIN_IN_ALL = 5


class Outcome(StrEnum):
    """What became of an email."""

    SENT = "sent"
    ALREADY_TOLD = "already_told"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    SUPERSEDED = "superseded"
    IN_PROGRESS = "in_progress"

    @property
    def label(self) -> str:
        """The outcome in words, for people."""
        return _LABELS[self]


_LABELS = {
    Outcome.SENT: "Sent",
    Outcome.ALREADY_TOLD: "Already told",
    Outcome.REFUSED: "Refused for good",
    Outcome.DEFERRED: "Deferred to the next run",
    Outcome.UNCERTAIN: "Uncertain: a person must look",
    Outcome.SUPERSEDED: "Superseded, not sent",
    Outcome.IN_PROGRESS: "Another run is writing to them",
}


@dataclass(frozen=True, slots=True)
class OutgoingEmail:
    """A message ready to go, and what it tells about."""

    order_id: int
    sender: str
    recipient: str
    message: EmailMessage
    keys: tuple[NoticeKey, ...]
    look_again: "Callable[[], OutgoingEmail | SendResult] | None" = None
    customer: str = ""


@dataclass(frozen=True, slots=True)
class SendResult:
    """A email's outcome."""

    email: OutgoingEmail
    outcome: Outcome
    reason: str = ""
    advice: str = ""


_OUTCOMES = {
    DeliveryOutcome.SENT: Outcome.SENT,
    DeliveryOutcome.REFUSED: Outcome.REFUSED,
    DeliveryOutcome.DEFERRED: Outcome.DEFERRED,
    DeliveryOutcome.UNCERTAIN: Outcome.UNCERTAIN,
}


@dataclass(frozen=True, slots=True)
class MailChannel:
    """How one run writes to customers: in whose name, and through which server."""

    account: str
    run: str
    mailer: Mailer
    ledger: NotificationLedger
    memory: LedgerMemory | None = None
    address_key: bytes = b""

    @property
    def is_rehearsal(self) -> bool:
        """Whether all messages go to the rehearsal address."""
        return self.mailer.mode is Mode.REHEARSAL

    def standing(self) -> LedgerStanding:
        """Which ledger this is, and how much it knows of the account."""
        return self.ledger.standing(self.account)

    def recognise(self, standing: LedgerStanding) -> bool:
        """See that this is the ledger that the account was written to by before."""
        return self.memory is not None and self.memory.check(standing)

    def refuse_told_elsewhere(self, keys: Sequence[NoticeKey]) -> None:
        """See that no other account has told the same: a parcel belongs to one."""
        if self.memory is None or not (told := self.ledger.known_elsewhere(keys)):
            return
        key, other = next(iter(told.items()))
        raise LedgerReplaced(
            f"{len(told)} of {len(keys)} parcels were told about in the name of another account"
            f" ({other}), such as one of order {key.order_id}: has the account's uuid changed?"
            " Nothing was sent. To carry over what the ledger knows, call its"
            f" take_over({other!r}, {self.account!r}); to write to these customers again:"
            f" prefect variable set {self.memory.variable} accept --overwrite"
        )

    def keep_in_mind(self) -> None:
        """Remember the ledger, with what it knows by now, as the account's."""
        if self.memory is not None:
            self.memory.keep(self.standing())

    def check(self) -> None:
        """See that ledger and mail server can be used, before anything is spent on reading."""
        self.ledger.states(())
        with MailSession(self.mailer.server):
            pass

    def key(self, order: Order, parcel: Fulfillment, reason: str) -> NoticeKey:
        """What the ledger remembers a notice by."""
        return NoticeKey(self.account, order.order_id, parcel.fulfillment_id, reason)

    def email(
        self, order: Order, parcels: Mapping[NoticeKey, Fulfillment], template: EmailTemplate
    ) -> OutgoingEmail:
        """Render the message to an order's customer."""
        customer = validated_address(order.order_email or "", field="order_email")
        sender, fulfillments = self.mailer.sender_mailbox, list(parcels.values())
        recipient = self.mailer.rehearsal_address if self.is_rehearsal else customer
        shop_url = next((parcel.shop_url for parcel in fulfillments if parcel.shop_url), "")
        shop = ShopInfo(name=sender.display_name or sender.domain, url=shop_url)
        rendered = template.render(order, fulfillments, shop=shop)
        keys = tuple(sorted(parcels))
        if self.is_rehearsal:
            rendered = replace(rendered, subject=f"[Rehearsal] {rendered.subject}")
        message = compose(
            rendered,
            sender=sender,
            recipient=recipient,
            reply_to=self.mailer.reply_to_mailbox,
            message_key=f"{self.run if self.is_rehearsal else ''}{keys}",
        )
        return OutgoingEmail(
            order_id=order.order_id,
            sender=sender.addr_spec,
            recipient=recipient,
            message=message,
            # a rehearsal tells the customer nothing
            keys=() if self.is_rehearsal else keys,
            customer="" if self.is_rehearsal else self._hashed(customer),
        )

    def _hashed(self, address: str) -> str:
        key = self.address_key or self.account.encode()
        return hmac.new(key, address.casefold().encode(), hashlib.sha256).hexdigest()

    def post(self, emails: Iterable[OutgoingEmail]) -> Iterator[SendResult]:
        """Send emails in one session, each only if nobody else has sent or is sending it."""
        waiting = list(emails)
        contested = []
        rate = self.mailer.messages_per_second
        connected = MailSession(self.mailer.server, messages_per_second=rate)
        with self.ledger.at_work(self.run), connected as session:
            in_time = _InTime(waiting, rate)
            for result in post(in_time, session=session, ledger=self.ledger, run=self.run):
                if result.outcome is Outcome.IN_PROGRESS:
                    contested.append(result.email)
                else:
                    yield result
        reason = "not tried: sending took too long as a whole, and the run ended"
        yield from (SendResult(email, Outcome.DEFERRED, reason) for email in in_time.left)
        outcomes = self.outcomes_elsewhere([email.keys for email in contested])
        yield from map(SendResult, contested, outcomes)

    def outcomes_elsewhere(
        self, told: Sequence[Iterable[NoticeKey]], *, wait: bool = True
    ) -> list[Outcome]:
        """What became of notices that other runs had claimed or settled."""
        deadline = time.monotonic() + (_WAIT_FOR_OTHERS_SECONDS if wait else 0)
        keys = {key for keys in told for key in keys}
        while others := self.ledger.in_progress(keys, run=self.run):
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_AGAIN_SECONDS)
        states = self.ledger.states(keys)
        return [_outcome(tuple(of_order), states, others) for of_order in told]


class _InTime:
    """Letters, one after another, until the time that sending may take is over."""

    def __init__(self, emails: Sequence[OutgoingEmail], messages_per_second: float | None) -> None:
        self._emails = iter(emails)
        each = _SECONDS_A_LETTER + (1 / messages_per_second if messages_per_second else 0)
        self._deadline = time.monotonic() + _SECONDS_TO_BEGIN + each * len(emails)

    def __iter__(self) -> Iterator[OutgoingEmail]:
        while time.monotonic() < self._deadline:
            try:
                yield next(self._emails)
            except StopIteration:
                return

    @property
    def left(self) -> Iterator[OutgoingEmail]:
        """Those that there was no time for."""
        return self._emails


def post(
    emails: Iterable[OutgoingEmail], *, session: MailSession, ledger: NotificationLedger, run: str
) -> Iterator[SendResult]:
    """Send emails one after another, each only if nobody else has sent or is sending it."""
    return _proven(_until_stopped(emails, session, ledger, run), ledger, run)


def _until_stopped(
    emails: Iterable[OutgoingEmail], session: MailSession, ledger: NotificationLedger, run: str
) -> Iterator[SendResult]:
    waiting = iter(emails)
    answers = _Answers()
    for email in waiting:
        try:
            result, delivery = _post_one(email, session, ledger, run)
            why = answers.reason_to_stop(delivery)
        except MailServerError as down:
            result, why = SendResult(email, Outcome.DEFERRED, str(down)), str(down)
        yield replace(result, advice=why) if why else result
        if why:
            reason = "not tried: the mail server did not take the emails before it"
            yield from (SendResult(rest, Outcome.DEFERRED, reason) for rest in waiting)


@dataclass(slots=True)
class _Answers:
    """What a server keeps answering; whatever the words, the next email would get the same."""

    kind: str = ""
    equal: int = 0
    in_a_row: int = 0
    refusals: int = 0
    uncertain: int = 0

    def reason_to_stop(self, delivery: Delivery | None) -> str:
        """Take in an email's answer: why no further email should be tried, or nothing."""
        if delivery is None:
            return ""
        if delivery.outcome is DeliveryOutcome.SENT:
            self.kind, self.equal, self.in_a_row, self.refusals = "", 0, 0, 0
            return ""
        of_recipient = delivery.about is About.RECIPIENT
        if delivery.outcome is DeliveryOutcome.REFUSED or (
            of_recipient and delivery.kind.startswith("5")
        ):
            return self._refused(delivery)
        if delivery.outcome is DeliveryOutcome.UNCERTAIN:
            self.uncertain += 1
        elif of_recipient:
            return ""
        self._count(f"{delivery.outcome} {delivery.kind}")
        if delivery.outcome is DeliveryOutcome.UNCERTAIN:
            return self._uncertain(delivery)
        if self.equal < _EQUAL_ANSWERS and self.in_a_row < _ANSWERS_IN_A_ROW:
            return ""
        answered = (
            f"gave {self.equal} messages in a row the same answer"
            if self.equal >= _EQUAL_ANSWERS
            else f"took none of {self.in_a_row} messages in a row, and answered the last"
        )
        return f"the mail server {answered}: {delivery.reason.rstrip('.')}. {delivery.about.remedy}"

    def _count(self, kind: str) -> None:
        self.in_a_row += 1
        self.equal = self.equal + 1 if kind == self.kind else 1
        self.kind = kind

    def _refused(self, delivery: Delivery) -> str:
        self.refusals += 1
        if self.refusals < _REFUSALS_IN_A_ROW:
            return ""
        return (
            f"the mail server says of {self.refusals} addresses in a row that they take no mail:"
            f" {delivery.reason.rstrip('.')}. {About.RECIPIENT.remedy}"
        )

    def _uncertain(self, delivery: Delivery) -> str:
        if self.equal < _EQUAL_ANSWERS and self.uncertain < _UNCERTAIN_IN_ALL:
            return ""
        return (
            f"{self.uncertain} messages may or may not have been taken by the mail server:"
            f" {delivery.reason.rstrip('.')}. If a mail filter or virus scanner stands between,"
            " have it let these messages pass."
        )


def _proven(
    outcomes: Iterable[SendResult], ledger: NotificationLedger, run: str
) -> Iterator[SendResult]:
    """Hold refusals back until the server has taken somebody else's email."""
    takes_mail = False
    held: list[SendResult] = []
    is_alone = True
    for result in outcomes:
        is_sent = result.outcome is Outcome.SENT
        takes_mail = takes_mail or is_sent
        held.append(result)
        if is_sent or held[0].outcome is not Outcome.REFUSED:
            yield from _judged(held, ledger, run, takes_mail=takes_mail)
            held, is_alone = [], False
    if is_alone and len(held) == 1:
        # a run with one email has only the runs before it to tell
        shops = {key.shop for key in held[0].email.keys}
        takes_mail = any(ledger.last_settled(shop) is NoticeState.SENT for shop in shops)
    yield from _judged(held, ledger, run, takes_mail=takes_mail)


def _judged(
    held: list[SendResult], ledger: NotificationLedger, run: str, *, takes_mail: bool
) -> Iterator[SendResult]:
    refused = sum(result.outcome is Outcome.REFUSED for result in held)
    believed = takes_mail and refused <= _BELIEVED_IN_A_ROW
    for result in held:
        if result.outcome is not Outcome.REFUSED:
            yield result
        elif believed:
            yield _refused_for_good(result, ledger, run)
        else:
            doubt = "the server accepts no other message either, so the address is tried again"
            yield replace(result, outcome=Outcome.DEFERRED, reason=f"{result.reason} ({doubt})")


def _refused_for_good(result: SendResult, ledger: NotificationLedger, run: str) -> SendResult:
    keys = result.email.keys
    won = ledger.claim(keys, run=run)
    if won != set(keys):
        ledger.release(won, run=run)
        return _told_by_others(result.email, ledger, run)
    ledger.settle(keys, NoticeState.REFUSED, run=run)
    return result


def _post_one(
    email: OutgoingEmail, session: MailSession, ledger: NotificationLedger, run: str
) -> tuple[SendResult, Delivery | None]:
    now = email.look_again() if email.look_again else email
    if isinstance(now, SendResult):
        return now, None
    email = now
    won = ledger.claim(email.keys, run=run)
    if won != set(email.keys):
        ledger.release(won, run=run)
        return _told_by_others(email, ledger, run), None
    if not _may_get_another(email, ledger):
        ledger.release(email.keys, run=run)
        reason = f"this address has had {ledger.messages_a_day} messages today"
        return SendResult(email, Outcome.DEFERRED, reason), None
    try:
        delivery = session.send(email.message, sender=email.sender, recipient=email.recipient)
    except MailServerError:
        _give_back(email, ledger, run)
        raise
    if delivery.outcome is DeliveryOutcome.SENT:
        ledger.settle(email.keys, NoticeState.SENT, run=run)
    elif delivery.outcome is not DeliveryOutcome.UNCERTAIN:
        _give_back(email, ledger, run)
    advice = ""
    if delivery.outcome is DeliveryOutcome.DEFERRED and delivery.about is not About.RECIPIENT:
        advice = f"the mail server said: {delivery.reason.rstrip('.')}. {delivery.about.remedy}"
    return SendResult(email, _OUTCOMES[delivery.outcome], delivery.reason, advice), delivery


def _may_get_another(email: OutgoingEmail, ledger: NotificationLedger) -> bool:
    """Whether the customer has had fewer messages today than one may get."""
    return not email.customer or ledger.admit(email.keys[0].shop, email.customer)


def _give_back(email: OutgoingEmail, ledger: NotificationLedger, run: str) -> None:
    ledger.release(email.keys, run=run)
    if email.customer:
        ledger.discount(email.keys[0].shop, email.customer)


def _outcome(
    keys: Sequence[NoticeKey], states: Mapping[NoticeKey, NoticeState], live: set[NoticeKey]
) -> Outcome:
    open_claims = {key for key in keys if states.get(key) is NoticeState.CLAIMED}
    return outcome_of(map(states.get, keys), live=live >= open_claims)


def _told_by_others(email: OutgoingEmail, ledger: NotificationLedger, run: str) -> SendResult:
    """Another run was faster with at least a part of it."""
    live = ledger.in_progress(email.keys, run=run)
    return SendResult(email, _outcome(email.keys, ledger.states(email.keys), live))


def outcome_of(states: Iterable[NoticeState | None], *, live: bool = False) -> Outcome:
    """What the ledger's states of an order's parcels mean for the order as a whole."""
    found = set(states)
    if NoticeState.CLAIMED in found:
        return Outcome.IN_PROGRESS if live else Outcome.UNCERTAIN
    if None in found:
        return Outcome.DEFERRED
    return Outcome.ALREADY_TOLD if NoticeState.SENT in found else Outcome.REFUSED
