"""Every morning: email customers whose parcel's tracking has expired, once each.

**Touches**: customers, by email. Tracktor is only read.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import EmailTemplate, Mailer
from prefect_tracktor.deploy import Shop, daily, deployment_of, for_scanning, saved
from prefect_tracktor.flows import email_expired_exceptions


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    return deployment_of(
        email_expired_exceptions,
        shop,
        name="email-expired-exceptions",
        description=__doc__,
        schedule=daily("0 7 * * *", shop),
        parameters=for_scanning(shop)
        | {
            "mailer": saved(Mailer, shop),
            "template": saved(EmailTemplate, shop),
            "max_emails": 500,
        },
    )
