"""Configuration of all blocks: field order in forms, documentation links, logos."""

import json
from abc import ABC
from importlib.metadata import metadata
from typing import Any

from prefect.blocks.core import Block, BlockNotSavedError, schema_extra
from pydantic import ConfigDict, HttpUrl, ValidationError

from prefect_tracktor.forms import in_order, title_of

_API_REFERENCE = "https://www.theshoppad.com/apps/tracktor/api/docs"
# as `Documentation` in pyproject.toml says
_PUBLISHED_AT = dict(
    entry.split(", ", 1) for entry in metadata("prefect-tracktor").get_all("Project-URL", [])
).get("Documentation")


def _block_schema(schema: dict[str, Any], block: type[Any]) -> None:
    schema_extra(schema, block)
    in_order(schema, block)
    for name, field in block.model_fields.items():  # as the class shows it
        field.description = schema["properties"][name].get("description")
    # if no field is required, Prefect takes a reference to a block for the block itself
    defaults = {name: field.get("default") for name, field in schema["properties"].items()}
    schema.setdefault("required", [name for name, default in defaults.items() if default][:1])


_FORMS: dict[tuple[type[Block], tuple[Any, ...], tuple[tuple[str, Any], ...]], str] = {}


class TracktorBlock(Block, ABC):
    """Base class of all blocks: ordered form fields, and errors that do not repeat a secret."""

    model_config = ConfigDict(
        hide_input_in_errors=True, json_schema_extra=_block_schema, field_title_generator=title_of
    )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; pydantic would keep a value that a validator of the model refuses."""
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError:
            self.__dict__.update(before)
            raise

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """Generate the schema once; Prefect asks for it for each field of a block that it saves."""
        key = (cls, args, tuple(options.items()))
        form = _FORMS.get(key) or json.dumps(super().model_json_schema(*args, **options))
        if cls.__dict__.get("__pydantic_complete__"):  # Prefect asks before that, too
            _FORMS[key] = form
        schema: dict[str, Any] = json.loads(form)
        return schema


def saved_name(block: Block) -> str:
    """Return the name under which a block was saved or loaded; empty if it was not."""
    try:
        return block.get_block_placeholder().rpartition(".")[2]  # a name holds no dot
    except BlockNotSavedError:
        return ""


def logo(icon: str) -> HttpUrl:
    """Return the address of an icon, in a blue that is visible on white and on black."""
    return HttpUrl(f"https://api.iconify.design/mdi/{icon}.svg?color=%233b82f6&height=64")


def handbook(page: str, *, published_at: str | None = _PUBLISHED_AT) -> HttpUrl:
    """Return the address of a page of docs/, or Tracktor's API reference if none is published."""
    if not published_at:
        return HttpUrl(_API_REFERENCE)
    return HttpUrl(f"{published_at.rstrip('/')}/{page.replace('.md', '.html')}")
