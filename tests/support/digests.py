"""New orders in a digest that was received by email."""

import csv
import io

from prefect_tracktor.sandbox.mail import ReceivedMessage


def new_in(digest: ReceivedMessage) -> set[int]:
    """Return the ids of the orders that a digest marks as new."""
    [attached] = digest.message.iter_attachments()
    payload = attached.get_payload(decode=True)
    assert isinstance(payload, bytes)
    rows = csv.DictReader(io.StringIO(payload.decode("utf-8-sig")))
    return {int(row["order_id"]) for row in rows if row["new"]}
