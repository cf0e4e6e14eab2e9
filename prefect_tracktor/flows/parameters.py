"""Flow decorator for the ready-made flows: a run names the saved block that it cannot use."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

P = ParamSpec("P")
R = TypeVar("R")


def flow(*, name: str, flow_run_name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a flow as Prefect's decorator does, with clear errors about blocks.

    Args:
        name: The flow's name.
        flow_run_name: How its runs are named.

    Returns:
        The decorator.

    Example:
        >>> @flow(name="Count", flow_run_name="count")
        ... def count(orders: list[int]) -> int:
        ...     return len(orders)
        >>> count([1001, 1002])
        2
    """
    return lambda function: _BlockNamingFlow(function, name=name, flow_run_name=flow_run_name)


class _BlockNamingFlow(Flow[P, R]):
    """Prefect checks no block that is saved in the UI, and says only in the log what is wrong."""

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Resolve and check the parameters."""
        try:
            return super().validate_parameters(parameters)
        except ParameterTypeError:
            # a thread of its own: where an event loop runs, Prefect would give coroutines
            with ThreadPoolExecutor(1) as thread:
                problems = thread.submit(copy_context().run, _problems, parameters).result()
            if not problems:
                raise
        raise ParameterTypeError("; ".join(problems))


def _problems(parameters: dict[str, Any]) -> list[str]:
    return list(_iter_problems(parameters))


def _iter_problems(parameters: dict[str, Any]) -> Iterator[str]:
    for parameter, value in parameters.items():
        for reference in _references(value):
            try:
                Block.load_from_ref(reference)
            except (ValueError, RuntimeError) as error:
                invalid = error.__cause__ or error
                if isinstance(invalid, ValidationError):
                    yield (
                        f"{parameter}: the block {_name_of(reference)} cannot be used:"
                        f" {_in_words(invalid)}. Correct it in Prefect and save it."
                    )
                else:
                    yield f"{parameter}: its block cannot be loaded ({error})"


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _references(entry)


def _name_of(reference: Any) -> str:
    """The block's type and name, as `load` takes them."""
    if isinstance(reference, dict) and "block_document_slug" in reference:
        return str(reference["block_document_slug"])
    the_id = reference["block_document_id"] if isinstance(reference, dict) else reference
    with get_client(sync_client=True) as prefect:
        document = prefect.read_block_document(the_id, include_secrets=False)
    slug = document.block_type.slug if document.block_type else document.block_type_id
    return f"{slug}/{document.name}"


def _in_words(invalid: ValidationError) -> str:
    # without the input, which may be a secret
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
        for problem in invalid.errors(include_input=False, include_url=False)
    ).replace("Value error, ", "")
