"""What the files beside this folder are written with; it is their grammar, and seldom edited."""

from flows.deploying.parts import (
    account,
    daily,
    deployment_of,
    every,
    first_saved,
    for_scanning,
    for_writing_to_customers,
    notified_statuses,
    saved,
    wished,
)
from flows.deploying.shop import NotSetUp, Shop, Unusable, shop_of_the_environment

__all__ = [
    "NotSetUp",
    "Shop",
    "Unusable",
    "account",
    "daily",
    "deployment_of",
    "every",
    "first_saved",
    "for_scanning",
    "for_writing_to_customers",
    "notified_statuses",
    "saved",
    "shop_of_the_environment",
    "wished",
]
