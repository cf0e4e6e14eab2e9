"""Cases: one action for one order, parcel or webhook, from the plan to the outcome."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from prefect_tracktor.reporting.markdown import Row as LinkedRow
from prefect_tracktor.reporting.words import shown

Row = dict[str, str | int]


class Outcome(StrEnum):
    """The outcome of a case: its label, and what is left to do; those you must act on come first.

    Example:
        >>> Outcome.SENT.label, Outcome.SENT.left
        ('Sent', '')
        >>> Outcome.DEFERRED.left
        'could not be notified now; the next run tries again'
    """

    label: str
    left: str

    def __new__(cls, value: str, label: str = "", left: str = "") -> Self:
        outcome = str.__new__(cls, value)
        outcome._value_ = value
        outcome.label, outcome.left = label, left
        return outcome

    DUE = "due", "Due"
    UNCERTAIN = (
        "uncertain",
        "Uncertain: you decide",
        (
            "are uncertain: an interrupted run may have sent the message; decide with"
            " `prefect-tracktor ledger uncertain`"
        ),
    )
    UNREADABLE = "unreadable", "Not read", "could not be read; the next run reads them again"
    DEFERRED = (
        "deferred",
        "Deferred to the next run",
        "could not be notified now; the next run tries again",
    )
    NOT_DONE = "not_done", "Not done", "could not be changed; the next run tries again"
    NOT_PERSISTED = "not_persisted", "Not persisted", "do not show what was written"
    REFUSED = "refused", "Refused for good"
    NO_ADDRESS = "no_address", "No email address"
    SENT = "sent", "Sent"
    REHEARSED = "rehearsed", "Sent to the rehearsal address"
    RECORDED = "recorded", "Recorded, not sent"
    DONE = "done", "Changed"
    SUPERSEDED = "superseded", "Superseded"
    IN_PROGRESS = "in_progress", "Sending in another run"
    ALREADY_TOLD = "already_told", "Already notified"
    PROTECTED = "protected", "Left alone"
    UNDATED = "undated", "Skipped: no usable time"
    CANCELLED = "cancelled", "Skipped: cancelled"
    CREATED = "created", "Created"
    REMOVED = "removed", "Removed"
    KEPT = "kept", "Kept"
    SURPLUS = "surplus", "Left alone: not wanted"
    FOREIGN = "foreign", "Left alone: at another host"

    @property
    def needs_a_person(self) -> bool:
        """Whether no later run resolves the case."""
        return self in _FOR_A_PERSON

    @property
    def is_shown(self) -> bool:
        """Whether tables show the case; skipped conditions are only counted."""
        return self not in {Outcome.UNDATED, Outcome.CANCELLED}


_FOR_A_PERSON = frozenset(
    {Outcome.UNCERTAIN, Outcome.NOT_PERSISTED, Outcome.REFUSED, Outcome.NO_ADDRESS}
)


@dataclass(slots=True, kw_only=True, eq=False)
class Case:
    """An action for an order or webhook, and its outcome."""

    id: Any
    columns: Row
    links: LinkedRow = field(default_factory=dict)
    outcome: Outcome = Outcome.DUE
    reason: str = ""
    planned: bool = False

    def end(self, outcome: Outcome, reason: str = "") -> None:
        self.outcome, self.reason = outcome, reason

    @property
    def row(self) -> Row:
        """The row of the run's table."""
        result = {"Outcome": self.outcome.label, "Reason": self.reason}
        first, *others = self.columns
        return {first: self.columns[first]} | result | {name: self.columns[name] for name in others}

    @property
    def linked_row(self) -> LinkedRow:
        """The row of the summary, for a person who must act: with links instead of details."""
        first = next(iter(self.columns))
        result = {"Outcome": self.outcome.label, "Reason": self.reason}
        return {first: self.columns[first]} | result | dict(self.links)


class Ended(NamedTuple):
    """A case in a report.

    Attributes:
        id: The order's or webhook's id.
        outcome: The outcome.
        reason: Why, without personal data; empty if all went well.
        planned: Whether the run was to act on it.

    Example:
        >>> Ended(1001, Outcome.SENT).outcome.label
        'Sent'
    """

    id: Any
    outcome: Outcome
    reason: str = ""
    planned: bool = True


def what_is_left(ended: Iterable[Ended], *, noun: str) -> str:
    """Say what is left to do, with the reason of the first case that went wrong."""
    left: dict[str, dict[Any, str]] = defaultdict(dict)
    for case in ended:
        if case.outcome.left:
            left[case.outcome.left].setdefault(case.id, case.reason)
    counted = "; ".join(
        f"{len(ids)} {noun} ({shown(list(ids))}) {what}" for what, ids in left.items()
    )
    first = next((reason for ids in left.values() for reason in ids.values() if reason), "")
    return ". ".join(filter(None, (counted, first and f"The first because: {first}")))
