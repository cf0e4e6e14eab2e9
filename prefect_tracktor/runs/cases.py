"""Cases: one thing to be done about one order or parcel, from the choice to the outcome."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from prefect_tracktor.reporting.markdown import Row as LinkedRow
from prefect_tracktor.reporting.words import shown

Row = dict[str, str | int]


class Outcome(StrEnum):
    """What became of a case.

    Example:
        >>> Outcome.SENT.label, Outcome.SENT.left
        ('Sent', '')
        >>> Outcome.DEFERRED.left
        'could not be notified now; the next run tries again'
    """

    DUE = "due"
    UNCERTAIN = "uncertain"
    UNREADABLE = "unreadable"
    DEFERRED = "deferred"
    NOT_DONE = "not_done"
    NOT_PERSISTED = "not_persisted"
    REFUSED = "refused"
    NO_ADDRESS = "no_address"
    SENT = "sent"
    REHEARSED = "rehearsed"
    RECORDED = "recorded"
    DONE = "done"
    SUPERSEDED = "superseded"
    IN_PROGRESS = "in_progress"
    ALREADY_TOLD = "already_told"
    PROTECTED = "protected"
    UNDATED = "undated"
    CANCELLED = "cancelled"
    CREATED = "created"
    REMOVED = "removed"
    KEPT = "kept"
    SURPLUS = "surplus"
    FOREIGN = "foreign"

    @property
    def label(self) -> str:
        """The outcome for people."""
        return _WORDS[self].label

    @property
    def left(self) -> str:
        """What is left to be done about cases that ended so; empty if nothing is."""
        return _WORDS[self].left

    @property
    def needs_a_person(self) -> bool:
        """Whether no later run puts it right."""
        return self in _FOR_A_PERSON

    @property
    def is_shown(self) -> bool:
        """Whether tables show the case; what was passed over is only counted."""
        return self not in {Outcome.UNDATED, Outcome.CANCELLED}


class _Words(NamedTuple):
    label: str
    left: str = ""


_WORDS = {
    Outcome.DUE: _Words("Due"),
    Outcome.UNCERTAIN: _Words(
        "Uncertain: you decide",
        "are uncertain: an interrupted run may have sent the message; decide with"
        " `prefect-tracktor ledger uncertain`",
    ),
    Outcome.UNREADABLE: _Words("Not read", "could not be read; the next run reads them again"),
    Outcome.DEFERRED: _Words(
        "Deferred to the next run", "could not be notified now; the next run tries again"
    ),
    Outcome.NOT_DONE: _Words("Not done", "could not be changed; the next run tries again"),
    Outcome.NOT_PERSISTED: _Words("Not persisted", "do not show what was written"),
    Outcome.REFUSED: _Words("Refused for good"),
    Outcome.NO_ADDRESS: _Words("No email address"),
    Outcome.SENT: _Words("Sent"),
    Outcome.REHEARSED: _Words("Sent to the rehearsal address"),
    Outcome.RECORDED: _Words("Recorded, not sent"),
    Outcome.DONE: _Words("Changed"),
    Outcome.SUPERSEDED: _Words("Superseded"),
    Outcome.IN_PROGRESS: _Words("Sending in another run"),
    Outcome.ALREADY_TOLD: _Words("Already notified"),
    Outcome.PROTECTED: _Words("Left alone"),
    Outcome.UNDATED: _Words("Skipped: no usable time"),
    Outcome.CANCELLED: _Words("Skipped: cancelled"),
    Outcome.CREATED: _Words("Created"),
    Outcome.REMOVED: _Words("Removed"),
    Outcome.KEPT: _Words("Kept"),
    Outcome.SURPLUS: _Words("Left alone: not wanted"),
    Outcome.FOREIGN: _Words("Left alone: at another host"),
}
_FOR_A_PERSON = frozenset(
    {Outcome.UNCERTAIN, Outcome.NOT_PERSISTED, Outcome.REFUSED, Outcome.NO_ADDRESS}
)
_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}


@dataclass(slots=True, kw_only=True, eq=False)
class Case:
    """One thing to be done about an order or webhook; it carries its outcome to the end."""

    id: Any
    columns: Row
    links: LinkedRow = field(default_factory=dict)
    outcome: Outcome = Outcome.DUE
    reason: str = ""
    planned: bool = False

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Note what became of the case."""
        self.outcome, self.reason = outcome, reason

    @property
    def row(self) -> Row:
        """The case as a row of a table."""
        said = {"Outcome": self.outcome.label, "Reason": self.reason}
        first, *others = self.columns
        return {first: self.columns[first]} | said | {name: self.columns[name] for name in others}

    @property
    def linked_row(self) -> LinkedRow:
        """The case for a person who must act: what it is, why, and where to look."""
        first = next(iter(self.columns))
        shown = self.links.get(first, self.columns[first])
        what = {first: shown, "Outcome": self.outcome.label, "Reason": self.reason}
        return what | {name: link for name, link in self.links.items() if name != first}


def rows_of(cases: Iterable[Case]) -> list[Row]:
    """The cases that people see, those first that a person must act on."""
    visible = (case for case in cases if case.outcome.is_shown)
    return [case.row for case in sorted(visible, key=lambda case: _RANK[case.outcome])]


class Ended(NamedTuple):
    """A case as a report keeps it.

    Attributes:
        id: The order's or webhook's id.
        outcome: What became of it.
        reason: Why, without personal data; empty where all went well.
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
    """Say what is left to be done, with the reason of the first that went wrong."""
    left: dict[str, dict[Any, str]] = defaultdict(dict)
    for case in ended:
        if case.outcome.left:
            left[case.outcome.left].setdefault(case.id, case.reason)
    said = "; ".join(f"{len(ids)} {noun} ({shown(list(ids))}) {what}" for what, ids in left.items())
    reasons = (reason for ids in left.values() for reason in ids.values() if reason)
    first = next(reasons, "")
    return ". ".join(filter(None, (said, first and f"The first because: {first}")))
