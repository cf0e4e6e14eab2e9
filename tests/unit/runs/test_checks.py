"""Rules are checked before any order is read."""

import pytest

from prefect_tracktor import (
    HttpChannel,
    InvalidInput,
    NotificationRule,
    ReadingOptions,
    TracktorCredentials,
)
from prefect_tracktor.runs.checks import checked_rules

ACCOUNT = TracktorCredentials(uuid="a" * 32, api_key="k")


def test_rules_need_names_of_their_own_across_channels() -> None:
    channel = HttpChannel(address="https://hooks.example", body="{}")
    rules = [
        NotificationRule(name="same", when=["exception:expired"]),
        NotificationRule(name="same", when=["exception:expired"], channel=channel),
    ]
    with pytest.raises(InvalidInput, match="same is the name of several rules"):
        checked_rules(ACCOUNT, rules, orders=[1], reading=ReadingOptions())
