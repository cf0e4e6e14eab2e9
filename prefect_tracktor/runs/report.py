"""What the reports of all scanning flows have in common."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from prefect_tracktor.bulk import Failure
from prefect_tracktor.reporting import shown


class RunReport(BaseModel):
    """What a run that scans a shop found; order ids throughout.

    Attributes:
        dry_run: Whether nothing was to be sent or changed.
        calls: How many requests were sent to Tracktor, repetitions included.
        read: Orders that were read.
        left_out: How many orders the source left out, by reason, such as cancelled.
        completed: Completed orders, which were not read again.
        missing: Order ids that Tracktor does not know.
        failed: Orders that could not be read, and why; the next run tries again.
        suspicion: What is suspicious about the run as a whole, such as that Tracktor knows none of
            the orders; empty if nothing is.
        notes: What was odd about Tracktor's answers: documented fields that none of them had,
            fields that could not be read, exceptions that are not known.

    Example:
        >>> RunReport(calls=3, read=(1, 2), missing=(3,)).counts
        {'calls': 3, 'read': 2, 'completed': 0, 'missing': 1, 'failed': 0}
    """

    model_config = ConfigDict(frozen=True)

    dry_run: bool = False
    calls: int = 0
    read: tuple[int, ...] = ()
    left_out: dict[str, int] = {}
    completed: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    failed: tuple[Failure, ...] = ()
    suspicion: str = ""
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return not (self.failed or self.suspicion)

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were made, and how many orders stand in each list."""
        values = self.model_dump(exclude={"dry_run", "notes", "suspicion"})
        reasons = {f"left out as {why}": n for why, n in values.pop("left_out").items()}
        return {
            name.replace("_", " "): value if isinstance(value, int) else len(value)
            for name, value in values.items()
        } | reasons


def in_words(left: Mapping[str, Sequence[int]]) -> str:
    """Say what a run has left to be done."""
    return "; ".join(
        f"{len(ids)} orders ({shown(ids)}) {what}" for what, ids in left.items() if ids
    )


def sentences(*parts: str) -> str:
    """Join what there is to say."""
    return ". ".join(part.rstrip(".") for part in parts if part) + (
        "." if parts and parts[-1].endswith(".") else ""
    )
