"""Sending: claim, send, complete, so that simultaneous or killed runs send no message twice."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from prefect_tracktor.errors import ChannelError, InvalidInput
from prefect_tracktor.messages.channel import Channel, Message, Send
from prefect_tracktor.messages.delivery import Delivery, DeliveryOutcome
from prefect_tracktor.messages.replies import Cause
from prefect_tracktor.models import NO_FACTS, OrderFacts
from prefect_tracktor.rules import rule_of
from prefect_tracktor.runs.cases import Case, Outcome
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState, NotificationLedger

# how long a run waits at its end for messages that other runs are sending
_WAIT_FOR_OTHERS_SECONDS = 60
_LOOK_AGAIN_SECONDS = 1

# the time limit for sending: far more than it takes, and less than a night
_SECONDS_TO_BEGIN = 600
_SECONDS_A_MESSAGE = 10

# a run stops sending after this many equal errors in a row, this many different ones that are about
# no recipient, this many refused recipients in a row, or this many uncertain messages
_EQUAL_ERRORS = 3
_ERRORS_IN_A_ROW = 10
_REFUSALS_IN_A_ROW = 10
_UNCERTAIN_IN_ALL = 5
# if a server refuses more recipients in a row, over all runs, the error is taken to be the server's
_CREDIBLE_REFUSALS = 4


@dataclass(slots=True, kw_only=True, eq=False)
class NoticeCase(Case):
    """A notice to an order's customer: its keys in the ledger, its message, and the outcome."""

    keys: tuple[NoticeKey, ...] = ()
    message: Message | None = None
    facts: OrderFacts = NO_FACTS
    unconfirmed: bool = False  # the service may have it, and recognizes it by its keys
    place: int = 0  # in the list of all that are due
    read_at: float = 0.0


@dataclass(slots=True)
class _ErrorCount:
    """A server's errors so far, which show whether the next message would get the same one."""

    kind: str = ""
    equal: int = 0
    in_a_row: int = 0
    refusals: int = 0
    uncertain: int = 0

    def reason_to_stop(self, delivery: Delivery) -> str:
        """Count a delivery; return why no further message should be tried, or an empty string."""
        if delivery.outcome is DeliveryOutcome.SENT:
            self.kind, self.equal, self.in_a_row, self.refusals = "", 0, 0, 0
            return ""
        of_recipient = delivery.cause is Cause.RECIPIENT
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
        if self.equal < _EQUAL_ERRORS and self.in_a_row < _ERRORS_IN_A_ROW:
            return ""
        errors = (
            f"gave {self.equal} messages in a row the same error"
            if self.equal >= _EQUAL_ERRORS
            else f"accepted none of {self.in_a_row} messages in a row, with the last error"
        )
        return self._text(errors, delivery, delivery.remedy)

    def _count(self, kind: str) -> None:
        self.in_a_row += 1
        self.equal = self.equal + 1 if kind == self.kind else 1
        self.kind = kind

    def _refused(self, delivery: Delivery) -> str:
        self.refusals += 1
        if self.refusals < _REFUSALS_IN_A_ROW:
            return ""
        refused = f"refused {self.refusals} messages in a row because of their recipients"
        return self._text(refused, delivery, delivery.remedy)

    def _uncertain(self, delivery: Delivery) -> str:
        if self.equal < _EQUAL_ERRORS and self.uncertain < _UNCERTAIN_IN_ALL:
            return ""
        return self._text(
            f"may or may not have accepted {self.uncertain} messages",
            delivery,
            "If a mail filter, proxy or virus scanner stands between, have it let these messages"
            " pass.",
        )

    def _text(self, what: str, delivery: Delivery, remedy: str) -> str:
        return f"{what}: {delivery.reason.rstrip('.')}. {remedy}"


