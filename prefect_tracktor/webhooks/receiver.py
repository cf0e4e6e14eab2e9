"""HTTP receiver of Tracktor's webhooks: responds 200 once a delivery is stored.

It runs behind a reverse proxy. Its address contains a secret token, because Tracktor does not sign
its deliveries.
"""

import asyncio
import logging
import re
import socket
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPMethod, HTTPStatus
from secrets import compare_digest

import anyio
import uvicorn
from anyio.abc import TaskStatus
from prefect.client.orchestration import get_client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import DatabaseError, InvalidInput
from prefect_tracktor.events.schema import read_delivery
from prefect_tracktor.webhooks.emitter import Emitter
from prefect_tracktor.webhooks.processor import DeliveryProcessor
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.worker import SingleWriter, repeat

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverOptions:
    """Options of the receiver and of its command.

    Attributes:
        host: The address to listen on; the reverse proxy forwards to it.
        port: The port to listen on; 0 takes a free one.
        max_body_bytes: The size limit of a delivery; the response to a larger one is 413.
        read_seconds: The time limit for the body of a delivery; the response to a slower one is
            408.
        max_connections: The limit of open connections; with more, the response is 503.
        misses_per_hour: How many API calls an hour may ask for ids that Tracktor does not know.
        confirm_after_seconds: When to check whether Prefect has stored an event that was sent.
        resend_after_seconds: When to send an event again that Prefect has not stored.
        keep_days: How long to recognize duplicates of events that Prefect has.
    """

    host: str = "127.0.0.1"
    port: int = 8484
    max_body_bytes: int = 1_000_000
    read_seconds: int = 10
    max_connections: int = 1000
    misses_per_hour: int = 500
    confirm_after_seconds: float = 10
    resend_after_seconds: float = 120
    keep_days: float = 30


DEFAULTS = ReceiverOptions()


def checked_token(token: str) -> str:
    """Refuse a token that can be guessed or does not fit into an address."""
    if not _TOKEN.fullmatch(token):
        raise InvalidInput(
            "the token must have at least 22 random letters, digits, - or _;"
            f" this one has {len(token)} characters. prefect-tracktor receive token makes one"
        )
    return token


@dataclass(frozen=True, slots=True)
class Receiver:
    """Web application: POST /TOKEN receives a delivery, GET /health responds OK."""

    account: str
    queue: WebhookQueue
    writer: SingleWriter
    token: str
    options: ReceiverOptions

    def app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/health", _health),
                Route("/{token}", self._deliver, methods=list(HTTPMethod)),
            ],
            exception_handlers={HTTPException: _refuse},
        )
        # a redirect would reveal which paths exist
        app.router.redirect_slashes = False
        return app

    async def _deliver(self, request: Request) -> Response:
        if not compare_digest(request.path_params["token"].encode(), self.token.encode()):
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if request.method != "POST":
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"})
        try:
            subject = read_delivery(await self._read_body(request))
        except InvalidInput as invalid:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(invalid)) from None
        try:
            await self.writer.run(self.queue.add, self.account, subject)
        except DatabaseError as error:
            headers = {"retry-after": "30"}
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers) from None
        return PlainTextResponse("OK")

    async def _read_body(self, request: Request) -> bytes:
        self._check_size(int(request.headers.get("content-length", 0)))
        body = bytearray()
        try:
            async with asyncio.timeout(self.options.read_seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._check_size(len(body))
        except TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "its body came too slowly") from None
        except ClientDisconnect:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "its sender disconnected") from None
        return bytes(body)

    def _check_size(self, size: int) -> None:
        limit = self.options.max_body_bytes
        if size > limit:
            detail = f"its body is larger than {limit} bytes"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


async def _health(_request: Request) -> Response:
    return PlainTextResponse("OK")


async def _refuse(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    # without the path, which is secret, and the body, which has personal data
    _log.warning("refused (%d): %s", error.status_code, error.detail)
    # the rest of the request is not read
    headers = dict(error.headers or {}) | {"connection": "close"}
    phrase = HTTPStatus(error.status_code).phrase
    return PlainTextResponse(phrase, error.status_code, headers)


async def serve(
    credentials: TracktorCredentials,
    queue: WebhookQueue,
    token: str,
    options: ReceiverOptions,
    *,
    task_status: TaskStatus[tuple[uvicorn.Server, int]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Receive deliveries, read their orders and parcels, and emit events, until stopped."""
    account, writer = credentials.account, SingleWriter()
    receiver = Receiver(account, queue, writer, checked_token(token), options)
    processor = DeliveryProcessor(
        credentials, queue, writer, misses_per_hour=options.misses_per_hour
    )
    emitter = Emitter(
        account,
        queue,
        writer,
        confirm_after=timedelta(seconds=options.confirm_after_seconds),
        resend_after=timedelta(seconds=options.resend_after_seconds),
        keep_for=timedelta(days=options.keep_days),
    )
    await writer.run(queue.verify)
    server = uvicorn.Server(_server_config(receiver.app(), options))
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family) as listener:
        # asyncio sets this option on its own sockets; without it, responses are delayed by 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        async with (
            processor.credentials.get_async_client() as tracktor,
            get_client() as prefect,
            anyio.create_task_group() as group,
        ):
            group.start_soon(repeat, partial(processor.process, tracktor))
            group.start_soon(repeat, partial(emitter.send, prefect))
            group.start_soon(partial(repeat, partial(emitter.confirm, prefect), idle_seconds=2))
            group.start_soon(partial(repeat, emitter.prune, idle_seconds=3600))
            _log.info("listening on %s, port %d", options.host, port)
            task_status.started((server, port))
            await server.serve(sockets=[listener])
            group.cancel_scope.cancel()
    _log.info("stopped")


def _server_config(app: Starlette, options: ReceiverOptions) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,  # it would show the token
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=options.max_connections,
        timeout_keep_alive=options.read_seconds,
        timeout_graceful_shutdown=10,
        backlog=2048,
    )
