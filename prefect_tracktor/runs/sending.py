"""Claim, send, complete: no message is sent twice, also by simultaneous or killed runs."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from prefect_tracktor.errors import ChannelError, InvalidInput
from prefect_tracktor.messages.channel import Channel, Message, Send
from prefect_tracktor.messages.delivery import Delivery, DeliveryOutcome
from prefect_tracktor.messages.replies import About
from prefect_tracktor.models import NO_FACTS, OrderFacts
from prefect_tracktor.rules import rule_of
from prefect_tracktor.runs.cases import Case, Outcome
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState, NotificationLedger

# how long a run waits, at its end, for what others are sending at the moment
_WAIT_FOR_OTHERS_SECONDS = 60
_LOOK_AGAIN_SECONDS = 1

# what a run may take to send: far more than it needs, and not all night
_SECONDS_TO_BEGIN = 600
_SECONDS_A_MESSAGE = 10

# equal answers in a row after which the next message would get the same one
_EQUAL_ANSWERS = 3
# different ones in a row that are about no recipient
_ANSWERS_IN_A_ROW = 10
# refusals in a row, over all runs: more than these are not believed, and then it is enough
_BELIEVED_IN_A_ROW = 4
_REFUSALS_IN_A_ROW = 10
_UNCERTAIN_IN_ALL = 5


@dataclass(slots=True, kw_only=True, eq=False)
class Notice(Case):
    """What one message tells an order's customer, and how far it got."""

    content: Any = None
    keys: tuple[NoticeKey, ...] = ()
    message: Message | None = None
    facts: OrderFacts = NO_FACTS
    # whether a service may have it, which recognizes it by its keys
    again: bool = False
    # among those that wait, and when its order was read
    place: int = 0
    read_at: float = 0.0


@dataclass(slots=True)
class Sending:
    """One run's sending through one channel.

    `renew` looks at a notice just before it is sent: its message is as it must be by then, or it
    has ended.
    """

    channel: Channel
    ledger: NotificationLedger
    run: str
    account: str
    renew: Callable[[Notice], None]
    advice: str = ""
    _answers: "_Answers" = field(init=False)

    def __post_init__(self) -> None:
        self._answers = _Answers(self.channel.server)

    def send(self, notices: Sequence[Notice]) -> Iterator[Notice]:
        """Send each unless somebody else has sent or is sending it; give it back when it ended.

        What other runs are sending at the same time comes last.
        """
        contested = []
        deadline = time.monotonic() + self._seconds_for(len(notices))
        with self.channel.session() as send:
            for notice in self._proven(self._until_stopped(notices, send, deadline)):
                if notice.outcome is Outcome.IN_PROGRESS:
                    contested.append(notice)
                else:
                    yield notice
        outcomes = outcomes_elsewhere(self.ledger, self.run, [n.keys for n in contested])
        for notice, outcome in zip(contested, outcomes, strict=True):
            notice.end(outcome)
            yield notice

    def _seconds_for(self, count: int) -> float:
        return _SECONDS_TO_BEGIN + count * (_SECONDS_A_MESSAGE + self.channel.seconds_a_message)

    def _until_stopped(
        self, notices: Sequence[Notice], send: Send, deadline: float
    ) -> Iterator[Notice]:
        waiting = iter(notices)
        reason = "not tried: sending took too long as a whole, and the run ended"
        while time.monotonic() < deadline:
            lot = list(islice(waiting, self.channel.lot_size))
            if not lot:
                return
            why = self._send_lot(lot, send)
            yield from lot
            if why:
                self.advice = why
                reason = f"not tried: {self.channel.server} did not take the messages before it"
                break
        for notice in waiting:
            notice.end(Outcome.DEFERRED, reason)
            yield notice

    def _send_lot(self, lot: Sequence[Notice], send: Send) -> str:
        """Send some; say why no further one should be tried, or nothing."""
        ready = [notice for notice in lot if self._is_ready(notice)]
        messages = [notice.message for notice in ready if notice.message]
        try:
            deliveries = send(messages) if messages else []
        except ChannelError as down:
            for notice in ready:
                self._give_back(notice)
                notice.end(Outcome.DEFERRED, str(down))
            return str(down)
        except InvalidInput:  # of a block that somebody has just edited
            for notice in ready:
                self._give_back(notice)
            raise
        reasons = [self._settle(*one) for one in zip(ready, deliveries, strict=True)]
        return next(filter(None, reasons), "")

    def _is_ready(self, notice: Notice) -> bool:
        """Claim a notice, if it is still to be sent."""
        self.renew(notice)
        if notice.outcome is not Outcome.DUE:
            return False
        keys = self._claimed(notice)
        if not self._claim(notice):
            return False
        recipient = notice.message.recipient if notice.message else ""
        if recipient and not self.ledger.admit(self.account, recipient):
            self.ledger.release(keys, run=self.run, again=notice.again)
            most = self.ledger.messages_a_day
            notice.end(Outcome.DEFERRED, f"this address has had {most} messages today")
            return False
        return True

    def _claim(self, notice: Notice) -> bool:
        """Claim all that a notice tells; if others have a part of it, it ends."""
        keys = self._claimed(notice)
        won = self.ledger.claim(keys, run=self.run, again=notice.again)
        if won == set(keys):
            return True
        self.ledger.release(won, run=self.run, again=notice.again)
        notice.end(self._told_by_others(notice))
        return False

    def _claimed(self, notice: Notice) -> tuple[NoticeKey, ...]:
        return () if self.channel.may_repeat else self._told(notice)

    def _told(self, notice: Notice) -> tuple[NoticeKey, ...]:
        """A rehearsal tells the customer nothing, and may be repeated."""
        return notice.keys if self.channel.reaches_customers else ()

    def _settle(self, notice: Notice, delivery: Delivery) -> str:
        if delivery.outcome is DeliveryOutcome.SENT:
            self.ledger.settle(self._told(notice), NoticeState.SENT, run=self.run)
        elif delivery.outcome is not DeliveryOutcome.UNCERTAIN:
            notice.again = notice.again or delivery.may_repeat
            self._give_back(notice)
        outcome = Outcome(delivery.outcome)
        if outcome is Outcome.SENT and not self.channel.reaches_customers:
            outcome = Outcome.REHEARSED
        notice.end(outcome, delivery.reason)
        if outcome is Outcome.DEFERRED and delivery.about is not About.RECIPIENT:
            said = delivery.reason.rstrip(".")
            self.advice = f"{self.channel.server} said: {said}. {delivery.remedy}"
        return self._answers.reason_to_stop(delivery)

    def _give_back(self, notice: Notice) -> None:
        self.ledger.release(self._claimed(notice), run=self.run, again=notice.again)
        if notice.message and notice.message.recipient:
            self.ledger.discount(self.account, notice.message.recipient)

    def _told_by_others(self, notice: Notice) -> Outcome:
        """Another run was faster with at least a part of it."""
        live = self.ledger.in_progress(notice.keys, run=self.run)
        return _outcome(notice.keys, self.ledger.states(notice.keys), live)

    def _proven(self, notices: Iterable[Notice]) -> Iterator[Notice]:
        """Hold refusals back until it is known that the server takes somebody else's message."""
        refused: int | None = None  # in a row by now; nothing is known before one was sent
        held: list[Notice] = []
        for notice in notices:
            is_sent = notice.outcome in {Outcome.SENT, Outcome.REHEARSED}
            refused = 0 if is_sent else refused
            held.append(notice)
            if is_sent or held[0].outcome is not Outcome.REFUSED:
                yield from self._judged(held, refused)
                held = []
        if held and refused is None and self.channel.reaches_customers:
            # what the runs before sent and were refused by the same rules
            rules = {rule_of(key.reason) for notice in held for key in notice.keys}
            refused = self.ledger.refused_in_a_row(self.account, rules)
        yield from self._judged(held, refused)

    def _judged(self, held: Sequence[Notice], refused_before: int | None) -> Iterator[Notice]:
        refused = sum(notice.outcome is Outcome.REFUSED for notice in held)
        believed = refused_before is not None and refused_before + refused <= _BELIEVED_IN_A_ROW
        for notice in held:
            if notice.outcome is Outcome.REFUSED and believed:
                self._refuse_for_good(notice)
            elif notice.outcome is Outcome.REFUSED:
                doubt = "the server accepts no other message either, so the address is tried again"
                notice.end(Outcome.DEFERRED, f"{notice.reason} ({doubt})")
            yield notice

    def _refuse_for_good(self, notice: Notice) -> None:
        if self._claim(notice):
            self.ledger.settle(self._claimed(notice), NoticeState.REFUSED, run=self.run)


