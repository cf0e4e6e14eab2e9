"""Flows of whose blocks Prefect keeps references, never fields."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from pydantic_core import PydanticSerializationError

P = ParamSpec("P")
R = TypeVar("R")


class PrivateFlow(Flow[P, R]):
    """A flow whose runs store no field of a block: no account's uuid, no mail server's user.

    Prefect stores all that is not a `SecretStr` of the blocks that a flow is called with.
    """

    def serialize_parameters(
        self, parameters: dict[str, Any | PrefectFuture[Any] | State[Any]]
    ) -> dict[str, Any]:
        """Give what Prefect stores: references to saved blocks, and the types of unsaved ones."""
        blocks = {name: value for name, value in parameters.items() if isinstance(value, Block)}
        others = {name: value for name, value in parameters.items() if name not in blocks}
        stored = super().serialize_parameters(others)
        stored |= {name: _reference(block) for name, block in blocks.items()}
        return {name: stored[name] for name in parameters if name in stored}

    def with_options(self, **options: Any) -> "PrivateFlow[P, R]":
        """Give a copy with other options, which stores as little."""
        copy: Any = super().with_options(**options)
        copy.__class__ = PrivateFlow  # Prefect makes a plain `Flow`
        return cast("PrivateFlow[P, R]", copy)


def flow(**options: Any) -> Callable[[Callable[P, R]], PrivateFlow[P, R]]:
    """Make a `PrivateFlow`; the options are those of Prefect's `flow`."""
    return lambda function: PrivateFlow(function, **options)


def _reference(block: Block) -> Any:
    try:
        return block.model_dump(mode="json", context={"serialize_blocks_as_references": True})
    except PydanticSerializationError:  # it is not saved
        return f"<{type(block).__name__}>"
