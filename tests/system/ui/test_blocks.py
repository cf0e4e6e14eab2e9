"""Blocks in Prefect's UI: the catalog, the list, the forms."""

import inspect
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL, temporary_settings

import prefect_tracktor
from prefect_tracktor import TracktorCredentials
from tests.system.ui.conftest import Installation, Picture, in_order

pytestmark = pytest.mark.ui

BLOCKS = [
    block
    for _, block in inspect.getmembers(prefect_tracktor, inspect.isclass)
    if issubclass(block, Block)
]


def slug_of(block: type[Block]) -> str:
    return str(block.get_block_type_slug())


def fields_of(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the fields that a form shows, in order; other blocks are selected by name."""
    for field in schema["properties"].values():
        part = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
        # title and description of a nested model, unless the field has its own
        yield {"title": part.get("title"), "description": part.get("description")} | field
        if "properties" in part and "block_type_slug" not in part:
            yield from fields_of(part, definitions)


def test_new_visitors_get_the_newer_ui(page: Page, installation: Installation) -> None:
    page.goto(installation.url)
    expect(page.get_by_role("button", name="Switch to V1 UI")).to_be_visible()
    assert page.url.startswith(f"{installation.url}/v2/")


def test_the_catalog_shows_our_blocks_with_their_descriptions(page: Page, picture: Picture) -> None:
    page.goto("blocks/catalog")
    page.get_by_placeholder("Search").fill("tracktor")
    assert len(BLOCKS) >= 10
    for block in BLOCKS:
        expect(page.get_by_role("heading", name=block.get_block_type_name())).to_be_visible()
        expect(page.get_by_text(str(block.get_description()), exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="AWS Credentials")).to_have_count(0)
    picture(page, "blocks-catalog", clip={"x": 0, "y": 0, "width": 1280, "height": 760})


def test_saved_blocks_are_listed(page: Page, picture: Picture) -> None:
    page.goto("blocks")
    for block in ("Tracktor Credentials", "Tracktor Notification Ledger", "Tracktor Order File"):
        row = page.get_by_role("row").filter(has_text=block)
        expect(row.get_by_role("link", name="tracktor", exact=True)).to_be_visible()
    picture(page, "blocks")


@pytest.mark.parametrize("block", BLOCKS, ids=slug_of)
def test_each_field_of_a_block_form_has_a_title_and_description(
    page: Page, block: type[Block]
) -> None:
    page.goto(f"blocks/catalog/{slug_of(block)}/create")
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    schema = block.model_json_schema()
    fields = list(fields_of(schema, schema.get("definitions", {})))
    assert fields
    texts = [field[part] for field in fields for part in ("title", "description") if field[part]]
    in_order(page, texts)
    for field in fields:
        label = re.compile(rf"^{re.escape(field['title'])}( \(Optional\))?$")
        expect(page.get_by_text(label).first).to_be_visible()


def test_credentials_saved_in_the_form_work(
    page: Page, installation: Installation, picture: Picture
) -> None:
    tracktor = installation.tracktor
    page.goto("blocks/catalog/tracktor-credentials/create")
    page.get_by_role("textbox", name="Name").fill("from-the-form")
    page.get_by_role("textbox", name="Account uuid").fill(tracktor.uuid)
    page.get_by_role("textbox", name="API key").fill(tracktor.api_key)
    page.get_by_role("textbox", name="Address of the API").fill(tracktor.base_url)
    picture(page.get_by_role("main"), "block-form")
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(re.compile("/blocks/block/"))
    expect(page.get_by_text("from-the-form").first).to_be_visible()
    expect(page.get_by_text(tracktor.api_key, exact=True)).to_have_count(0)

    def load_and_verify() -> TracktorCredentials:
        with temporary_settings(updates={PREFECT_API_URL: f"{installation.url}/api"}):
            found: Any = TracktorCredentials.load("from-the-form")
            found.verify()
            return TracktorCredentials.model_validate(found)

    with ThreadPoolExecutor(1) as executor:  # Playwright's event loop runs in this thread
        loaded = executor.submit(load_and_verify).result()
    assert loaded.api_key.get_secret_value() == tracktor.api_key
    assert loaded.limits == TracktorCredentials(uuid=tracktor.uuid, api_key="x").limits
