"""Settings from environment variables and `.env`: reading, typos, hidden values."""

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter
from dotenv.parser import parse_stream
from prefect.settings import PREFECT_API_URL

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.text import redact
from prefect_tracktor.validation import host_of

Environment = Mapping[str, str]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]

PREFIXES = ("TRACKTOR_", "SMTP_", "SHOPIFY_")

# Variables that `serve`, `deploy` or `receive` reads, and no block.
READ_ELSEWHERE = frozenset(
    {
        "TRACKTOR_TIMEZONE",
        "TRACKTOR_NOTIFY",
        "TRACKTOR_ANNOUNCE_EXCEPTIONS",
        "TRACKTOR_CREDENTIALS",
        "TRACKTOR_RECEIVER_TOKEN",
        "TRACKTOR_QUEUE_URL",
    }
)

# Variables whose values a message may show: they are not secret, and help to fix the setting.
SHOWN = frozenset({"TRACKTOR_MODE", "TRACKTOR_SHARED_LIMIT", "TRACKTOR_API_TIME_ZONE"})

_DEFAULT_FILE = Path(".env")
_SUCH_AS = "such as http://127.0.0.1:4200/api (for Prefect Cloud, prefect cloud login sets it)"
_READABLE_BY_OTHERS = 0o077
# a shorter value is no secret, and may be part of other words
_SHORTEST_HIDDEN = 8


def check_names(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    """Refuse an unknown name; the message lists the known ones."""
    known = [*known]
    for name in names:
        if name not in known:
            raise InvalidInput(f"unknown {kind}: {name!r}; choose from {', '.join(known)}")


def file_of(named: Path | None) -> Path | None:
    """Return the named file, or else `.env` in the working directory if it exists."""
    if named is None:
        return _DEFAULT_FILE if _DEFAULT_FILE.is_file() else None
    if not named.is_file():
        raise InvalidInput(f"there is no file {named}; give its path, or leave out --env-file")
    return named


def settings() -> dict[str, str]:
    """Read the variables of the environment and of the file `.env` in the working directory."""
    return read(file_of(None), os.environ)


def read(file: Path | None, environment: Environment, *, file_wins: bool = False) -> dict[str, str]:
    """Merge the variables of a file and of the environment."""
    in_file = dict(_variables_in(file)) if file is not None else {}
    if file_wins:
        return _non_empty(environment) | _non_empty(in_file)
    return _non_empty(in_file) | _non_empty(environment)


def _variables_in(file: Path) -> Iterator[tuple[str, str]]:
    """Read all lines, or refuse the file: a setting must not be left out because of a typo."""
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows put a mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{file} cannot be read ({type(error).__name__}); it must be a UTF-8 text file"
            " with lines such as TRACKTOR_UUID=..."
        ) from None
    for line in parse_stream(StringIO(text)):
        if line.error or (line.key and line.value is None):
            raise InvalidInput(
                f"{file}, line {line.original.line} is not NAME=value: write an equals sign"
                " after the name, and a quotation mark at both ends of the value or at neither"
            )
        if line.key:
            yield line.key, line.value or ""


def _non_empty(variables: Mapping[str, str]) -> dict[str, str]:
    stripped = {name: value.strip() for name, value in variables.items()}
    return {name: value for name, value in stripped.items() if value}


def prefect_address() -> str:
    """Return the address of Prefect's API; empty if none is set."""
    address = (PREFECT_API_URL.value() or "").strip()
    if address and not address.startswith(("http://", "https://")):
        raise InvalidInput(f"PREFECT_API_URL must be an address {_SUCH_AS}")
    return address


def about_prefect(error: httpx.HTTPError) -> str:
    """Describe an error of Prefect's API, and what to do."""
    address = PREFECT_API_URL.value() or ""
    if isinstance(error, httpx.HTTPStatusError):
        hint = "" if "/api" in address else f" It mostly ends in /api, {_SUCH_AS}."
        return (
            f"Prefect's API refuses this (status {error.response.status_code}): is PREFECT_API_URL"
            f" right, and PREFECT_API_KEY if it needs one?{hint}"
        )
    return (
        f"Prefect's API does not answer at {host_of(address) or 'its address'}"
        f" ({type(error).__name__}): start the server with prefect server start, or correct"
        f" PREFECT_API_URL, {_SUCH_AS}"
    )


def warnings(file: Path | None, environment: Environment, known: Iterable[str]) -> Iterator[str]:
    """Warn of a file that other users can read, and of unknown variables."""
    if file is not None and os.name == "posix" and file.stat().st_mode & _READABLE_BY_OTHERS:
        yield f"other users of this machine can read {file}: run chmod 600 {file}"
    names = sorted({*known, *READ_ELSEWHERE})
    for name in sorted(environment):
        if name.upper().startswith(PREFIXES) and name not in names:
            nearest = get_close_matches(name.upper(), names, n=1, cutoff=0.8)
            hint = f"did you mean {nearest[0]}?" if nearest else "nothing reads it"
            yield f"unknown variable {name}; {hint}"


def listed(text: str) -> list[str]:
    """Split the value of a variable at its commas."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def without_values(text: str, environment: Environment) -> str:
    """Replace the values of variables in a text by the variables' names, such as $SMTP_PASSWORD."""
    for name, value in sorted(environment.items(), key=lambda item: -len(item[1])):
        if len(value) >= _SHORTEST_HIDDEN:
            for form in (value, repr(value)[1:-1], value.lower()):
                text = text.replace(form, f"${name}")
    return redact(text)