@dataclass(slots=True)
class _Answers:
    """What a server keeps answering; whatever the words, the next message would get the same."""

    server: str
    kind: str = ""
    equal: int = 0
    in_a_row: int = 0
    refusals: int = 0
    uncertain: int = 0

    def reason_to_stop(self, delivery: Delivery) -> str:
        """Take in a message's answer: why no further one should be tried, or nothing."""
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
        return f"{self.server} {answered}: {delivery.reason.rstrip('.')}. {delivery.remedy}"

    def _count(self, kind: str) -> None:
        self.in_a_row += 1
        self.equal = self.equal + 1 if kind == self.kind else 1
        self.kind = kind

    def _refused(self, delivery: Delivery) -> str:
        self.refusals += 1
        if self.refusals < _REFUSALS_IN_A_ROW:
            return ""
        return (
            f"{self.server} refused {self.refusals} messages in a row because of their recipients:"
            f" {delivery.reason.rstrip('.')}. {delivery.remedy}"
        )

    def _uncertain(self, delivery: Delivery) -> str:
        if self.equal < _EQUAL_ANSWERS and self.uncertain < _UNCERTAIN_IN_ALL:
            return ""
        return (
            f"{self.uncertain} messages may or may not have been taken by {self.server}:"
            f" {delivery.reason.rstrip('.')}. If a mail filter, proxy or virus scanner stands"
            " between, have it let these messages pass."
        )


def outcomes_elsewhere(
    ledger: NotificationLedger,
    run: str,
    told: Sequence[Iterable[NoticeKey]],
    *,
    wait: bool = True,
) -> list[Outcome]:
    """What became of notices that other runs had claimed or settled; waits a minute for these."""
    deadline = time.monotonic() + (_WAIT_FOR_OTHERS_SECONDS if wait else 0)
    keys = {key for keys in told for key in keys}
    while keys and (others := ledger.in_progress(keys, run=run)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_AGAIN_SECONDS)
    else:
        others = set()
    states = ledger.states(keys)
    return [_outcome(tuple(of_order), states, others) for of_order in told]


def outcome_of(states: Iterable[NoticeState | None], *, live: bool = False) -> Outcome:
    """What the ledger's states of an order's parcels mean for the order as a whole."""
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
