"""The job of sending notices about orders' parcels, each once, through one channel.

Everything is read, chosen and rendered before the first message goes out. The ledger keeps every
other run, at any time, from sending the same notice.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
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
    Skipped,
    Unreadable,
    is_later,
    kind_of,
    numbered,
    unnumbered,
)
from prefect_tracktor.runs.cases import Case, Outcome, Row
from prefect_tracktor.runs.engine import Job, Limit
from prefect_tracktor.runs.needs import Needs
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import MailReport, RunReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.sending import NoticeCase, Sending, outcome_of, outcomes_elsewhere
from prefect_tracktor.sources import FoundOrder
from prefect_tracktor.storage.ledger import (
    WHOLE_ORDER,
    Notice,
    NoticeKey,
    NoticeState,
    NotificationLedger,
)
from prefect_tracktor.storage.ledger_memory import LedgerMemory

R = TypeVar("R", bound=RunReport)

# orders are read again in batches, which are up to date for this long
_REREAD_AT_ONCE = 50
_REREAD_LASTS_SECONDS = 60

_SCHEDULES_DRIFT_BY = timedelta(hours=6)
_SENT = frozenset({NoticeState.SENT, NoticeState.CLAIMED})
# this many orders without an address are suspicious, if no other order has one
_MANY = 5

# the parcels to notify about, by the keys under which the ledger records them
_News = dict[NoticeKey, tuple[Fulfillment, ...]]
# an order that was read again, or what becomes of its messages and why
_OrderNow = Order | tuple[Outcome, str]


class NotifyJob(Job[Order, NoticeCase, R], Generic[R]):
    """Sends the notices that `choose` finds; with `record_only` it records them as sent instead."""

    acting = "Messages sent"
    table = "The affected orders and their outcomes."
    limit: Limit

    def __init__(
        self,
        credentials: TracktorCredentials,
        ledger: NotificationLedger,
        channel: Channel,
        choose: Choose,
        *,
        title: str,
        key: str,
        limit: Limit,
        dry_run: bool,
        needs: Needs,
        report_type: type[R] = MailReport,  # type: ignore[assignment]  # it is what mail reports
        purpose: str = "",
        record_only: bool = False,
        by_tag: bool = False,
        sent_lately: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(title=title, key=key, limit=limit, dry_run=dry_run)
        self.report_type = report_type
        self._credentials = credentials
        self._account = credentials.account
        self._run = str(flow_run.get_id() or uuid4())
        self._ledger = ledger
        self._ledger_memory = LedgerMemory.of(
            credentials.account, base_url=credentials.base_url, purpose=purpose
        )
        self._channel = channel
        self._choose = choose
        self.needs = needs
        self._record_only = record_only
        self._lacks_tags = by_tag
        self._sent_lately = sent_lately
        self._accepted = False
        self._ledger_failed = False
        self._template_error: TemplateError | None = None
        self._sent_before: list[tuple[Case, dict[NoticeKey, NoticeState]]] = []
        self._due: list[NoticeCase] = []
        self._reread: dict[int, _OrderNow] = {}
        self._reread_at = 0.0

    @property
    def takes_effect(self) -> bool:
        """Whether customers are notified, or notices recorded."""
        return self._channel.reaches_customers or self._record_only

    def prepare(self) -> None:
        """Check that the ledger is the account's, and that the channel can be used."""
        try:
            self._recognize_ledger()
        except LedgerReplaced as replaced:
            if self.takes_effect and not self.dry_run:
                raise
            self.note(f"A run that sends would stop: {replaced}")
        if self.reading.single or self._record_only:
            return  # it connects when it sends
        with self.noted_in_dry_run(ChannelError):
            self._channel.check()

    def _recognize_ledger(self) -> None:
        """Check that the account used this ledger before, or that a person accepted it."""
        standing = self._ledger.standing(self._account)
        get_run_logger().info(
            "The ledger is %s; it holds %s notices of this account as sent, one for each parcel.",
            standing.place,
            standing.sent,
        )
        self._accepted = self._ledger_memory.check(standing)

    def _refuse_sent_elsewhere(self) -> None:
        """Raise `LedgerReplaced` if another account sent these notices: a parcel belongs to one."""
        keys = [key for due in self._due for key in due.keys]
        if not (sent := self._ledger.known_elsewhere(keys)):
            return
        key, other = next(iter(sent.items()))
        raise LedgerReplaced(
            f"another account ({other}) has sent notices about {len(sent)} of {len(keys)} parcels,"
            f" such as one of order {key.order_id}: has the account's uuid changed?"
            " Nothing was sent. To carry over what the ledger knows, call its"
            f" take_over({other!r}, {self._account!r}); to write to these customers again:"
            f" prefect variable set {self._ledger_memory.variable} accept --overwrite"
        )

    def _remember_ledger(self) -> None:
        """Record in Prefect that the account uses this ledger, and how much it holds."""
        self._ledger_memory.keep(self._ledger.standing(self._account))

    def active(self) -> AbstractContextManager[None]:
        """Keep others from deleting notices while this run decides by them."""
        acts = self.takes_effect and not self.dry_run
        return self._ledger.at_work(self._run) if acts else nullcontext()

    def choose(self, orders: Sequence[Order]) -> None:
        """Add cases for what customers were notified about before, and for what is due."""
        self._lacks_tags = self._lacks_tags and not any(order.facts.tags for order in orders)
        chosen = list(self._notifications(orders))
        history = self._history(order.order_id for order, _ in chosen)
        for order, notification in chosen:
            try:
                self._add_cases(order, notification, history.get(order.order_id, ()))
            except InvalidInput as unusable:  # no ledger holds such a key
                self._add(order.order_id, Outcome.UNREADABLE, str(unusable))
        if len(self._due) > self.limit.most:
            for due in self._due:
                due.message = None  # none will be sent; this frees the memory

    def _notifications(self, orders: Iterable[Order]) -> Iterator[tuple[Order, Notification]]:
        for order in orders:
            try:
                chosen = list(self._choose(order))
            except (InvalidResponse, InvalidInput) as unreadable:
                self._add(order.order_id, Outcome.UNREADABLE, str(unreadable))
                continue
            for choice in chosen:
                if isinstance(choice, Notification):
                    yield order, choice
                elif isinstance(choice, Unreadable):
                    self._add(order.order_id, Outcome.UNREADABLE, choice.reason)
                else:
                    self._add(order.order_id, Outcome(choice.value))

    def _history(self, order_ids: Iterable[int]) -> dict[int, list[Notice]]:
        """Return the notices to the account's customers, by order."""
        history: dict[int, list[Notice]] = {}
        if ids := set(order_ids):
            for notice in self._ledger.told(ids):
                if notice.key.shop == self._account:
                    history.setdefault(notice.key.order_id, []).append(notice)
        return history

    def _add(
        self, order_id: int, outcome: Outcome, reason: str = "", columns: Row | None = None
    ) -> NoticeCase:
        columns = columns or {"Order": str(order_id)}
        case = NoticeCase(id=order_id, columns=columns, outcome=outcome, reason=reason)
        self.cases.append(case)
        return case

    def _add_cases(
        self, order: Order, notification: Notification, history: Sequence[Notice]
    ) -> None:
        states, news, unconfirmed = self._split(order, notification, history)
        if states:
            columns = self._columns(order, states)
            before = self._add(order.order_id, Outcome.ALREADY_TOLD, columns=columns)
            before.links = _links(order, {})
            self._sent_before.append((before, states))
        for message in unconfirmed:
            self._plan(order, notification, message, unconfirmed=True)
        if news:
            self._plan(order, notification, news)

    def _plan(
        self,
        order: Order,
        notification: Notification,
        news: _News,
        *,
        unconfirmed: bool = False,
    ) -> None:
        """Render a message that is due, or is sent again as the service did not confirm it."""
        due = self._add(order.order_id, Outcome.DUE, columns=self._columns(order, news))
        due.keys, due.unconfirmed = tuple(sorted(news)), unconfirmed
        due.read_at = self.reading.begun
        content = notification.content_about(set(map(_subject_of, news)))
        due.facts, due.links = order.facts, _links(order, news)
        try:
            self._render(due, order, news, content)
        except TemplateError as fails:
            self._template_error = self._template_error or fails
            due.end(Outcome.UNREADABLE, str(fails))
            return
        if due.outcome is Outcome.DUE:
            due.planned, due.place = True, len(self._due)
            self._due.append(due)
            if self.dry_run and due.place == 0 and isinstance(self._channel, MailChannel):
                self._show(self._channel, order, news, content)

    def _show(self, channel: MailChannel, order: Order, news: _News, content: Content) -> None:
        """Publish a message without personal data."""
        try:
            email = channel.preview(order, _parcels_of(news), content)
        except TemplateError as fails:
            self.note(f"The first message cannot be shown without personal data: {fails}")
        else:
            publish_message(f"{self.key}-message", subject=email.subject, text=email.text)

    def _split(
        self, order: Order, notification: Notification, history: Sequence[Notice]
    ) -> tuple[dict[NoticeKey, NoticeState], _News, list[_News]]:
        """Split a notification: notices that exist, new ones, and unconfirmed messages."""
        states: dict[NoticeKey, NoticeState] = {}
        news: _News = {}
        unconfirmed: dict[tuple[NoticeKey, ...], _News] = {}
        for subject in notification.subjects:
            key = NoticeKey(self._account, order.order_id, subject.fulfillment_id, subject.reason)
            same, later = sent_before(key, history)
            open_notice = next((n for n in same if n.state is NoticeState.UNCONFIRMED), None)
            if open_notice and not later:
                together = _sent_together(open_notice, history)
                message = unconfirmed.setdefault(together, dict.fromkeys(together, ()))
                message[open_notice.key] = subject.parcels
            elif later or (same and not _is_time_to_repeat(notification, same)):
                existing = [notice for notice in same if notice is not open_notice] or later
                states |= {notice.key: notice.state for notice in existing}
            else:
                reason = numbered(subject.reason, len(same) + 1)
                news[replace(key, reason=reason)] = subject.parcels
        return states, news, list(unconfirmed.values())

    def _render(self, due: NoticeCase, order: Order, news: _News, content: Content) -> None:
        # a rehearsal may be repeated, each time with a message of its own
        run = "" if self._channel.reaches_customers else self._run
        try:
            due.message = self._channel.message(
                order, _parcels_of(news), content, key=f"{run}{tuple(sorted(news))}"
            )
        except InvalidInput as unusable:
            due.end(Outcome.NO_ADDRESS, str(unusable) if order.order_email else "")

    def _columns(self, order: Order, keys: Iterable[NoticeKey]) -> Row:
        keys = list(keys)
        to = self._channel.masked_recipient(order)
        return {
            "Order": order.order_name or str(order.order_id),
            **({"To": to} if to else {}),
            "About": ", ".join(sorted({label_of(key.reason.rpartition(":")[2]) for key in keys})),
            "Parcels": len({key.fulfillment_id for key in keys}),
            "Order id": str(order.order_id),
        }

    def check_plan(self) -> None:
        """Stop before the first message if a template fits no order, or too many are due."""
        if self._template_error is not None and not self._due:
            # a template that fails for one order is the order's problem; for all, the template's
            raise self._template_error
        if not self._record_only:
            lately = self._sent_lately() if self._due else 0
            self.limit.check(len(self._due), lately=lately)

    def act(self) -> Iterator[NoticeCase]:
        """Send or record all notices that are due."""
        if self.takes_effect:
            if not self._accepted:
                self._refuse_sent_elsewhere()
            self._remember_ledger()
        try:
            yield from self._record() if self._record_only else self._send()
        except LedgerError:
            self._ledger_failed = True
            raise
        if self.takes_effect:
            try:
                self._remember_ledger()
            except TracktorError as error:
                get_run_logger().warning("Prefect did not record this ledger's state: %s", error)

    def _record(self) -> Iterator[NoticeCase]:
        for due in self._due:
            self._ledger.complete(due.keys, NoticeState.SENT, run=self._run)
            due.end(Outcome.RECORDED)
            yield due

    def _send(self) -> Iterator[NoticeCase]:
        sending = Sending(self._channel, self._ledger, self._run, self._account, self._renew)
        try:
            yield from sending.send(self._due)
        finally:
            self.advice = sending.advice

    def _renew(self, due: NoticeCase) -> None:
        """Bring a message up to date before it is sent, or end its case."""
        if self._is_old(due.read_at):
            self._update(due)
        if due.outcome is Outcome.DUE and self._is_superseded(due):
            due.end(Outcome.SUPERSEDED, "the customer was notified of a later status")

    def _is_superseded(self, due: NoticeCase) -> bool:
        history = self._history([due.id]).get(due.id, ())
        return any(sent_before(key, history)[1] for key in due.keys)

    def _is_old(self, read_at: float, *, at_least_seconds: float = 0) -> bool:
        age = time.time() - read_at
        # an age below 0 means that the clock was set back
        seconds = self.reading.options.read_again_after_minutes * 60
        return not 0 <= age <= max(seconds, at_least_seconds)

    def _update(self, due: NoticeCase) -> None:
        """Read the order again, and render the message for what is still true."""
        now = self._order_now(due)
        if not isinstance(now, Order):
            due.end(*now)
            return
        try:
            chosen = list(self._choose(now))
        except (InvalidResponse, InvalidInput) as unreadable:
            chosen = [Unreadable(str(unreadable))]
        unreadable_reason = next((one.reason for one in chosen if isinstance(one, Unreadable)), "")
        still_true = {
            (subject.fulfillment_id, subject.reason): (subject.parcels, notification)
            for notification in chosen
            if isinstance(notification, Notification)
            for subject in notification.subjects
        }
        news = {
            key: still_true[_subject_of(key)][0]
            for key in due.keys
            if _subject_of(key) in still_true
        }
        if unreadable_reason and not news:
            due.end(Outcome.DEFERRED, unreadable_reason)
        elif _lacks_what_it_had(now, set(due.keys) - news.keys()):
            due.end(Outcome.DEFERRED, _not_read_again("the response lacks what it had before"))
        elif news:
            _, notification = still_true[_subject_of(min(news))]
            content = notification.content_about(set(map(_subject_of, news)))
            # the service recognizes an unconfirmed message by all of its keys
            keys = due.keys if due.unconfirmed else ()
            self._render_again(due, now, dict.fromkeys(keys, ()) | news, content)
        else:
            due.end(Outcome.SUPERSEDED, "its parcels moved on before the message was sent")
            for skipped in {one for one in chosen if isinstance(one, Skipped)}:
                self._add(due.id, Outcome(skipped.value))

    def _render_again(self, due: NoticeCase, order: Order, news: _News, content: Content) -> None:
        if to := self._channel.masked_recipient(order):
            due.columns["To"] = to
        due.keys = tuple(sorted(news))
        try:
            self._render(due, order, news, content)
        except TemplateError as fails:
            due.end(Outcome.DEFERRED, str(fails))
        if due.outcome is Outcome.NO_ADDRESS:
            due.reason = "there is no usable address any more"

    def _order_now(self, due: NoticeCase) -> _OrderNow:
        """Return the order, read again with those whose turn comes next, or why it is not there."""
        is_old = self._is_old(self._reread_at, at_least_seconds=_REREAD_LASTS_SECONDS)
        if due.id not in self._reread or is_old:
            batch = self._due[due.place : due.place + _REREAD_AT_ONCE]
            self._reread_at = time.time()
            old = [due, *(other for other in batch if self._is_old(other.read_at))]
            self._reread = self._read_again({other.id: other.facts for other in old})
        return self._reread[due.id]

    def _read_again(self, facts: Mapping[int, OrderFacts]) -> dict[int, _OrderNow]:
        options = ReadingOptions(chunk_size=_REREAD_AT_ONCE)
        orders = [FoundOrder(order_id, known) for order_id, known in facts.items()]
        scan = Scan(self._credentials, orders, options, needs=self.needs.of_each_order)
        unknown = (Outcome.SUPERSEDED, "Tracktor does not know the order any more")
        now: dict[int, _OrderNow] = {}
        try:
            for batch in scan:
                now |= {order.order_id: order for order in batch.found}
                now |= {f.id: (Outcome.DEFERRED, _not_read_again(f.reason)) for f in batch.failed}
                now |= dict.fromkeys(batch.missing, unknown)
        except TracktorError as error:
            return dict.fromkeys(facts, (Outcome.DEFERRED, _not_read_again(str(error))))
        finally:
            self.calls += scan.calls
        return now

    def finish(self) -> None:
        """Update the notices of other runs to their state at the end of this one."""
        if self._lacks_tags:
            self.note(
                "No order has a tag, and a rule is for orders with one: does the source have tags?"
                " An OrderFile needs a column of them."
            )
        outcomes = [outcome_of(states.values()) for _, states in self._sent_before]
        if not self._ledger_failed:
            with suppress(LedgerError):
                # another run may have completed a claim that was open before
                keys = [tuple(states) for _, states in self._sent_before]
                wait = self.acted and self.takes_effect
                outcomes = outcomes_elsewhere(self._ledger, self._run, keys, wait=wait)
        for (case, _), outcome in zip(self._sent_before, outcomes, strict=True):
            case.end(outcome)

        without = {case.id for case in self.cases if case.outcome is Outcome.NO_ADDRESS}
        affected = {case.id for case in self.cases if case.outcome.is_shown}
        if len(without) >= _MANY and without == affected:  # rarely true of all customers
            self.suspicion = (
                f"none of the {len(without)} orders to write about has a usable email address:"
                " check in Shopify that Tracktor may still read customers' data"
            )


