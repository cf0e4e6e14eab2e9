"""What all our blocks have in common: the order of their form's fields, and their logos."""

from typing import Any

from prefect.blocks.core import schema_extra
from pydantic import ConfigDict, HttpUrl


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields of a form, as Prefect numbers a flow's parameters.

    Prefect keeps a block's schema in its database, and a PostgreSQL keeps no order of it: without
    numbers the form shows the fields by the length of their names.

    Args:
        schema: A model's JSON schema; it is changed.

    Example:
        >>> from pydantic import BaseModel
        >>> from prefect_tracktor.block import in_order
        >>> class Limits(BaseModel, json_schema_extra=in_order):
        ...     requests_per_second: int
        ...     attempts: int
        >>> [f["position"] for f in Limits.model_json_schema()["properties"].values()]
        [0, 1]
    """
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position


def _of_block(schema: dict[str, Any], block: type[Any]) -> None:
    schema_extra(schema, block)
    in_order(schema)


# of all our blocks: a form in order, and errors that do not repeat a secret
BLOCK_CONFIG = ConfigDict(hide_input_in_errors=True, json_schema_extra=_of_block)


# a blue that can be seen on white and on black
_COLOUR = "%233b82f6"


def logo(icon: str) -> HttpUrl:
    """The address of an icon; it is the browser that shows Prefect's UI that asks for it.

    Args:
        icon: Its name among the Material Design Icons, which the public service Iconify serves.

    Returns:
        The address of an SVG picture.

    Example:
        >>> str(logo("truck-delivery"))
        'https://api.iconify.design/mdi/truck-delivery.svg?color=%233b82f6&height=64'
    """
    return HttpUrl(f"https://api.iconify.design/mdi/{icon}.svg?color={_COLOUR}&height=64")
