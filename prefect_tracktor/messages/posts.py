"""HTTP requests as a channel: what an answer means, and when to wait."""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx

from prefect_tracktor.errors import ChannelError, InvalidInput, TemplateError
from prefect_tracktor.http.call import retry_after
from prefect_tracktor.http.rate_limit import rate_limiter
from prefect_tracktor.messages.channel import Message, NoticeContent, Session
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.posting import NOT_SENT, Answer, Poster, poster, words_of
from prefect_tracktor.messages.replies import About
from prefect_tracktor.messages.smtp import Delivery, DeliveryOutcome, Patience
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import mask_email, public_words

_SECONDS = 30
_SECONDS_OF_PATIENCE = 90
_PAUSE_SECONDS = 1
_SAID_AT_MOST = 200

_OF_ACCOUNT = {401, 402, 403, 407}
_LATER = {408, 425, 429}
# a gateway that has waited in vain does not know what became of the request
_UNKNOWN = {504, 524}
_PUNCTUATION = re.compile(r'[{}\[\]":,=<>/\\]+')
_LARGEST_CODE = 1_000_000


@dataclass(frozen=True, slots=True)
class PostChannel:
    """HTTP requests, as an `HttpChannel` posts them."""

    channel: HttpChannel
    # what keys and recipients are hashed with, so that they give nothing away
    secret: bytes
    lot_size: int = 1
    may_repeat: bool = False

    @property
    def server(self) -> str:
        """The host alone, as the address may be a secret."""
        return self.channel.host

    @property
    def reaches_customers(self) -> bool:
        """Whether the service is told, and not the rehearsal address."""
        return self.channel.is_live

    @property
    def seconds_a_message(self) -> float:
        """What the service's rate makes of it, and a slow answer."""
        rate = self.channel.requests_per_second
        return _SECONDS + (1 / rate if rate else 0)

    def check(self) -> None:
        """See that the host answers, and that the headers can be sent."""
        self.channel.headers_for("")
        self.channel.check()

    def to(self, order: Order) -> str:
        """The recipient, masked."""
        try:
            recipient = self.channel.recipient_of(order)
        except TemplateError:
            return ""  # its message tells
        return mask_email(recipient)

    def message(
        self, order: Order, parcels: Sequence[Fulfillment], content: NoticeContent, *, key: str
    ) -> Message:
        """Render the request about an order's parcels."""
        recipient = self.channel.recipient_of(order)
        if self.channel.recipient and not recipient:
            raise InvalidInput("recipient of the HttpChannel block is empty for this order")
        key = self._hashed(key)[:32]
        body = self.channel.render(order, parcels, content.conditions, key=key)
        told = recipient if self.reaches_customers else ""
        return Message(_Request(body, key), self._hashed(told.casefold()) if told else "")

    def _hashed(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Connect when the first request is posted."""
        with poster(seconds=_SECONDS) as service:
            yield PostSession(self.channel, service)


@dataclass(frozen=True, slots=True)
class _Request:
    body: bytes = field(repr=False)
    key: str


@dataclass(slots=True)
class PostSession:
    """A connection to the service, and how long it has been waited for."""

    channel: HttpChannel
    service: Poster
    patience: Patience = field(default_factory=lambda: Patience(_SECONDS_OF_PATIENCE))

    def send(self, messages: Sequence[Message]) -> Sequence[Delivery]:
        """Post each, and say what became of it."""
        return [self._sent(message.content) for message in messages]

    def _sent(self, request: _Request) -> Delivery:
        """Wait and try again as the service asks for it, within bounds."""
        while True:
            if rate := self.channel.requests_per_second:
                rate_limiter(f"http {self.channel.host}", rate).try_acquire("request")
            try:
                answer = self._posted(request)
            except httpx.HTTPError as error:
                return _uncertain(f"the connection broke ({words_of(error)})")
            delivery = self._judged(answer)
            if delivery.outcome is DeliveryOutcome.SENT:
                self.patience.renew()
            wait = retry_after(answer.headers)
            seconds = wait.total_seconds() if wait else 0
            if delivery.about is not About.RATE or not self.patience.pause(seconds):
                return delivery

    def _posted(self, request: _Request) -> Answer:
        """A service that is away for a moment is given one."""
        try:
            return self._post(request)
        except NOT_SENT:
            time.sleep(_PAUSE_SECONDS)
        try:
            return self._post(request)
        except NOT_SENT as error:
            raise ChannelError(
                f"{self.channel.host} does not answer ({words_of(error)}). Check address of the"
                " HttpChannel block, and the network."
            ) from None

    def _post(self, request: _Request) -> Answer:
        headers = self.channel.headers_for(request.key)
        return self.service.send(
            self.channel.method, self.channel.target, headers=headers, body=request.body
        )

    def _judged(self, answer: Answer) -> Delivery:
        status = answer.status
        reason = f"the service answered {status} {_said(answer)}".rstrip()
        if status in (self.channel.success_statuses or range(200, 300)):
            return Delivery(DeliveryOutcome.SENT)
        if status in range(300, 400):
            raise self._unusable(
                f"it redirects ({status})", "Set address to where it leads; none is followed."
            )
        if status in _OF_ACCOUNT:
            remedy = "Check headers and address: the key is wrong, expired, or lacks a permission."
            raise self._unusable(f"{reason.rstrip('.')}", remedy, About.LOGIN)
        if status in _LATER or (status in range(500, 600) and self._may_repeat(status)):
            return _deferred(answer, reason)
        if status in range(400, 500):
            return Delivery(
                DeliveryOutcome.REFUSED,
                reason,
                about=About.RECIPIENT,
                kind=str(status),
                advice="Check body, content_type and address of the HttpChannel block.",
            )
        return _uncertain(reason, str(status))

    def _may_repeat(self, status: int) -> bool:
        """After a fault of its own, a service may have taken the request all the same."""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return True
        return status not in _UNKNOWN and bool(self.channel.idempotency_header)

    def _unusable(self, problem: str, remedy: str, about: About = About.OTHER) -> ChannelError:
        return ChannelError(f"{self.channel.host} cannot be used: {problem}. {remedy}", about=about)


def _deferred(answer: Answer, reason: str) -> Delivery:
    wait = retry_after(answer.headers)
    asks = answer.status == HTTPStatus.TOO_MANY_REQUESTS or wait is not None
    about = About.RATE if asks else About.OTHER
    said = f"{reason}, and asks to wait {wait.total_seconds():.0f} s" if wait else reason
    remedy = "Set requests_per_second to what the service allows; the next run goes on."
    return Delivery(
        DeliveryOutcome.DEFERRED,
        said,
        about=about,
        kind=str(answer.status),
        advice=remedy if asks else "The service has a fault of its own; the next run tries again.",
    )


def _uncertain(reason: str, kind: str = "broken") -> Delivery:
    return Delivery(DeliveryOutcome.UNCERTAIN, f"{reason}: it may have been taken", kind=kind)


def _said(answer: Answer) -> str:
    """Of the service's words those that cannot be anybody's data, and its code."""
    text = answer.body.decode("utf-8", "replace")
    code = ""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict):
        number = said.get("code")
        is_small = type(number) is int and 0 < number < _LARGEST_CODE
        code = f"(code {number})" if is_small else ""
    words = public_words(_PUNCTUATION.sub(" ", text))[:_SAID_AT_MOST]
    return " ".join(filter(None, [code, words]))
