"""Options for reading orders, shared by all flows."""

from pydantic import BaseModel, Field

from prefect_tracktor.forms import FORM
from prefect_tracktor.storage.completed_orders import CompletedOrders


class ReadingOptions(BaseModel):
    """Options for reading orders. The defaults fit most shops.

    Attributes:
        completed_orders: Records delivered orders, which are then not read again.
        allow_empty: Whether a source without orders is allowed.
        read_again_after_minutes: An order that was read longer ago than this is read again before
            a message about it is sent.
        chunk_size: How many orders one task run reads.
        chunks_at_once: How many chunks are read at once; more than one helps only if the flow's
            task runner has several processes.

    Raises:
        pydantic.ValidationError: A number is out of its range.

    Example:
        >>> ReadingOptions(chunk_size=200).chunks_at_once
        1
    """

    model_config = FORM

    completed_orders: CompletedOrders | None = None
    allow_empty: bool = False
    read_again_after_minutes: float = Field(default=5, ge=0, le=24 * 60)
    chunk_size: int = Field(default=500, ge=1, le=10_000)
    chunks_at_once: int = Field(default=1, ge=1, le=64)


DEFAULT_READING = ReadingOptions()
