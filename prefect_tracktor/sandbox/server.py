"""A Tracktor on loopback, and the slice of Shopify beside it, over real HTTP; with faults."""

import asyncio
import datetime as dt
import re
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic_core import from_json, to_json

from prefect_tracktor.sandbox.background import BackgroundServer
from prefect_tracktor.sandbox.deliveries import Deliveries, Delivery
from prefect_tracktor.sandbox.faults import (
    DeliveryFaults,
    Fault,
    FaultInjector,
    Faults,
    InjectedFault,
)
from prefect_tracktor.sandbox.mail import MailServer
from prefect_tracktor.sandbox.movement import Movement, Moving
from prefect_tracktor.sandbox.replies import Refusal, Reply
from prefect_tracktor.sandbox.response_format import ResponseFormat
from prefect_tracktor.sandbox.shop import ChangedOrder, RefusedValue, Shop, UnknownId
from prefect_tracktor.sandbox.shopify import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    Shopify,
    ShopifyRules,
)

BASE_PATH = "/apps/tracktor/api/admin"
UUID = "00000000-0000-4000-8000-000000000001"
API_KEY = "sandbox-key"

_CALLS_KEPT = 200_000
_BODIES_KEPT = 20_000
_ORDER = re.compile(r"orders/(\d{1,19})\.json")
_FULFILLMENT = re.compile(r"fulfillments/(\d{1,19})\.json")
_WEBHOOK = re.compile(r"webhooks/(\d{1,19})\.json")
_SERVER_ERRORS = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_PAGE = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>"


