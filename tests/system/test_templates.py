"""The page on the vendor's templates: its table adds up, and its recipes do what they say."""

import re
from typing import Any

import pytest

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.sandbox import Sandbox
from tests.support.json_server import JsonServer
from tests.support.programs import PROJECT
from tests.system.handbook.pages import blocks_of

PAGE = PROJECT / "docs/reference/templates.md"
TEMPLATES = 31


class Provider(JsonServer):
    """A service that takes what is posted to it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """Keep it."""
        self.taken.append(body)
        return 202, {"method": method, "path": path}


@pytest.fixture
def recipes(
    prefect_api: None, tracktor: Sandbox, credentials: TracktorCredentials
) -> dict[str, Any]:
    credentials.save("tracktor", overwrite=True)
    names: dict[str, Any] = {}
    for block in blocks_of(PAGE):
        exec(compile(block.code, str(PAGE), "exec"), names)  # noqa: S102  # our own page
    return names


def test_each_template_is_counted_once_and_most_are_done() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| (?!What|---).+? \| (\d+) \| (.+) \| (\d+) \|$", page, re.MULTILINE)
    assert sum(int(count) for count, _, _ in rows) == TEMPLATES
    done = sum(int(done) for _, _, done in rows)
    assert done >= 26
    assert f"{done} of {TEMPLATES}" in page
    # what is not done has its reason
    assert all("not" in words for count, words, done in rows if int(done) < int(count))
    assert f"{done} are a flow, a rule or a tested recipe" in (PROJECT / "README.md").read_text()


def test_a_text_message_goes_to_the_customers_number(
    recipes: dict[str, Any], tracktor: Sandbox
) -> None:
    order_id = next(i for i in tracktor.shop.order_ids if tracktor.shop.order(i)["order_phone"])
    with Provider() as provider:
        assert (
            recipes["text_on_delivery"](order_id, f"{provider.credentials.base_url}/v1/track")
            == 202
        )
    [message] = provider.taken
    assert message["to"] == tracktor.shop.order(order_id)["order_phone"]
    assert "has arrived" in message["text"]


def test_an_event_reaches_the_marketing_tool(recipes: dict[str, Any], tracktor: Sandbox) -> None:
    order_id = tracktor.shop.order_ids[0]
    with Provider() as provider:
        assert (
            recipes["track"](
                order_id, "delivered", f"{provider.credentials.base_url}/v1/track", "key"
            )
            == 202
        )
    [event] = provider.taken
    assert event["event"] == "Parcel delivered"
    assert event["messageId"] == f"{order_id}-delivered"
