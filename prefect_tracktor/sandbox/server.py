"""A Tracktor on loopback, and the slice of Shopify beside it, over real HTTP; with faults."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json, to_json

from prefect_tracktor.sandbox.background import BackgroundServer
from prefect_tracktor.sandbox.deliveries import Deliveries, Delivery
from prefect_tracktor.sandbox.faults import Fault, FaultInjector, Faults, InjectedFault
from prefect_tracktor.sandbox.mail import MailServer
from prefect_tracktor.sandbox.movement import Movement, Moving
from prefect_tracktor.sandbox.replies import Refusal, reply
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
_SERVER_ERRORS = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


class Sandbox(BackgroundServer):
    """A Tracktor on loopback, running in a background thread.

    Args:
        shop: What it answers about; by default a shop of 1,000 orders.
        faults: What goes wrong on purpose; can be replaced at any time.
        answers: The shape of the answers; can be replaced at any time.
        shopify: How the slice of Shopify behaves.
        mail: A mail server whose messages can be read at `/_sandbox/messages`.
        uuid: The account's uuid, for several accounts beside each other.
        port: The port; 0 takes a free one.

    Attributes:
        shop: What it answers about.
        shopify: The slice of Shopify, about the same shop.
        answers: The shape of the answers.

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

    api_key = API_KEY
    shopify_client_id = CLIENT_ID
    shopify_client_secret = CLIENT_SECRET
    shopify_access_token = ACCESS_TOKEN

    def __init__(
        self,
        shop: Shop | None = None,
        *,
        faults: Faults | None = None,
        answers: ResponseFormat | None = None,
        shopify: ShopifyRules | None = None,
        mail: MailServer | None = None,
        uuid: str = UUID,
        port: int = 0,
    ) -> None:
        super().__init__()
        self.uuid = uuid
        self.shop = shop or Shop()
        self.shopify = Shopify(self.shop, shopify or ShopifyRules())
        self.answers = answers or ResponseFormat()
        self.port = port
        self._mail = mail
        self._injector = FaultInjector(faults or Faults())
        self._calls: deque[tuple[str, str]] = deque(maxlen=_CALLS_KEPT)
        self._faults_met: Counter[str] = Counter()
        self._moving: Moving | None = None
        self._deliveries: Deliveries | None = None
        # what was written about an order or parcel, until that changes
        self._body = lru_cache(_BODIES_KEPT)(self._written)

    @property
    def base_url(self) -> str:
        """The address to give to clients, without the account's uuid."""
        return f"{self.shopify_url}{BASE_PATH}"

    @property
    def shopify_url(self) -> str:
        """The address to give as `base_url` of `ShopifyCredentials`."""
        return f"http://{self.host}:{self.port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose; setting it begins with its seed."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector = FaultInjector(faults)

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
        return list(self._deliveries.done) if self._deliveries else []

    def reset_calls(self) -> None:
        """Forget the calls and the faults that were met."""
        self._calls.clear()
        self._faults_met.clear()

    def prepare(self) -> None:
        """Write the answers about the first 20,000 orders ahead, for benchmarks."""
        for order_id in self.shop.order_ids[:_BODIES_KEPT]:
            self._body(self.answers, "order", order_id, self.shop.revision(order_id))

    def settle(self) -> None:
        """Wait until all webhooks' messages are delivered or given up."""
        if self._portal is not None and self._deliveries is not None:
            self._portal.call(self._deliveries.settle)

    def move(self, movement: Movement | None = None) -> Moving:
        """Set the shop's parcels moving, in the background, until they arrive or this stops.

        Args:
            movement: Which parcels, how fast, and what they meet; by default all that can move.

        Returns:
            The movement, to wait for it or to stop it. `shop.arrivals` and `shop.exceptions` tell
            what really happened.

        Raises:
            RuntimeError: The sandbox is not running, or another movement has not ended.
            ValueError: Fewer parcels can move than are to.
        """
        if self._portal is None:
            raise RuntimeError("the sandbox is not running: start it before its parcels move")
        if self._moving is not None and self._moving.under_way:
            raise RuntimeError("the parcels move already: wait for it, or stop it first")
        self._moving = Moving(self.shop, movement or Movement())
        return self._running.enter_context(self._moving)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app = web.Application(middlewares=[self._with_faults])
        app.add_routes(self._routes())
        # cancelled handlers: a client that gives up must not leave a stalled answer behind
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        deliveries = self._deliveries = Deliveries()
        loop = asyncio.get_running_loop()

        def tell(changed: ChangedOrder) -> None:
            if webhooks := self.shop.webhooks:
                loop.call_soon_threadsafe(
                    deliveries.post, changed, webhooks, self.answers, self._injector
                )

        try:
            await runner.setup()
            site = web.TCPSite(runner, self.host, self.port)
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

    def _routes(self) -> list[web.RouteDef]:
        account, number = f"{BASE_PATH}/{{account}}", r"{id:\d{1,19}}"
        return [
            web.get("/_sandbox/messages", self._show_messages),
            web.get("/_sandbox/state", self._show_state),
            web.post("/admin/oauth/access_token", self.shopify.grant),
            web.post(
                r"/admin/api/{version:\d{4}-\d{2}|unstable}/graphql.json", self.shopify.graphql
            ),
            web.get(f"{account}/orders/{number}.json", self._get_order),
            web.post(f"{account}/orders/{number}.json", self._update_order),
            web.get(f"{account}/fulfillments/{number}.json", self._get_fulfillment),
            web.get(f"{account}/status-options.json", self._list_status_options),
            web.get(f"{account}/webhooks.json", self._list_webhooks),
            web.post(f"{account}/webhooks.json", self._create_webhook),
            web.delete(f"{account}/webhooks/{number}.json", self._delete_webhook),
        ]

    @web.middleware
    async def _with_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_sandbox/"):
            return await self._answer(request, handler)
        path = request.path.removeprefix(f"{BASE_PATH}/").partition("/")[2]
        self._calls.append((request.method, path))
        await request.read()
        injected, faults = self._injector.next_request(), self.faults
        response: web.StreamResponse = web.Response()
        if injected.acts:
            response = await self._answer(request, handler)
        if injected.delay_seconds:
            await asyncio.sleep(injected.delay_seconds)
        if injected.kind is None or not isinstance(response, web.Response):
            return response
        self._faults_met[injected.kind] += 1
        return await _misbehave(request, response, injected, faults)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if "account" in request.match_info:
                self._check_account(request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response
        except web.HTTPException as error:
            return reply({"errors": error.reason}, error.status)
        except UnknownId as unknown:
            return reply({"errors": str(unknown)}, HTTPStatus.NOT_FOUND)
        except RefusedValue as refused:
            errors = {refused.field: [refused.problem]}
            return reply({"errors": errors}, HTTPStatus.UNPROCESSABLE_ENTITY)

    def _check_account(self, request: web.Request) -> None:
        if request.headers.get("x-api-key") != API_KEY:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the api key is missing or wrong")
        if request.match_info["account"] != self.uuid:
            raise Refusal(HTTPStatus.FORBIDDEN, "the api key does not belong to this account")

    async def _get_order(self, request: web.Request) -> web.Response:
        order_id = _id_in(request)
        return self._show("order", order_id, self.shop.revision(order_id))

    async def _update_order(self, request: web.Request) -> web.Response:
        changes = _fields(await request.read(), "order", _Update)
        self.shop.set_status(_id_in(request), **changes)
        return (
            web.Response() if self.answers.empty_after_writing else await self._get_order(request)
        )

    async def _get_fulfillment(self, request: web.Request) -> web.Response:
        revision = self.shop.revision(self.shop.order_id_of(_id_in(request)))
        return self._show("fulfillment", _id_in(request), revision)

    async def _list_status_options(self, _request: web.Request) -> web.Response:
        return reply(self.answers.shaped("status_options", self.shop.status_options))

    async def _list_webhooks(self, _request: web.Request) -> web.Response:
        return reply(self.answers.shaped("webhooks", self.shop.webhooks))

    async def _create_webhook(self, request: web.Request) -> web.Response:
        webhook = self.shop.create_webhook(**_fields(await request.read(), "webhook", _NewWebhook))
        return reply(self.answers.shaped("webhook", webhook), HTTPStatus.CREATED)

    async def _delete_webhook(self, request: web.Request) -> web.Response:
        self.shop.delete_webhook(_id_in(request))
        return web.Response() if self.answers.empty_after_writing else reply({})

    def _show(self, name: str, subject_id: int, revision: int) -> web.Response:
        body = self._body(self.answers, name, subject_id, revision)
        return web.Response(body=body, content_type="application/json")

    def _written(
        self, answers: ResponseFormat, name: str, subject_id: int, _revision: int
    ) -> bytes:
        read = self.shop.order if name == "order" else self.shop.fulfillment
        return to_json(answers.shaped(name, read(subject_id)))

    async def _show_messages(self, _request: web.Request) -> web.Response:
        return reply(
            [
                {
                    "sender": received.sender,
                    "recipients": received.recipients,
                    "subject": str(received.message["Subject"] or ""),
                    "message_id": str(received.message["Message-ID"] or ""),
                }
                for received in (self._mail.messages if self._mail else [])
            ]
        )

    async def _show_state(self, _request: web.Request) -> web.Response:
        state = {
            "calls": Counter(f"{method} {path}" for method, path in self.calls),
            "faults_met": self._faults_met,
            "status_changes": [change._asdict() for change in self.shop.status_changes],
            "webhooks": self.shop.webhooks,
            "deliveries": [delivery._asdict() for delivery in self.deliveries],
            "deliveries_left": len(self._deliveries.under_way) if self._deliveries else 0,
            "movement": self._moving and self._moving.progress(),
            "arrivals": [event._asdict() for event in self.shop.arrivals],
            "exceptions": [event._asdict() for event in self.shop.exceptions],
        }
        return reply(state)


def _id_in(request: web.Request) -> int:
    return int(request.match_info["id"])


class _Update(BaseModel):
    """What a status update sets; strict, so that a client's slip shows in a rehearsal."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: str = ""
    automatic_carrier_updates: bool = False
    force: bool = False

    @model_validator(mode="after")
    def _sets_something(self) -> Self:
        if not self.model_fields_set & {"status", "automatic_carrier_updates"}:
            raise ValueError("has nothing to update")
        return self


class _NewWebhook(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    topic: str
    address: str


def _fields(body: bytes, name: str, model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a body, wrapped or bare."""
    try:
        fields = from_json(body)
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if isinstance(fields, dict) and name in fields:
        fields = fields[name]
    try:
        return model.model_validate(fields).model_dump(exclude_unset=True)
    except ValidationError as invalid:
        errors = {str((*error["loc"], name)[0]): [error["msg"]] for error in invalid.errors()}
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, errors) from None


