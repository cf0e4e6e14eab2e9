"""`email_status_changes`: write to customers whose parcels have reached a status.

Together with `notify_status_change`, which reacts to one event, it tells a customer each status of
a parcel once: both keep the same ledger.
"""

from datetime import UTC, datetime

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.rules import NotificationRule, chooser
from prefect_tracktor.runs.answers import TO_TELL_OF_STATUSES
from prefect_tracktor.runs.engine import carry_out
from prefect_tracktor.runs.notify import mail_job
from prefect_tracktor.runs.parameters import checked_statuses, within_days
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import Orders, ShopifyOrders

DELIVERED = frozenset({ShipmentStatus.DELIVERED.value})


@flow(name="Email status changes")
def email_status_changes(
    credentials: TracktorCredentials,
    orders: Orders,
    mailer: Mailer,
    *,
    dry_run: bool = False,
    max_emails: int = 500,
    statuses: frozenset[str] = DELIVERED,
    within_hours: float = 72,
    template: EmailTemplate | None = None,
    include_cancelled: bool = False,
    reading: ReadingOptions = DEFAULT_READING,
) -> MailReport:
    """Email each customer once when a parcel has recently reached a status.

    Use it without webhooks, or with `notify_status_change` for webhooks that did not arrive.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        mailer: The mail server, the sender, and whether e-mails go to customers.
        dry_run: Show who would get an email, and send nothing.
        max_emails: If more messages than this are due, none is sent.
        statuses: Which statuses to email about, such as delivered, out_for_delivery or one of your
            own; by key or label.
        within_hours: How long ago a parcel may have reached its status at most. If the time is
            unknown or in the future, no email is sent, and the summary counts the order as undated.
        template: The words of the emails; by default those for each status.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded; the
            report counts those that are left out.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument is invalid, `orders` names none, or the
            account has no such status; nothing was sent.
        LimitExceeded: More than `max_emails` messages are due; nothing was sent.
        LedgerReplaced: The account used another ledger before; nothing was sent.
        TemplateError: A template fails for every order; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        IncompleteRun: All that could be done was done, and something is left.

    Example:
        >>> from prefect_tracktor.flows import email_status_changes
        >>> report = email_status_changes(
        ...     credentials,
        ...     order_ids,
        ...     mailer,
        ...     dry_run=True,
        ... )
        >>> len(report.read)
        1000
    """
    keys, calls = checked_statuses(credentials, statuses)
    within = within_days(within_hours)
    completed = reading.completed_orders
    if completed is not None and within_hours >= completed.after_days * 24:
        raise InvalidInput(
            f"within_hours ({within_hours:g}) must be less than the {completed.after_days} days"
            " after which completed orders are not read any more (`reading.completed_orders`)"
        )
    if isinstance(orders, ShopifyOrders) and not orders.include_delivered and "delivered" in keys:
        raise InvalidInput(
            "orders leaves out what Shopify knows as delivered, and statuses names delivered: set"
            " include_delivered of the ShopifyOrders"
        )
    rules = [
        NotificationRule(
            name="status", when=[f"status:{key}"], within_days=within, template=template
        )
        for key in keys
    ]
    return carry_out(
        Scan(credentials, orders, reading, calls=calls, needs=TO_TELL_OF_STATUSES),
        mail_job(
            credentials,
            mailer,
            chooser(rules, datetime.now(UTC), include_cancelled=include_cancelled),
            title="Customers with news of their parcels",
            key="status-changes",
            dry_run=dry_run,
            max_emails=max_emails,
            needs=TO_TELL_OF_STATUSES,
            reading=reading,
        ),
    )
