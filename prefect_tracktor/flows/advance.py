"""`advance_custom_statuses`: move orders through a shop's own stages as they grow older."""

from datetime import UTC, datetime

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.needs import TO_SET_STATUSES_BY_AGE
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import StatusReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.set_statuses import StatusJob, status_options
from prefect_tracktor.sources import EventOrders, OrderFile, Orders, ShopifyOrders
from prefect_tracktor.statuses.plan import Progression, StatusStage, checked_stages


@flow(name="Advance custom statuses")
def advance_custom_statuses(
    credentials: TracktorCredentials,
    orders: Orders,
    stages: list[StatusStage],
    *,
    dry_run: bool = False,
    max_updates: int = 1000,
    release_fulfilled: bool = True,
    verify: bool = True,
    reading: ReadingOptions = DEFAULT_READING,
) -> StatusReport:
    """Set each order to the last stage that it has reached; orders never move back.

    The age counts from `order_created_at`. An order without a status, or with the status ready
    only, is before the first stage. A shipped order gets no stage and is returned to the carrier.
    Orders that the carrier updates, cancelled orders, and orders whose status is not a stage are
    left alone.

    Args:
        stages: The statuses, in the order in which they are reached, with the days after which
            they start, and the tag or shipping method of the orders that they are for.
        release_fulfilled: Return orders that are fully shipped, not delivered and under a manual
            status to the carrier; switched off, they are left alone.

    Raises:
        InvalidInput: A stage is invalid, or `orders` leaves out those that are still being made;
            nothing was written.

    Example:
        >>> from prefect_tracktor import StatusStage
        >>> from prefect_tracktor.flows import advance_custom_statuses
        >>> report = advance_custom_statuses(
        ...     credentials,
        ...     order_ids,
        ...     [StatusStage("Cutting", 1), StatusStage("Sewing", 3)],
        ...     dry_run=True,
        ... )
        >>> len(report.planned) > 0
        True
    """
    if isinstance(orders, ShopifyOrders) and not orders.finds_unfulfilled:
        raise InvalidInput(
            "orders leaves out unfulfilled orders, which the stages are for: set fulfillment of"
            " the ShopifyOrders to any or unfulfilled"
        )
    filtered = [stage for stage in stages if not stage.is_for_all]
    if filtered and isinstance(orders, list | EventOrders):
        raise InvalidInput(
            f"stages: {filtered[0].status!r} needs a tag or a shipping method, which neither a list"
            " of ids nor events have: use ShopifyOrders, or an OrderFile with such columns"
        )
    if isinstance(orders, OrderFile):
        # the stages are for orders that are still being made
        orders = orders.model_copy(update={"include_unfulfilled": True})
    options, calls = status_options(credentials)
    decide = Progression(
        checked_stages(stages, options),
        options,
        now=datetime.now(UTC),
        release_fulfilled=release_fulfilled,
    )
    return run_job(
        Scan(credentials, orders, reading, calls=calls),
        StatusJob(
            credentials,
            decide,
            title="Advance statuses",
            key="advance-statuses",
            dry_run=dry_run,
            max_updates=max_updates,
            verify=verify,
            needs=TO_SET_STATUSES_BY_AGE,
        ),
    )
