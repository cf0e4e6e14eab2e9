"""Input files at any address of fsspec: paths, URLs, chained URLs, patterns."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # it brings no types

from prefect_tracktor.errors import InvalidInput, replaced_errors
from prefect_tracktor.validation import whole_path

_WEB = ("http://", "https://")


@contextmanager
def opened(path: str, options: str, block: str) -> Iterator[tuple[str, BinaryIO]]:
    """Open a file; yield its name and content."""
    # Exception: storages raise errors of their own
    with replaced_errors(Exception, partial(_not_opened, path, block)):
        storage, inner = url_to_fs(path, **json.loads(options or "{}"))
        name = name_of(path)
        if "*" in inner and not path.startswith(_WEB):
            inner = _only_match(storage, inner, name, block)
            name = PurePosixPath(inner).name
        stream = storage.open(inner, "rb")
    with stream:
        yield name, cast("BinaryIO", stream)


def _only_match(storage: Any, pattern: str, name: str, block: str) -> str:
    matches = [pattern] if storage.exists(pattern) else storage.glob(pattern)
    if len(matches) != 1:
        raise InvalidInput(
            f"{name}: {len(matches) or 'no'} files match this pattern; set `path` of the {block}"
            " to one file, as seen from the machine that runs the flow"
        )
    return str(matches[0])


def _not_opened(path: str, block: str, error: Exception) -> InvalidInput:
    kind = type(error).__name__
    if isinstance(error, ImportError):
        remedy = (
            f"install the fsspec package for the address in `path` of the {block}, such as s3fs or"
            " gcsfs, where the flow runs"
        )
    elif isinstance(error, ValueError):
        remedy = (
            f"fsspec does not know the storage in `path` of the {block}; give a path, or an"
            " address such as s3://bucket/orders.csv"
        )
    else:
        remedy = f"check `path` of the {block}, as seen from the machine that runs the flow" + (
            ", and its `storage_options`" if "://" in path else ""
        )
    return InvalidInput(f"{place_of(path)}: cannot be opened ({kind}); {remedy}")


def name_of(path: str) -> str:
    """Return a file's name without the parts of an address that may be secret."""
    *links, last = path.split("::")
    addresses = [link for link in links if "://" in link]
    return next(filter(None, map(_name_in, [*addresses, last])), "the file")


def _name_in(link: str) -> str:
    address = re.split("[?#]", link, maxsplit=1)[0] if link.startswith(_WEB) else link
    host, _, path = address.rpartition("://")[2].partition("/")
    if "://" not in address:
        return PurePosixPath(address).name
    # an address without path has a name instead of a host, unless a login stands before it
    return PurePosixPath(path).name or ("" if "@" in host else host)


def place_of(path: str) -> str:
    """Return a local file's whole path; of an address only the name, as it can hold secrets."""
    return name_of(path) if "://" in path else whole_path(path)
