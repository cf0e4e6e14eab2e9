"""`email_status_changes`: email customers whose parcels have reached a status.

Together with `notify_status_change`, which reacts to one event, it emails a customer about each
status of a parcel once: both use the same ledger.
"""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.checks import (
    checked_statuses,
    refuse_completed,
    refuse_orders_without_delivered,
    within_days,
)
from prefect_tracktor.runs.notification_jobs import notify_by_rules
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.sources import Orders

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
        statuses: Which statuses to email about, such as delivered, out_for_delivery or one of your
            own; by key or label.
        within_hours: How long ago a parcel may have reached its status at most. If the time is
            unknown or in the future, no email is sent, and the summary counts the order as undated.
        template: The words of the emails; by default those for each status.

    Raises:
        InvalidInput: The account has no such status; nothing was sent.

    Example:
        >>> from prefect_tracktor.flows import email_status_changes
        >>> report = email_status_changes(
        ...     credentials,
        ...     order_ids,
        ...     mailer,
        ...     dry_run=True,
        ... )
        >>> len(report.read) == len(order_ids)
        True
    """
    within = within_days(within_hours)
    refuse_completed(
        reading, within, about=f"within_hours is {within_hours:g}", lower="within_hours"
    )
    keys, calls = checked_statuses(credentials, statuses)
    if "delivered" in keys:
        refuse_orders_without_delivered(orders, about="statuses names delivered")
    rules = [
        NotificationRule(
            name="status", when=[f"status:{key}"], within_days=within, template=template
        )
        for key in keys
    ]
    return notify_by_rules(
        credentials,
        orders,
        mailer,
        rules,
        title="Customers with news of their parcels",
        key="status-changes",
        dry_run=dry_run,
        max_emails=max_emails,
        include_cancelled=include_cancelled,
        reading=reading,
        calls=calls,
    )
