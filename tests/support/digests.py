"""What the team's digest, as it came in by mail, calls new."""

import csv
import io

from prefect_tracktor.sandbox.mail import ReceivedMessage


def new_in(digest: ReceivedMessage) -> set[int]:
    """The orders that a digest calls new."""
    [attached] = digest.message.iter_attachments()
    payload = attached.get_payload(decode=True)
    assert isinstance(payload, bytes)
    rows = csv.DictReader(io.StringIO(payload.decode("utf-8-sig")))
    return {int(row["order_id"]) for row in rows if row["new"]}
