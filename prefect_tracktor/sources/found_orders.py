"""Found orders as a stream that can tell what it left out."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prefect_tracktor.models import NO_FACTS, OrderFacts

_NOTHING: Mapping[str, int] = {}


class FoundOrder(NamedTuple):
    """The id of an order, and what its source knows about the order."""

    order_id: int
    facts: OrderFacts = NO_FACTS


class FoundOrders(Iterator[FoundOrder]):
    """Orders, read as you iterate."""

    def __init__(
        self,
        orders: Iterable[FoundOrder],
        *,
        why_none: Callable[[], str],
        left_out: Mapping[str, int] = _NOTHING,
        hints: Sequence[str] = (),
    ) -> None:
        self.left_out = left_out
        self._hints = hints
        self._orders = iter(orders)
        self._why_none = why_none

    def __next__(self) -> FoundOrder:
        """Read the next one."""
        return next(self._orders)

    @property
    def order_ids(self) -> Iterator[int]:
        """The ids alone."""
        return (found.order_id for found in self)

    def close(self) -> None:
        """Read no further, and let go of the file or connection at once."""
        if isinstance(self._orders, Generator):
            self._orders.close()

    @property
    def note(self) -> str:
        """How many orders were left out so far and why, and what else was odd; may be empty."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return "; ".join([*([f"left out: {reasons}"] if reasons else []), *self._hints])

    @property
    def why_none(self) -> str:
        """Why there was no order, and what to do; of use only where there was none."""
        return self._why_none()