def _parcels_of(news: _News) -> list[Fulfillment]:
    by_id = {parcel.fulfillment_id: parcel for parcels in news.values() for parcel in parcels}
    return list(by_id.values())


def _subject_of(key: NoticeKey) -> tuple[int, str]:
    return key.fulfillment_id, unnumbered(key.reason)


def _links(order: Order, news: _News) -> dict[str, Cell]:
    """Return links for a person who must act: the order in the shop, the parcel at its carrier."""
    parcel = next((parcel for parcels in news.values() for parcel in parcels), None)
    links = {"Order": admin_link(order)}
    return links | {"Carrier": tracking_link(parcel)} if parcel else links


def sent_before(key: NoticeKey, history: Iterable[Notice]) -> tuple[list[Notice], list[Notice]]:
    """Return the earlier notices of the same kind as a key's, and those of later stages."""
    reason = unnumbered(key.reason)
    of_parcel = [
        notice
        for notice in history
        if notice.key.fulfillment_id == key.fulfillment_id
        or WHOLE_ORDER in (notice.key.fulfillment_id, key.fulfillment_id)
    ]
    # a notice about an order before it had parcels counts for the parcels in the same status
    same = [
        notice
        for notice in of_parcel
        if notice.key.fulfillment_id in (key.fulfillment_id, WHOLE_ORDER)
        and unnumbered(notice.key.reason) == reason
    ]
    later = [
        notice
        for notice in of_parcel
        if notice.state in _SENT
        and is_later(notice.key.reason, reason)
        # a parcel that was sent later may have an exception after "all has arrived"
        and (notice.key.fulfillment_id == key.fulfillment_id or kind_of(reason) == "status")
    ]
    return same, later