@dataclass(slots=True)
class Sending:
    """The messages of one run through one channel.

    `renew` is called before each message is sent. It brings the message up to date, or ends the
    notice.
    """

    channel: Channel
    ledger: NotificationLedger
    run: str
    account: str
    renew: Callable[[NoticeCase], None]
    advice: str = ""
    _errors: _ErrorCount = field(default_factory=_ErrorCount)

    def send(self, notices: Sequence[NoticeCase]) -> Iterator[NoticeCase]:
        """Send the notices that no other run has sent or is sending; yield each with its outcome.

        Those that other runs are sending come last.
        """
        contested = []
        a_message = _SECONDS_A_MESSAGE + self.channel.seconds_per_message
        deadline = time.monotonic() + _SECONDS_TO_BEGIN + len(notices) * a_message
        with self.channel.session() as send:
            sent = self._until_stopped(notices, send, deadline)
            for notice in self._with_credible_refusals(sent):
                if notice.outcome is Outcome.IN_PROGRESS:
                    contested.append(notice)
                else:
                    yield notice
        outcomes = outcomes_elsewhere(self.ledger, self.run, [n.keys for n in contested])
        for notice, outcome in zip(contested, outcomes, strict=True):
            notice.end(outcome)
            yield notice

    def _until_stopped(
        self, notices: Sequence[NoticeCase], send: Send, deadline: float
    ) -> Iterator[NoticeCase]:
        waiting = iter(notices)
        reason = "not tried: sending took too long as a whole, and the run ended"
        while time.monotonic() < deadline:
            batch = list(islice(waiting, self.channel.batch_size))
            if not batch:
                return
            why_stop = self._send_batch(batch, send)
            yield from batch
            if why_stop:
                self.advice = why_stop
                reason = f"not tried: {self.channel.server} did not accept the messages before it"
                break
        for notice in waiting:
            notice.end(Outcome.DEFERRED, reason)
            yield notice

    def _send_batch(self, batch: Sequence[NoticeCase], send: Send) -> str:
        """Send a batch; return why no further message should be tried, or an empty string."""
        ready = [notice for notice in batch if self._claim(notice)]
        messages = [notice.message for notice in ready if notice.message]
        try:
            deliveries = send(messages) if messages else []
        except ChannelError as down:
            for notice in ready:
                self._release(notice)
                notice.end(Outcome.DEFERRED, str(down))
            return str(down)
        except InvalidInput:  # a block was edited during the run
            for notice in ready:
                self._release(notice)
            raise
        reasons = [self._complete(*one) for one in zip(ready, deliveries, strict=True)]
        return next(filter(None, reasons), "")

    def _claim(self, notice: NoticeCase) -> bool:
        """Claim a notice if it is still due; return whether it is to be sent."""
        self.renew(notice)
        if notice.outcome is not Outcome.DUE:
            return False
        keys = self._keys_to_claim(notice)
        if not self._claim_keys(notice, keys):
            return False
        recipient = notice.message.recipient if notice.message else ""
        if recipient and not self.ledger.admit(self.account, recipient):
            self.ledger.release(keys, run=self.run, unconfirmed=notice.unconfirmed)
            most = self.ledger.messages_a_day
            notice.end(Outcome.DEFERRED, f"this address has had {most} messages today")
            return False
        return True

    def _claim_keys(self, notice: NoticeCase, keys: tuple[NoticeKey, ...]) -> bool:
        """Claim all keys, or end the notice with the outcome of the run that was faster."""
        won = self.ledger.claim(keys, run=self.run, unconfirmed=notice.unconfirmed)
        if won == set(keys):
            return True
        self.ledger.release(won, run=self.run, unconfirmed=notice.unconfirmed)
        live = self.ledger.in_progress(notice.keys, run=self.run)
        notice.end(_outcome(notice.keys, self.ledger.states(notice.keys), live))
        return False

    def _keys_to_claim(self, notice: NoticeCase) -> tuple[NoticeKey, ...]:
        return () if self.channel.is_idempotent else self._keys_to_record(notice)

    def _keys_to_record(self, notice: NoticeCase) -> tuple[NoticeKey, ...]:
        """Return the notice's keys; none for a rehearsal, which notifies no customer."""
        return notice.keys if self.channel.reaches_customers else ()

    def _complete(self, notice: NoticeCase, delivery: Delivery) -> str:
        if delivery.outcome is DeliveryOutcome.SENT:
            self.ledger.complete(self._keys_to_record(notice), NoticeState.SENT, run=self.run)
        elif delivery.outcome is not DeliveryOutcome.UNCERTAIN:
            notice.unconfirmed = notice.unconfirmed or delivery.may_repeat
            self._release(notice)
        outcome = Outcome(delivery.outcome)
        if outcome is Outcome.SENT and not self.channel.reaches_customers:
            outcome = Outcome.REHEARSED
        notice.end(outcome, delivery.reason)
        if outcome is Outcome.DEFERRED and delivery.cause is not Cause.RECIPIENT:
            reason = delivery.reason.rstrip(".")
            self.advice = f"{self.channel.server} responded: {reason}. {delivery.remedy}"
        why_stop = self._errors.reason_to_stop(delivery)
        return why_stop and f"{self.channel.server} {why_stop}"

    def _release(self, notice: NoticeCase) -> None:
        keys = self._keys_to_claim(notice)
        self.ledger.release(keys, run=self.run, unconfirmed=notice.unconfirmed)
        if notice.message and notice.message.recipient:
            self.ledger.discount(self.account, notice.message.recipient)

    def _with_credible_refusals(self, notices: Iterable[NoticeCase]) -> Iterator[NoticeCase]:
        """Hold refusals back until it is known whether the server accepts other messages."""
        refused: int | None = None  # in a row; not known before a message was sent
        held: list[NoticeCase] = []
        for notice in notices:
            is_sent = notice.outcome in {Outcome.SENT, Outcome.REHEARSED}
            refused = 0 if is_sent else refused
            held.append(notice)
            if is_sent or held[0].outcome is not Outcome.REFUSED:
                yield from self._with_refusals(held, refused)
                held = []
        if held and refused is None and self.channel.reaches_customers:
            # in earlier runs of the same rules
            rules = {rule_of(key.reason) for notice in held for key in notice.keys}
            refused = self.ledger.refused_in_a_row(self.account, rules)
        yield from self._with_refusals(held, refused)

    def _with_refusals(
        self, held: Sequence[NoticeCase], refused_before: int | None
    ) -> Iterator[NoticeCase]:
        """Record refusals if they are credible; else defer them."""
        refused = sum(notice.outcome is Outcome.REFUSED for notice in held)
        credible = refused_before is not None and refused_before + refused <= _CREDIBLE_REFUSALS
        for notice in held:
            if notice.outcome is Outcome.REFUSED and credible:
                keys = self._keys_to_claim(notice)
                if self._claim_keys(notice, keys):
                    self.ledger.complete(keys, NoticeState.REFUSED, run=self.run)
            elif notice.outcome is Outcome.REFUSED:
                doubt = "the server accepts no other message either, so the address is tried again"
                notice.end(Outcome.DEFERRED, f"{notice.reason} ({doubt})")
            yield notice


