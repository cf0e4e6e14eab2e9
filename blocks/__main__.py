"""`python -m blocks`: make or update the block documents that the deployments refer to."""

import argparse
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL

from blocks.documents import DOCUMENTS, VARIABLES
from blocks.making import Maker
from blocks.variables import Environment, UnusableFile, file_of, read, warnings
from prefect_tracktor.documents import NAME_PATTERN, SHARED
from prefect_tracktor.webhooks import host_of

_SLUGS = tuple(document.slug for document in DOCUMENTS)


def main(
    environment: Environment,
    *,
    name: str = SHARED,
    only: Collection[str] = _SLUGS,
    verify: bool = False,
    dry_run: bool = False,
) -> int:
    """Make every document that can be made; say of the others what is missing.

    Args:
        environment: The variables; nothing of their values is printed.
        name: What the documents are called.
        only: The slugs of the block types to be made.
        verify: Whether to see if what is there works.
        dry_run: Whether to say only what would be made.

    Returns:
        The exit status: 0 if all documents are there that are not optional, and work.
    """
    maker = Maker(environment, name=name, dry_run=dry_run, say=print)
    documents = [document for document in DOCUMENTS if document.slug in only]
    valid = [maker.make(document) for document in documents]
    complete = [maker.ask_for(document) for document in documents]
    if maker.has_two_sources_of_orders:
        print("\nThe deployments find orders in Shopify; delete that document to go by the file.")
    if not all(valid + complete):
        print("\nSet the variables named above and run this again; what is there stays.")
    if verify:
        print("\nDoes it work?")
    works = [maker.verify(document) for document in documents if verify]
    return 0 if all(valid + complete + works) else 1


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for documents: lowercase letters and digits, with single dashes"
            " between them"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blocks",
        description=f"{__doc__} It reads them from environment variables; what it cannot make, it"
        " names with the variables that are missing. A field whose variable is not set stays as it"
        " is in the document that is there.",
        epilog="The exit status is 0 if all is there (and works, with --verify), else 1.",
    )
    parser.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="read variables from this file, too; what it sets wins over the environment. Left"
        f" out, from .env if it is here and the name is {SHARED}; the environment wins over that",
    )
    parser.add_argument(
        "--name", type=_name, default=SHARED, help=f"what the documents are called ({SHARED})"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="BLOCK",
        choices=_SLUGS,
        default=_SLUGS,
        help=f"of {', '.join(_SLUGS)}; left out, all",
    )
    parser.add_argument(
        "--verify", action="store_true", help="see whether what is there works; nothing is sent"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be made, and save nothing"
    )
    return parser


def command(arguments: list[str], environment: Environment) -> int:
    """Do what the command line says.

    Args:
        arguments: The command line without the program's name.
        environment: The variables of the process.

    Returns:
        The exit status: 2 for a file that cannot be read.
    """
    options = _parser().parse_args(arguments)
    try:
        # `.env` is of the one shop, and never of another
        file = file_of(options.env_file) if options.env_file or options.name == SHARED else None
        variables = read(file, environment, file_wins=options.env_file is not None)
    except UnusableFile as problem:
        print(problem)
        return 2
    if file is not None:
        print(f"Read {file}; what {'it' if options.env_file else 'the environment'} sets wins.")
    for warning in warnings(file, variables, VARIABLES):
        print(f"Warning: {warning}")
    where = host_of(PREFECT_API_URL.value() or "") or "this machine (PREFECT_API_URL is not set)"
    print(f"Prefect is at {where}." + (" Nothing is saved." if options.dry_run else ""))
    try:
        return main(
            variables,
            name=options.name,
            only=options.only,
            verify=options.verify,
            dry_run=options.dry_run,
        )
    except httpx.HTTPStatusError as error:
        print(
            f"Prefect's API refuses this (status {error.response.status_code}): is PREFECT_API_URL"
            " right, and PREFECT_API_KEY if it needs one?"
        )
    except httpx.HTTPError as error:
        print(
            f"Prefect's API does not answer ({type(error).__name__}): is the server up, and is"
            " PREFECT_API_URL its address?"
        )
    return 1


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:], os.environ))
