"""Formats of API responses: a switch for each detail that Tracktor has not published."""

from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict

_TIMES = {"datetime", "order_created_at"}
_LENGTH_WITHOUT_OFFSET = len("2026-06-01T12:00:00")


class ResponseFormat(BaseModel):
    """The format of the sandbox's responses. A client should be able to read every combination.

    Attributes:
        wrapped: `{"order": {...}}` instead of the bare object.
        status_as_object: A parcel's `status` is an object keyed by status instead of a list.
        numbers_as_strings: Ids, quantities and prices are strings.
        empty_strings_for_null: Missing values are empty strings.
        times_without_offset: Times end after the seconds.

    Example:
        >>> ResponseFormat(wrapped=False, numbers_as_strings=True).shaped("order", {"order_id": 7})
        {'order_id': '7'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wrapped: Annotated[bool, Parameter(negative="--bare")] = True
    status_as_object: bool = False
    numbers_as_strings: bool = False
    empty_strings_for_null: bool = False
    times_without_offset: bool = False

    def shaped(self, name: str, value: Any) -> Any:
        """Convert a value from the default format; `name` is the key that wraps it."""
        converted = self._converted(value)
        return {name: converted} if self.wrapped else converted

    def _converted(self, value: Any) -> Any:
        match value:
            case dict():
                return dict(self._field(name, entry) for name, entry in value.items())
            case list():
                return [self._converted(entry) for entry in value]
            case None if self.empty_strings_for_null:
                return ""
            case int() | float() if self.numbers_as_strings and not isinstance(value, bool):
                return str(value)
            case _:
                return value

    def _field(self, name: str, value: Any) -> tuple[str, Any]:
        if name == "status" and self.status_as_object and isinstance(value, list):
            value = {step["key"]: step for step in value}
        elif name in _TIMES and self.times_without_offset and value:
            value = value[:_LENGTH_WITHOUT_OFFSET]
        return name, self._converted(value)
