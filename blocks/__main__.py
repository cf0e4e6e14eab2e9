"""`python -m blocks`: make or update the block documents that the deployments refer to."""

import os
import sys

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.documents import DOCUMENTS, NAME, Document, Environment


def main(environment: Environment) -> int:
    """Make every document that can be made; say of the others what is missing.

    Args:
        environment: The variables; nothing of their values is printed.

    Returns:
        The exit status: 0 if all documents are there.
    """
    states = [_save(document, environment) for document in DOCUMENTS]
    if not all(states):
        print("\nSet the variables named above and run this again; what was made stays.")
    return 0 if all(states) else 1


def _save(document: Document, environment: Environment) -> bool:
    title = f"{document.block.get_block_type_slug()}/{NAME}"
    existing = _exists(document.block)
    missing = document.missing(environment)
    if existing and (document.keep or missing):
        print(f"kept     {title}")
        return True
    if missing:
        print(f"missing  {title}")
        for name, hint in missing.items():
            print(f"         {name}: {hint}")
        return False
    try:
        block = document.make(environment)
    except ValidationError as invalid:
        print(f"invalid  {title}")
        for error in invalid.errors(include_input=False, include_url=False):
            print(f"         {'.'.join(map(str, error['loc']))}: {error['msg']}")
        return False
    block.save(NAME, overwrite=True)
    print(f"{'updated ' if existing else 'made    '} {title}")
    return True


def _exists(block: type[Block]) -> bool:
    try:
        block.load(NAME, validate=False)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(os.environ))
