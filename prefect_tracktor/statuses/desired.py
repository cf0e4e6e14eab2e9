"""Desired statuses, and their validation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.forms import in_order, title_of
from prefect_tracktor.models import StatusOption
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.text import form_of
from prefect_tracktor.validation import checked_id, problems_of

_FIELDS = ("order_id", "status", "automatic_carrier_updates")
_PROBLEMS_LISTED = 20
_OPTIONS_LISTED = 30


def _blank_as_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


@pydantic_dataclass(
    frozen=True,
    config=ConfigDict(
        hide_input_in_errors=True, json_schema_extra=in_order, field_title_generator=title_of
    ),
)
class DesiredStatus:
    """The desired status of an order, and whether the carrier updates it.

    Without either, the run may still hand the order back to its carrier.

    Attributes:
        order_id: The Shopify id of the order.
        status: A status option of the account, by label or key; empty: no change.
        automatic_carrier_updates: On hands the order to the carrier, off takes it from there; left
            out, the run decides.

    Raises:
        pydantic.ValidationError: The id is invalid, or the status is set while the order is handed
            to the carrier, whose next report would replace it.

    Example:
        >>> DesiredStatus(1001, "Sewing").asks_nothing
        False
    """

    order_id: Annotated[
        int, Field(gt=0, le=LARGEST_ID), BeforeValidator(partial(checked_id, field="the id"))
    ]
    status: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True)] | None,
        BeforeValidator(_blank_as_none),
    ] = None
    automatic_carrier_updates: Annotated[bool | None, Field(strict=True)] = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.status and self.automatic_carrier_updates:
            raise ValueError(
                "status and automatic_carrier_updates=true contradict each other: the carrier's"
                " next report would replace the status; leave one of them out"
            )
        return self

    @property
    def asks_nothing(self) -> bool:
        """Whether neither a status nor a change of the carrier's updates is desired."""
        return self.status is None and self.automatic_carrier_updates is None


class DesiredRow(NamedTuple):
    """A desired status, and its place in the source for messages."""

    place: str
    desired: DesiredStatus


def desired_rows_of(desired: object, *, field: str) -> Iterator[DesiredRow]:
    """Parse desired statuses from objects, pairs or mappings, each with its place."""
    if isinstance(desired, DesiredStatus):
        entries: Iterable[object] = [desired]
    elif isinstance(desired, Mapping):
        entries = [desired] if "order_id" in desired else desired.items()
    elif isinstance(desired, Iterable) and not isinstance(desired, str | bytes):
        entries = desired
    else:
        raise InvalidInput(f"{field} must be a list of DesiredStatus, not {form_of(desired)}")
    for position, entry in enumerate(entries):
        place = f"{field}[{position}]"
        yield DesiredRow(place, _desired_of(entry, place))


def _desired_of(entry: object, place: str) -> DesiredStatus:
    if isinstance(entry, DesiredStatus):
        return entry
    values: Mapping[str, object] | None = None
    if isinstance(entry, Mapping):
        values = entry
    elif isinstance(entry, tuple | list) and 2 <= len(entry) <= len(_FIELDS):
        values = dict(zip(_FIELDS, entry, strict=False))
    if values is None or not {"order_id"} <= values.keys() <= set(_FIELDS):
        raise InvalidInput(
            f"{place} must be a DesiredStatus, such as DesiredStatus(1001, 'Sewing'); a pair of"
            f" order id and status; or a dictionary with {', '.join(_FIELDS)}"
        )
    return checked_desired(place, **values)


def checked_desired(place: str, **values: Any) -> DesiredStatus:
    """Make a desired status; an error names its place in the source."""
    try:
        return DesiredStatus(**values)
    except ValidationError as invalid:
        raise InvalidInput(f"{place}: {'; '.join(problems_of(invalid))}") from None


def agreed(rows: Iterable[DesiredRow]) -> dict[int, DesiredRow]:
    """Return one row for each order; equal rows count once, and others are refused."""
    by_order: dict[int, DesiredRow] = {}
    disagreements: list[str] = []
    for row in rows:
        order_id = row.desired.order_id
        first = by_order.setdefault(order_id, row)
        differences = [
            name for name in _FIELDS if getattr(first.desired, name) != getattr(row.desired, name)
        ]
        if differences:
            disagreements.append(
                f"{first.place} and {row.place} disagree about order {order_id}:"
                f" {' and '.join(differences)}"
            )
    if disagreements:
        raise InvalidInput(_listed(disagreements, "Take one row of each pair out."))
    return by_order


def checked_statuses(
    rows: Iterable[DesiredRow], options: Sequence[StatusOption]
) -> list[DesiredRow]:
    """Replace each status with the label of the shop's option for it."""
    rows = list(rows)
    # once for each status: a shop has a few of them, and many orders
    labels: dict[str | None, str | None] = {None: None}
    problems: dict[str | None, InvalidInput] = {}
    for status in {row.desired.status for row in rows} - {None}:
        try:
            labels[status] = option_for(status or "", options).label
        except InvalidInput as problem:
            problems[status] = problem
    named = ((row.place, problems.get(row.desired.status)) for row in rows)
    if unknown := [f"{place}: {problem}" for place, problem in named if problem]:
        known = ", ".join(repr(option.label) for option in options[:_OPTIONS_LISTED])
        raise InvalidInput(
            _listed(unknown, f"The account's statuses are {known}. Nothing was written.")
        )
    return [
        row._replace(desired=replace(row.desired, status=labels[row.desired.status]))
        for row in rows
    ]


def option_for(status: str, options: Sequence[StatusOption]) -> StatusOption:
    """Return the status option for a label or key; refuse an unknown or ambiguous one."""
    matching = matching_options(status, options)
    if len(matching) == 1:
        return matching[0]
    if matching:
        labels = " and ".join(repr(option.label) for option in matching)
        raise InvalidInput(f"the status may be {labels}; write the label exactly")
    nearest = _nearest(status, options)
    # form_of, since text from a wrong column may be a customer's data
    raise InvalidInput(f"{form_of(status)} is not one of the account's statuses{nearest}")


def matching_options(status: str, options: Sequence[StatusOption]) -> list[StatusOption]:
    """Return the status options that a label or key may stand for."""
    exact = [option for option in options if option.label == status] or [
        option for option in options if option.key == status
    ]
    return exact[:1] or list(
        {option.label: option for option in options if option.matches(status)}.values()
    )


def _nearest(status: str, options: Sequence[StatusOption]) -> str:
    names = {
        name.casefold(): option.label
        for option in options
        for name in (option.key, option.label)
        if name
    }
    nearest = get_close_matches(status.casefold(), names, n=1, cutoff=0.5)
    return f"; did you mean {names[nearest[0]]!r}?" if nearest else ""


def _listed(problems: Sequence[str], remedy: str) -> str:
    more = len(problems) - _PROBLEMS_LISTED
    others = [f"and {more:,} more like these"] if more > 0 else []
    return "\n".join([*problems[:_PROBLEMS_LISTED], *others, remedy])
