"""Docstrings as griffe reads them: `Example:` shows as code, and a form's fields as attributes."""

import ast
import re
from typing import Any

import griffe

_SINGULAR = re.compile(r"^( *)Example:$", re.MULTILINE)
_AFTER_ATTRIBUTES = re.compile(r"^(Raises|Examples?):$", re.MULTILINE)


class Examples(griffe.Extension):
    """Tells griffe of each example, and of what `Field(description=...)` says of a field."""

    def on_object(self, *, obj: griffe.Object, **_of_griffe: Any) -> None:
        """Read `Example:` as `Examples:`; griffe calls this for each object.

        Args:
            obj: The object.
            **_of_griffe: What else griffe tells of it.
        """
        if obj.docstring is not None:
            obj.docstring.value = _SINGULAR.sub(r"\1Examples:", obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_of_griffe: Any) -> None:
        """List the fields of a pydantic model, unless its docstring does.

        Args:
            cls: The class.
            **_of_griffe: What else griffe tells of it.
        """
        described = [
            f"    {name}: {text}"
            for name, member in cls.members.items()
            if isinstance(member, griffe.Attribute) and (text := _description_of(member.value))
        ]
        if cls.docstring is None or not described or "Attributes:" in cls.docstring.value:
            return
        text, section = cls.docstring.value, "\n".join(["Attributes:", *described])
        place = _AFTER_ATTRIBUTES.search(text)
        at = place.start() if place else len(text)
        cls.docstring.value = f"{text[:at].rstrip()}\n\n{section}\n\n{text[at:]}"


def _description_of(value: Any) -> str:
    """What the `Field(...)` that a field is assigned says of it."""
    try:
        call = ast.parse(str(value), mode="eval").body
    except SyntaxError:
        return ""
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Field":
        return ""
    given = [word.value for word in call.keywords if word.arg == "description"]
    return " ".join(str(ast.literal_eval(text)) for text in given if isinstance(text, ast.Constant))
