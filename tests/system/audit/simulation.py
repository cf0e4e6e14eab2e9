"""The flow runs of a shop's weeks: scheduled, started by events, and concurrent."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import time_machine

from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    HttpChannel,
    IncompleteRun,
    Mailer,
    NotificationLedger,
    NotificationRule,
    ReadingOptions,
    ShopifyCredentials,
    ShopifyOrders,
    StatusStage,
    Thresholds,
    TracktorCredentials,
    TracktorError,
)
from prefect_tracktor.flows import (
    ExportFiles,
    TeamDigest,
    WatchOptions,
    WatchReport,
    advance_custom_statuses,
    notify_customers,
    notify_status_change,
    watch_shop,
)
from prefect_tracktor.runs.report import RunReport
from prefect_tracktor.sandbox import MailServer
from prefect_tracktor.sources import EventOrders
from tests.support.http_service import HttpService
from tests.system.audit.records import (
    Notice,
    ReceivedNotice,
    Run,
    mail_of,
    notices_by_mail,
    notices_by_post,
    post_of,
)
from tests.system.audit.rules import (
    DAY,
    NOT_SHIPPED_AFTER,
    REMIND_EVERY,
    REMINDERS,
    STAGES,
    STALLED_AFTER,
    SURVEY_AFTER,
    SURVEY_WITHIN,
)
from tests.system.audit.world import MADE_TO_ORDER, VIP, World

TEAM = "team@sandbox-shop.example"
_LADDER = ["status:in_transit", "status:out_for_delivery", "status:delivered"]


def rules_for(address: str) -> list[NotificationRule]:
    """Return the rules for emails to customers and for posts to a service."""

    def mail(name: str, *when: str, **fields: Any) -> NotificationRule:
        template = EmailTemplate(subject=name, text=mail_of(name), html="<p>-</p>")
        return NotificationRule(name=name, when=list(when), template=template, **fields)

    def post(name: str, *when: str, **fields: Any) -> NotificationRule:
        channel = HttpChannel.model_validate(
            {"address": f"{address}/{name}", "body": post_of(name), "mode": "live"}
        )
        return NotificationRule(name=name, when=list(when), channel=channel, **fields)

    return [
        mail("status", *_LADDER),
        mail("whole", "status:delivered", per="order"),
        mail(
            "survey",
            "status:delivered",
            after_days=SURVEY_AFTER / DAY,
            within_days=SURVEY_WITHIN / DAY,
        ),
        mail("lost", "exception:all", times=REMINDERS, repeat_after_days=REMIND_EVERY / DAY),
        mail("late", "stalled"),
        mail("waiting", "not_shipped"),
        mail("made", *(f"status:{stage}" for stage, _ in STAGES)),
        post("pushed", *_LADDER[1:], "exception:all"),
        post("vip", "status:out_for_delivery", tags=frozenset({VIP})),
    ]


@dataclass
class Simulation:
    """The shop, its servers, and its runs so far."""

    world: World
    mail: MailServer
    service: HttpService
    credentials: TracktorCredentials
    shopify: ShopifyCredentials
    ledger: NotificationLedger
    mailer: Mailer
    folder: Path
    clock: time_machine.Traveller
    runs: list[Run] = field(default_factory=list)
    cleared: int = 0

    def __post_init__(self) -> None:
        self.rules = rules_for(self.service.address)
        self._reading = ReadingOptions(
            completed_orders=CompletedOrders(
                url=f"sqlite:///{self.folder / 'done.sqlite3'}", after_days=5
            ),
            chunk_size=1000,
            allow_empty=True,
        )
        self._thresholds = Thresholds(
            stalled_days=STALLED_AFTER / DAY, not_shipped_days=NOT_SHIPPED_AFTER / DAY
        )
        self._events_since = _real_now()

    def advance(self, until: datetime) -> None:
        """Move the shop and its clock to a time."""
        self.world.advance(until, self.clock.move_to)

    def watch(self, *, everything: bool = False) -> Any:
        """Run the scheduled scan of the whole shop."""
        orders, placed = self._all_orders()
        export = ExportFiles(folder=str(self.folder)) if everything else None
        return self._run(
            "watch_shop",
            placed,
            self.rules,
            lambda: watch_shop(
                self.credentials,
                orders,
                self.rules,
                self.mailer,
                TeamDigest(mail_to=(TEAM,)),
                export,
                frozenset({"exception:all", "stalled"}),
                options=WatchOptions(max_emails=5000, max_events=5000, thresholds=self._thresholds),
                reading=self._reading,
            ),
        )

    def notify_in_dry_run(self) -> Any:
        """Read the shop for notices to customers alone."""
        orders, _ = self._all_orders()
        return notify_customers(
            self.credentials,
            orders,
            self.rules,
            self.mailer,
            dry_run=True,
            thresholds=self._thresholds,
            reading=self._reading,
        )

    def notify_from_events(self) -> Any:
        """Run over the orders that events have named since the last such run."""
        source = EventOrders(since=self._events_since, account=self.credentials.account)
        self._events_since = _real_now()
        rules = [rule for rule in self.rules if not rule.tags]
        return self._run(
            "after events",
            None,
            rules,
            lambda: notify_customers(
                self.credentials,
                source,
                rules,
                self.mailer,
                thresholds=self._thresholds,
                reading=ReadingOptions(allow_empty=True),
            ),
        )

    def notify_each(self, some: Iterable[tuple[int, str]]) -> None:
        """Run for each of some parcels, as webhooks start it."""
        [template] = [rule.template for rule in self.rules if rule.name == "status"]
        for parcel, status in some:
            self._run(
                "notify_status_change",
                None,
                [],
                partial(
                    notify_status_change,
                    self.credentials,
                    parcel,
                    self.mailer,
                    status=status,
                    template=template,
                    retry_delays_seconds=[],
                ),
            )

    def advance_statuses(self) -> Any:
        """Run the scheduled flow that advances custom statuses."""
        orders, placed = self._all_orders(tag=MADE_TO_ORDER)
        placed = {one for one in placed if MADE_TO_ORDER in self.world.tags[one]}
        stages = [StatusStage(stage, age / DAY) for stage, age in STAGES]
        return self._run(
            "advance_custom_statuses",
            placed,
            [],
            lambda: advance_custom_statuses(
                self.credentials, orders, stages, reading=ReadingOptions(allow_empty=True)
            ),
        )

    def run_concurrently(self, until: datetime, pause: Callable[[], object]) -> None:
        """Run the scheduled flow and that for events concurrently, while parcels move on."""
        with ThreadPoolExecutor(3) as threads:
            jobs = [self.watch, self.notify_from_events, lambda: self.world.catch_up(until, pause)]
            for future in [threads.submit(copy_context().run, job) for job in jobs]:
                future.result()

    def resolve_claims(self) -> None:
        """Confirm or clear open claims by the servers' records, as a person does."""
        accepted = Counter(one.notice for one in self.received())
        for claim in self.ledger.uncertain(older_than=timedelta(0)):
            reason, _, number = claim.key.reason.partition("#")
            rule, *_, about = reason.split(":")
            about = {"cutting": "Cutting", "sewing": "Sewing"}.get(about, about)
            notice = Notice(rule, claim.key.order_id, claim.key.fulfillment_id, about)
            is_accepted = accepted[notice] >= int(number or 1)
            act = self.ledger.confirm_uncertain if is_accepted else self.ledger.clear_uncertain
            self.cleared += act([claim.key], older_than=timedelta(0))

    def received(self) -> list[ReceivedNotice]:
        """Return the notices in the servers' records."""
        by_mail, by_post = notices_by_mail(self.mail.messages), notices_by_post(self.service.posted)
        return [*by_mail, *by_post]

    def _all_orders(self, **options: Any) -> tuple[ShopifyOrders, set[int]]:
        now = datetime.now(UTC)
        source = ShopifyOrders(
            credentials=self.shopify,
            fulfillment="any",
            include_delivered=True,
            include_cancelled=True,
            search=f"created_at:<='{now:%Y-%m-%dT%H:%M:%SZ}'",
            **options,
        )
        return source, self.world.placed_by(now)

    def _run(
        self,
        name: str,
        orders: set[int] | None,
        rules: Iterable[NotificationRule],
        flow: Callable[[], Any],
    ) -> Any:
        begin, failed, report = datetime.now(UTC), False, None
        try:
            report = flow()
        except IncompleteRun as incomplete:
            report = incomplete.report
        except TracktorError as error:
            failed, report = True, error
        self.world.record_changes()
        parts = list(_parts(report))
        digest = report.digest if isinstance(report, WatchReport) else None
        read = {one for part in parts for one in part.read}
        self.runs.append(
            Run(
                name,
                begin,
                datetime.now(UTC),
                frozenset(rule.name for rule in rules),
                frozenset(read if orders is None else orders),
                frozenset(one for part in parts for one in part.left),
                failed or any(part.error for part in parts),
                digest is not None and not digest.error,
            )
        )
        return report


def _parts(report: object) -> Iterator[RunReport]:
    """Yield the part of a report about customers or statuses."""
    part = report.customers if isinstance(report, WatchReport) else report
    if isinstance(part, RunReport):
        yield part


def _real_now() -> datetime:
    """Return the time of Prefect's server, which has the real clock."""
    now: datetime = time_machine.escape_hatch.datetime.datetime.now(UTC)
    return now
