"""The shops whose flows run, one on each line. Edit the list.

By default there is one shop, configured by the variables TRACKTOR_SENDER, TRACKTOR_TIMEZONE,
TRACKTOR_DRY_RUN, TRACKTOR_NOTIFY and TRACKTOR_ANNOUNCE_EXCEPTIONS. For several shops, write one
line for each; the first argument is the name of the shop's blocks:

    return [
        Shop("alpine", sender="Alpine <hello@alpine.example>", timezone="Europe/Zurich"),
        Shop("bay", sender="Bay <hello@bay.example>", notify=["delivered"], dry_run=True),
    ]
"""

from collections.abc import Sequence

from prefect_tracktor.deploy import Shop, shop_of_the_environment


def shops() -> Sequence[Shop]:
    """All shops."""
    return [
        shop_of_the_environment(),
    ]
