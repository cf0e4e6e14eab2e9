"""Every morning: report to the team the orders that need attention, new ones first.

**Touches**: the team's channel or mailbox. No customer is notified.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import NotificationLedger
from prefect_tracktor.deploy import Shop, daily, deployment_of, for_scanning, required, saved
from prefect_tracktor.flows import TeamDigest, report_exceptions

# where the digest goes, such as TeamDigest(notify="slack-webhook/team"); for emails,
# TeamDigest(mail_to=["team@…"]), and add "mailer": saved(Mailer, shop) to the parameters
DIGEST: TeamDigest | None = None


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    digest = required(DIGEST, "set DIGEST in flows/report.py: where the digest goes")
    return deployment_of(
        report_exceptions,
        shop,
        name="report-exceptions",
        description=__doc__,
        schedule=daily("0 8 * * *", shop),
        parameters=for_scanning(shop)
        | {"digest": digest, "ledger": saved(NotificationLedger, shop)},
    )
