"""Every four hours: read the shop once for its customers, its team, its events and its tables.

**Touches**: what its parts are for: customers, the team, Prefect's events, tables. Tracktor is only
read.
"""

from datetime import timedelta
from typing import Any

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import NotificationLedger
from prefect_tracktor.deploy import (
    Shop,
    deployment_of,
    every,
    for_scanning,
    mailer_for,
    required,
    saved,
)
from prefect_tracktor.flows import watch_shop

# the parts of the flow, such as
# {"rules": [NotificationRule(name="late", when=["stalled"])], "announce": {"exception:all"},
#  "digest": TeamDigest(notify="slack-webhook/team"), "export": ExportFiles(folder="/srv/tracking")}
PARTS: dict[str, Any] = {}


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    parts = required(PARTS, "set PARTS in flows/watch.py: what the flow does")
    mailer = mailer_for(shop, parts.get("rules", []))
    ledger = {} if mailer else {"ledger": saved(NotificationLedger, shop)}
    return deployment_of(
        watch_shop,
        shop,
        name="watch-shop",
        description=__doc__,
        schedule=every(timedelta(hours=4)),
        parameters=for_scanning(shop)
        | {
            "mailer": mailer,
            "options": {"max_emails": 500, "max_events": 500} | ledger,
        }
        | parts,
    )
