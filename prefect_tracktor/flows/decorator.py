"""Flow decorator: run forms, stored parameters and state messages of the ready-made flows."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import fields, is_dataclass
from functools import cached_property, wraps
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.utilities.callables import ParameterSchema, parameter_schema
from pydantic import BaseModel, Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import PydanticSerializationError

from prefect_tracktor import __version__
from prefect_tracktor.forms import title_of
from prefect_tracktor.validation import problems_of

# descriptions of parameters that several flows have, also in docs/reference/flows.md
_SHARED = {
    "credentials": "The Tracktor account.",
    "orders": "Shopify order ids, a file with them, or a search in Shopify.",
    "mailer": "The mail server, the sender, and the mode: dry run, rehearsal or live.",
    "dry_run": "On: show what would be done, and do nothing. Off: the mode of the mailer and Read"
    " only of the credentials decide whether the run is live.",
    "max_emails": "If more messages than this are due, none is sent.",
    "max_updates": "If more orders than this need a change, none is written.",
    "include_cancelled": "Include orders and parcels that are cancelled, voided or refunded; the"
    " report counts those that are left out.",
    "thresholds": "After how many days a parcel or an order is late.",
    "verify": "Read the written orders back, and report orders that show another status.",
    "ledger": "Records what was sent, announced or reported. By default the mailer's, or the block"
    " named tracktor, or else a SQLite file in the Prefect home of the machine that runs the flow;"
    " several machines need PostgreSQL.",
    "reading": "How orders are read: completed orders, chunk size and the like.",
}
# titles of parameters whose name says too little
_TITLES = {"desired": "Desired statuses", "wanted": "Desired webhooks", "to": "Export to"}

P = ParamSpec("P")
R = TypeVar("R")


def flow(**options: Any) -> Callable[[Callable[P, R]], "BlockFlow[P, R]"]:
    """Make a `BlockFlow` whose runs end with their report's sentence as the state's message."""

    def make(function: Callable[P, R]) -> BlockFlow[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            report = function(*args, **kwargs)
            sentence = getattr(report, "sentence", "")
            # Prefect returns the state's data to the caller
            return cast("R", Completed(message=sentence, data=report)) if sentence else report

        # Prefect makes the run form's schema when a flow is defined, which takes a tenth of the
        # time of `import prefect`; only deployments need it
        del run.__wrapped__
        # a report may name orders and failures, and whether to store it is a request to Prefect
        made = BlockFlow(run, version=__version__, persist_result=False, **options)
        run.__wrapped__ = _for_people(function)
        del made.parameters
        return made

    return make


def _for_people(function: Callable[P, R]) -> Callable[P, R]:
    """Add titles and shared descriptions to parameters."""
    function.__annotations__ = {
        name: hint
        if name == "return"
        else Annotated[hint, Field(json_schema_extra=_words_of(name, function.__doc__ or ""))]
        for name, hint in function.__annotations__.items()
    }
    return function


def _words_of(name: str, docstring: str) -> JsonDict:
    """Return a parameter's title, and its shared description unless the docstring has its own."""
    words: JsonDict = {"title": _TITLES.get(name) or title_of(name, None)}
    if name in _SHARED and f"\n        {name}: " not in docstring:
        words["description"] = _SHARED[name]
    return words


class BlockFlow(Flow[P, R]):
    """A flow whose runs store no field of a block, and name the saved block that is wrong."""

    @cached_property
    def parameters(self) -> ParameterSchema:  # type: ignore[override]  # made when it is needed
        """The schema of the run form."""
        return parameter_schema(self.fn)

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().validate_parameters(parameters)
        except ParameterTypeError:
            # in another thread, as Prefect returns coroutines where an event loop runs
            with ThreadPoolExecutor(1) as thread:
                problems = thread.submit(copy_context().run, _problems, parameters).result()
            if not problems:
                raise
        raise ParameterTypeError("; ".join(problems))

    def serialize_parameters(
        self, parameters: dict[str, Any | PrefectFuture[Any] | State[Any]]
    ) -> dict[str, Any]:
        """Return references to saved blocks, and the types of unsaved ones; Prefect stores them."""
        return super().serialize_parameters(
            {name: _with_references(value) for name, value in parameters.items()}
        )

    def with_options(self, **options: Any) -> "BlockFlow[P, R]":
        copy: Any = super().with_options(**options)
        copy.__class__ = BlockFlow  # Prefect makes a plain `Flow`
        return cast("BlockFlow[P, R]", copy)


def _problems(parameters: dict[str, Any]) -> list[str]:
    """Find the saved blocks that cannot be used, and why."""
    problems = []
    for parameter, value in parameters.items():
        for reference in _references(value):
            try:
                Block.load_from_ref(reference)
            except (ValueError, RuntimeError) as error:
                invalid = error.__cause__ or error
                if isinstance(invalid, ValidationError):
                    problems.append(
                        f"{parameter}: the block {_name_of(reference)} cannot be used:"
                        f" {'; '.join(problems_of(invalid))}. Correct it in Prefect and save it."
                    )
                else:
                    problems.append(f"{parameter}: its block cannot be loaded ({error})")
    return problems


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _references(entry)


def _name_of(reference: Any) -> str:
    """Return the block's type and name, as `load` takes them."""
    if isinstance(reference, dict) and "block_document_slug" in reference:
        return str(reference["block_document_slug"])
    the_id = reference["block_document_id"] if isinstance(reference, dict) else reference
    with get_client(sync_client=True) as prefect:
        document = prefect.read_block_document(the_id, include_secrets=False)
    slug = document.block_type.slug if document.block_type else document.block_type_id
    return f"{slug}/{document.name}"


def _with_references(value: Any) -> Any:
    """Replace the blocks in a parameter, such as the channel of a rule."""
    if isinstance(value, Block):
        return _reference(value)
    if isinstance(value, State):  # Prefect stores its type
        return value
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, BaseModel | Mapping):
        return {name: _with_references(entry) for name, entry in dict(value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_with_references(entry) for entry in value]
    return value


def _reference(block: Block) -> Any:
    try:
        return block.model_dump(mode="json", context={"serialize_blocks_as_references": True})
    except PydanticSerializationError:  # it is not saved
        return f"<{type(block).__name__}>"