def _sent_together(notice: Notice, history: Iterable[Notice]) -> tuple[NoticeKey, ...]:
    """Return the keys of the notices that were in one message with an unconfirmed one."""
    same = (notice.state, notice.run, notice.claimed_at)
    return tuple(sorted(n.key for n in history if (n.state, n.run, n.claimed_at) == same))


def _is_time_to_repeat(notification: Notification, same: Sequence[Notice]) -> bool:
    if len(same) >= notification.times or any(n.state is not NoticeState.SENT for n in same):
        return False
    times = [notice.completed_at for notice in same if notice.completed_at]
    # a notice that was sent late in a scheduled run is repeated by the run at the same time of day
    slack = min(_SCHEDULES_DRIFT_BY, notification.repeat_after / 10)
    return bool(times) and datetime.now(UTC) - max(times) >= notification.repeat_after - slack


def _lacks_what_it_had(order: Order, gone: Iterable[NoticeKey]) -> bool:
    """Whether a response lacks the status of parcels without news by now, or any address."""
    with_status = {parcel.fulfillment_id for parcel in order.fulfillments if parcel.current_status}
    parcels = {key.fulfillment_id for key in gone} - {WHOLE_ORDER}
    return not with_status.issuperset(parcels) or ("order_email" not in order.fields_read)


def _not_read_again(reason: str) -> str:
    return f"it could not be read again: {reason}"
