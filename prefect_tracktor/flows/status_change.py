"""`notify_status_change`: email the customer of one parcel, as an event reports it."""

from datetime import UTC, datetime, timedelta

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import status_key
from prefect_tracktor.runs.checks import within_days
from prefect_tracktor.runs.one_parcel import OneParcel, notify_of_one_parcel, with_retries
from prefect_tracktor.runs.report import MailReport

RETRY_DELAYS_SECONDS = [30.0, 120.0, 600.0, 1800.0]


@flow(name="Notify status change")
def notify_status_change(
    credentials: TracktorCredentials,
    fulfillment_id: int,
    mailer: Mailer,
    *,
    status: str,
    dry_run: bool = False,
    max_emails: int = 500,
    order_id: int | None = None,
    within_hours: float = 72,
    template: EmailTemplate | None = None,
    retry_delays_seconds: list[float] = RETRY_DELAYS_SECONDS,
) -> MailReport:
    """Email the customer of one parcel once when it has reached a status.

    The parcel is read again first; if it has moved on, no email is sent. However often this runs
    for a parcel and a status, the customer gets one message.

    Args:
        fulfillment_id: The Shopify id of the parcel's fulfillment.
        status: The status to email about, by key or label, such as "delivered".
        max_emails: If more messages about statuses than this would go out within an hour, send
            none: a burst of events may be an error. The scheduled flow sends the rest.
        order_id: The order that the parcel belongs to; left out, it takes one more API call.
        within_hours: How long ago the parcel may have reached the status at most, because events
            may be late. If the time is unknown or in the future, no email is sent, and the summary
            counts the order as undated.
        template: The words of the email; by default those for the status.
        retry_delays_seconds: How long to wait before each retry after a temporary error.

    Raises:
        LimitExceeded: `max_emails` messages went out within the last hour; nothing was sent.
        IncompleteRun: After all retries, the parcel could not be read or the message was deferred;
            or it is uncertain whether the message was sent.

    Example:
        >>> from prefect_tracktor.flows import notify_status_change
        >>> report = notify_status_change(
        ...     credentials,
        ...     fulfillment_id,
        ...     mailer,
        ...     status="delivered",
        ...     dry_run=True,
        ... )
        >>> report.sent
        ()
    """
    key = status_key(status)
    if not key:
        raise InvalidInput("status is blank: name one, such as 'delivered'")
    begin = datetime.now(UTC) - timedelta(days=within_days(within_hours))
    parcel = OneParcel(fulfillment_id, key, begin, template or EmailTemplate())

    def write() -> MailReport:
        return notify_of_one_parcel(
            credentials, parcel, order_id, mailer, dry_run=dry_run, max_emails=max_emails
        )

    return with_retries(write, retry_delays_seconds)()
