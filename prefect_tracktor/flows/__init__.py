"""The ready-made flows, one file each."""

from prefect_tracktor.flows.advance import advance_custom_statuses
from prefect_tracktor.flows.announce import ExceptionsReport, announce_exceptions
from prefect_tracktor.flows.expired_exceptions import email_expired_exceptions
from prefect_tracktor.flows.mail_run import MailReport
from prefect_tracktor.flows.reconcile import reconcile_manual_statuses
from prefect_tracktor.flows.report import RunReport
from prefect_tracktor.flows.status_change import email_status_changes, notify_status_change
from prefect_tracktor.flows.status_run import StatusReport
from prefect_tracktor.flows.sweep import ShopOutcome, SweepReport, SweptShop, sweep_shops
from prefect_tracktor.flows.sync_webhooks import WebhookReport, sync_webhooks

__all__ = [
    "ExceptionsReport",
    "MailReport",
    "RunReport",
    "ShopOutcome",
    "StatusReport",
    "SweepReport",
    "SweptShop",
    "WebhookReport",
    "advance_custom_statuses",
    "announce_exceptions",
    "email_expired_exceptions",
    "email_status_changes",
    "notify_status_change",
    "reconcile_manual_statuses",
    "sweep_shops",
    "sync_webhooks",
]
