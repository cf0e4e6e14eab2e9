"""JSON schemas as Prefect's forms read them."""

from typing import Any


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields of a form, as Prefect numbers a flow's parameters, and describe it short.

    Where a form offers a choice, it shows the whole docstring of what is chosen.
    """
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].partition("\n\n")[0].split())
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position
