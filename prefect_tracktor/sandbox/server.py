"""HTTP server of the sandbox: Tracktor's API and part of Shopify's, with injected faults."""

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
from prefect_tracktor.sandbox.movement import Movement, Moving
from prefect_tracktor.sandbox.replies import Refusal
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
STATE_PATH = "/_sandbox/state"
UUID = "00000000-0000-4000-8000-000000000001"
API_KEY = "sandbox-key"

_MAX_CALLS = 200_000
_MAX_BODIES = 20_000
_SERVER_ERRORS = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


class Sandbox(BackgroundServer):
    """Tracktor's API and part of Shopify's on loopback, in a background thread.

    Args:
        shop: The shop whose data it serves; by default a shop of 1,000 orders.
        faults: The injected faults; can be replaced at any time.
        response_format: The format of the responses; can be replaced at any time.
        shopify: How the simulated part of Shopify behaves.
        uuid: The account's uuid; give several sandboxes different ones.
        port: The port; 0 takes a free one.

    Attributes:
        shop: The shop whose data it serves.
        shopify: The simulated part of Shopify, for the same shop.
        response_format: The format of the responses.

    Example:
        >>> import httpx
        >>> with Sandbox(Shop(orders=3)) as tracktor:
        ...     order_id = tracktor.shop.order_ids[0]
        ...     response = httpx.get(
        ...         f"{tracktor.base_url}/{tracktor.uuid}/orders/{order_id}.json",
        ...         headers={"x-api-key": tracktor.api_key},
        ...     )
        >>> response.json()["order"]["order_name"]
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
        response_format: ResponseFormat | None = None,
        shopify: ShopifyRules | None = None,
        uuid: str = UUID,
        port: int = 0,
    ) -> None:
        super().__init__()
        self.uuid = uuid
        self.shop = shop or Shop()
        self.shopify = Shopify(self.shop, shopify or ShopifyRules())
        self.response_format = response_format or ResponseFormat()
        self.port = port
        self._injector = FaultInjector(faults or Faults())
        self._calls: deque[tuple[str, str]] = deque(maxlen=_MAX_CALLS)
        self._faults_met: Counter[str] = Counter()
        self._moving: Moving | None = None
        self._deliveries: Deliveries | None = None
        # the bodies of orders and parcels, by the revision of the order
        self._body = lru_cache(_MAX_BODIES)(self._serialize)

    @property
    def base_url(self) -> str:
        """The address for clients, without the account's uuid."""
        return f"{self.shopify_url}{BASE_PATH}"

    @property
    def shopify_url(self) -> str:
        """The `base_url` for `ShopifyCredentials`."""
        return f"http://{self.host}:{self.port}"

    @property
    def faults(self) -> Faults:
        """The injected faults; setting them starts again from their seed."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector = FaultInjector(faults)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The latest 200,000 requests, oldest first: method, and path below the account.

        The path of a request to Shopify begins with `admin/`.
        """
        return list(self._calls.copy())

    @property
    def faults_met(self) -> Counter[str]:
        """The number of requests with each kind of fault."""
        return self._faults_met.copy()

    @property
    def deliveries(self) -> list[Delivery]:
        """The webhook deliveries that have ended."""
        return list(self._deliveries.done) if self._deliveries else []

    def reset_calls(self) -> None:
        """Clear `calls` and `faults_met`."""
        self._calls.clear()
        self._faults_met.clear()

    def prepare(self) -> None:
        """Prepare the responses for the first 20,000 orders, for benchmarks."""
        for order_id in self.shop.order_ids[:_MAX_BODIES]:
            self._body(self.response_format, "order", order_id, self.shop.revision(order_id))

    def wait_for_deliveries(self) -> None:
        """Wait until no webhook delivery is unfinished."""
        if self._portal is not None and self._deliveries is not None:
            self._portal.call(self._deliveries.wait)

    def move(self, movement: Movement | None = None) -> Moving:
        """Move the shop's parcels in the background, until they arrive or the sandbox stops.

        Args:
            movement: Which parcels move, and how fast; by default all that can.

        Returns:
            The movement, to wait for it or to stop it. `shop.arrivals` lists the deliveries.

        Raises:
            RuntimeError: The sandbox is not running, or another movement has not ended.
            ValueError: Fewer parcels can move than requested.
        """
        if self._portal is None:
            raise RuntimeError("the sandbox is not running: start it before its parcels move")
        if self._moving is not None and self._moving.is_running:
            raise RuntimeError("the parcels already move: wait until they end, or stop them first")
        self._moving = Moving(self.shop, movement or Movement())
        return self._running.enter_context(self._moving)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app = web.Application(middlewares=[self._with_faults])
        app.add_routes(self._routes())
        # cancels the handler of a late response when its client disconnects
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        deliveries = self._deliveries = Deliveries()
        loop = asyncio.get_running_loop()

        def deliver(changed: ChangedOrder) -> None:
            if webhooks := self.shop.webhooks:
                loop.call_soon_threadsafe(
                    deliveries.post, changed, webhooks, self.response_format, self._injector
                )

        try:
            await runner.setup()
            site = web.TCPSite(runner, self.host, self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            self.shop.add_listener(deliver)
            try:
                yield
            finally:
                self.shop.remove_listener(deliver)
        finally:
            await runner.cleanup()
            await deliveries.close()

    def _routes(self) -> list[web.RouteDef]:
        account, number = f"{BASE_PATH}/{{account}}", r"{id:\d{1,19}}"
        return [
            web.get(STATE_PATH, self._show_state),
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
        if request.path == STATE_PATH:
            return await self._respond(request, handler)
        path = request.path.removeprefix(f"{BASE_PATH}/").partition("/")[2]
        self._calls.append((request.method, path))
        await request.read()
        injected, faults = self._injector.next_request(), self.faults
        response: web.StreamResponse = web.Response()
        if injected.is_processed:
            response = await self._respond(request, handler)
        if injected.delay_seconds:
            await asyncio.sleep(injected.delay_seconds)
        if injected.kind is None or not isinstance(response, web.Response):
            return response
        self._faults_met[injected.kind] += 1
        return await _faulty(request, response, injected, faults)

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if "account" in request.match_info:
                self._check_account(request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response
        except web.HTTPException as error:
            return Refusal(error.status, error.reason).response
        except UnknownId as unknown:
            return Refusal(HTTPStatus.NOT_FOUND, str(unknown)).response
        except RefusedValue as refused:
            errors = {refused.field: [refused.problem]}
            return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, errors).response

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
        return await self._get_order(request)

    async def _get_fulfillment(self, request: web.Request) -> web.Response:
        revision = self.shop.revision(self.shop.order_id_of(_id_in(request)))
        return self._show("fulfillment", _id_in(request), revision)

    async def _list_status_options(self, _request: web.Request) -> web.Response:
        return self._reply("status_options", self.shop.status_options)

    async def _list_webhooks(self, _request: web.Request) -> web.Response:
        return self._reply("webhooks", self.shop.webhooks)

    async def _create_webhook(self, request: web.Request) -> web.Response:
        webhook = self.shop.create_webhook(**_fields(await request.read(), "webhook", _NewWebhook))
        return self._reply("webhook", webhook, HTTPStatus.CREATED)

    async def _delete_webhook(self, request: web.Request) -> web.Response:
        self.shop.delete_webhook(_id_in(request))
        return web.json_response({})

    def _reply(self, name: str, value: Any, status: int = HTTPStatus.OK) -> web.Response:
        return web.json_response(self.response_format.shaped(name, value), status=status)

    def _show(self, name: str, subject_id: int, revision: int) -> web.Response:
        body = self._body(self.response_format, name, subject_id, revision)
        return web.Response(body=body, content_type="application/json")

    def _serialize(
        self, response_format: ResponseFormat, name: str, subject_id: int, _revision: int
    ) -> bytes:
        read = self.shop.order if name == "order" else self.shop.fulfillment
        return to_json(response_format.shaped(name, read(subject_id)))

    async def _show_state(self, _request: web.Request) -> web.Response:
        state = {
            "calls": Counter(f"{method} {path}" for method, path in self.calls),
            "faults_met": self._faults_met,
            "status_changes": [change._asdict() for change in self.shop.status_changes],
            "webhooks": self.shop.webhooks,
            "deliveries": [delivery._asdict() for delivery in self.deliveries],
            "steps_left": self._moving.steps_left if self._moving else 0,
            "arrivals": [arrival._asdict() for arrival in self.shop.arrivals],
        }
        return web.json_response(state)


def _id_in(request: web.Request) -> int:
    return int(request.match_info["id"])


class _Update(BaseModel):
    """Body of a status update; strict, so that a rehearsal shows a client's mistakes."""

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
    """Parse the fields of a body, wrapped or not."""
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


async def _faulty(
    request: web.Request, response: web.Response, injected: InjectedFault, faults: Faults
) -> web.StreamResponse:
    match injected.kind:
        case Fault.TOO_MANY_REQUESTS:
            refusal = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many requests").response
            refusal.headers["Retry-After"] = str(faults.retry_after_seconds)
            return refusal
        case Fault.SERVER_ERROR:
            return _server_error(injected)
        case Fault.NOT_JSON if injected.variant < 0.5:
            return _page(HTTPStatus.OK, "Down for maintenance")
        case Fault.NOT_JSON:
            return web.Response(text="This is not JSON", content_type="application/json")
        case Fault.TRUNCATED:
            return await _first_half(request, response, closes=injected.variant >= 0.5)
        case _:
            if request.transport is not None:
                request.transport.abort()
            return response


async def _first_half(
    request: web.Request, whole: web.Response, *, closes: bool
) -> web.StreamResponse:
    """Send half of a body: as if it were whole, or with the end of the connection after it."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    half = body[: len(body) // 2] or b"{"
    response = web.StreamResponse(status=whole.status)
    response.content_type = whole.content_type
    response.content_length = max(2, len(body)) if closes else len(half)
    await response.prepare(request)
    await response.write(half)
    if closes and request.transport is not None:
        request.transport.close()  # after the written bytes are sent
    return response


def _server_error(injected: InjectedFault) -> web.Response:
    """Draw a server error; never 503 for a processed request, as it means "not processed"."""
    possible = _SERVER_ERRORS[:-1] if injected.is_processed else _SERVER_ERRORS
    drawn = injected.variant * len(possible)
    status = possible[int(drawn)]
    if drawn % 1 < 0.5:
        return Refusal(status, status.phrase).response
    return _page(status, f"{status.value} {status.phrase}")


def _page(status: HTTPStatus, title: str) -> web.Response:
    return web.Response(status=status, text=_PAGE.format(title), content_type="text/html")
