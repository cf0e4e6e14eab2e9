"""The shops whose flows run, one a row. Edit the list.

As it stands there is one shop, set up by the variables TRACKTOR_SENDER, TRACKTOR_TIMEZONE,
TRACKTOR_DRY_RUN, TRACKTOR_NOTIFY and TRACKTOR_ANNOUNCE_EXCEPTIONS. For several shops write a row
for each in its place; the first word is the name of the shop's block documents:

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
