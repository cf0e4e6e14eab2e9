"""The default emails on a phone and a desktop, in light and dark."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from prefect_tracktor import Brand, EmailTemplate, Order
from prefect_tracktor.messages.template import ShopInfo
from prefect_tracktor.messages.words import KINDS, LANGUAGES, About
from tests.system.ui.conftest import ColorScheme, Picture

pytestmark = pytest.mark.ui

SHOP = ShopInfo("Sandbox Shop", "https://sandbox-shop.example", "help@sandbox-shop.example")
BRAND = Brand(
    color="#0b6e4f",
    contact="help@sandbox-shop.example",
    address="1 Mill Lane, Cambridge",
    imprint="https://sandbox-shop.example/imprint",
    currency="EUR",
    time_zone="Europe/Berlin",
)
STATES = {
    "out_for_delivery": {"shipment_status": "out_for_delivery"},
    "delivered": {"shipment_status": "delivered"},
    "status": {"shipment_status": "Sewing"},
}
TO_TRACK = {"expired", "exception", "stalled", "in_transit", "out_for_delivery"}
# the screenshots in the handbook: language and color schemes
PICTURED: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("expired", "phone"): ("en", {"light", "dark"}),
    ("expired", "desktop"): ("en", {"light", "dark"}),
    ("delivered", "phone"): ("es", {"light", "dark"}),
    ("out_for_delivery", "phone"): ("de", {"light"}),
    ("stalled", "phone"): ("fr", {"light"}),
}
WIDTHS = {"phone": 390, "desktop": 1440}
READABLE = 4.5  # WCAG 2.2, 1.4.3

PARCELS: list[dict[str, Any]] = [
    {
        "fulfillment_id": 7,
        "carrier": {"name": "DHL Express"},
        "tracking_number": "JD014600006281230704002345",
        "tracking_url": "https://carrier.example/JD014600006281230704002345",
        "latest_status": {"key": "in_transit", "datetime": "2026-11-09T07:45:00Z"},
        "line_items": [
            {"name": "Linen shirt, café au lait", "quantity": 2},
            {"name": 'Frame 8" x 10", walnut, with a passe-partout', "quantity": 1},
        ],
    },
    # long words
    {
        "fulfillment_id": 8,
        "carrier": {"name": "Deutsche-Post-Briefkommunikationsgesellschaft"},
        "tracking_number": "9400" * 10,
        "line_items": [{"name": "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 2}],
    },
]

# the contrast of each text with its background
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
        const element = walker.currentNode.parentElement;
        if (!text || !element.checkVisibility()) continue;
        const [low, high] = [getComputedStyle(element).color, ground(element)]
            .map(luminance).sort((a, b) => a - b);
        found.push([text, (high + 0.05) / (low + 0.05)]);
    }
    return found;
}"""

# the steps of the progress bar that break within a word
BROKEN = """() => [...document.querySelectorAll("td[width='25%'][valign]")].filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const lines = new Set([...range.getClientRects()].map(rect => Math.round(rect.top))).size;
    return lines > cell.textContent.split(" ").length;
}).map(cell => cell.textContent)"""


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
    """A mail reader, which is offline."""
    context = browser.new_context(
        viewport={"width": WIDTHS[device], "height": 720}, color_scheme=scheme, offline=True
    )
    yield context.new_page()
    context.close()


def message(about: About, language: str, *, parcels: int = 2, brand: Brand = BRAND) -> str:
    """Return the HTML of a default message about the first parcels."""
    state = {"exception_status": "expired"} if about == "expired" else STATES.get(about, {})
    order = Order.model_validate(
        {
            "order_id": 1,
            "order_name": "#1059",
            "order_email": "zoe@sandbox-shop.example",
            "customer_first_name": "Zoë",
            "total_price": "1249.90",
            "fulfillments": [parcel | state for parcel in PARCELS[:parcels]],
        }
    )
    template = EmailTemplate(brand=brand)
    shown = () if about == "not_shipped" else order.fulfillments
    return template.render(order, shown, shop=SHOP, about=about, language=language).html


@pytest.mark.parametrize("about", KINDS)
def test_a_message_is_readable_on_every_device(
    reader: Page, about: About, device: str, scheme: str, picture: Picture
) -> None:
    for language in LANGUAGES:
        reader.set_content(message(about, language))
        for button in reader.locator("a[style*=inline-block]").all():
            frame = button.bounding_box()
            assert frame is not None
            assert frame["height"] >= 44, "large enough for a thumb"
            assert frame["x"] >= 0
            assert frame["x"] + frame["width"] <= WIDTHS[device]
        _check_readable(reader, device)
        assert reader.evaluate(BROKEN) == []
    reader.set_content(message(about, "en"))
    first = {"expired": "Reply to us", "exception": "Reply to us"}
    usual = "Track your parcel" if about in TO_TRACK else "See your order"
    expect(reader.get_by_role("link").first).to_have_text(first.get(about, usual))
    language, schemes = PICTURED.get((about, device), ("", set()))
    if scheme in schemes:
        reader.set_content(message(about, language, parcels=1))
        picture(reader, f"mail-{about}-{device}-{scheme}".replace("_", "-"), full_page=True)


@pytest.mark.parametrize("color", ["#ffffff", "#000000", "#ffd400", "#777777", "#16181d"])
def test_a_message_is_readable_in_any_brand_color(
    reader: Page, color: str, device: str, scheme: str
) -> None:
    reader.set_content(message("expired", "en", brand=Brand(color=color)))
    _check_readable(reader, device)


def _check_readable(reader: Page, device: str) -> None:
    assert reader.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
    contrasts = reader.evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert {text: contrast for text, contrast in contrasts if contrast < READABLE} == {}
