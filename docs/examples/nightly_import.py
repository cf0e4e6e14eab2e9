"""A pipeline that ends with a run of a ready-made deployment."""

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment, run_deployment

DEPLOYMENT = "Email expired exceptions/email-expired-exceptions"


@flow(name="Nightly import")
def nightly_import(order_ids: list[int], deployment: str = DEPLOYMENT) -> None:
    """Import orders, then email the customers of these orders."""
    run = run_deployment(deployment, parameters={"orders": order_ids, "dry_run": True})
    refuse_unless_completed(run)  # type: ignore[arg-type]  # a coroutine in async code only


@flow(name="Nightly import (async)")
async def anightly_import(order_ids: list[int], deployment: str = DEPLOYMENT) -> None:
    """`nightly_import` for async code."""
    run = await arun_deployment(deployment, parameters={"orders": order_ids, "dry_run": True})
    refuse_unless_completed(run)


def refuse_unless_completed(run: FlowRun) -> None:
    """Fail if the run did: `run_deployment` itself does not."""
    if run.state is None or not run.state.is_completed():
        message = run.state.message if run.state else "it has no state"
        raise RuntimeError(f"the run {run.name} did not complete: {message}")
