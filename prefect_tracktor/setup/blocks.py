"""The command `prefect-tracktor blocks`: save and verify blocks."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from prefect.blocks.core import Block
from pydantic import ValidationError

from prefect_tracktor import OrderFile, ShopifyOrders, TracktorError
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.saved_blocks import NAME_PATTERN, SHAREABLE, SHARED, find_block
from prefect_tracktor.setup.document import Document, Values
from prefect_tracktor.setup.environment import (
    SHOWN,
    Environment,
    Names,
    check_names,
    file_of,
    prefect_address,
    read,
    warnings,
    without_values,
)
from prefect_tracktor.setup.project import documents, variables_of
from prefect_tracktor.validation import host_of, problems_of


def blocks(
    *,
    env_file: Path | None = None,
    name: Annotated[str, Parameter(show_default=True)] = SHARED,
    only: Names = (),
    verify: bool = False,
    dry_run: bool = False,
) -> int:
    """Save your settings as Prefect blocks, which the deployments refer to.

    Args:
        env_file: Read the variables from this file instead of .env.
        name: The name of the blocks, one for each shop.
        only: Only these blocks, such as tracktor-mailer.
        verify: Test the blocks; sends no email.
        dry_run: Show what would be saved, and save nothing.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidInput(
            f"--name: {name!r} is not a name for blocks: use lowercase letters and digits, with"
            " single dashes between them"
        )
    listed = documents()
    check_names(only, [document.slug for document in listed], "block in blocks/documents.py")
    # .env has the settings of the only shop; a shop with a name of its own must not take them
    file = file_of(env_file) if env_file or name == SHARED else None
    variables = read(file, os.environ, file_wins=env_file is not None)
    if file is not None:
        print(f"Read {file}; what {'it' if env_file else 'the environment'} sets wins.")
    for warning in warnings(file, variables, variables_of(listed)):
        print(f"Warning: {warning}")
    address = prefect_address()
    where = host_of(address) if address else "this machine (PREFECT_API_URL is not set)"
    print(f"Prefect is at {where}." + (" Nothing is saved." if dry_run else ""))
    return save_blocks(variables, listed, name=name, only=only, verify=verify, dry_run=dry_run)


def save_blocks(
    environment: Environment,
    documents: Sequence[Document],
    *,
    name: str = SHARED,
    only: Collection[str] = (),
    verify: bool = False,
    dry_run: bool = False,
) -> int:
    """Save each block that has its required values, and print what is missing for the others."""
    saver = _BlockSaver(environment, documents, name, dry_run)
    selected = [document for document in documents if not only or document.slug in only]
    valid = [saver.save(document) for document in selected]
    complete = [saver.print_missing(document) for document in selected]
    if {OrderFile, ShopifyOrders} <= saver.saved.keys():
        block = f"{ShopifyOrders.get_block_type_slug()}/{name}"
        print(
            f"\nThe deployments find orders in Shopify. To use the file, delete the block {block}."
        )
    if not all(valid + complete):
        print(
            "\nSet or correct the variables named above and run this again. Blocks that are saved"
            " stay."
        )
    if verify:
        print("\nDoes it work?")
    works = [saver.verify(document) for document in selected if verify]
    return 0 if all(valid + complete + works) else 1


# without validation, because an invalid value can be corrected here
_existing = partial(find_block, validate=False)