class Sandbox(BackgroundServer):
    """A Tracktor on loopback, running in a background thread.

    Args:
        shop: What it answers about; by default a shop of 1,000 orders.
        faults: What goes wrong on purpose; can be replaced at any time.
        delivery_faults: What goes wrong with the webhooks' messages; can be replaced at any time.
        answers: The shape of the answers; can be replaced at any time.
        shopify: How the slice of Shopify behaves.
        mail: A mail server whose messages can be read at `/_sandbox/messages`.
        uuid: The account's uuid, for several accounts beside each other.
        host: Where to listen.
        port: The port; 0 takes a free one.
        ssl_context: Speaks HTTPS with this context.

    Attributes:
        shop: What it answers about.
        shopify: The slice of Shopify, about the same shop.

    Example:
        >>> import httpx
        >>> with Sandbox(Shop(orders=3)) as tracktor:
        ...     order_id = tracktor.shop.order_ids[0]
        ...     answer = httpx.get(
        ...         f"{tracktor.base_url}/{tracktor.uuid}/orders/{order_id}.json",
        ...         headers={"x-api-key": tracktor.api_key},
        ...     )
        >>> answer.json()["order"]["order_name"]
        '#1001'
    """

    thread_name = "sandbox-http"
    api_key = API_KEY
    shopify_client_id = CLIENT_ID
    shopify_client_secret = CLIENT_SECRET
    shopify_access_token = ACCESS_TOKEN

    def __init__(
        self,
        shop: Shop | None = None,
        *,
        faults: Faults | None = None,
        delivery_faults: DeliveryFaults | None = None,
        answers: ResponseFormat | None = None,
        shopify: ShopifyRules | None = None,
        mail: MailServer | None = None,
        uuid: str = UUID,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.uuid = uuid
        self.shop = shop or Shop()
        self.shopify = Shopify(self.shop, shopify or ShopifyRules())
        self.host = host
        self.port = port
        self._mail = mail
        self._ssl_context = ssl_context
        self._faults = faults or Faults()
        self._fault_injector = FaultInjector(self._faults)
        self._delivery_faults = delivery_faults or DeliveryFaults()
        self._delivery_injector = FaultInjector(self._delivery_faults)
        self._writer = _Writer(answers or ResponseFormat())
        self._calls: deque[tuple[str, str]] = deque(maxlen=_CALLS_KEPT)
        self._faults_met: Counter[str] = Counter()
        self._moving: Moving | None = None
        self._deliveries: Deliveries | None = None
        self._done: list[Delivery] = []

    @property
    def base_url(self) -> str:
        """The address to give to clients, without the account's uuid."""
        return f"{self.shopify_url}{BASE_PATH}"

    @property
    def shopify_url(self) -> str:
        """The address to give as `base_url` of `ShopifyCredentials`."""
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://{self.host}:{self.port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose; setting it begins with its seed."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults, self._fault_injector = faults, FaultInjector(faults)

    @property
    def delivery_faults(self) -> DeliveryFaults:
        """What goes wrong with the webhooks' messages from now on; begins with its seed."""
        return self._delivery_faults

    @delivery_faults.setter
    def delivery_faults(self, faults: DeliveryFaults) -> None:
        self._delivery_faults, self._delivery_injector = faults, FaultInjector(faults)

    @property
    def answers(self) -> ResponseFormat:
        """The shape of the answers."""
        return self._writer.shape

    @answers.setter
    def answers(self, answers: ResponseFormat) -> None:
        self._writer = _Writer(answers)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The latest 200,000 requests, oldest first: method, and path below the account.

        Those to Shopify have a path that begins with `admin/`.
        """
        return list(self._calls.copy())

    @property
    def faults_met(self) -> Counter[str]:
        """How many requests met which kind of fault."""
        return self._faults_met.copy()

    @property
    def deliveries(self) -> list[Delivery]:
        """What became of the webhooks' messages so far."""
        return list(self._done)

    def reset_calls(self) -> None:
        """Forget the calls and the faults that were met.

        Example:
            >>> Sandbox(Shop(orders=1)).reset_calls()
        """
        self._calls.clear()
        self._faults_met.clear()

    def prepare(self) -> None:
        """Write the answers about the first 20,000 orders ahead, for benchmarks.

        Example:
            >>> Sandbox(Shop(orders=3)).prepare()
        """
        for order_id in self.shop.order_ids[:_BODIES_KEPT]:
            self._writer.order(self.shop, order_id)

    def settle(self) -> None:
        """Wait until all webhooks' messages are delivered or given up.

        Example:
            >>> with Sandbox(Shop(orders=1)) as tracktor:
            ...     tracktor.settle()
        """
        if self._portal is not None and self._deliveries is not None:
            self._portal.call(self._deliveries.settle)

    def move(self, movement: Movement | None = None) -> Moving:
        """Set the shop's parcels moving, in the background, until they arrive or this stops.

        Another process does the same with a POST of the movement's fields to `/_sandbox/movement`,
        and asks `/_sandbox/state` how far it is.

        Args:
            movement: Which parcels, how fast, and what they meet; by default all that can move.

        Returns:
            The movement, to wait for it or to stop it. `shop.arrivals` and `shop.exceptions` tell
            what really happened.

        Raises:
            RuntimeError: The sandbox is not running, or another movement has not ended.
            ValueError: Fewer parcels can move than are to.
            UnknownId: The shop has no such order.

        Example:
            >>> with Sandbox(Shop(orders=3, just_ready=3)) as tracktor:
            ...     moving = tracktor.move(Movement(speed=float("inf"), exception_rate=0))
            ...     moving.wait()
            ...     len(tracktor.shop.arrivals)
            True
            3
        """
        if self._portal is None:
            raise RuntimeError("the sandbox is not running: start it before its parcels move")
        if self._moving is not None and self._moving.under_way:
            raise RuntimeError("the parcels move already: wait for it, or stop it first")
        self._moving = Moving(self.shop, movement or Movement())
        return self._running.enter_context(self._moving)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        # cancelled handlers: a client that gives up must not leave a stalled answer behind
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.05)
        deliveries = self._deliveries = Deliveries()
        self._done = deliveries.done
        loop = asyncio.get_running_loop()

        def tell(changed: ChangedOrder) -> None:
            webhooks = self.shop.webhooks
            if webhooks:
                loop.call_soon_threadsafe(
                    deliveries.post,
                    changed,
                    webhooks,
                    self.answers,
                    self._delivery_injector,
                    self.delivery_faults.patience_seconds,
                )

        try:
            await runner.setup()
            site = web.TCPSite(runner, self.host, self.port, ssl_context=self._ssl_context)
            await site.start()
            self.port = runner.addresses[0][1]
            self.shop.add_listener(tell)
            try:
                yield
            finally:
                self.shop.remove_listener(tell)
        finally:
            await runner.cleanup()
            await deliveries.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_sandbox/movement":
            return _response(await self._set_moving(request))
        if request.path.startswith("/_sandbox/"):
            return _response(self._about_itself(request.path))
        account, _, path = request.path.removeprefix(f"{BASE_PATH}/").partition("/")
        self._calls.append((request.method, path))
        body = await request.read() if request.can_read_body else b""
        injected = self._fault_injector.next()
        reply = Reply(HTTPStatus.OK, b"")
        if injected.acts:
            reply = self._reply(request, account, path, body)
        if injected.delay_seconds:
            await asyncio.sleep(injected.delay_seconds)
        if injected.kind is None:
            return _response(reply)
        self._faults_met[injected.kind] += 1
        return await _misbehave(request, reply, injected, self.faults)

    def _reply(self, request: web.BaseRequest, account: str, path: str, body: bytes) -> Reply:
        try:
            if path.startswith("admin/"):
                return self.shopify.reply(request.method, path, request.headers, body)
            _check_account(request, account, self.uuid)
            return self._act(request.method, path, body)
        except Refusal as refusal:
            return refusal.reply
        except UnknownId as unknown:
            return Refusal(HTTPStatus.NOT_FOUND, str(unknown)).reply
        except RefusedValue as refused:
            errors = {refused.field: [refused.problem]}
            return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, errors).reply

    def _act(self, method: str, path: str, body: bytes) -> Reply:
        """Find the endpoint by its path and do what the method asks for."""
        if order := _ORDER.fullmatch(path):
            return self._on_order(method, int(order[1]), body)
        if fulfillment := _FULFILLMENT.fullmatch(path):
            _allow(method, "GET")
            return self._writer.fulfillment(self.shop, int(fulfillment[1]))
        if webhook := _WEBHOOK.fullmatch(path):
            _allow(method, "DELETE")
            self.shop.delete_webhook(int(webhook[1]))
            return self._writer.written(HTTPStatus.OK, {})
        if path == "webhooks.json":
            return self._on_webhooks(method, body)
        if path == "status-options.json":
            _allow(method, "GET")
            options = self._writer.shape.shaped_options(self.shop.status_options)
            return Reply(HTTPStatus.OK, to_json(options))
        raise Refusal(HTTPStatus.NOT_FOUND, "no such api_call")

    def _on_order(self, method: str, order_id: int, body: bytes) -> Reply:
        _allow(method, "GET", "POST")
        if method == "POST":
            self.shop.set_status(order_id, **_changes(body))
            if self._writer.shape.empty_after_writing:
                return self._writer.written(HTTPStatus.OK, {})
        return self._writer.order(self.shop, order_id)

    def _on_webhooks(self, method: str, body: bytes) -> Reply:
        _allow(method, "GET", "POST")
        if method == "POST":
            webhook = self.shop.create_webhook(**_new_webhook(body))
            shaped = self._writer.shape.shaped("webhook", webhook)
            return Reply(HTTPStatus.CREATED, to_json(shaped))
        shaped = self._writer.shape.shaped("webhooks", self.shop.webhooks)
        return Reply(HTTPStatus.OK, to_json(shaped))

    def _about_itself(self, path: str) -> Reply:
        """What a test in another process may ask; no part of Tracktor's API."""
        match path:
            case "/_sandbox/messages":
                messages = self._mail.messages if self._mail else []
                return Reply(HTTPStatus.OK, to_json([_summary(entry) for entry in messages]))
            case "/_sandbox/state":
                return Reply(HTTPStatus.OK, to_json(self._state()))
            case _:
                return Refusal(HTTPStatus.NOT_FOUND, "no such page").reply

    async def _set_moving(self, request: web.BaseRequest) -> Reply:
        """Begin a movement, for a test in another process that had to create webhooks first."""
        try:
            _allow(request.method, "POST")
            movement = Movement.model_validate_json(await request.read() or b"{}")
            moving = await asyncio.to_thread(self.move, movement)
        except Refusal as refusal:
            return refusal.reply
        except (ValueError, UnknownId, RuntimeError) as problem:
            return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(problem)).reply
        return Reply(HTTPStatus.ACCEPTED, to_json(moving.progress()))

    def _state(self) -> dict[str, Any]:
        calls = Counter(f"{method} {path}" for method, path in self.calls)
        return {
            "calls": calls,
            "faults_met": self._faults_met,
            "status_changes": [change._asdict() for change in self.shop.status_changes],
            "webhooks": self.shop.webhooks,
            "deliveries": [delivery._asdict() for delivery in self.deliveries],
            "deliveries_left": self._deliveries.left if self._deliveries else 0,
            "movement": self._moving and self._moving.progress(),
            "arrivals": [event._asdict() for event in self.shop.arrivals],
            "exceptions": [event._asdict() for event in self.shop.exceptions],
        }


