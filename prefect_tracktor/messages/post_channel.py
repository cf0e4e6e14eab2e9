"""HTTP requests as a channel: outcomes of responses, and when to wait."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import httpx

from prefect_tracktor.errors import ChannelError, InvalidInput, TemplateError
from prefect_tracktor.http.call import Response, retry_after
from prefect_tracktor.http.client import NOT_SENT, HttpClient
from prefect_tracktor.messages.channel import Channel, Content, Message, Send, keyed_hash
from prefect_tracktor.messages.delivery import Backoff, Delivery, DeliveryOutcome
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.replies import Cause
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import mask_email, public_error, public_words

_SECONDS = 30
_LONGEST_WAIT_SECONDS = 90
_PAUSE_SECONDS = 1
_LONGEST_QUOTE = 200

_REFUSES_ACCOUNT = {401, 402, 403, 407}
_TEMPORARY = {408, 425, 429}
# gateway timeouts: the request may have been accepted
_GATEWAY_TIMEOUTS = {504, 524}
_PUNCTUATION = re.compile(r'[{}\[\]":,=<>/\\]+')
_LARGEST_CODE = 1_000_000


class PostChannel(Channel):
    """HTTP requests through an `HttpChannel`; the ledger's secret hashes keys and recipients."""

    def __init__(self, channel: HttpChannel, secret: bytes) -> None:
        rate = channel.requests_per_second
        # the host alone, as the address may be a secret
        self.server = channel.host
        self.reaches_customers = channel.is_live
        # including a slow response
        self.seconds_per_message = _SECONDS + (1 / rate if rate else 0)
        self._channel = channel
        self._secret = secret

    def check(self) -> None:
        self._channel.headers_for("")
        self._channel.check()

    def masked_recipient(self, order: Order) -> str:
        try:
            recipient = self._channel.recipient_of(order)
        except TemplateError:
            return ""  # `message` raises it
        return mask_email(recipient)

    def message(
        self, order: Order, parcels: Sequence[Fulfillment], content: Content, *, key: str
    ) -> Message:
        recipient = self._channel.recipient_of(order)
        if self._channel.recipient and not recipient:
            raise InvalidInput("recipient of the HttpChannel block is empty for this order")
        key = keyed_hash(self._secret, key)[:32]
        body = self._channel.render(order, parcels, content.conditions, key=key)
        reached = recipient.casefold() if self.reaches_customers else ""
        return Message((body, key), keyed_hash(self._secret, reached) if reached else "")

    @contextmanager
    def session(self) -> Iterator[Send]:
        rate = self._channel.requests_per_second
        backoff = Backoff(self.server, _LONGEST_WAIT_SECONDS, rate)
        with HttpClient(seconds=_SECONDS) as client:
            yield lambda messages: [
                backoff.deliver(partial(self._post, client, *message.content))
                for message in messages
            ]

    def _post(self, client: HttpClient, body: bytes, key: str) -> Delivery:
        """Post a request, with a second try after a moment if the service is unreachable."""
        channel = self._channel
        post = partial(
            client.send,
            channel.method,
            channel.target,
            headers=channel.headers_for(key),
            body=body,
        )
        try:
            try:
                return self._delivery(post())
            except NOT_SENT:
                time.sleep(_PAUSE_SECONDS)
                return self._delivery(post())
        except NOT_SENT as error:
            raise ChannelError(
                f"{self.server} does not answer ({public_error(error)}). Check address of the"
                " HttpChannel block, and the network."
            ) from None
        except httpx.HTTPError as error:
            return _uncertain(f"the connection broke ({public_error(error)})")

    def _delivery(self, response: Response) -> Delivery:
        status = response.status_code
        reason = f"the service answered {status} {_message_in(response)}".rstrip()
        if status in (self._channel.success_statuses or range(200, 300)):
            return Delivery(DeliveryOutcome.SENT)
        if status in range(300, 400):
            raise self._unusable(
                f"it redirects ({status})", "Set address to its target; redirects are not followed."
            )
        if status in _REFUSES_ACCOUNT:
            remedy = "Check headers and address: the key is wrong, expired, or lacks a permission."
            raise self._unusable(reason.rstrip("."), remedy, Cause.LOGIN)
        if status in {*_TEMPORARY, HTTPStatus.SERVICE_UNAVAILABLE}:
            return _deferred(response, reason)
        if status in range(500, 600) and self._recognizes_repetitions(status):
            return replace(_deferred(response, reason), may_repeat=True)
        if status in range(400, 500):
            return Delivery(
                DeliveryOutcome.REFUSED,
                reason,
                cause=Cause.RECIPIENT,
                kind=str(status),
                advice="Check body, content_type and address of the HttpChannel block.",
            )
        return _uncertain(reason, str(status))

    def _recognizes_repetitions(self, status: int) -> bool:
        # despite a server error, the service may have accepted the request
        return status not in _GATEWAY_TIMEOUTS and bool(self._channel.idempotency_header)

    def _unusable(self, problem: str, remedy: str, cause: Cause = Cause.OTHER) -> ChannelError:
        return ChannelError(f"{self.server} cannot be used: {problem}. {remedy}", cause=cause)


def _deferred(response: Response, reason: str) -> Delivery:
    wait = retry_after(response.headers)
    is_limited = response.status_code == HTTPStatus.TOO_MANY_REQUESTS or wait is not None
    cause = Cause.RATE if is_limited else Cause.OTHER
    reason = f"{reason}, and asks to wait {wait.total_seconds():.0f} s" if wait else reason
    advice = "The service failed; the next run tries again."
    if is_limited:
        advice = "Set requests_per_second to what the service allows; the next run goes on."
    return Delivery(
        DeliveryOutcome.DEFERRED,
        reason,
        cause=cause,
        kind=str(response.status_code),
        advice=advice,
        wait_seconds=wait.total_seconds() if wait else 0,
    )


def _uncertain(reason: str, kind: str = "broken") -> Delivery:
    return Delivery(DeliveryOutcome.UNCERTAIN, f"{reason}: it may have been accepted", kind=kind)


def _message_in(response: Response) -> str:
    """Return a response's numeric code, and the words that cannot be personal data."""
    text = response.body.decode("utf-8", "replace")
    code = ""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        number = body.get("code")
        is_small = type(number) is int and 0 < number < _LARGEST_CODE
        code = f"(code {number})" if is_small else ""
    words = public_words(_PUNCTUATION.sub(" ", text))[:_LONGEST_QUOTE]
    return " ".join(filter(None, [code, words]))
