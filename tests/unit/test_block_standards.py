"""Prefect's standard for blocks, and ours for their forms."""

import inspect
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from prefect.utilities.dispatch import get_registry_for_type
from pydantic import SecretStr

from prefect_tracktor import collection
from prefect_tracktor.block import handbook
from tests.support.programs import PROJECT

BLOCKS: list[type[Block]] = [getattr(collection, name) for name in collection.__all__]

# Prefect's form renders descriptions as markdown, and turns addresses into links
SWALLOWED = re.compile(r"[`*<>]|\bhttps?://|\b_\w+_\b")
ICON = re.compile(r"https://api\.iconify\.design/mdi/(?P<name>[a-z0-9-]+)\.svg\?[\w=&%]+")


def fields(block: type[Block]) -> list[tuple[str, dict[str, Any]]]:
    """The form's fields, then those of nested objects."""
    schema = block.model_json_schema()
    shown = list(schema["properties"].items())
    for definition in schema.get("definitions", {}).values():
        if "block_type_slug" not in definition:
            shown += definition.get("properties", {}).items()
    return shown


@pytest.mark.parametrize("block", BLOCKS)
class TestBlocks(BlockStandardTestSuite):
    """Prefect's suite."""

    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param  # type: ignore[no-any-return]

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Instead of a download: the icon exists, and no other block has it."""
        assert (files("material") / f"templates/.icons/material/{icon(block)}.svg").is_file()
        assert [icon(other) for other in BLOCKS].count(icon(block)) == 1


def icon(block: type[Block]) -> str:
    found = ICON.fullmatch(str(block._logo_url))  # noqa: SLF001  # as Prefect declares it
    assert found is not None
    return found["name"]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_field_of_a_block_form_has_its_position(block: type[Block]) -> None:
    schema = block.model_json_schema()
    forms = [schema, *schema.get("definitions", {}).values()]
    positions = [
        [field["position"] for field in form["properties"].values()]
        for form in forms
        if "properties" in form
    ]
    assert positions
    assert positions == [list(range(len(numbers))) for numbers in positions]


def test_the_collection_lists_every_block() -> None:
    assert [block.__name__ for block in BLOCKS] == [
        "CompletedOrders",
        "EmailTemplate",
        "HttpChannel",
        "Mailer",
        "NotificationLedger",
        "OrderFile",
        "ShopifyCredentials",
        "ShopifyOrders",
        "StatusFile",
        "StatusQuery",
        "TracktorCredentials",
        "WebhookQueue",
        "WebhookSubscription",
    ]


def test_base_classes_of_blocks_are_not_registered_as_blocks() -> None:
    registered = (get_registry_for_type(Block) or {}).values()
    ours = {block for block in registered if block.__module__.startswith("prefect_tracktor")}
    assert ours == set(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
def test_block_names_and_slugs_begin_with_tracktor(block: type[Block]) -> None:
    name = block.get_block_type_name()
    assert name.startswith("Tracktor ")
    assert block.get_block_type_slug() == name.lower().replace(" ", "-")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_schemas_title_is_its_class_name(
    block: type[Block],
) -> None:
    assert block.model_json_schema()["title"] == block.__name__


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_has_a_one_line_description(block: type[Block]) -> None:
    description = block.get_description() or ""
    assert description.endswith(".")
    assert "\n" not in description
    assert not SWALLOWED.search(description)


NONE = {"type": "null"}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_field_of_a_block_form_has_a_title_and_a_description(block: type[Block]) -> None:
    definitions = block.model_json_schema().get("definitions", {})
    for name, field in fields(block):
        shown = field
        if "$ref" in field:  # the form shows the object's own title
            shown = definitions[field["$ref"].rpartition("/")[2]]
        elif [*field.get("anyOf", [{}])[0], *field.get("anyOf", [])[1:]] == ["$ref", NONE]:
            shown = field  # an optional block
        elif set(field) & {"allOf", "anyOf"}:
            pytest.fail(f"{name} makes people choose between types")
        assert shown["title"] != name
        assert shown["description"].endswith("."), name
        assert not SWALLOWED.search(shown["description"]), name


@pytest.mark.parametrize("block", BLOCKS)
def test_required_fields_of_a_block_come_first(block: type[Block]) -> None:
    needed = [field.is_required() for field in block.model_fields.values()]
    assert needed == sorted(needed, reverse=True)


@pytest.mark.parametrize("block", BLOCKS)
def test_required_fields_of_a_block_have_an_example_unless_secret(block: type[Block]) -> None:
    for name, field in block.model_fields.items():
        if field.is_required() and field.annotation is not SecretStr:
            is_block = isinstance(field.annotation, type) and issubclass(field.annotation, Block)
            assert is_block or field.examples, name


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_can_be_verified(block: type[Block]) -> None:
    assert callable(vars(block).get("verify") or getattr(block, "verify", None))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_blocks_documentation_link_leads_to_a_handbook_section(block: type[Block]) -> None:
    [link] = re.findall(r'_documentation_url = handbook\("([^"]+)"\)', inspect.getsource(block))
    page, _, anchor = link.partition("#")
    text = (PROJECT / "docs" / page).read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings} | {""}
    assert anchor in anchors
    assert str(block._documentation_url) == str(handbook(link))  # noqa: SLF001  # Prefect's name


def test_every_block_has_a_different_documentation_link() -> None:
    links = [re.findall(r'handbook\("(.+)"\)', inspect.getsource(block))[0] for block in BLOCKS]
    assert len(set(links)) == len(links)


def test_documentation_links_use_the_address_in_the_packages_metadata(tmp_path: Path) -> None:
    """As in a wheel built with `Documentation` in pyproject.toml."""
    installed = tmp_path / "prefect_tracktor-9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: prefect-tracktor\nVersion: 9\n"
        "Project-URL: Tracktor, https://apps.example\n"
        "Project-URL: Documentation, https://shop.example/handbook\n"
    )
    code = "import prefect_tracktor as p; print(p.HttpChannel._documentation_url)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "https://shop.example/handbook/how-to/channels.html"


def test_handbook_links_use_the_published_address_or_tracktors_reference() -> None:
    page = "how-to/configure.md#mailer"
    published = handbook(page, published_at="https://shop.example/handbook/")
    assert str(published) == "https://shop.example/handbook/how-to/configure.html#mailer"
    assert handbook(page, published_at=None).host == "www.theshoppad.com"
