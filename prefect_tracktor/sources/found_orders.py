"""Found orders: a stream that counts the orders that it left out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prefect_tracktor.models import NO_FACTS, OrderFacts

_NOTHING: Mapping[str, int] = {}


class FoundOrder(NamedTuple):
    """The id of an order, and what its source knows about the order."""

    order_id: int
    facts: OrderFacts = NO_FACTS


class FoundOrders(Iterator[FoundOrder]):
    """Orders, found as you iterate."""

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
        return next(self._orders)

    @property
    def order_ids(self) -> Iterator[int]:
        """The ids of the orders."""
        return (found.order_id for found in self)

    @property
    def note(self) -> str:
        """The number of orders left out so far, by reason, and other hints; may be empty."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return "; ".join([*([f"left out: {reasons}"] if reasons else []), *self._hints])

    @property
    def why_none(self) -> str:
        """The reason why there was no order, and what to do about it."""
        return self._why_none()
