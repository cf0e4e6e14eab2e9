"""The folders `flows/` and `blocks/` of the working directory, or else the built-in ones."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from traceback import extract_tb
from types import ModuleType

from pydantic import ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.setup.document import Document
from prefect_tracktor.validation import problems_of

_PACKAGE = Path(__file__).parent.parent
# the file that each folder must contain: many projects have a flows/ of another kind
_REQUIRED_FILES = {"flows": "shops.py", "blocks": "documents.py"}


def built_in(package: Path = _PACKAGE) -> Path:
    """Find the built-in folders: inside the installed package, or beside it in a checkout."""
    shipped = package / "project"
    return shipped if shipped.is_dir() else package.parent


def folder_of(name: str) -> Path:
    """Find the folder that commands use: in the working directory, or else the built-in one."""
    local = Path.cwd() / name
    return local if (local / _REQUIRED_FILES[name]).is_file() else built_in() / name


def modules_of(name: str) -> dict[str, ModuleType]:
    """Import the files of such a folder, except `__main__.py`, by their names."""
    folder = folder_of(name)
    if sys.path[0] != str(folder.parent):
        sys.path.insert(0, str(folder.parent))
    files = [file.name for file in iter_modules([str(folder)]) if not file.ispkg]
    return {file: _imported(f"{name}.{file}") for file in files if file != "__main__"}


def _imported(module: str) -> ModuleType:
    with mistakes_located(f"{module.replace('.', '/')}.py"):
        return import_module(module)


@contextmanager
def mistakes_located(file: str) -> Iterator[None]:
    """Name the line of a mistake in a file that people edit, without a traceback."""
    try:
        yield
    except InvalidInput:
        raise
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        if "pip install" in str(error):
            raise
        remedy = "correct it, and run this again"
        if isinstance(error, ImportError):
            remedy = f"install what it needs, or {remedy}"
        raise InvalidInput(f"{_place_of(error, file)}: {_problem_in(error)}; {remedy}") from None


def _place_of(error: Exception, file: str) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith(file)]
    return f"{file}, line {lines[-1]}" if lines else file


def _problem_in(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(problems_of(error))
    return error.msg if isinstance(error, SyntaxError) else str(error)


def documents() -> tuple[Document, ...]:
    module = modules_of("blocks")["documents"]
    with mistakes_located("blocks/documents.py"):
        documents: tuple[Document, ...] = module.DOCUMENTS
    return documents


def variables_of(documents: Iterable[Document]) -> frozenset[str]:
    return frozenset(name for document in documents for name in document.fields.values())


def write_project(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write `flows/` and `blocks/` into a folder; files that exist stay, and yield `False`."""
    for source in sorted(
        file for name in _REQUIRED_FILES for file in (built_in() / name).glob("*.py")
    ):
        target = folder / source.parent.name / source.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(source.read_text(encoding="utf-8"))
        except OSError as error:
            if isinstance(error, FileExistsError) and target.is_file():
                yield target, False
                continue
            raise InvalidInput(
                f"{target} cannot be written ({error.strerror}): move what is in its way, or name"
                " another folder: prefect-tracktor init FOLDER"
            ) from None
        yield target, True
