"""Making documents and seeing whether they work, one after the other, with a word on each."""

from collections.abc import Callable

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.documents import DOCUMENTS, Document, Values
from blocks.variables import SHOWN, Environment, without_values
from prefect_tracktor import OrderFile, ShopifyOrders, TracktorError
from prefect_tracktor.documents import SHAREABLE, SHARED, find_document


class Maker:
    """Makes documents of one name, and remembers the blocks that are in them.

    Args:
        environment: The variables; nothing of their values is printed.
        name: What the documents are called.
        dry_run: Whether to say only what would be made.
        say: Takes the lines.
    """

    def __init__(
        self, environment: Environment, *, name: str, dry_run: bool, say: Callable[[str], None]
    ) -> None:
        self._environment = environment
        self._name = name
        self._dry_run = dry_run
        self._say = say
        self._there: dict[type[Block], Block] = {}
        self._invalid: set[type[Block]] = set()
        self._shared: set[type[Block]] = set()

    @property
    def has_two_sources_of_orders(self) -> bool:
        """Whether orders could be found in a file as well as in Shopify."""
        return {OrderFile, ShopifyOrders} <= self._there.keys()

    def make(self, document: Document) -> bool:
        """Make or update a document, if what it needs is set.

        Args:
            document: Which.

        Returns:
            Whether no value was invalid.
        """
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
        block = _with(document.block, existing, self._given(document, existing))
        if not self._dry_run:
            block.save(self._name, overwrite=True)
        self._there[document.block] = block
        self._tell(document, existing, block)

    def _is_shared(self, document: Document) -> bool:
        """Whether a shop of another name goes by a document that all share, as nothing is its own.

        A ledger of its own that nobody asked for would know of no message that was sent before.
        """
        if self._name == SHARED or document.block not in SHAREABLE:
            return False
        if document.values(self._environment) or _existing(document.block, SHARED) is None:
            return False
        self._shared.add(document.block)
        self._say(f"{'shared':<8} {document.slug}/{SHARED}")
        return True

    def _given(self, document: Document, existing: Block | None) -> Values:
        given = document.values(self._environment)
        if existing is not None:
            return given  # it refers to the others already, or people had it refer to some else
        return {name: self._other(block) for name, block in document.others.items()} | given

    def _other(self, block: type[Block]) -> Block:
        """A document that is a part of another one."""
        found = self._there.get(block) or _existing(block, self._name)
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

    def _tell_what_stays(self, document: Document, block: Block) -> None:
        """Of another's document, say a rehearsal's: an address or a port would hardly be right."""
        given = document.values(self._environment)
        stays = [
            name
            for name, form in type(block).model_fields.items()
            if name not in given
            and getattr(block, name) != form.get_default(call_default_factory=True)
        ]
        if stays:
            self._say(f"         as it was for the {document.identity} before: {', '.join(stays)};")
            self._say(f"         to begin anew: prefect block delete {document.slug}/{self._name}")

    def ask_for(self, document: Document) -> bool:
        """Say what is missing for a document that could not be made.

        Args:
            document: Which.

        Returns:
            Whether nothing is missing that has to be there.
        """
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
        """See whether a document that is there works.

        Args:
            document: Which.

        Returns:
            Whether it does; also if it is not there.
        """
        block = self._there.get(document.block)
        if block is None:
            return True
        try:
            document.verify(block)
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
        values = {name: self._environment.get(name, "") for name in _hidden(document)}
        for problem in problems:
            self._say(f"         {without_values(problem, values)}")


def _hidden(document: Document) -> set[str]:
    """The variables of a document, and of those that are parts of it, that nobody is shown."""
    blocks = {document.block, *document.others.values()}
    names = {name for one in DOCUMENTS if one.block in blocks for name in one.fields.values()}
    return names - SHOWN


def _existing(block: type[Block], name: str) -> Block | None:
    return find_document(block, name, validate=False)


def _with(block: type[Block], existing: Block | None, given: Values) -> Block:
    """A new block; what is not given stays as it is in the existing one."""
    fields = {name: getattr(existing, name) for name in block.model_fields} if existing else {}
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
    # other libraries' words may hold an address with its password
    return [f"{type(error).__name__}; look at the fields of this document"]
