"""Deployments as code: the names that the files in `flows/` use."""

from prefect_tracktor.deploy.builders import (
    daily,
    deployment_of,
    every,
    first_saved,
    for_scanning,
    mailer_for,
    notified_statuses,
    required,
    saved,
)
from prefect_tracktor.deploy.shop import Shop, shop_of_the_environment
from prefect_tracktor.errors import NotSetUp

__all__ = [
    "NotSetUp",
    "Shop",
    "daily",
    "deployment_of",
    "every",
    "first_saved",
    "for_scanning",
    "mailer_for",
    "notified_statuses",
    "required",
    "saved",
    "shop_of_the_environment",
]
