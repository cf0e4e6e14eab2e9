"""Every morning: post the parcels with a new exception."""

from exceptions_digest import exceptions_digest
from prefect.blocks.notifications import SlackWebhook
from prefect.schedules import Cron

from prefect_tracktor import NotificationLedger, OrderFile, TracktorCredentials

if __name__ == "__main__":
    exceptions_digest.serve(
        name="daily",
        schedule=Cron("0 8 * * *", timezone="Europe/Berlin"),
        parameters={
            "credentials": TracktorCredentials.load("tracktor"),
            "orders": OrderFile.load("tracktor"),
            "channel": SlackWebhook.load("parcels"),
            "ledger": NotificationLedger.load("tracktor"),
            "shop": "your-store",
        },
        tags=["tracktor"],
        limit=1,
        enforce_parameter_schema=False,
    )
