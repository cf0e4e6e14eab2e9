"""The job of creating missing webhooks of an account and removing duplicates."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from prefect_tracktor.bulk import Batch
from prefect_tracktor.client import TracktorClient
from prefect_tracktor.errors import AuthenticationError, NotFound, TracktorError
from prefect_tracktor.models import Webhook, WebhookId
from prefect_tracktor.runs.cases import Case, Outcome, Row
from prefect_tracktor.runs.engine import Job, Reading
from prefect_tracktor.runs.report import Listed, RunReport
from prefect_tracktor.text import redact
from prefect_tracktor.validation import host_of
from prefect_tracktor.webhooks.subscriptions import (
    WantedWebhook,
    WebhookPlan,
    is_the_same,
    plan_webhooks,
)

# simultaneous runs may undo each other's changes; they repeat until both see the same list
_ROUNDS = 8


class WebhookReport(RunReport):
    """The result of a run of `sync_webhooks`; all ids are webhook ids.

    Attributes:
        created: Webhooks that were created.
        removed: Webhooks that were removed: duplicates, and what was pruned.
        kept: Webhooks that existed as desired.
        surplus: Other webhooks at a desired host, which stayed.
        foreign: Webhooks at other hosts.
        superseded: Webhooks that another run created or removed first.
        not_changed: Webhooks that could not be created or removed, and why; the next run tries
            again.
        not_shown: Webhooks whose change Tracktor does not show, and why.

    Example:
        >>> from prefect_tracktor.runs.cases import Ended
        >>> WebhookReport(cases=(Ended(7, Outcome.CREATED),)).created
        (7,)
    """

    noun: ClassVar[str] = "webhooks"

    created: ClassVar[Listed] = Listed(Outcome.CREATED)
    removed: ClassVar[Listed] = Listed(Outcome.REMOVED)
    kept: ClassVar[Listed] = Listed(Outcome.KEPT)
    surplus: ClassVar[Listed] = Listed(Outcome.SURPLUS)
    foreign: ClassVar[Listed] = Listed(Outcome.FOREIGN)
    superseded: ClassVar[Listed] = Listed(Outcome.SUPERSEDED)
    not_changed: ClassVar[Listed] = Listed(Outcome.NOT_DONE, with_reasons=True)
    not_shown: ClassVar[Listed] = Listed(Outcome.NOT_PERSISTED, with_reasons=True)

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield "calls", self.calls
        yield "planned", len(self.due)
        yield from self._listed()


class AccountWebhooks(Reading[Webhook]):
    """The webhooks of an account, read in one call."""

    def __init__(self, client: TracktorClient) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Batch[Webhook]]:
        yield Batch(found=self._client.list_webhooks())

    def report_fields(self, *, dry_run: bool) -> dict[str, Any]:  # noqa: ARG002
        return {"calls": self._client.requests_sent, "failed": (), "suspicion": "", "notes": ()}


class WebhookJob(Job[Webhook, Case, WebhookReport]):
    """Creates and removes webhooks until the account has the wanted ones."""

    acting = "Webhooks changed"
    table = (
        "Webhooks to create and to remove, and those that stay. Only the host of an address is"
        " shown, because its path may be a secret."
    )
    report_type = WebhookReport

    def __init__(
        self,
        client: TracktorClient,
        wanted: Sequence[WantedWebhook],
        *,
        prune: bool,
        dry_run: bool,
    ) -> None:
        super().__init__(title="Webhooks", key="webhooks", limit=None, dry_run=dry_run)
        self._client = client
        self._wanted = wanted
        self._prune = prune
        self._secrets = tuple(webhook.address.get_secret_value() for webhook in wanted)
        self._made: dict[WebhookId, WantedWebhook] = {}
        self._changes: dict[WantedWebhook | WebhookId, Case] = {}
        self._plan = WebhookPlan()

    def choose(self, found: Sequence[Webhook]) -> None:
        """Add a case for each webhook to create, to remove, or to leave alone."""
        self._compare(found)
        staying = {
            Outcome.KEPT: self._plan.kept,
            Outcome.SURPLUS: self._plan.surplus,
            Outcome.FOREIGN: self._plan.foreign,
        }
        for outcome, webhooks in staying.items():
            for webhook in webhooks:
                columns = _columns(webhook, "Stays")
                self.cases.append(Case(id=webhook.id, columns=columns, outcome=outcome))

    def _compare(self, found: Sequence[Webhook]) -> None:
        self._plan = plan_webhooks(self._wanted, found, prune=self._prune, made=self._made)
        for wanted in self._plan.create:
            # it has no id yet
            self._change(wanted, f"wanted[{self._wanted.index(wanted)}]", "To be created")
        for webhook in self._plan.remove:
            self._change(webhook, webhook.id, "To be removed")

    def _change(self, webhook: WantedWebhook | Webhook, id_: WebhookId, plan: str) -> None:
        if _key(webhook) not in self._changes:
            case = Case(id=id_, columns=_columns(webhook, plan), planned=True)
            self._changes[_key(webhook)] = case
            self.cases.append(case)

    def act(self) -> Iterator[Case]:
        """Make the changes and read the list again, as another run may do the same."""
        for _ in range(_ROUNDS):
            for change in self._plan.changes:
                case = self._changes[_key(change)]
                self._try(case, change)
                yield case
            try:
                self._compare(self._client.list_webhooks())
            except TracktorError as error:
                for case in self._changes.values():
                    _doubt(case, f"it could not be read back: {error}")
                return
            if not self._plan.changes:
                break
        self._conclude()

    def _try(self, case: Case, change: WantedWebhook | Webhook) -> None:
        """Make one change; its error does not stop the others."""
        try:
            if isinstance(change, Webhook):
                self._remove(case, change)
            elif change not in self._made.values():  # the list may lag behind the creation
                address = change.address.get_secret_value()
                case.id = self._client.create_webhook(topic=change.topic, address=address).id
                case.end(Outcome.CREATED)
                self._made[case.id] = change
        except AuthenticationError:
            raise
        except TracktorError as error:
            case.end(Outcome.NOT_DONE, redact(str(error), secrets=self._secrets))

    def _remove(self, case: Case, webhook: Webhook) -> None:
        try:
            self._client.delete_webhook(webhook.id)
            case.end(Outcome.REMOVED)
        except NotFound:
            case.end(Outcome.SUPERSEDED, "another run was faster")

    def _conclude(self) -> None:
        made = [webhook for webhook in self._plan.kept if webhook.id in self._made]
        altered = [webhook for webhook in made if not is_the_same(self._made[webhook.id], webhook)]
        for webhook in altered:
            self._remove_altered(webhook)
        if altered:
            return
        still_open = {_key(change) for change in self._plan.changes}
        for key, case in self._changes.items():
            if key in still_open:
                _doubt(case, "Tracktor does not show what was created or removed")
            elif not still_open and case.outcome is Outcome.NOT_DONE:
                case.end(Outcome.SUPERSEDED, "it was done when the list was read again")

    def _remove_altered(self, webhook: Webhook) -> None:
        """Remove a new webhook that shows another address, as each run would create it again."""
        removal = Case(id=webhook.id, columns={})
        self._try(removal, webhook)
        could_not = f"it could not be removed again: {removal.reason}. Remove it by hand"
        was_removed = "it was removed again. Create it by hand"
        self._changes[self._made[webhook.id]].end(
            Outcome.NOT_PERSISTED,
            f"Tracktor lists the {webhook.topic} webhook at {host_of(webhook.address)} with another"
            " address than it was created with, so every run would create it again;"
            f" {could_not if removal.outcome is Outcome.NOT_DONE else was_removed}, and report it"
            " as an issue",
        )


def _doubt(case: Case, reason: str) -> None:
    """End a case as not done or not persisted, whatever the response to its change was."""
    if case.outcome is Outcome.DUE:
        case.end(Outcome.NOT_DONE, "other runs kept changing webhooks until the end of this one")
    elif case.outcome is not Outcome.NOT_DONE:
        case.end(Outcome.NOT_PERSISTED, reason)


def _key(webhook: WantedWebhook | Webhook) -> WantedWebhook | WebhookId:
    return webhook.id if isinstance(webhook, Webhook) else webhook


def _columns(webhook: WantedWebhook | Webhook, plan: str) -> Row:
    address = webhook.address
    text = address if isinstance(address, str) else address.get_secret_value()
    columns: Row = {"Topic": str(webhook.topic), "Host": host_of(text), "Plan": plan}
    return columns | ({"Id": webhook.id} if isinstance(webhook, Webhook) else {})
