"""The ready-made flows, one file each."""

from prefect_tracktor.flows.advance_custom_statuses import advance_custom_statuses
from prefect_tracktor.flows.announce_exceptions import ExceptionsReport, announce_exceptions
from prefect_tracktor.flows.email_expired_exceptions import email_expired_exceptions
from prefect_tracktor.flows.email_status_changes import email_status_changes
from prefect_tracktor.flows.export_tracking import export_tracking
from prefect_tracktor.flows.notify_customers import notify_customers
from prefect_tracktor.flows.notify_status_change import notify_status_change
from prefect_tracktor.flows.reconcile_manual_statuses import reconcile_manual_statuses
from prefect_tracktor.flows.report_exceptions import report_exceptions
from prefect_tracktor.flows.sweep_shops import ShopOutcome, SweepReport, SweptShop, sweep_shops
from prefect_tracktor.flows.sync_webhooks import WebhookReport, sync_webhooks
from prefect_tracktor.flows.watch_shop import WatchOptions, WatchReport, watch_shop
from prefect_tracktor.runs.digest import DigestReport, TeamDigest
from prefect_tracktor.runs.export import ExportFiles, ExportReport, ExportWarehouse
from prefect_tracktor.runs.report import MailReport, RunReport, StatusReport

__all__ = [
    "DigestReport",
    "ExceptionsReport",
    "ExportFiles",
    "ExportReport",
    "ExportWarehouse",
    "MailReport",
    "RunReport",
    "ShopOutcome",
    "StatusReport",
    "SweepReport",
    "SweptShop",
    "TeamDigest",
    "WatchOptions",
    "WatchReport",
    "WebhookReport",
    "advance_custom_statuses",
    "announce_exceptions",
    "email_expired_exceptions",
    "email_status_changes",
    "export_tracking",
    "notify_customers",
    "notify_status_change",
    "reconcile_manual_statuses",
    "report_exceptions",
    "sweep_shops",
    "sync_webhooks",
    "watch_shop",
]
