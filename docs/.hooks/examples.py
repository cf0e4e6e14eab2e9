"""Shows the `Example:` of a docstring as code, as griffe itself does with `Examples:` only."""

import re
from typing import Any

import griffe

_SINGULAR = re.compile(r"^( *)Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Tells griffe of each example."""

    def on_object(self, *, obj: griffe.Object, **_of_griffe: Any) -> None:
        """Read `Example:` as `Examples:`; griffe calls this for each object.

        Args:
            obj: The object.
            **_of_griffe: What else griffe tells of it.
        """
        if obj.docstring is not None:
            obj.docstring.value = _SINGULAR.sub(r"\1Examples:", obj.docstring.value)
