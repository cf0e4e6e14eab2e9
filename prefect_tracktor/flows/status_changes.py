"""Write to customers that a parcel is on its way, out for delivery, delivered, or in any status.

`notify_status_change` reacts to one event, `email_status_changes` looks through a shop. Both keep
the same ledger, so that together they tell a customer each status of a parcel once.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect_email import EmailServerCredentials

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    DatabaseError,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    MailServerError,
)
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, status_key
from prefect_tracktor.runs.answers import TO_TELL_OF_ONE_STATUS, TO_TELL_OF_STATUSES
from prefect_tracktor.runs.missing import suspicion_about
from prefect_tracktor.runs.notify import (
    LOOK_AGAIN_AFTER_MINUTES,
    MailReport,
    MailRun,
    Notification,
    mail_channel,
)
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import Orders, ShopifyOrders
from prefect_tracktor.storage.completed_orders import CompletedOrders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.tasks import batch_of, get_fulfillments

_HOURS_AT_MOST = 24 * 366
# events come one by one; what comes within this time counts as one burst
_BURST = timedelta(hours=1)
_CLOCKS_DIFFER_BY = timedelta(hours=1)
_TRIES_AT_MOST = 50
_DELAY_AT_MOST = 24 * 3600

RETRY_DELAYS_SECONDS = [30.0, 120.0, 600.0, 1800.0]
DELIVERED = frozenset({ShipmentStatus.DELIVERED.value})

WITH_DEFAULT_WORDS = frozenset({"in_transit", "out_for_delivery", "delivered"})


@flow(name="Notify status change", flow_run_name="notify-{status}-{fulfillment_id}")
def notify_status_change(
    credentials: TracktorCredentials,
    fulfillment_id: int,
    email_server: EmailServerCredentials,
    *,
    status: str,
    sender: str,
    dry_run: bool = False,
    redirect_to: str = "",
    max_emails: int = 500,
    order_id: int | None = None,
    within_hours: float = 72,
    templates: dict[str, EmailTemplate] | None = None,
    reply_to: str = "",
    include_cancelled: bool = False,
    ledger: NotificationLedger | None = None,
    retry_delays_seconds: list[float] = RETRY_DELAYS_SECONDS,
) -> MailReport:
    """Email the customer of one parcel once when it has reached a status.

    The parcel is read again first; if it has moved on, no email is sent. However often this runs
    for a parcel and a status, the customer gets one message.

    Args:
        credentials: The Tracktor account.
        fulfillment_id: The Shopify id of the parcel's fulfillment.
        email_server: The mail server.
        status: The status to email about, by key or label, such as "delivered".
        sender: The sender, such as "Your Shop <orders@your-shop.example>".
        dry_run: Show who would get an email, and send nothing.
        redirect_to: For a rehearsal: the address that gets the message instead of the customer;
            empty to email the customer.
        max_emails: If more messages about statuses than this would go out within an hour, send
            none: a burst of events may be an error. `email_status_changes` finds what is left out.
        order_id: The order that the parcel belongs to; left out, it takes one more API call.
        within_hours: How long ago the parcel may have reached the status at most, because events
            may be late. If the time is unknown or in the future, no email is sent, and the summary
            counts the order as undated.
        templates: The template for each status; there are defaults for in_transit, out_for_delivery
            and delivered.
        reply_to: The address for replies; empty for the sender's.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded; the
            report counts those that are left out.
        ledger: Records which customer was emailed about what. Default: the block `tracktor`, or
            else a SQLite file in the Prefect home of the machine that runs the flow. Several
            machines need PostgreSQL.
        retry_delays_seconds: How long to wait before each retry after a temporary error.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument is invalid, or there is no template for the status; nothing
            was read or sent.
        LimitExceeded: `max_emails` messages went out within the last hour; nothing was sent.
        TemplateError: The template fails for the order; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        IncompleteRun: To the end the parcel could not be read or the message was deferred; or it
            is uncertain whether it was sent.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> from prefect_tracktor.flows import notify_status_change
        >>> report = notify_status_change(
        ...     credentials,
        ...     fulfillment_id,
        ...     EmailServerCredentials(smtp_server="smtp.example.com"),
        ...     status="delivered",
        ...     sender="Your Shop <orders@your-shop.example>",
        ...     dry_run=True,
        ... )
        >>> report.sent
        ()
    """
    wanted = status_key(status)
    words = _words({wanted}, templates)
    _check_delays(retry_delays_seconds)
    channel = mail_channel(
        credentials,
        email_server,
        sender=sender,
        ledger=ledger,
        redirect_to=redirect_to,
        reply_to=reply_to,
    )
    since = _since(within_hours)

    def write() -> MailReport:
        undated: list[int] = []
        ask = partial(_ask, wanted, since, undated)
        looked_up, of_order = MailReport(), order_id
        if of_order is None:
            looked_up, of_order = _look_up(credentials, fulfillment_id, ask)
        if of_order is None:
            return looked_up.model_copy(update={"undated": tuple(undated)})
        return MailRun(
            Scan(
                credentials,
                [of_order],
                chunk_size=1,
                calls=looked_up.calls,
                needs=TO_TELL_OF_ONE_STATUS,
            ),
            channel,
            partial(_notifications, fulfillment_id, wanted, ask, words[wanted]),
            title=f"Customer of a parcel that is {wanted}",
            key="status-change",
            dry_run=dry_run,
            max_emails=max_emails,
            sent_lately=lambda: channel.ledger.count_since(
                credentials.account, kind="status", within=_BURST
            ),
            include_cancelled=include_cancelled,
            undated=undated,
        ).carry_out()

    return _patient(write, retry_delays_seconds)()


@flow(name="E-mail status changes", flow_run_name="email-status-changes")
def email_status_changes(
    credentials: TracktorCredentials,
    orders: Orders,
    email_server: EmailServerCredentials,
    *,
    sender: str,
    dry_run: bool = False,
    redirect_to: str = "",
    max_emails: int = 500,
    statuses: frozenset[str] = DELIVERED,
    within_hours: float = 72,
    templates: dict[str, EmailTemplate] | None = None,
    reply_to: str = "",
    include_cancelled: bool = False,
    allow_empty: bool = False,
    look_again_after_minutes: float = LOOK_AGAIN_AFTER_MINUTES,
    messages_per_second: float | None = None,
    ledger: NotificationLedger | None = None,
    settled: CompletedOrders | None = None,
    chunk_size: int = 500,
    chunks_at_once: int = 1,
) -> MailReport:
    """Email each customer once when a parcel has recently reached a status.

    Use it without webhooks, or with `notify_status_change` for webhooks that did not arrive.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        email_server: The mail server.
        sender: The sender, such as "Your Shop <orders@your-shop.example>".
        dry_run: Show who would get an email, and send nothing.
        redirect_to: For a rehearsal: the address that gets all messages instead of the customers;
            empty to email the customers.
        max_emails: If more messages than this are due, none is sent.
        statuses: Which statuses to email about, such as delivered, out_for_delivery or one of your
            own; by key or label.
        within_hours: How long ago a parcel may have reached its status at most. If the time is
            unknown or in the future, no email is sent, and the summary counts the order as undated.
        templates: The template for each status; there are defaults for in_transit, out_for_delivery
            and delivered.
        reply_to: The address for replies; empty for the sender's.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded; the
            report counts those that are left out.
        allow_empty: Do not fail if `orders` contains no order.
        look_again_after_minutes: Read an order again before its message is sent if it was read
            longer ago than this.
        messages_per_second: How many messages are sent in a second at most, such as 5; left out, as
            many as the mail server accepts. The flow always slows down if the server asks for it.
        ledger: Records which customer was emailed about what. Default: the block `tracktor`, or
            else a SQLite file in the Prefect home of the machine that runs the flow. Several
            machines need PostgreSQL.
        settled: Completed orders, which are not read again.
        chunk_size: How many orders one task run reads.
        chunks_at_once: How many chunks are read at once; more than one helps only if the flow's
            task runner has several processes.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument is invalid, `orders` names none, or there is no template for a
            status; nothing was sent.
        LimitExceeded: More than `max_emails` messages are due; nothing was sent.
        LedgerReplaced: The account used another ledger before; nothing was sent.
        TemplateError: A template fails for every order; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        IncompleteRun: All that could be done was done, and something is left.

    Example:
        >>> from prefect_email import EmailServerCredentials
        >>> from prefect_tracktor.flows import email_status_changes
        >>> report = email_status_changes(
        ...     credentials,
        ...     order_ids,
        ...     EmailServerCredentials(smtp_server="smtp.example.com"),
        ...     sender="Your Shop <orders@your-shop.example>",
        ...     dry_run=True,
        ... )
        >>> len(report.read)
        1000
    """
    words = _words({status_key(status) for status in statuses}, templates)
    since = _since(within_hours)
    if settled is not None and within_hours >= settled.after_days * 24:
        raise InvalidInput(
            f"within_hours ({within_hours:g}) must be less than the {settled.after_days} days after"
            " which completed orders are not read any more (`settled`)"
        )
    if isinstance(orders, ShopifyOrders) and not orders.include_delivered and "delivered" in words:
        raise InvalidInput(
            "orders leaves out what Shopify knows as delivered, and statuses names delivered: set"
            " include_delivered of the ShopifyOrders"
        )
    undated: list[int] = []

    def choose(order: Order) -> Iterator[Notification]:
        parcels = _parcels(order, words)
        recent = [p for p in parcels if _is_recent(p, since)]
        if any(_is_undated(p) for p in parcels) or _arrived_unseen(order, words):
            undated.append(order.order_id)
        recent.sort(key=_current_status)
        for status, same in groupby(recent, key=_current_status):
            yield Notification(words[status], [(parcel, _reason(status)) for parcel in same])

    return MailRun(
        Scan(
            credentials,
            orders,
            chunk_size=chunk_size,
            chunks_at_once=chunks_at_once,
            settled=settled,
            allow_empty=allow_empty,
            needs=TO_TELL_OF_STATUSES,
        ),
        mail_channel(
            credentials,
            email_server,
            sender=sender,
            ledger=ledger,
            redirect_to=redirect_to,
            reply_to=reply_to,
            messages_per_second=messages_per_second,
        ),
        choose,
        title="Customers with news of their parcels",
        key="status-changes",
        dry_run=dry_run,
        max_emails=max_emails,
        include_cancelled=include_cancelled,
        look_again_after_minutes=look_again_after_minutes,
        undated=undated,
    ).carry_out()


def _words(
    statuses: Collection[str], templates: Mapping[str, EmailTemplate] | None
) -> dict[str, EmailTemplate]:
    """The words for each status; none may be without."""
    given = {status_key(status): template for status, template in (templates or {}).items()}
    words = dict.fromkeys(WITH_DEFAULT_WORDS, EmailTemplate(about="status")) | given
    if not statuses or "" in statuses:
        raise InvalidInput("name at least one status, such as 'delivered'; none may be blank")
    without = sorted(set(statuses) - words.keys())
    if without:
        raise InvalidInput(
            f"there is no template for {', '.join(map(repr, without))}: give `templates` an"
            " EmailTemplate for each"
        )
    return {status: words[status] for status in statuses}


def _patient(
    write: Callable[[], MailReport], retry_delays_seconds: list[float]
) -> Task[[], MailReport]:
    """The work as a task that is repeated for trouble that may pass."""
    # without the tag of the tasks inside: it would wait for itself where one may run at a time
    return task(
        name="Write to the customer",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(retry_delays_seconds),
        retry_delay_seconds=retry_delays_seconds,
        retry_condition_fn=_may_pass,
    )(write)


# Prefect calls conditions only if they are plain functions; `state.data` is the error
def _may_pass(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    error = state.data
    if isinstance(error, IncompleteRun):
        return bool(error.report.failed or error.report.deferred)
    return isinstance(error, MailServerError | DatabaseError)


def _notifications(
    fulfillment_id: int,
    wanted: str,
    ask: Callable[[Fulfillment], bool],
    words: EmailTemplate,
    order: Order,
) -> Iterator[Notification]:
    in_status = _parcels(order, [wanted])
    parcels = [p for p in order.fulfillments if p.fulfillment_id == fulfillment_id]
    for parcel in parcels:
        if ask(parcel) and parcel in in_status:
            yield Notification(words, [(parcel, _reason(wanted))])
    if not parcels:
        get_run_logger().warning(
            "Order %s has no fulfillment %s: no email is sent.", order.order_id, fulfillment_id
        )


def _look_up(
    credentials: TracktorCredentials, fulfillment_id: int, ask: Callable[[Fulfillment], bool]
) -> tuple[MailReport, int | None]:
    """The order of a parcel; `None` where there is nobody to be written to."""
    needs = TO_TELL_OF_ONE_STATUS.of_each_parcel
    batch = batch_of(get_fulfillments.submit(credentials, [fulfillment_id], needs=needs))
    report = MailReport(calls=batch.requests, failed=tuple(batch.failed))
    if batch.failed:
        raise IncompleteRun(
            f"fulfillment {fulfillment_id} could not be read: {batch.failed[0].reason}",
            report=report,
        )
    if batch.missing:
        get_run_logger().warning("Tracktor does not know fulfillment %s.", fulfillment_id)
        suspicion, calls = suspicion_about(credentials, found=0, missing=1, dry_run=True)
        report = report.model_copy(update={"calls": report.calls + calls, "suspicion": suspicion})
        if suspicion:
            raise IncompleteRun(suspicion, report=report)
        return report, None
    [parcel] = batch.found
    if not ask(parcel):
        return report, None
    if parcel.order_id is None:
        raise InvalidResponse(f"fulfillment {fulfillment_id} does not say which order it is of")
    return report, parcel.order_id


def _ask(wanted: str, since: datetime, undated: list[int], parcel: Fulfillment) -> bool:
    """Whether the parcel is still in the status, and not since long ago."""
    log = get_run_logger()
    if parcel.current_status != wanted:
        log.info(
            "Fulfillment %s is %s by now, not %s: no email is sent.",
            parcel.fulfillment_id,
            parcel.current_status or "without a status",
            wanted,
        )
    elif _is_undated(parcel):
        undated += [parcel.order_id] if parcel.order_id is not None else []
        log.warning(
            "Fulfillment %s does not say when it got %s, or gives a future time: no email is sent.",
            parcel.fulfillment_id,
            wanted,
        )
    elif not _is_recent(parcel, since):
        log.warning(
            "Fulfillment %s has been %s for too long: no email is sent.",
            parcel.fulfillment_id,
            wanted,
        )
    else:
        return True
    return False


def _is_undated(parcel: Fulfillment) -> bool:
    """Whether it cannot be said how long ago the parcel got into its status."""
    return parcel.reached_at is None or parcel.reached_at > datetime.now(UTC) + _CLOCKS_DIFFER_BY


def _is_recent(parcel: Fulfillment, since: datetime) -> bool:
    return not _is_undated(parcel) and parcel.reached_at is not None and parcel.reached_at >= since


def _since(within_hours: float) -> datetime:
    if not 0 < within_hours <= _HOURS_AT_MOST:
        raise InvalidInput(
            f"within_hours must be more than 0 and at most {_HOURS_AT_MOST}, not {within_hours}"
        )
    return datetime.now(UTC) - timedelta(hours=within_hours)


def _check_delays(retry_delays_seconds: list[float]) -> None:
    if len(retry_delays_seconds) > _TRIES_AT_MOST:
        raise InvalidInput(f"retry_delays_seconds has more than {_TRIES_AT_MOST} entries")
    for place, seconds in enumerate(retry_delays_seconds):
        if not 0 <= seconds <= _DELAY_AT_MOST:
            raise InvalidInput(
                f"retry_delays_seconds[{place}] must be from 0 to {_DELAY_AT_MOST}, not {seconds}"
            )


def _parcels(order: Order, statuses: Collection[str]) -> list[Fulfillment]:
    """The parcels in one of the statuses, by their own fields and by the order's."""
    named = set(order.status_keys) & set(statuses)
    shown = set().union(*(parcel.status_keys for parcel in order.fulfillments))
    silent = not all(parcel.current_status for parcel in order.fulfillments)
    if named - shown and (silent or not order.fulfillments):
        raise InvalidResponse("the order names a status that none of its parcels has")
    found = [parcel for parcel in order.fulfillments if parcel.current_status in statuses]
    on_their_way = [parcel for parcel in found if not parcel.is_delivered]
    if on_their_way and order.contradicts_its_parcels:
        raise InvalidResponse(
            "the order's statuses name more deliveries than its parcels do: which of them arrived"
            " cannot be told"
        )
    return [p for p in found if p.is_delivered] if order.is_delivered else found


def _arrived_unseen(order: Order, statuses: Collection[str]) -> bool:
    """Whether a delivery is news that only the order tells of, and so without its time."""
    parcels = order.fulfillments
    unseen = order.is_delivered and not all(parcel.is_delivered for parcel in parcels)
    return unseen and ShipmentStatus.DELIVERED in statuses


def _current_status(parcel: Fulfillment) -> str:
    return parcel.current_status


def _reason(status: str) -> str:
    return f"status:{status}"
