"""Public names of a package, imported when they are first used (PEP 562)."""

import ast
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def imported_when_used(
    package: str,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for what a package imports for type checkers.

    Its one list of names is the `if TYPE_CHECKING:` block of its `__init__.py`.
    """
    names = vars(sys.modules[package])
    [for_type_checkers] = (
        statement
        for statement in ast.parse(pkgutil.get_data(package, "__init__.py") or b"").body
        if isinstance(statement, ast.If)
    )
    homes = {
        alias.name: str(found.module)
        for found in for_type_checkers.body
        if isinstance(found, ast.ImportFrom)
        for alias in found.names
    }

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)
        names[name] = getattr(import_module(homes[name]), name)
        return names[name]

    return get, lambda: sorted({*names, *homes}), sorted(homes)
