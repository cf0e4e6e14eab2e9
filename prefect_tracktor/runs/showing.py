"""Say on a run itself what it is: its name, its tags and its first log line show the mode."""

import re
from contextlib import suppress
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import deployment, flow_run

from prefect_tracktor.reporting.words import mode_label

# as Prefect makes up names; one that a person typed is kept
_MADE_UP = re.compile(r"[a-z]+-[a-z]+")


def show_mode(title: str, *modes: str, about: str = "") -> None:
    """Show a run's mode wherever people look at runs."""
    mode = mode_label(*modes).lower()
    get_run_logger().info("%s: %s.", title, mode)
    run_id, name = flow_run.get_id(), flow_run.get_name() or ""
    if not run_id:
        return
    parts = [flow_run.get_flow_name() or title, about, deployment.get_name() or "", mode]
    new_name = ", ".join(filter(None, parts)) if _MADE_UP.fullmatch(name) else name
    tags = sorted({*flow_run.get_tags(), *mode.split(", ")})
    # a run is not the worse for a name that says less
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as prefect:
        prefect.update_flow_run(UUID(run_id), name=new_name, tags=tags)
