"""`sync_webhooks`: give a Tracktor account the webhooks that it ought to have."""

from collections.abc import Callable, Iterator
from functools import partial

from prefect import get_run_logger
from pydantic import BaseModel, ConfigDict

from prefect_tracktor.client import TracktorClient
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import AuthenticationError, IncompleteRun, NotFound, TracktorError
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.models import Webhook, WebhookId
from prefect_tracktor.reporting.artifacts import publish_summary, publish_table
from prefect_tracktor.reporting.words import counts_in_words
from prefect_tracktor.runs.showing import show_mode
from prefect_tracktor.text import redact
from prefect_tracktor.validation import host_of
from prefect_tracktor.webhooks.subscriptions import (
    WantedWebhook,
    WebhookPlan,
    WebhookSubscription,
    is_the_same,
    plan_webhooks,
)

Row = dict[str, str | int]

# what another run does at the same time may have to be put right; it ends when both see the same
_ROUNDS = 4


class WebhookReport(BaseModel):
    """What a run of `sync_webhooks` found and did; webhook ids throughout.

    Attributes:
        dry_run: Whether nothing was to be changed.
        calls: How many requests were sent to Tracktor, repetitions included.
        planned: How many webhooks were to be created or removed at first sight.
        created: What was created.
        removed: What was removed: doubles, and what was pruned.
        kept: What was there as wanted, at first sight.
        surplus: What else points to an own host, and stayed.
        foreign: What points to other hosts.
        failed: What could not be done, and why.

    Example:
        >>> WebhookReport(created=(7,)).complete
        True
    """

    model_config = ConfigDict(frozen=True)

    dry_run: bool = False
    calls: int = 0
    planned: int = 0
    created: tuple[WebhookId, ...] = ()
    removed: tuple[WebhookId, ...] = ()
    kept: tuple[WebhookId, ...] = ()
    surplus: tuple[WebhookId, ...] = ()
    foreign: tuple[WebhookId, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the account has all desired webhooks; always true for a dry run."""
        return not self.failed

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were made, and how many webhooks stand in each list."""
        values = self.model_dump(exclude={"dry_run"})
        return {n: value if isinstance(value, int) else len(value) for n, value in values.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sentence})"

    __str__ = __repr__

    @property
    def sentence(self) -> str:
        """What the run did, in a sentence."""
        return counts_in_words(self.counts, mode="dry_run" if self.dry_run else "live")


@flow(name="Sync webhooks")
def sync_webhooks(
    credentials: TracktorCredentials,
    wanted: list[WantedWebhook] | WebhookSubscription,
    *,
    prune: bool = False,
    dry_run: bool = False,
) -> WebhookReport:
    """Create missing webhooks and remove duplicates; with `prune` also the surplus.

    Webhooks to other hosts than those of the wanted addresses are never changed. The result is
    read back; a second run changes nothing, and two concurrent runs leave no duplicates.

    Args:
        credentials: The Tracktor account.
        wanted: The topics and addresses that the account should have.
        prune: Also remove other webhooks to the same scheme, host and port as a wanted address. On
            a shared host, such as Prefect Cloud, they may belong to another account: check the plan
            of a dry run first.
        dry_run: Show the plan, and change nothing. Read-only credentials do the same.

    Returns:
        What was found and done.

    Raises:
        AuthenticationError: Tracktor refuses the credentials.
        TracktorError: The webhooks cannot be read at first; nothing was changed.
        IncompleteRun: Something could not be created or removed. Its `report` says what; the next
            run tries again.

    Example:
        >>> from prefect_tracktor import WantedWebhook
        >>> from prefect_tracktor.flows import sync_webhooks
        >>> address = "https://shop.example/hook"
        >>> wanted = [WantedWebhook(topic="fulfillment/delivered", address=address)]
        >>> report = sync_webhooks(credentials, wanted)
        >>> len(report.created), len(sync_webhooks(credentials, wanted).created)
        (1, 0)
    """
    asked = wanted.wanted() if isinstance(wanted, WebhookSubscription) else wanted
    dry_run = dry_run or credentials.read_only
    mode = "dry_run" if dry_run else "live"
    show_mode("Webhooks", mode)
    with credentials.get_client() as client:
        report = _Sync(client, asked, prune=prune).carry_out(dry_run=dry_run)
    get_run_logger().info(report.sentence)
    notes = ["This was a dry run: nothing was changed."] if dry_run else list(report.failed)
    publish_summary(
        "webhooks-summary",
        title="Webhooks",
        counts=report.counts,
        notes=notes,
        mode=mode,
    )
    if not report.complete:
        raise IncompleteRun(
            f"the account does not have all desired webhooks: {report.failed[0]}",
            report=report,
        )
    return report


