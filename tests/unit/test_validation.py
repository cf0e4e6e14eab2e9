"""Validation of addresses before anything is sent to them."""

import pytest
from pydantic import ValidationError

from prefect_tracktor import HttpChannel, InvalidInput, OAuth2
from prefect_tracktor.validation import checked_address, host_of

# the HTTP library refuses these hosts, each with an error of its own
IMPOSSIBLE = [
    "https://xn--.example/",
    "https://xn--a.example/",
    f"https://ä{'b' * 70}.example/",
    "https://\N{SNOWMAN}.example/",
    "https://shop.example:99999/",
    "https://shop.example:0/",
    f"https://shop.example/{'x' * 70_000}",
]


@pytest.mark.parametrize("address", IMPOSSIBLE)
def test_an_impossible_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"hook must be an https address.*malformed"):
        checked_address(address, field="hook")
    with pytest.raises(ValidationError, match="address must be an https address"):
        HttpChannel.model_validate({"address": address, "body": "{}"})
    with pytest.raises(ValidationError, match="token_endpoint must be an https address"):
        OAuth2.model_validate({"token_endpoint": address, "client_id": "a", "client_secret": "b"})


@pytest.mark.parametrize("address", IMPOSSIBLE[:4])
def test_an_impossible_address_has_no_host(address: str) -> None:
    assert host_of(address) == ""


@pytest.mark.parametrize(
    "address", ["https://münchen.example/x", "HTTPS://shop.example", "https://[::1]:8443/"]
)
def test_a_valid_address_stays_unchanged(address: str) -> None:
    assert checked_address(address, field="hook") == address
