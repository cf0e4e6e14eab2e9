"""`sweep_shops`: run a ready-made flow for many shops, each with its own blocks."""

from typing import Any, Literal

from prefect_tracktor import flows
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.sweep import SweepReport, SweptShop, sweep

# all but `notify_status_change`, as an event is about one shop
SweepableFlow = Literal[
    "advance_custom_statuses",
    "announce_exceptions",
    "email_expired_exceptions",
    "email_status_changes",
    "export_tracking",
    "notify_customers",
    "reconcile_manual_statuses",
    "report_exceptions",
    "sync_webhooks",
    "watch_shop",
]


@flow(name="Sweep shops")
def sweep_shops(
    flow_name: SweepableFlow,
    shops: list[SweptShop],
    *,
    parameters: dict[str, Any] | None = None,
    shops_at_once: int = 1,
) -> SweepReport:
    """Run a ready-made flow for each of many shops, in a run of its own with its own blocks.

    Every parameter that takes a block gets the block with the shop's name; of several kinds the
    first that exists. A shop without its own template, ledger or completed orders uses those named
    `tracktor`, as in deployments. An optional parameter without a block is left out. A failure in
    one shop does not affect the others.

    Args:
        flow_name: The flow to run.
        shops: The shops, each with its own parameters.
        parameters: Parameters of the flow for all shops. Those of a shop override them, except a
            dry run of all shops. For a block, give its name.
        shops_at_once: How many shops run at once. Limits, such as the most emails, apply to each.

    Returns:
        The outcome of each shop.

    Raises:
        InvalidInput: There are no shops, one is named twice, two are the same Tracktor account, or
            the flow has no such parameter; nothing was run.
        IncompleteRun: All shops were tried, and some are incomplete or failed; see its `report`.

    Example:
        >>> from prefect_tracktor.flows import SweptShop, sweep_shops
        >>> _ = credentials.save("berlin", overwrite=True)
        >>> report = sweep_shops(
        ...     "announce_exceptions",
        ...     [SweptShop("berlin", {"orders": order_ids})],
        ...     parameters={"ledger": ledger, "dry_run": True},
        ... )
        >>> found = report.reports["berlin"]
        >>> report.done, len(found.read) + len(found.completed) == len(order_ids)
        (('berlin',), True)
    """
    return sweep(getattr(flows, flow_name), flow_name, shops, parameters or {}, shops_at_once)
