"""The shops whose flows run, one on each line. Edit the list.

By default there is one shop, configured by the variables TRACKTOR_TIMEZONE, TRACKTOR_NOTIFY and
TRACKTOR_ANNOUNCE_EXCEPTIONS. For several shops, write one line for each; the first argument is the
name of the shop's blocks:

    return [
        Shop("alpine", timezone="Europe/Zurich"),
        Shop("bay", notify=["delivered"]),
    ]

Whether a shop's flows send emails and change statuses is set in its blocks, not here.
"""

from collections.abc import Sequence

from prefect_tracktor.deploy import Shop, shop_of_the_environment


def shops() -> Sequence[Shop]:
    """Return all shops."""
    return [
        shop_of_the_environment(),
    ]