@dataclass
class _BlockSaver:
    environment: Environment
    documents: Sequence[Document]
    name: str
    dry_run: bool
    saved: dict[type[Block], Block] = field(default_factory=dict)
    created: set[type[Block]] = field(default_factory=set)
    # blocks that are invalid, or shared by all shops
    skipped: set[type[Block]] = field(default_factory=set)

    def save(self, document: Document) -> bool:
        """Save a block if its required values are set; return whether no value is invalid."""
        try:
            self._save(document)
        except ValueError as invalid:
            found = problems_of(invalid) if isinstance(invalid, ValidationError) else [str(invalid)]
            problems = [_with_variable(document, problem) for problem in found]
            self._report("invalid", document)
            self._explain(problems)
            self.skipped.add(document.block)
            return False
        return True

    def _save(self, document: Document) -> None:
        existing = _existing(document.block, self.name)
        if existing is None and (self._is_shared(document) or document.missing(self.environment)):
            return
        block = _merged(document, existing, self._given(document, existing))
        if not self.dry_run:
            block.save(self.name, overwrite=True)
        self.saved[document.block] = block
        if existing is None:
            self.created.add(document.block)
        self._print_saved(document, existing, block)

    def _is_shared(self, document: Document) -> bool:
        """Whether the shop uses the block that shops share."""
        if self.name == SHARED or document.block not in SHAREABLE:
            return False
        if document.values(self.environment) or _existing(document.block, SHARED) is None:
            return False
        self.skipped.add(document.block)
        print(f"{'shared':<8} {document.slug}/{SHARED}")
        return True

    def _given(self, document: Document, existing: Block | None) -> Values:
        """Return the values of the variables, and the blocks that are part of this one."""
        others = {
            name: self._other(block)
            for name, block in document.others.items()
            # a block that was selected in the UI stays
            if getattr(existing, name, None) is None or block in self.created
        }
        return others | document.values(self.environment)

    def _other(self, block: type[Block]) -> Block:
        found = self.saved.get(block) or _existing(block, self.name)
        if found is None and block in SHAREABLE:
            found = _existing(block, SHARED)
        if found is None:
            slug = f"{block.get_block_type_slug()}/{self.name}"
            raise ValueError(f"it needs {slug}, which could not be saved")
        return found

    def _print_saved(self, document: Document, existing: Block | None, block: Block) -> None:
        changed = [
            name
            for name in type(block).model_fields
            if existing and getattr(block, name) != getattr(existing, name, None)
        ]
        if existing is None:
            self._report("create" if self.dry_run else "created", document)
        elif changed:
            self._report("update" if self.dry_run else "updated", document, ", ".join(changed))
        else:
            self._report("keep" if self.dry_run else "kept", document)
        if remark := document.remark(block):
            print(f"         {remark}")

    def print_missing(self, document: Document) -> bool:
        """Print what an unsaved block needs; return whether it is complete or optional."""
        if document.block in {*self.saved, *self.skipped} or document.instead in self.saved:
            return True
        self._report("optional" if document.optional else "missing", document)
        for name, hint in document.missing(self.environment).items():
            print(f"         {name}: {hint}")
        if document.instead:
            print(f"         or else what {document.instead.get_block_type_slug()} needs")
        return document.optional

    def verify(self, document: Document) -> bool:
        block: Any = self.saved.get(document.block)
        if block is None:
            return True
        try:
            block.verify()
        except Exception as error:  # noqa: BLE001  # the other blocks are still verified
            # the text of other libraries' errors may contain a password
            other = f"{type(error).__name__}; check the fields of this block"
            self._report("fails", document)
            self._explain([str(error) if isinstance(error, TracktorError) else other])
            return False
        self._report("works", document)
        return True

    def _report(self, result: str, document: Document, details: str = "") -> None:
        print(f"{result:<8} {document.slug}/{self.name}" + (f" ({details})" if details else ""))

    def _explain(self, problems: Sequence[str]) -> None:
        hidden = variables_of(self.documents) - SHOWN
        values = {name: self.environment.get(name, "") for name in hidden}
        for problem in problems:
            print(f"         {without_values(problem, values)}")


def _merged(document: Document, existing: Block | None, given: Values) -> Block:
    """Make a block; fields that are not given keep the existing block's values."""
    if existing is None:
        return document.block.model_validate(given)
    fields = {name: getattr(existing, name) for name in document.block.model_fields}
    nested = {
        name: dict(fields[name] or {}) | value
        for name, value in given.items()
        if isinstance(value, dict)
    }
    merged = document.block.model_validate(fields | given | nested)
    if document.identity_of(merged) == document.identity_of(existing):
        return merged
    # a sandbox's port, or that it was live, must not stay with the server of a shop
    kept = {name: fields[name] for name in (*document.others, *document.kept)}
    return document.block.model_validate(kept | given)


def _with_variable(document: Document, problem: str) -> str:
    """Put the variable of the field that a problem begins with in front of it."""
    [field] = re.findall(r"^[\w.]*", problem)
    variable = document.fields.get(field)
    return f"{variable}: {problem}" if variable else problem
