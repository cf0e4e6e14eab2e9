"""Every ready-made flow, served with plain Prefect: its defaults, and saved blocks."""

import sys
from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    Mailer,
    NotificationLedger,
    OrderFile,
    StatusFile,
    StatusStage,
    TracktorCredentials,
    WebhookSubscription,
    flows,
)

# the name of the blocks
NAME = "plain"
READY_MADE = sorted(name for name in flows.__all__ if isinstance(getattr(flows, name), Flow))


def deployments(fulfillment_id: int, **options: Any) -> dict[str, RunnerDeployment]:
    """Return a deployment of each flow, with every parameter that takes a block."""
    return {
        name: getattr(flows, name).to_deployment(
            NAME, parameters=_parameters_of(name, fulfillment_id), **options
        )
        for name in READY_MADE
    }


def _parameters_of(name: str, fulfillment_id: int) -> dict[str, Any]:
    if name == "sweep_shops":
        shops = [{"name": NAME, "parameters": {"dry_run": True}}]
        return {"flow_name": "email_expired_exceptions", "shops": shops}
    reading = {"reading": {"completed_orders": CompletedOrders.load(NAME)}}
    orders = reading | {"orders": OrderFile.load(NAME)}
    mailer = {"mailer": Mailer.load(NAME)}
    template = EmailTemplate.load(NAME)
    own: dict[str, dict[str, Any]] = {
        "advance_custom_statuses": orders | {"stages": [StatusStage("Cutting", 1)]},
        "announce_exceptions": orders | {"ledger": NotificationLedger.load(NAME)},
        "email_expired_exceptions": orders | mailer | {"template": template},
        "export_tracking": orders | {"to": {"folder": "memory://plain"}},
        "report_exceptions": orders | mailer | {"ledger": NotificationLedger.load(NAME)},
        "watch_shop": orders | mailer | {"announce": ["exception:all"], "digest": {}},
        "email_status_changes": orders | mailer | {"template": template},
        "notify_customers": orders | mailer | {"rules": [{"name": "late", "when": ["stalled"]}]},
        "notify_status_change": mailer | {"fulfillment_id": fulfillment_id, "status": "delivered"},
        "reconcile_manual_statuses": reading | {"desired": StatusFile.load(NAME)},
        "sync_webhooks": {"wanted": WebhookSubscription.load(NAME)},
    }
    return {"credentials": TracktorCredentials.load(NAME), "dry_run": True} | own[name]


if __name__ == "__main__":
    serve(*deployments(int(sys.argv[1])).values())