class _Sync:
    """One run of the flow."""

    def __init__(self, client: TracktorClient, wanted: list[WantedWebhook], *, prune: bool) -> None:
        self._client = client
        self._wanted = wanted
        self._prune = prune
        self._secrets = tuple(webhook.address.get_secret_value() for webhook in wanted)
        self._made: dict[WebhookId, WantedWebhook] = {}
        self._removed: list[WebhookId] = []
        self._failed: list[str] = []

    def carry_out(self, *, dry_run: bool) -> WebhookReport:
        first = plan = self._plan()
        plans: list[WebhookPlan] = []
        publish_table(
            "webhooks-plan",
            list(_rows(plan)),
            description=f"{'Dry run' if dry_run else 'Live'}. The plan: webhooks to create and to"
            " remove. Of an address only the host is shown, because its path may be a secret.",
        )
        for _ in range(0 if dry_run else _ROUNDS):
            if plan.is_done:
                break
            self._apply(plan)
            if not self._try(lambda: plans.append(self._plan())):
                break
            plan = plans[-1]
        misread = self._listed_otherwise(plan)
        if misread:
            self._take_back(misread)
        elif plan.is_done:
            self._failed.clear()  # what failed at first was done in the end, if only by others
        elif not dry_run and not self._failed:
            self._failed.append("Tracktor does not show what was created or removed")
        return WebhookReport(
            dry_run=dry_run,
            calls=self._client.requests_sent,
            planned=len(first.create) + len(first.remove),
            created=tuple(self._made),
            removed=tuple(self._removed),
            kept=_ids(first.kept),
            surplus=_ids(plan.surplus),
            foreign=_ids(plan.foreign),
            failed=tuple(self._failed),
        )

    def _listed_otherwise(self, plan: WebhookPlan) -> list[Webhook]:
        """What was created and cannot be recognised: each run would create it once more."""
        made = [webhook for webhook in plan.kept if webhook.id in self._made]
        return [webhook for webhook in made if not is_the_same(self._made[webhook.id], webhook)]

    def _take_back(self, webhooks: list[Webhook]) -> None:
        for webhook in webhooks:
            self._try(partial(self._remove, webhook))
            self._failed.append(
                f"Tracktor lists the {webhook.topic} webhook at {host_of(webhook.address)} with"
                " another address than it was created with, so that it would be created by every"
                " run; it was removed again. Create it by hand, and report it as an issue"
            )

    def _plan(self) -> WebhookPlan:
        there = self._client.list_webhooks()
        return plan_webhooks(self._wanted, there, prune=self._prune, made=self._made)

    def _apply(self, plan: WebhookPlan) -> None:
        self._failed.clear()
        for wanted in plan.create:
            self._try(partial(self._create, wanted))
        for webhook in plan.remove:
            self._try(partial(self._remove, webhook))

    def _try(self, step: Callable[[], object]) -> bool:
        """One webhook that cannot be changed does not keep the others from it."""
        try:
            step()
        except AuthenticationError:
            raise
        except TracktorError as error:
            self._failed.append(redact(str(error), secrets=self._secrets))
            return False
        return True

    def _create(self, wanted: WantedWebhook) -> None:
        if wanted in self._made.values():
            return  # a list that lags behind is no reason for a double
        address = wanted.address.get_secret_value()
        webhook = self._client.create_webhook(topic=wanted.topic, address=address)
        self._made[webhook.id] = wanted

    def _remove(self, webhook: Webhook) -> None:
        try:
            self._client.delete_webhook(webhook.id)
        except NotFound:
            return  # another run was faster
        self._removed.append(webhook.id)


def _ids(webhooks: tuple[Webhook, ...]) -> tuple[WebhookId, ...]:
    return tuple(webhook.id for webhook in webhooks)


def _rows(plan: WebhookPlan) -> Iterator[Row]:
    for wanted in plan.create:
        host = host_of(wanted.address.get_secret_value())
        yield {"Topic": str(wanted.topic), "Host": host, "Plan": "To be created"}
    lists = {
        "To be removed": plan.remove,
        "Kept": plan.kept,
        "Surplus, left alone": plan.surplus,
        "Another host, left alone": plan.foreign,
    }
    for what, webhooks in lists.items():
        for webhook in webhooks:
            host = host_of(webhook.address)
            yield {"Topic": str(webhook.topic), "Host": host, "Id": webhook.id, "Plan": what}
