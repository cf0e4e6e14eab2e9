"""When an event says that orders were imported, email the customers of these orders."""

from prefect.events import DeploymentEventTrigger
from prefect.types.entrypoint import EntrypointType

from prefect_tracktor import Mailer, TracktorCredentials
from prefect_tracktor.flows import email_expired_exceptions

if __name__ == "__main__":
    email_expired_exceptions.serve(
        name="after-import",
        parameters={
            "credentials": TracktorCredentials.load("tracktor"),
            "orders": [],  # the event's
            "mailer": Mailer.load("tracktor"),
            "dry_run": True,
        },
        triggers=[
            DeploymentEventTrigger(
                name="Orders were imported",
                expect={"warehouse.orders.imported"},
                parameters={"orders": "{{ event.payload.order_ids }}"},
            )
        ],
        tags=["tracktor"],
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=False,
    )
