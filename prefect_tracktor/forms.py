"""JSON schemas as Prefect's forms read them."""

import inspect
import re
from typing import Any

from pydantic import ConfigDict

_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_UNIT = re.compile(r" (days|hours|minutes|seconds)$")


def in_order(schema: dict[str, Any], kind: type[Any]) -> None:
    """Number the fields of a form as Prefect does a flow's parameters, and say what each is.

    A field without a description has the words of its class's docstring. Where a form offers a
    choice, it shows the whole docstring of what is chosen.
    """
    if "description" in schema:
        schema["description"] = _in_a_line(schema["description"].partition("\n\n")[0])
    said = _attributes(kind)
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field["position"] = position
        if name in said:
            field.setdefault("description", said[name])


def title_of(name: str, _field: object) -> str:
    """A field's title where it gives none: its name in words, with the unit in brackets."""
    return _UNIT.sub(r" (\1)", name.replace("_", " ").capitalize())


# of options that are a part of a form
FORM = ConfigDict(
    frozen=True, extra="forbid", json_schema_extra=in_order, field_title_generator=title_of
)


def _attributes(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those that it derives from say of its fields."""
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        words = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        found = _ATTRIBUTE.findall(words.partition("\n\n")[0])
        said |= {name: _in_a_line(words) for name, words in found}
    return said


def _in_a_line(words: str) -> str:
    """As a form shows it: as it is written, so without the marks of code."""
    return " ".join(words.split()).replace("`", "")
