"""Order ids as a stream that can tell what it left out."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

_NOTHING: Mapping[str, int] = {}


class OrderIds(Iterator[int]):
    """The ids of orders, read while they are asked for."""

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