async def _misbehave(
    request: web.Request, response: web.Response, injected: InjectedFault, faults: Faults
) -> web.StreamResponse:
    match injected.kind:
        case Fault.TOO_MANY_REQUESTS:
            refused = reply({"errors": "too many requests"}, HTTPStatus.TOO_MANY_REQUESTS)
            refused.headers["Retry-After"] = str(faults.retry_after_seconds)
            return refused
        case Fault.SERVER_ERROR:
            return _server_error(injected)
        case Fault.NOT_JSON if injected.variant < 0.5:
            return _page(HTTPStatus.OK, "Down for maintenance")
        case Fault.NOT_JSON:
            words = "OK, but not as you know it"
            return web.Response(text=words, content_type="application/json")
        case Fault.TRUNCATED if injected.variant < 0.5:
            half = _first_half(response)
            return web.Response(
                body=half, status=response.status, content_type=response.content_type
            )
        case _:
            return await _break_off(request, response, injected, faults)


async def _break_off(
    request: web.Request, whole: web.Response, injected: InjectedFault, faults: Faults
) -> web.StreamResponse:
    """End the connection: after half of what was promised, or before anything was said."""
    response = web.StreamResponse(status=whole.status)
    if injected.kind is not Fault.DROPPED:
        response.content_type = whole.content_type
        response.content_length = max(2, len(_body_of(whole)))
        await response.prepare(request)
        await response.write(_first_half(whole))
    if injected.kind is Fault.STALLED:
        await asyncio.sleep(faults.stall_seconds)
    if isinstance(request.transport, asyncio.WriteTransport):
        # closing sends what was written; aborting resets the connection
        end = request.transport.abort if injected.kind is Fault.DROPPED else request.transport.close
        end()
    return response


def _body_of(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


def _first_half(response: web.Response) -> bytes:
    body = _body_of(response)
    return body[: len(body) // 2] or b"{"


def _server_error(injected: InjectedFault) -> web.Response:
    """Any of them before acting; 503 never after, for it means that nothing was done."""
    possible = _SERVER_ERRORS[:-1] if injected.acts else _SERVER_ERRORS
    drawn = injected.variant * len(possible)
    status = possible[int(drawn)]
    if drawn % 1 < 0.5:
        return reply({"errors": status.phrase}, status)
    return _page(status, f"{status.value} {status.phrase}")


def _page(status: HTTPStatus, title: str) -> web.Response:
    return web.Response(status=status, text=_PAGE.format(title), content_type="text/html")