class _Writer:
    """Writes answers in one shape, and remembers what it wrote about orders and parcels."""

    def __init__(self, shape: ResponseFormat) -> None:
        self.shape = shape
        self._bodies: dict[tuple[str, int, int], bytes] = {}

    def order(self, shop: Shop, order_id: int) -> Reply:
        return self._remembered("order", order_id, shop.revision(order_id), shop.order)

    def fulfillment(self, shop: Shop, fulfillment_id: int) -> Reply:
        revision = shop.revision(shop.order_id_of(fulfillment_id))
        return self._remembered("fulfillment", fulfillment_id, revision, shop.fulfillment)

    def written(self, status: int, value: Any) -> Reply:
        return Reply(status, b"" if self.shape.empty_after_writing else to_json(value))

    def _remembered(
        self, name: str, subject_id: int, revision: int, read: Callable[[int], dict[str, Any]]
    ) -> Reply:
        key = (name, subject_id, revision)
        body = self._bodies.get(key)
        if body is None:
            body = to_json(self.shape.shaped(name, read(subject_id)))
            if len(self._bodies) >= _BODIES_KEPT:
                self._bodies.clear()
            self._bodies[key] = body
        return Reply(HTTPStatus.OK, body)


def _check_account(request: web.BaseRequest, account: str, uuid: str) -> None:
    if request.headers.get("x-api-key") != API_KEY:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "the api key is missing or wrong")
    if account != uuid:
        raise Refusal(HTTPStatus.FORBIDDEN, "the api key does not belong to this account")


