"""Webhook subscriptions: the desired webhooks of an account, and the changes that create them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import APIConnectionError
from prefect_tracktor.forms import FORM
from prefect_tracktor.http.client import HttpClient
from prefect_tracktor.models import Webhook, WebhookId, WebhookTopic
from prefect_tracktor.text import public_error, refuse_masked
from prefect_tracktor.validation import checked_address, host_of, parsed_address

_VERIFY_SECONDS = 10


def _checked(address: SecretStr) -> SecretStr:
    refuse_masked(address.get_secret_value(), field="address")
    checked_address(address.get_secret_value(), field="address")
    return address


Address = Annotated[SecretStr, AfterValidator(_checked)]


class WantedWebhook(BaseModel):
    """A webhook that an account should have.

    Attributes:
        topic: One of the ten documented topics.
        address: The address that Tracktor posts to: https, or http on this machine.

    Raises:
        pydantic.ValidationError: The topic is not documented, or the address is not allowed; the
            message does not repeat it.

    Example:
        >>> WantedWebhook(topic="order/delivered", address="https://shop.example/hook").topic.value
        'order/delivered'
    """

    model_config = FORM | ConfigDict(extra="ignore", hide_input_in_errors=True)

    topic: WebhookTopic
    address: Address


class WebhookSubscription(TracktorBlock):
    """The webhooks that an account should have at one address.

    Attributes:
        address: The https address that Tracktor posts to, such as that of the receiver or of a
            Prefect Cloud webhook. Anyone who knows it can post to it, so it is kept secret.
        topics: The topics to subscribe to; fulfillment/all covers all events of parcels.

    Raises:
        pydantic.ValidationError: A topic is not documented, or the address is not allowed; the
            message does not repeat it.

    Example:
        List the webhooks that `sync_webhooks` creates:
        ```python
        from prefect_tracktor import WebhookSubscription

        webhook_subscription = WebhookSubscription.load("BLOCK_NAME")
        for webhook in webhook_subscription.wanted():
            print(webhook.topic)
        ```
    """

    _block_type_name = "Tracktor Webhook Subscription"
    _block_type_slug = "tracktor-webhook-subscription"
    _logo_url = logo("webhook")
    _description = "The webhooks that an account should have at one address."
    _documentation_url = handbook("how-to/keep-webhooks.md")

    address: Address
    topics: list[WebhookTopic] = Field(default=[WebhookTopic.FULFILLMENT_ALL], min_length=1)

    def wanted(self) -> list[WantedWebhook]:
        """Return the webhooks, one for each topic, as `sync_webhooks` takes them."""
        return [WantedWebhook(topic=topic, address=self.address) for topic in self.topics]

    def verify(self) -> None:
        """Request the root page of the address's host, to check that it responds over https.

        Nothing is posted and no webhook is created. Any response is accepted: only a delivery can
        test the rest of the address.

        Raises:
            APIConnectionError: No response, or no valid certificate; the message names only the
                host.
        """
        host = host_of(self.address.get_secret_value())
        try:
            with HttpClient(seconds=_VERIFY_SECONDS) as client:
                client.send("HEAD", host, headers={})
        except httpx.HTTPError as error:
            raise APIConnectionError(
                f"{host} does not answer this machine ({public_error(error)})."
                " Check the address, the receiver behind it and its certificate.",
                may_have_arrived=False,
            ) from None


@dataclass(frozen=True, slots=True)
class WebhookPlan:
    """Changes to an account's webhooks; each webhook is in one of the lists."""

    create: tuple[WantedWebhook, ...] = ()
    remove: tuple[Webhook, ...] = ()
    kept: tuple[Webhook, ...] = ()
    surplus: tuple[Webhook, ...] = ()
    foreign: tuple[Webhook, ...] = ()

    @property
    def changes(self) -> tuple[WantedWebhook | Webhook, ...]:
        """The webhooks to create, then those to remove."""
        return (*self.create, *self.remove)


def plan_webhooks(
    wanted: Iterable[WantedWebhook],
    existing: Iterable[Webhook],
    *,
    prune: bool = False,
    made: Mapping[WebhookId, WantedWebhook] | None = None,
) -> WebhookPlan:
    """Compare the wanted webhooks with the existing ones, and with `made`, those of this run."""
    desired = {_key(webhook): webhook for webhook in wanted}
    our_hosts = {host_of(address) for _, address in desired}
    kept: dict[tuple[str, str], Webhook] = {}
    duplicates: list[Webhook] = []
    others: list[Webhook] = []
    for webhook in sorted(existing, key=_age):
        key = _key((made or {}).get(webhook.id, webhook))
        if key not in desired:
            others.append(webhook)
        elif key in kept:
            duplicates.append(webhook)
        else:
            kept[key] = webhook
    ours = [webhook for webhook in others if host_of(webhook.address) in our_hosts]
    return WebhookPlan(
        create=tuple(webhook for key, webhook in desired.items() if key not in kept),
        remove=(*duplicates, *(ours if prune else ())),
        kept=tuple(kept.values()),
        surplus=() if prune else tuple(ours),
        foreign=tuple(webhook for webhook in others if webhook not in ours),
    )


def is_the_same(one: WantedWebhook | Webhook, other: WantedWebhook | Webhook) -> bool:
    """Whether two webhooks have the same topic and address, in any spelling."""
    return _key(one) == _key(other)


def _age(webhook: Webhook) -> tuple[bool, int, str]:
    """Return a sort key: numeric ids ascend, and MongoDB ids begin with their creation time."""
    if isinstance(webhook.id, str):
        return True, 0, webhook.id
    return False, webhook.id, ""


def _key(webhook: WantedWebhook | Webhook) -> tuple[str, str]:
    """Return topic and address in lower case, without a final slash."""
    topic, address = str(webhook.topic).casefold(), webhook.address
    text = address if isinstance(address, str) else address.get_secret_value()
    if (url := parsed_address(text)) is None:
        return topic, text
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return topic, f"{host_of(text)}{path.rstrip('/')}?{query}".casefold()
