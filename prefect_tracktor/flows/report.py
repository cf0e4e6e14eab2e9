"""What the reports of all scanning flows have in common."""

from pydantic import BaseModel, ConfigDict

from prefect_tracktor.bulk import Failure


class RunReport(BaseModel):
    """What a run that scans a shop found; order ids throughout.

    Attributes:
        dry_run: Whether nothing was to be sent or changed.
        calls: How many requests were sent to Tracktor, repetitions included.
        read: Orders that were read.
        settled: Orders that were not read, because nothing can change about them any more.
        missing: Order ids that Tracktor does not know.
        failed: Orders that could not be read, and why; the next run tries again.

    Example:
        >>> RunReport(calls=3, read=(1, 2), missing=(3,)).counts
        {'calls': 3, 'read': 2, 'settled': 0, 'missing': 1, 'failed': 0}
    """

    model_config = ConfigDict(frozen=True)

    dry_run: bool = False
    calls: int = 0
    read: tuple[int, ...] = ()
    settled: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    failed: tuple[Failure, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were made, and how many orders stand in each list."""
        values = self.model_dump(exclude={"dry_run"})
        return {
            name.replace("_", " "): value if isinstance(value, int) else len(value)
            for name, value in values.items()
        }
