"""Saving and verifying blocks."""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from prefect_tracktor import OrderFile, ShopifyOrders, TracktorError
from prefect_tracktor.saved_blocks import SHAREABLE, SHARED, find_document
from prefect_tracktor.setup.document import Document, Values
from prefect_tracktor.setup.environment import (
    SHOWN,
    Environment,
    file_of,
    read,
    warnings,
    without_values,
)
from prefect_tracktor.setup.project import variables_of
from prefect_tracktor.validation import host_of


def save_from_variables(
    documents: Sequence[Document],
    *,
    env_file: Path | None,
    name: str,
    only: Collection[str] | None,
    verify: bool,
    dry_run: bool,
) -> int:
    """Read the variables, print where from and what looks wrong, and save the blocks."""
    # `.env` is for the one shop, never for one of another name
    file = file_of(env_file) if env_file or name == SHARED else None
    variables = read(file, os.environ, file_wins=env_file is not None)
    if file is not None:
        print(f"Read {file}; what {'it' if env_file else 'the environment'} sets wins.")
    for warning in warnings(file, variables, variables_of(documents)):
        print(f"Warning: {warning}")
    where = host_of(PREFECT_API_URL.value() or "") or "this machine (PREFECT_API_URL is not set)"
    print(f"Prefect is at {where}." + (" Nothing is saved." if dry_run else ""))
    return save_blocks(variables, documents, name=name, only=only, verify=verify, dry_run=dry_run)


def save_blocks(
    environment: Environment,
    documents: Sequence[Document],
    *,
    name: str = SHARED,
    only: Collection[str] | None = None,
    verify: bool = False,
    dry_run: bool = False,
) -> int:
    """Save every block that can be made; print what is missing for the others."""
    maker = Maker(environment, documents, name=name, dry_run=dry_run, say=print)
    chosen = [document for document in documents if only is None or document.slug in only]
    valid = [maker.make(document) for document in chosen]
    complete = [maker.ask_for(document) for document in chosen]
    if maker.has_two_sources_of_orders:
        print("\nThe deployments find orders in Shopify; to use the file, delete that block.")
    if not all(valid + complete):
        print("\nSet the variables named above and run this again; what is there stays.")
    if verify:
        print("\nDoes it work?")
    works = [maker.verify(document) for document in chosen if verify]
    return 0 if all(valid + complete + works) else 1


