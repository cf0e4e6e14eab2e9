"""JSON schemas for Prefect's forms: positions, titles, descriptions."""

import inspect
import re
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, WithJsonSchema

_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_UNIT = re.compile(r" (days|hours|minutes|seconds)$")


def in_order(schema: dict[str, Any], kind: type[Any]) -> None:
    """Give each field its position, and its description from the class's docstring."""
    if "description" in schema:  # a form shows the whole docstring where it offers a choice
        schema["description"] = _one_line(schema["description"].partition("\n\n")[0])
    described = _described_attributes(kind)
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field["position"] = position
        if name in described:
            field.setdefault("description", described[name])


def title_of(name: str, _field: object) -> str:
    """Return a field's default title: its name in words, with the unit in brackets."""
    return _UNIT.sub(r" (\1)", name.replace("_", " ").capitalize())


# for models that are part of a form
FORM = ConfigDict(
    frozen=True, extra="forbid", json_schema_extra=in_order, field_title_generator=title_of
)


def one_of(kind: type[StrEnum]) -> WithJsonSchema:
    """Show an enum in a form with the field's own title and description."""
    return WithJsonSchema({"type": "string", "enum": [str(member) for member in kind]})


def _described_attributes(kind: type[Any]) -> dict[str, str]:
    """Read the `Attributes:` sections of a class's docstring and those of its bases."""
    described: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        found = _ATTRIBUTE.findall(section.partition("\n\n")[0])
        described |= {name: _one_line(text) for name, text in found}
    return described


def _one_line(text: str) -> str:
    # a form shows markup as it is written
    return " ".join(text.split()).replace("`", "")
