"""Every morning: notify customers by your rules, each notice once.

**Touches**: customers, by email and by the channels of the rules. Tracktor is only read.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import NotificationLedger, NotificationRule
from prefect_tracktor.deploy import (
    Shop,
    daily,
    deployment_of,
    for_scanning,
    mailer_for,
    required,
    saved,
)
from prefect_tracktor.flows import notify_customers

# your rules, such as NotificationRule(name="late", when=["stalled", "in_transit_too_long"]); with
# channel=HttpChannel.load("tracktor"), a rule posts notices instead of emails
RULES: list[NotificationRule] = []


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    rules = required(RULES, "write your rules into flows/notify.py")
    mailer = mailer_for(shop, rules)
    delivered = any("status:delivered" in rule.when for rule in rules)
    return deployment_of(
        notify_customers,
        shop,
        name="notify-customers",
        description=__doc__,
        schedule=daily("0 9 * * *", shop),
        parameters=for_scanning(shop, delivered=delivered)
        | ({"mailer": mailer} if mailer else {"ledger": saved(NotificationLedger, shop)})
        | {"rules": rules, "max_emails": 500},
    )
