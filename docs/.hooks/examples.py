"""Griffe extension: render `Example:` in docstrings as `Examples:`, as griffe expects."""

import re
from typing import Any

import griffe

_SINGULAR = re.compile(r"^( *)Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Read `Example:` as `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_others: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = _SINGULAR.sub(r"\1Examples:", obj.docstring.value)