class Maker:
    """Makes the blocks of one name."""

    def __init__(
        self,
        environment: Environment,
        documents: Sequence[Document],
        *,
        name: str,
        dry_run: bool,
        say: Callable[[str], None],
    ) -> None:
        self._environment = environment
        self._documents = documents
        self._name = name
        self._dry_run = dry_run
        self._say = say
        self._there: dict[type[Block], Block] = {}
        self._new: set[type[Block]] = set()
        self._invalid: set[type[Block]] = set()
        self._shared: set[type[Block]] = set()

    @property
    def has_two_sources_of_orders(self) -> bool:
        """Whether orders could come from a file as well as from Shopify."""
        return {OrderFile, ShopifyOrders} <= self._there.keys()

    def make(self, document: Document) -> bool:
        """Make or update a block, if what it needs is set; return whether no value was invalid."""
        try:
            self._make(document)
        except ValueError as invalid:
            self._report("invalid", document)
            self._explain(document, _problems(invalid))
            self._invalid.add(document.block)
            return False
        return True

    def _make(self, document: Document) -> None:
        existing = _existing(document.block, self._name)
        if existing is None and self._is_shared(document):
            return
        if existing is None and document.missing(self._environment):
            return
        block = _with(document, existing, self._given(document, existing))
        if not self._dry_run:
            block.save(self._name, overwrite=True)
        self._there[document.block] = block
        if existing is None:
            self._new.add(document.block)
        self._tell(document, existing, block)

    def _is_shared(self, document: Document) -> bool:
        """Whether the shop uses the block that shops share."""
        if self._name == SHARED or document.block not in SHAREABLE:
            return False
        if document.values(self._environment) or _existing(document.block, SHARED) is None:
            return False
        self._shared.add(document.block)
        self._say(f"{'shared':<8} {document.slug}/{SHARED}")
        return True

    def _given(self, document: Document, existing: Block | None) -> Values:
        """The values of the variables, and the blocks that are part of this one."""
        others = {
            name: self._other(block)
            for name, block in document.others.items()
            # one that people chose in the UI stays
            if getattr(existing, name, None) is None or block in self._new
        }
        return others | document.values(self._environment)

    def _other(self, block: type[Block]) -> Block:
        found = self._there.get(block) or _existing(block, self._name)
        if found is None and block in SHAREABLE:
            found = _existing(block, SHARED)
        if found is None:
            slug = f"{block.get_block_type_slug()}/{self._name}"
            raise ValueError(f"it needs {slug}, which could not be made")
        return found

    def _tell(self, document: Document, existing: Block | None, block: Block) -> None:
        if existing is None:
            self._report("make" if self._dry_run else "made", document)
        elif changed := _changed(existing, block):
            self._report("update" if self._dry_run else "updated", document, ", ".join(changed))
            if document.identity in changed:
                self._tell_what_stays(document, block)
        else:
            self._report("keep" if self._dry_run else "kept", document)
        if remark := document.remark(block):
            self._say(f"         {remark}")

    def _tell_what_stays(self, document: Document, block: Block) -> None:
        """Values of another identity, such as a sandbox's port, are hardly right."""
        given = document.values(self._environment)
        stays = [
            name
            for name, form in type(block).model_fields.items()
            if name not in given
            and getattr(block, name) != form.get_default(call_default_factory=True)
        ]
        if stays:
            self._say(f"         as it was for the {document.identity} before: {', '.join(stays)};")
            self._say(f"         to start again: prefect block delete {document.slug}/{self._name}")

    def ask_for(self, document: Document) -> bool:
        """Print what is missing for a block that was not made; return whether it may be missing."""
        if document.block in self._there.keys() | self._invalid | self._shared:
            return True
        if document.instead in self._there:
            return True
        self._report("optional" if document.optional else "missing", document)
        for name, hint in document.missing(self._environment).items():
            self._say(f"         {name}: {hint}")
        if document.instead:
            self._say(f"         or else what {document.instead.get_block_type_slug()} needs")
        return document.optional

    def verify(self, document: Document) -> bool:
        """Verify a block if it is there, and return whether it works."""
        block: Any = self._there.get(document.block)
        if block is None:
            return True
        try:
            block.verify()
        except Exception as error:  # noqa: BLE001  # one that fails hides no other
            self._report("fails", document)
            self._explain(document, _reasons(error))
            return False
        self._report("works", document)
        return True

    def _report(self, word: str, document: Document, more: str = "") -> None:
        line = f"{word:<8} {document.slug}/{self._name}"
        self._say(f"{line} ({more})" if more else line)

    def _explain(self, document: Document, problems: list[str]) -> None:
        hidden = variables_of(self._parts_of(document)) - SHOWN
        values = {name: self._environment.get(name, "") for name in hidden}
        for problem in problems:
            self._say(f"         {without_values(problem, values)}")

    def _parts_of(self, document: Document) -> list[Document]:
        blocks = {document.block, *document.others.values()}
        return [one for one in self._documents if one.block in blocks]


def _existing(block: type[Block], name: str) -> Block | None:
    return find_document(block, name, validate=False)


def _with(document: Document, existing: Block | None, given: Values) -> Block:
    """A new block; fields that are not given keep the existing block's values."""
    block = document.block
    fields = {name: getattr(existing, name) for name in block.model_fields} if existing else {}
    if document.identity in given and given[document.identity] != fields.get(document.identity):
        fields = {name: value for name, value in fields.items() if name not in document.reset}
    parts = {
        name: dict(fields[name] or {}) | value
        for name, value in given.items()
        if isinstance(value, dict) and name in fields
    }
    return block.model_validate(fields | given | parts)


def _changed(existing: Block, block: Block) -> list[str]:
    return [
        name
        for name in type(block).model_fields
        if getattr(block, name) != getattr(existing, name, None)
    ]


def _problems(invalid: ValueError) -> list[str]:
    if not isinstance(invalid, ValidationError):
        return [str(invalid)]
    return [
        f"{'.'.join(map(str, error['loc'])) or 'together'}: {error['msg']}"
        for error in invalid.errors(include_input=False, include_url=False)
    ]


def _reasons(error: Exception) -> list[str]:
    if isinstance(error, TracktorError):
        return [str(error)]
    # the text of other libraries' errors may contain a password
    return [f"{type(error).__name__}; check the fields of this block"]
