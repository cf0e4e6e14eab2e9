"""The job of sending notices about orders' parcels, once each, through one channel.

Everything is read, chosen and rendered before the first message goes out; the ledger keeps any
other run, at any time, from telling the same again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from prefect import get_run_logger
from prefect.runtime import flow_run

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    ChannelError,
    InvalidInput,
    InvalidResponse,
    LedgerError,
    LedgerReplaced,
    TemplateError,
    TracktorError,
)
from prefect_tracktor.messages.channel import Channel, Content, MailChannel
from prefect_tracktor.models import Fulfillment, Order, OrderFacts
from prefect_tracktor.reporting.artifacts import publish_message
from prefect_tracktor.reporting.markdown import Cell, admin_link, tracking_link
from prefect_tracktor.reporting.words import label_of
from prefect_tracktor.rules import (
    Choose,
    Notification,
    PassedOver,
    Reason,
    Unreadable,
    is_later,
    nth,
    step_of,
)
from prefect_tracktor.runs.answers import Needs
from prefect_tracktor.runs.cases import Case, Outcome, Row
from prefect_tracktor.runs.engine import Job, Limit
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import MailReport, RunReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.sending import Notice, Sending, outcome_of, outcomes_elsewhere
from prefect_tracktor.sources import FoundOrder
from prefect_tracktor.storage.ledger import WHOLE_ORDER, NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.storage.ledger import Notice as ToldNotice
from prefect_tracktor.storage.ledger_memory import LedgerMemory

R = TypeVar("R", bound=RunReport)

# orders are read again some at a time, which are then good for so long
_LOOKED_AT_TOGETHER = 50
_TOGETHER_SECONDS = 60
_GONE = "Tracktor does not know the order any more"

_SCHEDULES_DRIFT_BY = timedelta(hours=6)
_TOLD = frozenset({NoticeState.SENT, NoticeState.CLAIMED})
# so many orders without an address are suspicious, if no other has one
_MANY = 5


@dataclass(frozen=True, slots=True)
class _Chosen:
    order: Order
    notification: Notification


@dataclass(frozen=True, slots=True)
class LedgerOfAccount:
    """A ledger as one account uses it, with what Prefect remembers of it."""

    ledger: NotificationLedger
    account: str
    memory: LedgerMemory
    run: str = field(default_factory=lambda: str(flow_run.get_id() or uuid4()))

    @classmethod
    def of(
        cls, credentials: TracktorCredentials, ledger: NotificationLedger, *, purpose: str = ""
    ) -> "LedgerOfAccount":
        """The ledger for an account."""
        memory = LedgerMemory.of(
            credentials.account, base_url=credentials.base_url, purpose=purpose
        )
        return cls(ledger, credentials.account, memory)

    def recognize(self) -> bool:
        """See that it is the one that the account used before; say whether a person accepted it."""
        standing = self.ledger.standing(self.account)
        get_run_logger().info(
            "The ledger is %s; it holds %s notices of this account as sent, one for each parcel.",
            standing.place,
            standing.sent,
        )
        return self.memory.check(standing)

    def refuse_told_elsewhere(self, keys: Sequence[NoticeKey]) -> None:
        """See that no other account has told the same: a parcel belongs to one."""
        if not (told := self.ledger.known_elsewhere(keys)):
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
        self.memory.keep(self.ledger.standing(self.account))


class NotifyJob(Job[Order, Notice, R], Generic[R]):
    """Tells about what `choose` finds; with `record_only` it is only recorded as told."""

    acting = "Messages sent"
    table = "The affected orders and their outcomes."
    limit: Limit

    def __init__(
        self,
        credentials: TracktorCredentials,
        ledger: LedgerOfAccount,
        channel: Channel,
        choose: Choose,
        *,
        title: str,
        key: str,
        limit: Limit,
        dry_run: bool,
        needs: Needs,
        report_type: type[R] = MailReport,  # type: ignore[assignment]  # it is what mail reports
        record_only: bool = False,
        sent_lately: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(title=title, key=key, limit=limit, dry_run=dry_run)
        self.report_type = report_type
        self._credentials = credentials
        self._of_account = ledger
        self._ledger = ledger.ledger
        self._channel = channel
        self._choose = choose
        self.needs = needs
        self._record_only = record_only
        self._sent_lately = sent_lately
        self._accepted = False
        self._ledger_is_gone = False
        self._template_error: TemplateError | None = None
        self._known: list[tuple[Case, dict[NoticeKey, NoticeState]]] = []
        self._waiting: list[Notice] = []
        self._now: dict[int, Order | tuple[Outcome, str]] = {}
        self._now_read_at = 0.0

    @property
    def leaves_traces(self) -> bool:
        """Whether customers are told, and what was done is remembered."""
        return self._channel.reaches_customers or self._record_only

    def prepare(self) -> None:
        """See that the ledger is the account's, and that the channel can be used."""
        try:
            self._accepted = self._of_account.recognize()
        except LedgerReplaced as replaced:
            if self.leaves_traces and not self.dry_run:
                raise
            self._note(f"A run that sends would stop: {replaced}")
        if self.reading.alone or self._record_only:
            return  # it connects when it sends
        try:
            self._channel.check()
        except ChannelError as unusable:
            if not self.dry_run:
                raise
            self._note(f"A run that sends would stop: {unusable}")

    def at_work(self) -> AbstractContextManager[None]:
        """Nothing is forgotten of the ledger while this run decides by it."""
        acts = self.leaves_traces and not self.dry_run
        return self._ledger.at_work(self._of_account.run) if acts else nullcontext()

    def _note(self, note: str) -> None:
        get_run_logger().warning(note)
        self.notes.append(note)

    def choose(self, orders: Sequence[Order], *, read_at: float) -> None:
        """Take in a chunk: who is affected, who was told before, what is to be sent."""
        chosen = list(self._chosen(orders))
        history = self._history(one.order.order_id for one in chosen)
        for one in chosen:
            try:
                self._decide(one, history.get(one.order.order_id, ()), read_at)
            except InvalidInput as unusable:  # no ledger holds such a key
                self._add(one.order.order_id, Outcome.UNREADABLE, str(unusable))
        if len(self._waiting) > self.limit.most:
            for notice in self._waiting:
                notice.message = None  # none will be sent, and memory is not endless

    def _chosen(self, orders: Iterable[Order]) -> Iterator[_Chosen]:
        for order in orders:
            try:
                found = list(self._choose(order))
            except (InvalidResponse, InvalidInput) as unreadable:
                self._add(order.order_id, Outcome.UNREADABLE, str(unreadable))
                continue
            for one in found:
                if isinstance(one, Notification):
                    yield _Chosen(order, one)
                elif isinstance(one, Unreadable):
                    self._add(order.order_id, Outcome.UNREADABLE, one.reason)
                else:
                    self._add(order.order_id, Outcome(one.value))

    def _history(self, order_ids: Iterable[int]) -> dict[int, list[ToldNotice]]:
        """What the account's customers were told before, by order."""
        history: dict[int, list[ToldNotice]] = {}
        if ids := set(order_ids):
            for told in self._ledger.told(ids):
                if told.key.shop == self._of_account.account:
                    history.setdefault(told.key.order_id, []).append(told)
        return history

    def _add(
        self, order_id: int, outcome: Outcome, reason: str = "", columns: Row | None = None
    ) -> Notice:
        columns = columns or {"Order": str(order_id)}
        case = Notice(id=order_id, columns=columns, outcome=outcome, reason=reason)
        self.cases.append(case)
        return case

    def _decide(self, chosen: _Chosen, history: Sequence[ToldNotice], read_at: float) -> None:
        order, notification = chosen.order, chosen.notification
        known, news = self._known_and_new(order, notification, history)
        if known:
            columns = self._columns(order, known)
            told = self._add(order.order_id, Outcome.ALREADY_TOLD, columns=columns)
            told.links = _links(order, {})
            self._known.append((told, known))
        if not news:
            return
        due = self._add(order.order_id, Outcome.DUE, columns=self._columns(order, news))
        due.keys, due.read_at = tuple(sorted(news)), read_at
        due.content = notification.about(_reasons_of(news))
        due.facts, due.links = order.facts, _links(order, news)
        try:
            self._render(due, order, news)
        except TemplateError as fails:
            self._template_error = self._template_error or fails
            due.end(Outcome.UNREADABLE, str(fails))
            return
        if due.outcome is Outcome.DUE:
            due.planned, due.place = True, len(self._waiting)
            self._waiting.append(due)
            if self.dry_run and due.place == 0 and isinstance(self._channel, MailChannel):
                self._show(self._channel, order, news, due.content)

    def _show(
        self,
        channel: MailChannel,
        order: Order,
        news: Mapping[NoticeKey, tuple[Fulfillment, ...]],
        content: Content,
    ) -> None:
        """Show what a message would say, without personal data."""
        try:
            email = channel.preview(order, _parcels_of(news), content)
        except TemplateError as fails:
            self._note(f"The first message cannot be shown without personal data: {fails}")
        else:
            publish_message(f"{self.key}-message", subject=email.subject, text=email.text)

    def _known_and_new(
        self, order: Order, notification: Notification, history: Sequence[ToldNotice]
    ) -> tuple[dict[NoticeKey, NoticeState], dict[NoticeKey, tuple[Fulfillment, ...]]]:
        """What was told of it, or of something later, before; and what remains to be told."""
        known: dict[NoticeKey, NoticeState] = {}
        news: dict[NoticeKey, tuple[Fulfillment, ...]] = {}
        for reason in notification.reasons:
            key = self._key(order, reason)
            same, later = told_before(key, history)
            if later or (same and not _is_again(notification, same)):
                known |= {told.key: told.state for told in (same or later)}
            else:
                news[replace(key, reason=nth(reason.words, len(same) + 1))] = reason.parcels
        return known, news

    def _key(self, order: Order, reason: Reason) -> NoticeKey:
        return NoticeKey(
            self._of_account.account, order.order_id, reason.fulfillment_id, reason.words
        )

    def _render(
        self, due: Notice, order: Order, news: Mapping[NoticeKey, tuple[Fulfillment, ...]]
    ) -> None:
        # a rehearsal may be repeated, and is a message of its own each time
        run = "" if self._channel.reaches_customers else self._of_account.run
        try:
            due.message = self._channel.message(
                order, _parcels_of(news), due.content, key=f"{run}{tuple(sorted(news))}"
            )
        except InvalidInput as unusable:
            due.end(Outcome.NO_ADDRESS, str(unusable) if order.order_email else "")

    def _columns(self, order: Order, keys: Iterable[NoticeKey]) -> Row:
        keys = list(keys)
        to = self._channel.to(order)
        return {
            "Order": order.order_name or str(order.order_id),
            **({"To": to} if to else {}),
            "About": ", ".join(sorted({label_of(key.reason.rpartition(":")[2]) for key in keys})),
            "Parcels": len({key.fulfillment_id for key in keys}),
            "Order id": str(order.order_id),
        }

    def refuse(self) -> None:
        """Stop before the first message, if a template fits no order or too many are due."""
        if self._template_error is not None and not self._waiting:
            # an odd order fails alone; a template that fails for each is at fault itself
            raise self._template_error
        if not self._record_only:
            lately = self._sent_lately() if self._waiting else 0
            self.limit.check(len(self._waiting), lately=lately)

    def act(self) -> Iterator[Notice]:
        """Send all that is due."""
        if self.leaves_traces:
            if not self._accepted:
                keys = [key for due in self._waiting for key in due.keys]
                self._of_account.refuse_told_elsewhere(keys)
            self._of_account.keep_in_mind()
        try:
            yield from self._recorded() if self._record_only else self._sent()
        except LedgerError:
            self._ledger_is_gone = True
            raise
        if self.leaves_traces:
            try:
                self._of_account.keep_in_mind()
            except TracktorError as trouble:
                get_run_logger().warning("The next run knows less of this ledger: %s", trouble)

    def _recorded(self) -> Iterator[Notice]:
        for due in self._waiting:
            self._ledger.settle(due.keys, NoticeState.SENT, run=self._of_account.run)
            due.end(Outcome.RECORDED)
            yield due

    def _sent(self) -> Iterator[Notice]:
        account, run = self._of_account.account, self._of_account.run
        sending = Sending(self._channel, self._ledger, run, account, self._renew)
        for notice in sending.send(self._waiting):
            self.advice = sending.advice
            yield notice
        self.advice = sending.advice

    def _renew(self, due: Notice) -> None:
        """Make a message as it must be when its turn has come."""
        if self._is_old(due.read_at):
            self._read_anew(due)
        if due.outcome is Outcome.DUE and self._is_overtaken(due):
            due.end(Outcome.SUPERSEDED, "the customer was notified of a later status")

    def _is_overtaken(self, due: Notice) -> bool:
        history = self._history([due.id]).get(due.id, ())
        return any(told_before(key, history)[1] for key in due.keys)

    def _is_old(self, read_at: float, *, at_least_seconds: float = 0) -> bool:
        age = time.time() - read_at
        # a clock that was set back says nothing about a reading
        seconds = self.reading.options.read_again_after_minutes * 60
        return not 0 <= age <= max(seconds, at_least_seconds)

    def _read_anew(self, due: Notice) -> None:
        now = self._order_by_now(due)
        if not isinstance(now, Order):
            due.end(*now)
            return
        try:
            found = list(self._choose(now))
        except (InvalidResponse, InvalidInput) as unreadable:
            found = [Unreadable(str(unreadable))]
        unsure = next((one.reason for one in found if isinstance(one, Unreadable)), "")
        chosen = [one for one in found if isinstance(one, Notification)]
        still = {
            (reason.fulfillment_id, reason.words): (reason.parcels, one)
            for one in chosen
            for reason in one.reasons
        }
        base = {key: (key.fulfillment_id, step_of(key.reason)[0]) for key in due.keys}
        news = {key: still[base[key]][0] for key in due.keys if base[key] in still}
        if news:
            due.content = still[base[min(news)]][1].about(_reasons_of(news))
        if unsure and not news:
            due.end(Outcome.DEFERRED, unsure)
        elif _lacks_what_it_had(now, set(due.keys) - news.keys()):
            due.end(Outcome.DEFERRED, _not_again("the answer lacks what it had before"))
        elif not news:
            due.end(Outcome.SUPERSEDED, "its parcels moved on before the message was sent")
            for passed_over in {one for one in found if isinstance(one, PassedOver)}:
                self._add(due.id, Outcome(passed_over.value))
        else:
            self._render_anew(due, now, news)

    def _render_anew(
        self, due: Notice, order: Order, news: Mapping[NoticeKey, tuple[Fulfillment, ...]]
    ) -> None:
        if to := self._channel.to(order):
            due.columns["To"] = to
        due.keys = tuple(sorted(news))
        try:
            self._render(due, order, news)
        except TemplateError as fails:
            due.end(Outcome.DEFERRED, str(fails))
        if due.outcome is Outcome.NO_ADDRESS:
            due.reason = "there is no usable address any more"

    def _order_by_now(self, due: Notice) -> Order | tuple[Outcome, str]:
        """The order, read again with those whose turn comes next; or why it is not there."""
        is_fresh = not self._is_old(self._now_read_at, at_least_seconds=_TOGETHER_SECONDS)
        if due.id not in self._now or not is_fresh:
            some = self._waiting[due.place : due.place + _LOOKED_AT_TOGETHER]
            self._now_read_at = time.time()
            old = [due, *(other for other in some if self._is_old(other.read_at))]
            self._now = self._read_now({other.id: other.facts for other in old})
        return self._now[due.id]

    def _read_now(self, facts: Mapping[int, OrderFacts]) -> dict[int, Order | tuple[Outcome, str]]:
        reading = ReadingOptions(chunk_size=_LOOKED_AT_TOGETHER)
        orders = [FoundOrder(order_id, known) for order_id, known in facts.items()]
        again = Scan(self._credentials, orders, reading, needs=self.needs.of_each_order)
        now: dict[int, Order | tuple[Outcome, str]] = {}
        try:
            for batch in again:
                now |= {order.order_id: order for order in batch.found}
                now |= {f.id: (Outcome.DEFERRED, _not_again(f.reason)) for f in batch.failed}
                now |= dict.fromkeys(batch.missing, (Outcome.SUPERSEDED, _GONE))
        except TracktorError as error:
            return dict.fromkeys(facts, (Outcome.DEFERRED, _not_again(str(error))))
        finally:
            self.calls += again.calls
        return now

    def look_back(self, *, acted: bool) -> None:
        """Say of what was known before what other runs made of it since."""
        outcomes = [outcome_of(states.values()) for _, states in self._known]
        if not self._ledger_is_gone:
            with suppress(LedgerError):
                # a claim that was open when we looked may have been settled since by its run
                told = [tuple(states) for _, states in self._known]
                wait = acted and self.leaves_traces
                outcomes = outcomes_elsewhere(self._ledger, self._of_account.run, told, wait=wait)
        for (case, _), outcome in zip(self._known, outcomes, strict=True):
            case.end(outcome)

    def facts(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Where no address is left at all, it is seldom the customers who have none."""
        without = {case.id for case in self.cases if case.outcome is Outcome.NO_ADDRESS}
        affected = {case.id for case in self.cases if case.outcome.is_shown}
        if found["suspicion"] or len(without) < _MANY or without != affected:
            return {}
        return {
            "suspicion": f"none of the {len(without)} orders to write about has a usable email"
            " address: check in Shopify that Tracktor may still read customers' data"
        }


def _parcels_of(news: Mapping[NoticeKey, tuple[Fulfillment, ...]]) -> list[Fulfillment]:
    """The parcels that a message is about, each once."""
    by_id = {parcel.fulfillment_id: parcel for some in news.values() for parcel in some}
    return list(by_id.values())


def _reasons_of(keys: Iterable[NoticeKey]) -> set[tuple[int, str]]:
    """What the keys are about: the parcels, and the words without the number of a reminder."""
    return {(key.fulfillment_id, step_of(key.reason)[0]) for key in keys}


def _links(order: Order, news: Mapping[NoticeKey, tuple[Fulfillment, ...]]) -> dict[str, Cell]:
    """Where a person looks who must act: the order in the shop, and the parcel at its carrier."""
    parcel = next((parcel for some in news.values() for parcel in some), None)
    links = {"Order": admin_link(order)}
    return links | {"Carrier": tracking_link(parcel)} if parcel else links


def told_before(
    key: NoticeKey, history: Iterable[ToldNotice]
) -> tuple[list[ToldNotice], list[ToldNotice]]:
    """What was told of the same before, and what of something that happens later."""
    words, _ = step_of(key.reason)
    of_parcel = [
        told
        for told in history
        if told.key.fulfillment_id == key.fulfillment_id
        or WHOLE_ORDER in (told.key.fulfillment_id, key.fulfillment_id)
    ]
    # what was told of an order before it had parcels is no news of the parcels that show it still
    same = [
        told
        for told in of_parcel
        if told.key.fulfillment_id in (key.fulfillment_id, WHOLE_ORDER)
        and step_of(told.key.reason)[0] == words
    ]
    later = [
        told
        for told in of_parcel
        if told.state in _TOLD
        and is_later(told.key.reason, words)
        # a parcel that was sent later may have an exception after "all has arrived"
        and (told.key.fulfillment_id == key.fulfillment_id or "status:" in words)
    ]
    return same, later


def _is_again(notification: Notification, same: Sequence[ToldNotice]) -> bool:
    """Whether it is time to tell it once more."""
    if len(same) >= notification.times or any(t.state is not NoticeState.SENT for t in same):
        return False
    times = [told.settled_at for told in same if told.settled_at]
    # what was sent late in a run of a schedule is repeated by the run at that time of the day
    slack = min(_SCHEDULES_DRIFT_BY, notification.repeat_after / 10)
    return bool(times) and datetime.now(UTC) - max(times) >= notification.repeat_after - slack


def _lacks_what_it_had(order: Order, gone: Iterable[NoticeKey]) -> bool:
    """Whether an answer says nothing of parcels that are no news any more, or has no address."""
    shown = {parcel.fulfillment_id for parcel in order.fulfillments if parcel.current_status}
    parcels = {key.fulfillment_id for key in gone} - {WHOLE_ORDER}
    return not shown.issuperset(parcels) or ("order_email" not in order.fields_read)


def _not_again(reason: str) -> str:
    return f"it could not be read again: {reason}"
