"""Write to customers that a parcel is on its way, out for delivery, delivered, or in any status.

`notify_status_change` reacts to one event, `email_status_changes` looks through a shop. Both keep
the same ledger, so that together they tell a customer each status of a parcel once.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect_email import EmailServerCredentials

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.database import DatabaseError
from prefect_tracktor.errors import IncompleteRun, InvalidInput, UnreadableAnswer
from prefect_tracktor.flows.mail_run import MailReport, MailRun, Occasion, correspondence_of
from prefect_tracktor.flows.scan import Scan
from prefect_tracktor.mail.ledger import NotificationLedger
from prefect_tracktor.mail.smtp import MailServerError
from prefect_tracktor.mail.template import EmailTemplate, status_template
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, status_key
from prefect_tracktor.settled import SettledOrders
from prefect_tracktor.sources import Orders, ShopifyOrders
from prefect_tracktor.tasks import get_fulfillments

_HOURS_AT_MOST = 24 * 366
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
    order_id: int | None = None,
    within_hours: float = 72,
    templates: dict[str, EmailTemplate] | None = None,
    reply_to: str = "",
    ledger: NotificationLedger | None = None,
    retry_delays_seconds: list[float] = RETRY_DELAYS_SECONDS,
) -> MailReport:
    """Write once to the customer of a parcel that has reached a status.

    The parcel is read again first; if it has moved on, nobody is written to. However often it is
    run for a parcel and a status, at whatever time, one message goes out.

    Args:
        credentials: The Tracktor account.
        fulfillment_id: The Shopify id of the parcel's fulfillment.
        email_server: The mail server.
        status: The status to write about, by key or label, such as "delivered".
        sender: Who writes, such as "Your Shop <orders@your-shop.example>".
        dry_run: Show who would be written to, and send nothing.
        redirect_to: For a rehearsal: the address that gets the message instead of the customer;
            empty to write to this one.
        order_id: The order that the parcel belongs to; left out, it takes one more look-up.
        within_hours: How long ago the parcel may have reached the status, at most: events may be
            sent again long after. One of which this is not known counts as recent.
        templates: The words by status; there are default ones for in_transit, out_for_delivery and
            delivered.
        reply_to: The address for answers; empty for the sender's.
        ledger: Where it is kept who was told what; by default the document `tracktor`, or else a
            SQLite file in the Prefect home of the machine that runs this. Workers that do not share
            it need PostgreSQL.
        retry_delays_seconds: How long to wait before each further try, while the trouble may pass:
            no next run comes to make up for it.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument cannot be right, or there are no words for the status; nothing
            was read or sent.
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
    correspondence = correspondence_of(
        credentials,
        email_server,
        sender=sender,
        ledger=ledger,
        redirect_to=redirect_to,
        reply_to=reply_to,
    )
    ask = partial(_ask, wanted, _since(within_hours))

    def write() -> MailReport:
        looked_up, of_order = MailReport(), order_id
        if of_order is None:
            looked_up, of_order = _look_up(credentials, fulfillment_id, ask)
        if of_order is None:
            return looked_up
        return MailRun(
            Scan(credentials, [of_order], chunk_size=1, calls=looked_up.calls),
            correspondence,
            partial(_occasions, fulfillment_id, wanted, ask, words[wanted]),
            title=f"Customer of a parcel that is {wanted}",
            key="status-change",
            dry_run=dry_run,
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
    messages_per_second: float | None = None,
    ledger: NotificationLedger | None = None,
    settled: SettledOrders | None = None,
    chunk_size: int = 500,
    chunks_at_once: int = 1,
) -> MailReport:
    """Write once to each customer whose parcel has reached a status lately.

    For shops without webhooks; and beside `notify_status_change`, for what no webhook told of.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, or where to find them: in a file, or in Shopify.
        email_server: The mail server.
        sender: Who writes, such as "Your Shop <orders@your-shop.example>".
        dry_run: Show who would be written to, and send nothing.
        redirect_to: For a rehearsal: the address that gets all messages instead of the customers;
            empty to write to these.
        max_emails: If more messages than this are due, stop before the first.
        statuses: Which statuses to write about, such as delivered, out_for_delivery or one of your
            own; by key or label.
        within_hours: How long ago a parcel may have reached its status, at most. Where this is not
            known, nobody is written to; the summary counts these orders as undated.
        templates: The words by status; there are default ones for in_transit, out_for_delivery and
            delivered.
        reply_to: The address for answers; empty for the sender's.
        messages_per_second: How many messages may be sent in any second, such as 5; left out, as
            many as the mail server takes. A server that asks for fewer is waited for either way.
        ledger: Where it is kept who was told what; by default the document `tracktor`, or else a
            SQLite file in the Prefect home of the machine that runs this. Workers that do not share
            it need PostgreSQL.
        settled: What remembers the orders that can no longer change, so that these are not read
            again.
        chunk_size: How many orders one task run reads.
        chunks_at_once: How many chunks may be under way; more than one helps only where the flow's
            task runner has several processes.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument cannot be right, or there are no words for a status; nothing was
            read or sent.
        LimitExceeded: More than `max_emails` messages are due; nothing was sent.
        TemplateError: A template fails for an order; nothing was sent.
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
            " which `settled` has orders not read any more"
        )
    if isinstance(orders, ShopifyOrders) and not orders.include_delivered and "delivered" in words:
        raise InvalidInput(
            "orders leaves out what Shopify knows as delivered, and statuses names delivered: set"
            " include_delivered of the ShopifyOrders"
        )
    undated: list[int] = []

    def choose(order: Order) -> Iterator[Occasion]:
        parcels = [p for p in _parcels(order, words) if p.current_status in words]
        if any(parcel.reached_at is None for parcel in parcels):
            undated.append(order.order_id)
        recent = [p for p in parcels if p.reached_at is not None and p.reached_at >= since]
        recent.sort(key=_current_status)
        for status, same in groupby(recent, key=_current_status):
            yield Occasion(words[status], [(parcel, _reason(status)) for parcel in same])

    return MailRun(
        Scan(
            credentials,
            orders,
            chunk_size=chunk_size,
            chunks_at_once=chunks_at_once,
            settled=settled,
        ),
        correspondence_of(
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
        undated=undated,
    ).carry_out()


def _words(
    statuses: Collection[str], templates: Mapping[str, EmailTemplate] | None
) -> dict[str, EmailTemplate]:
    """The words for each status; none may be without."""
    given = {status_key(status): template for status, template in (templates or {}).items()}
    words = dict.fromkeys(WITH_DEFAULT_WORDS, status_template()) | given
    if not statuses or "" in statuses:
        raise InvalidInput("name at least one status, such as 'delivered'; none may be blank")
    without = sorted(set(statuses) - words.keys())
    if without:
        raise InvalidInput(
            f"there are no words for {', '.join(map(repr, without))}: give `templates` an"
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


def _occasions(
    fulfillment_id: int,
    wanted: str,
    ask: Callable[[Fulfillment], bool],
    words: EmailTemplate,
    order: Order,
) -> Iterator[Occasion]:
    parcels = [p for p in _parcels(order, [wanted]) if p.fulfillment_id == fulfillment_id]
    for parcel in parcels:
        if ask(parcel):
            yield Occasion(words, [(parcel, _reason(wanted))])
    if not parcels:
        get_run_logger().warning(
            "Order %s has no fulfillment %s: nobody is written to.", order.order_id, fulfillment_id
        )


def _look_up(
    credentials: TracktorCredentials, fulfillment_id: int, ask: Callable[[Fulfillment], bool]
) -> tuple[MailReport, int | None]:
    """The order of a parcel; `None` where there is nobody to be written to."""
    batch = get_fulfillments.submit(credentials, [fulfillment_id]).result()
    report = MailReport(calls=batch.requests, failed=tuple(batch.failed))
    if batch.failed:
        raise IncompleteRun(
            f"fulfillment {fulfillment_id} could not be read: {batch.failed[0].reason}",
            report=report,
        )
    if batch.missing:
        get_run_logger().warning("Tracktor does not know fulfillment %s.", fulfillment_id)
        return report, None
    [parcel] = batch.found
    if not ask(parcel):
        return report, None
    if parcel.order_id is None:
        raise UnreadableAnswer(f"fulfillment {fulfillment_id} does not say which order it is of")
    return report, parcel.order_id


def _ask(wanted: str, since: datetime, parcel: Fulfillment) -> bool:
    """Whether the parcel is still in the status, and not since long ago."""
    if parcel.current_status == wanted:
        if parcel.reached_at is None or parcel.reached_at >= since:
            return True
        get_run_logger().warning(
            "Fulfillment %s has been %s for long: nobody is written to.",
            parcel.fulfillment_id,
            wanted,
        )
        return False
    get_run_logger().info(
        "Fulfillment %s is %s by now, not %s: nobody is written to.",
        parcel.fulfillment_id,
        parcel.current_status or "without a status",
        wanted,
    )
    return False


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


def _parcels(order: Order, statuses: Collection[str]) -> tuple[Fulfillment, ...]:
    """An order's parcels; what it says of them must not be overlooked if they are not there."""
    if not order.fulfillments and not set(map(status_key, order.statuses)).isdisjoint(statuses):
        raise UnreadableAnswer("the order names a status, but the answer holds no fulfillments")
    return order.fulfillments


def _current_status(parcel: Fulfillment) -> str:
    return parcel.current_status


def _reason(status: str) -> str:
    return f"status:{status}"