def _allow(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"only {' and '.join(allowed)} here")


def _fields(body: bytes, name: str) -> dict[str, Any]:
    """The fields of a body, wrapped or bare."""
    try:
        fields = from_json(body)
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if isinstance(fields, dict) and name in fields:
        fields = fields[name]
    if not isinstance(fields, dict):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, {name: ["is not an object"]})
    return fields


def _changes(body: bytes) -> dict[str, Any]:
    """What a status update sets; strict, so that a client's slip shows in a rehearsal."""
    fields = _fields(body, "order")
    types = {"status": str, "automatic_carrier_updates": bool, "force": bool}
    if not fields.keys() & {"status", "automatic_carrier_updates"}:
        raise RefusedValue("order", "has nothing to update")
    return _typed(fields, types)


def _new_webhook(body: bytes) -> dict[str, Any]:
    fields = _fields(body, "webhook")
    types = {"topic": str, "address": str}
    for name in types.keys() - fields.keys():
        raise RefusedValue(name, "is missing")
    return _typed(fields, types)


def _typed(fields: dict[str, Any], types: Mapping[str, type]) -> dict[str, Any]:
    for name, value in fields.items():
        if name not in types:
            raise RefusedValue(name, "is not a field")
        if not isinstance(value, types[name]):
            raise RefusedValue(name, f"is not a {types[name].__name__}")
    return fields


def _summary(received: Any) -> dict[str, Any]:
    return {
        "sender": received.sender,
        "recipients": received.recipients,
        "subject": str(received.message["Subject"] or ""),
        "message_id": str(received.message["Message-ID"] or ""),
    }


def _response(reply: Reply, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, content_type=reply.content_type, headers=headers
    )


async def _misbehave(
    request: web.BaseRequest, reply: Reply, injected: InjectedFault[Fault], faults: Faults
) -> web.StreamResponse:
    match injected.kind:
        case Fault.TOO_MANY_REQUESTS:
            refusal = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many requests")
            return _response(refusal.reply, {"Retry-After": _retry_after(faults)})
        case Fault.SERVER_ERROR:
            return _response(_server_error(injected))
        case Fault.NOT_JSON:
            return _response(_not_json(injected))
        case Fault.TRUNCATED if injected.variant < 0.5:
            return _response(reply._replace(body=_first_half(reply.body)))
        case _:
            return await _break_off(request, reply, injected, faults)


async def _break_off(
    request: web.BaseRequest, reply: Reply, injected: InjectedFault[Fault], faults: Faults
) -> web.StreamResponse:
    """End the connection: after half of what was promised, or before anything was said."""
    response: web.StreamResponse = web.Response()
    if injected.kind is not Fault.DROPPED:
        response = await _half(request, reply)
    if injected.kind is Fault.STALLED:
        await asyncio.sleep(faults.stall_seconds)
    if isinstance(request.transport, asyncio.WriteTransport):
        # closing sends what was written; aborting resets the connection
        end = request.transport.abort if injected.kind is Fault.DROPPED else request.transport.close
        end()
    return response


async def _half(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Promise the whole body and send half of it."""
    response = web.StreamResponse(status=reply.status)
    response.content_type = reply.content_type
    response.content_length = max(2, len(reply.body))
    await response.prepare(request)
    await response.write(_first_half(reply.body))
    return response


def _first_half(body: bytes) -> bytes:
    return body[: len(body) // 2] or b"{"


def _retry_after(faults: Faults) -> str:
    if faults.retry_after == "seconds":
        return str(faults.retry_after_seconds)
    date = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=faults.retry_after_seconds)
    return format_datetime(date, usegmt=True)


def _server_error(injected: InjectedFault[Fault]) -> Reply:
    """Any of them before acting; 503 never after, for it means that nothing was done."""
    possible = _SERVER_ERRORS[:-1] if injected.acts else _SERVER_ERRORS
    drawn = injected.variant * len(possible)
    status = possible[int(drawn)]
    if drawn % 1 < 0.5:
        return Refusal(status, status.phrase).reply
    title = f"{status.value} {status.phrase}".encode()
    return Reply(status, _PAGE % (title, title), "text/html")


def _not_json(injected: InjectedFault[Fault]) -> Reply:
    if injected.variant < 0.5:
        title = b"Down for maintenance"
        return Reply(HTTPStatus.OK, _PAGE % (title, title), "text/html")
    return Reply(HTTPStatus.OK, b"OK, but not as you know it")
