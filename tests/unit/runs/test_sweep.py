"""Sweeps: names, parameters and modes of shops, checked before the first run."""

from typing import Any, get_args

import pytest
from prefect import Flow
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, Mailer, TracktorCredentials, flows
from prefect_tracktor.flows import SweptShop, email_expired_exceptions
from prefect_tracktor.flows.sweep import SweepableFlow
from prefect_tracktor.runs.sweep import ShopRun, sweep

BERLIN = SweptShop("berlin")


@pytest.mark.parametrize(
    ("shops", "options", "problem"),
    [
        ([], {}, "shops is empty"),
        ([BERLIN, SweptShop("rome"), BERLIN], {}, r"shops\[2\]: 'berlin' is named twice"),
        ([BERLIN], {"common": {"max_mails": 1}}, "parameters: .*no parameter 'max_mai"),
        (
            [BERLIN, SweptShop("rome", {"x": 1})],
            {},
            r"shops\[1\].parameters: .*no parameter 'x'; it has cred",
        ),
        ([BERLIN], {"shops_at_once": 0}, "shops_at_once must be from 1 to 32, not 0"),
        (
            [SweptShop("berlin", {"dry_run": False})],
            {"common": {"dry_run": "tru"}},
            "^parameters: dry_run must be true or false",
        ),
        (
            [SweptShop("berlin", {"dry_run": "tru"})],
            {},
            "^parameters of berlin: dry_run must be true or false",
        ),
    ],
)
def test_a_sweep_with_invalid_parameters_is_refused_before_a_block_is_loaded(
    shops: list[SweptShop], options: dict[str, Any], problem: str
) -> None:
    usual: dict[str, Any] = {"common": {}, "shops_at_once": 1}
    with pytest.raises(InvalidInput, match=problem):
        sweep(email_expired_exceptions, "email_expired_exceptions", shops, **usual | options)


@pytest.mark.parametrize("name", ["", "Berlin", "berlin shop", "berlin_1", "../berlin", "-berlin"])
def test_an_invalid_shop_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        SweptShop(name)


def test_a_sweep_can_run_every_flow_that_scans_or_syncs() -> None:
    ready_made = {name for name in flows.__all__ if isinstance(getattr(flows, name), Flow)}
    # an event is about one shop
    assert set(get_args(SweepableFlow)) == ready_made - {"notify_status_change", "sweep_shops"}


ACCOUNT = {"uuid": "a" * 32, "api_key": "k"}
RULE = {"name": "late", "when": ["stalled"]}
CHANNEL = {"address": "https://hooks.example", "body": "{}", "mode": "live"}


@pytest.mark.parametrize(
    ("parameters", "modes"),
    [
        ({}, ["live"]),
        ({"dry_run": True, "mailer": "live"}, ["dry_run"]),
        ({"read_only": True}, ["dry_run"]),
        ({"read_only": True, "to": "anywhere"}, ["live"]),
        ({"mailer": "rehearsal"}, ["rehearsal"]),
        ({"rules": [RULE], "mailer": "rehearsal"}, ["rehearsal"]),
        ({"rules": [RULE | {"channel": CHANNEL}], "mailer": "dry_run"}, ["live"]),
        ({"rules": [RULE | {"channel": CHANNEL}]}, ["live"]),
        (
            {"rules": [RULE | {"channel": CHANNEL}], "digest": {"a": 1}, "mailer": "dry_run"},
            ["live", "dry_run"],
        ),
        ({"announce": ["stalled"], "read_only": True, "mailer": "live"}, ["dry_run"]),
        ({"export": "there", "mailer": "dry_run"}, ["live"]),
    ],
)
def test_a_shops_run_has_the_modes_of_its_blocks(
    parameters: dict[str, Any], modes: list[str]
) -> None:
    read_only = parameters.get("read_only", False)
    credentials = TracktorCredentials.model_validate(ACCOUNT | {"read_only": read_only})
    mode = parameters.get("mailer")
    mailer = mode and Mailer(
        host="smtp.example",
        sender="Shop <a@shop.example>",
        mode=mode,
        rehearsal_address="me@shop.example",
    )
    given = parameters | {"credentials": credentials, "mailer": mailer}
    assert ShopRun("berlin", given).modes == modes
