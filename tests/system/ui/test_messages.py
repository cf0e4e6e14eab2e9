"""The default e-mails as a phone and a desktop show them, in light and dark."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from prefect_tracktor import EmailTemplate, Order
from prefect_tracktor.messages.template import ShopInfo
from tests.system.ui.conftest import ColorScheme, Picture

pytestmark = pytest.mark.ui

SHOP = ShopInfo(name="Sandbox Shop", url="https://sandbox-shop.example")
WIDTHS = {"phone": 375, "desktop": 1024}
READABLE = 4.5  # WCAG 2.2, 1.4.3

PARCELS: list[dict[str, Any]] = [
    {
        "fulfillment_id": 7,
        "carrier": {"name": "DHL Express"},
        "tracking_number": "JD014600006281230704002345",
        "tracking_url": "https://carrier.example/JD014600006281230704002345",
        "line_items": [
            {"name": "Linen shirt, café au lait", "quantity": 2},
            {"name": 'Frame 8" x 10", walnut, with a passe-partout', "quantity": 1},
        ],
    },
    # one long word after the other
    {
        "fulfillment_id": 8,
        "carrier": {"name": "Deutsche-Post-Briefkommunikationsgesellschaft"},
        "tracking_number": "9400" * 10,
        "line_items": [{"name": "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 2}],
    },
]

# What each text stands on, and how well it can be told from that; the page says so itself.
CONTRASTS = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = colour => parts(colour).slice(0, 3)
        .map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const opaque = colour => (parts(colour)[3] ?? 1) === 1;
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (opaque(colour)) return colour;
        }
        throw new Error("nothing is behind the text");
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        if (!text) continue;
        const element = walker.currentNode.parentElement;
        const [low, high] = [getComputedStyle(element).color, ground(element)]
            .map(luminance).sort((a, b) => a - b);
        found.push([text, (high + 0.05) / (low + 0.05)]);
    }
    return found;
}"""


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> ColorScheme:
    chosen: ColorScheme = request.param
    return chosen


@pytest.fixture(params=WIDTHS)
def device(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def reader(browser: Browser, scheme: ColorScheme, device: str) -> Iterator[Page]:
    """A mail reader: it fetches nothing and runs no scripts of the message."""
    context = browser.new_context(
        viewport={"width": WIDTHS[device], "height": 720}, color_scheme=scheme, offline=True
    )
    yield context.new_page()
    context.close()


def message(kind: str, *, parcels: int = 2) -> str:
    """The HTML of a default message about the first of the parcels."""
    state = {"exception_status": kind} if kind == "expired" else {"shipment_status": kind}
    order = Order.model_validate(
        {
            "order_id": 1,
            "order_name": "#1059",
            "order_email": "zoe@sandbox-shop.example",
            "customer_first_name": "Zoë",
            "fulfillments": [parcel | state for parcel in PARCELS[:parcels]],
        }
    )
    template = EmailTemplate() if kind == "expired" else EmailTemplate(about="status")
    return template.render(order, order.fulfillments, shop=SHOP).html


@pytest.mark.parametrize("kind", ["expired", "in_transit", "out_for_delivery", "delivered"])
def test_a_message_can_be_read_everywhere(
    reader: Page, kind: str, device: str, scheme: str, picture: Picture
) -> None:
    reader.set_content(message(kind))
    button = reader.get_by_role("link", name="See your order")
    expect(button).to_be_visible()
    frame = button.bounding_box()
    assert frame is not None
    assert frame["height"] >= 44, "a thumb has to hit it"
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= WIDTHS[device]
    assert reader.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
    contrasts = reader.evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert {text: contrast for text, contrast in contrasts if contrast < READABLE} == {}
    if kind == "expired" or (kind, device) == ("delivered", "phone"):
        reader.set_content(message(kind, parcels=1))
        picture(reader, f"mail-{kind.replace('_', '-')}-{device}-{scheme}", full_page=True)
