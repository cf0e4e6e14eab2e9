"""The handbook's channels against stand-ins as strict as the services."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_tracktor import Condition, HttpChannel, Mode, Order
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.messages.post_channel import PostChannel
from prefect_tracktor.messages.preview import made_up_order
from prefect_tracktor.messages.template import EmailTemplate
from tests.support.http_service import HttpService, Posted
from tests.support.programs import PROJECT
from tests.system.handbook.pages import blocks_of

NAME = '#1001", "x": "<&>\\'
PHONE = "+15550100"


@pytest.fixture(scope="module")
def channels() -> dict[str, HttpChannel]:
    """The channels that the page's code defines."""
    names: dict[str, Any] = {}
    for block in blocks_of(PROJECT / "docs/how-to/channels.md"):
        if block.language == "python" and ".load(" not in block.code:
            exec(block.code, names)  # noqa: S102  # our own handbook
    return {name: value for name, value in names.items() if isinstance(value, HttpChannel)}


def basic(user: str) -> str:
    return "Basic " + b64encode(user.encode()).decode()


def klaviyo(request: Posted) -> None:
    assert request.path == "/api/events"
    assert request.headers["authorization"] == "Klaviyo-API-Key pk_SECRET"
    assert request.headers["revision"]
    assert request.headers["content-type"] == "application/vnd.api+json"
    data = request.json["data"]
    assert data["type"] == "event"
    attributes = data["attributes"]
    assert attributes.keys() == {"unique_id", "metric", "profile", "properties"}
    assert attributes["metric"]["data"]["attributes"]["name"] == "Tracktor exception:expired"
    assert attributes["profile"]["data"]["attributes"] == {"email": "ada@example.com"}
    assert attributes["properties"]["order"] == NAME
    assert attributes["properties"]["parcels"] == [
        {"carrier": "Example Post", "number": "AB123456789"}
    ]


def segment(request: Posted) -> None:
    assert request.path == "/v1/track"
    assert request.headers["authorization"] == basic("WRITE_KEY:")
    assert request.json.keys() == {"event", "userId", "messageId", "properties"}
    assert request.json["properties"] == {
        "order_id": 1001,
        "condition": "exception:expired",
        "total": 59.9,
    }


def sms(request: Posted) -> None:
    assert request.path == "/2010-04-01/Accounts/AC000/Messages.json"
    assert request.headers["authorization"] == basic("AC000:AUTH_TOKEN")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "idempotency-key" not in request.headers
    assert request.form.keys() == {"To", "From", "Body"}
    assert request.form["To"] == PHONE
    assert request.form["Body"].startswith(f"Order {NAME}: Tracking Expired. https://")


def team(request: Posted) -> None:
    assert request.path == "/services/T000/B000/SECRET"
    assert request.json == {"text": f"{NAME}: Tracking Expired"}


@pytest.mark.parametrize(
    ("name", "status", "check"),
    [("klaviyo", 202, klaviyo), ("segment", 200, segment), ("sms", 201, sms), ("team", 200, team)],
)
def test_a_channel_of_the_handbook_posts_a_request_its_service_accepts(
    channels: dict[str, HttpChannel],
    name: str,
    status: int,
    check: Callable[[Posted], None],
) -> None:
    made = channels[name]
    assert made.mode is Mode.DRY_RUN
    order = Order.model_validate(
        made_up_order("expired").model_dump() | {"order_name": NAME, "order_phone": PHONE}
    )
    parcel = order.fulfillments[0]
    content = Content(EmailTemplate(), (Condition("exception:expired", parcel),))
    with HttpService(status=status).serving() as service:
        path = made.address.get_secret_value().split("/", 3)[3]
        live = made.model_copy(
            update={"address": SecretStr(f"{service.address}/{path}"), "mode": Mode.LIVE}
        )
        channel = PostChannel(live, b"secret")
        with channel.session() as send:
            [delivery] = send([channel.message(order, [parcel], content, key="k")])
    assert delivery.outcome == "sent"
    check(service.posted[0])


def test_the_handbook_shows_only_tested_channels(channels: dict[str, HttpChannel]) -> None:
    assert channels.keys() == {"klaviyo", "segment", "sms", "team"}
