"""JSON schemas as Prefect's forms read them."""

import re
from typing import Any

from pydantic import ConfigDict

_UNIT = re.compile(r" (days|hours|minutes|seconds)$")


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields of a form, as Prefect numbers a flow's parameters, and describe it short.

    Where a form offers a choice, it shows the whole docstring of what is chosen.
    """
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].partition("\n\n")[0].split())
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position


def title_of(name: str, _field: object) -> str:
    """A field's title where it gives none: its name in words, with the unit in brackets."""
    return _UNIT.sub(r" (\1)", name.replace("_", " ").capitalize())


# of options that are a part of a form; a field's `description` is its documentation, too
FORM = ConfigDict(
    frozen=True, extra="forbid", json_schema_extra=in_order, field_title_generator=title_of
)
