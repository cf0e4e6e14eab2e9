"""Every morning: write to the customers whose parcels' tracking has expired.

Read it, copy it, edit it. The blocks are those that `python -m blocks` makes.
"""

from prefect.deployments.runner import RunnerDeployment

from flows.shared import daily, deployment_of, for_scanning, for_writing_to_customers, saved
from prefect_tracktor import EmailTemplate
from prefect_tracktor.flows import email_expired_exceptions


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        KeyError: `TRACKTOR_SENDER` is not set.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    return deployment_of(
        email_expired_exceptions,
        name="daily",
        schedule=daily("0 7 * * *"),
        parameters=for_scanning()
        | for_writing_to_customers()
        | {"template": saved(EmailTemplate), "max_emails": 500},
    )
