"""The ready-made flows, one file each."""

from typing import TYPE_CHECKING

from prefect_tracktor.lazy import imported_when_used

if TYPE_CHECKING:
    from prefect_tracktor.flows.advance import advance_custom_statuses as advance_custom_statuses
    from prefect_tracktor.flows.exceptions import announce_exceptions as announce_exceptions
    from prefect_tracktor.flows.expired_exceptions import (
        email_expired_exceptions as email_expired_exceptions,
    )
    from prefect_tracktor.flows.export import export_tracking as export_tracking
    from prefect_tracktor.flows.notify import notify_customers as notify_customers
    from prefect_tracktor.flows.reconcile import (
        reconcile_manual_statuses as reconcile_manual_statuses,
    )
    from prefect_tracktor.flows.report import report_exceptions as report_exceptions
    from prefect_tracktor.flows.status_change import notify_status_change as notify_status_change
    from prefect_tracktor.flows.status_changes import email_status_changes as email_status_changes
    from prefect_tracktor.flows.sweep import sweep_shops as sweep_shops
    from prefect_tracktor.flows.watch import watch_shop as watch_shop
    from prefect_tracktor.flows.webhooks import sync_webhooks as sync_webhooks
    from prefect_tracktor.runs.digest import DigestReport as DigestReport
    from prefect_tracktor.runs.digest import TeamDigest as TeamDigest
    from prefect_tracktor.runs.export import ExportFiles as ExportFiles
    from prefect_tracktor.runs.export import ExportReport as ExportReport
    from prefect_tracktor.runs.export import ExportWarehouse as ExportWarehouse
    from prefect_tracktor.runs.report import ExceptionsReport as ExceptionsReport
    from prefect_tracktor.runs.report import MailReport as MailReport
    from prefect_tracktor.runs.report import RunReport as RunReport
    from prefect_tracktor.runs.report import StatusReport as StatusReport
    from prefect_tracktor.runs.sweep import ShopOutcome as ShopOutcome
    from prefect_tracktor.runs.sweep import SweepReport as SweepReport
    from prefect_tracktor.runs.sweep import SweptShop as SweptShop
    from prefect_tracktor.runs.sync_webhooks import WebhookReport as WebhookReport
    from prefect_tracktor.runs.watch import WatchOptions as WatchOptions
    from prefect_tracktor.runs.watch import WatchReport as WatchReport

    __all__: list[str]
else:  # or type checkers would believe in any name
    __getattr__, __dir__, __all__ = imported_when_used(__name__)
