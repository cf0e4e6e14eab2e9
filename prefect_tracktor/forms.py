"""JSON schemas as Prefect's forms read them."""

from typing import Any


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields of a form, as Prefect numbers a flow's parameters."""
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position
