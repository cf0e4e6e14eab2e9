"""Order ids as a stream that can tell what it left out."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

_NOTHING: Mapping[str, int] = {}


class OrderIds(Iterator[int]):
    """The ids of orders, read while they are asked for.

    Args:
        ids: The ids, each once.
        why_none: Says why there is none; asked only after the end.
        left_out: How many orders were left out, by reason; it may grow while `ids` is read.

    Attributes:
        left_out: How many orders were left out so far, by reason.

    Example:
        >>> ids = OrderIds([5001], why_none=lambda: "no order", left_out={"cancelled": 2})
        >>> list(ids), ids.note
        ([5001], 'left out: 2 cancelled')
    """

    def __init__(
        self,
        ids: Iterable[int],
        *,
        why_none: Callable[[], str],
        left_out: Mapping[str, int] = _NOTHING,
    ) -> None:
        self.left_out = left_out
        self._ids = iter(ids)
        self._why_none = why_none

    def __next__(self) -> int:
        """Read the next one."""
        return next(self._ids)

    def close(self) -> None:
        """Read no further, and let go of the file or connection at once."""
        if isinstance(self._ids, Generator):
            self._ids.close()

    @property
    def note(self) -> str:
        """How many orders were left out so far and why; empty if none was."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"left out: {reasons}" if reasons else ""

    @property
    def why_none(self) -> str:
        """Why there was no id, and what to do; of use only where there was none."""
        return self._why_none()
