"""Tables of odd orders: one run reads them all, and each has its expected outcome."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prefect_tracktor import IncompleteRun
from prefect_tracktor.runs.report import RunReport

_UNREADABLE = "unreadable: "


class OddOrder(NamedTuple):
    """A function that makes an order with a given number, and its expected outcomes in a run.

    The outcomes are `unreadable: ` and a part of the reason if the order cannot be read, and empty
    if it has no case.
    """

    make: Callable[[int], dict[str, Any]]
    outcomes: str


Table = Mapping[str, OddOrder]


def orders_of(table: Table) -> dict[int, dict[str, Any]]:
    """Return the orders of a table, by number."""
    return {number: odd.make(number) for number, odd in enumerate(table.values(), 1)}


def expected_of(table: Table) -> dict[str, str]:
    """Return the expected outcomes of a table, to compare with `outcomes_of`."""
    return {name: odd.outcomes for name, odd in table.items()}


def sent_of(table: Table) -> list[int]:
    """Return the numbers of the orders whose message is expected to be sent."""
    return [n for n, odd in enumerate(table.values(), 1) if "sent" in odd.outcomes.split(", ")]


def outcomes_of(table: Table, report: RunReport) -> dict[str, str]:
    """Return the actual outcomes of the orders of a table."""
    return {
        name: _outcomes(report, number, odd.outcomes)
        for number, (name, odd) in enumerate(table.items(), 1)
    }


def report_of(run: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the report of a run, also of an incomplete one."""
    try:
        return run(*args, **options)
    except IncompleteRun as incomplete:
        return incomplete.report


def _outcomes(report: RunReport, number: int, expected: str) -> str:
    outcomes = sorted({case.outcome.value for case in report.cases if case.id == number})
    reasons = {failure.reason for failure in report.failed if failure.id == number}
    part = expected.removeprefix(_UNREADABLE)
    as_expected = reasons and part != expected and all(part in reason for reason in reasons)
    return ", ".join([*outcomes, *([expected] if as_expected else sorted(reasons))])