def outcomes_elsewhere(
    ledger: NotificationLedger,
    run: str,
    notices: Sequence[Iterable[NoticeKey]],
    *,
    wait: bool = True,
) -> list[Outcome]:
    """Return the outcomes of other runs' notices; wait a minute for those in progress."""
    deadline = time.monotonic() + (_WAIT_FOR_OTHERS_SECONDS if wait else 0)
    keys = {key for keys in notices for key in keys}
    while keys and (others := ledger.in_progress(keys, run=run)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_AGAIN_SECONDS)
    else:
        others = set()
    states = ledger.states(keys)
    return [_outcome(tuple(of_order), states, others) for of_order in notices]


def outcome_of(states: Iterable[NoticeState | None], *, live: bool = False) -> Outcome:
    """Derive the outcome for an order from the ledger's states of its parcels."""
    found = set(states)
    if NoticeState.CLAIMED in found:
        return Outcome.IN_PROGRESS if live else Outcome.UNCERTAIN
    if found & {None, NoticeState.UNCONFIRMED}:
        return Outcome.DEFERRED
    return Outcome.ALREADY_TOLD if NoticeState.SENT in found else Outcome.REFUSED


def _outcome(
    keys: Sequence[NoticeKey], states: Mapping[NoticeKey, NoticeState], live: set[NoticeKey]
) -> Outcome:
    open_claims = {key for key in keys if states.get(key) is NoticeState.CLAIMED}
    return outcome_of(map(states.get, keys), live=live >= open_claims)
