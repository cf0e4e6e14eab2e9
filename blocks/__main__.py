"""`python -m blocks`: make or update the block documents that the deployments refer to."""

import argparse
import os
import sys
from typing import Literal

import httpx
from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.documents import DOCUMENTS, NAME, Document, Environment, Values
from prefect_tracktor import OrderFile, ShopifyOrders


def main(environment: Environment) -> int:
    """Make every document that can be made; say of the others what is missing.

    Args:
        environment: The variables; nothing of their values is printed.

    Returns:
        The exit status: 0 if all documents are there that are not optional.
    """
    outcomes = [(document, _save(document, environment)) for document in DOCUMENTS]
    there = {document.block for document, outcome in outcomes if outcome == "there"}
    left = False
    for document, outcome in outcomes:
        if outcome == "missing" and document.instead not in there:
            _ask_for(document, environment)
            left |= not document.optional
        left |= outcome == "invalid"
    if {OrderFile, ShopifyOrders} <= there:
        print("\nThe deployments find orders in Shopify; delete that document to go by the file.")
    if left:
        print("\nSet the variables named above and run this again; what was made stays.")
    return 1 if left else 0


def _save(document: Document, environment: Environment) -> Literal["there", "missing", "invalid"]:
    title = f"{document.block.get_block_type_slug()}/{NAME}"
    existing = _existing(document.block)
    if existing is None and document.missing(environment):
        return "missing"
    try:
        given = {} if existing and document.keep else document.values(environment)
        if existing and not given:
            print(f"kept     {title}")
            return "there"
        block = _with(document.block, existing, given)
    except ValueError as invalid:
        print(f"invalid  {title}")
        for problem in _problems(invalid):
            print(f"         {problem}")
        return "invalid"
    block.save(NAME, overwrite=True)
    print(f"{'updated ' if existing else 'made    '} {title}")
    return "there"


def _problems(invalid: ValueError) -> list[str]:
    if not isinstance(invalid, ValidationError):
        return [str(invalid)]
    return [
        f"{'.'.join(map(str, error['loc'])) or 'together'}: {error['msg']}"
        for error in invalid.errors(include_input=False, include_url=False)
    ]


def _ask_for(document: Document, environment: Environment) -> None:
    what = "optional" if document.optional else "missing "
    print(f"{what} {document.block.get_block_type_slug()}/{NAME}")
    for name, hint in document.missing(environment).items():
        print(f"         {name}: {hint}")
    if document.instead:
        print(f"         or else what {document.instead.get_block_type_slug()} needs")


def _existing(block: type[Block]) -> Block | None:
    try:
        return block.load(NAME, validate=False)  # type: ignore[return-value]  # not in a loop
    except ValueError:
        return None


def _with(block: type[Block], existing: Block | None, given: Values) -> Block:
    """A new block; what no variable names stays as it is in the existing one."""
    fields = {name: getattr(existing, name) for name in block.model_fields} if existing else {}
    parts = {
        name: fields[name].model_dump() | value
        for name, value in given.items()
        if isinstance(value, dict) and name in fields
    }
    return block.model_validate(fields | given | parts)


def _command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m blocks",
        description=f"{__doc__} It reads environment variables and takes no arguments; what it"
        " cannot make, it names with the variables that are missing. A field whose variable is not"
        " set stays as it is in the document that is there.",
    )
    parser.parse_args(arguments)
    try:
        return main(os.environ)
    except httpx.HTTPError as error:
        print(
            f"Prefect's API does not answer ({type(error).__name__}): is the server up, and is"
            " PREFECT_API_URL its address?"
        )
        return 1


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
