"""Takes Tracktor's webhooks over HTTP: answers 200 only when a delivery is safe on disk.

The address holds a secret token, as Tracktor signs nothing. What is behind it is read by `lookups`
and sent to Prefect by `emitter`, whenever these two can be reached.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from secrets import compare_digest
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import DatabaseError, InvalidInput
from prefect_tracktor.events.schema import Subject, read_delivery
from prefect_tracktor.webhooks.emitter import Emitter
from prefect_tracktor.webhooks.processor import DeliveryProcessor, SingleWriter
from prefect_tracktor.webhooks.queue import WebhookQueue

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MIN_TOKEN_LENGTH = 22
_TOKEN_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_HEALTH_PATH = "/health"
_SIZE_DIGITS = 20

_log = logging.getLogger(__name__)


def checked_token(token: str) -> str:
    """Refuse a token that could be guessed, or that does not fit into an address."""
    if len(token) < MIN_TOKEN_LENGTH or not _TOKEN_CHARACTERS.issuperset(token):
        raise InvalidInput(
            f"the token must have at least {MIN_TOKEN_LENGTH} letters, digits, - or _, drawn by"
            f" chance; this one has {len(token)} characters. prefect-tracktor receive token"
            " makes one"
        )
    return token


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """How the receiver listens, and what it takes."""

    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8484
    max_body_bytes: int = 1_000_000
    read_seconds: int = 10
    max_connections: int = 1000
    misses_per_hour: int = 500
    confirm_after: timedelta = timedelta(seconds=10)
    resend_after: timedelta = timedelta(minutes=2)
    keep_for: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        checked_token(self.token)


@dataclass(eq=False, slots=True)
class _Entry:
    """A delivery that waits to be written, and what became of it."""

    subject: Subject
    written: bool = False
    error: DatabaseError | None = None


class InboxWriter:
    """Writes deliveries into the queue; those that come together share one commit."""

    def __init__(
        self,
        account: str,
        queue: WebhookQueue,
        writer: SingleWriter,
        *,
        written: Callable[[], None],
    ) -> None:
        self._account = account
        self._queue = queue
        self._writer = writer
        self._tell = written
        self._entries: list[_Entry] = []
        self._turn = anyio.Lock()

    async def take(self, subject: Subject) -> None:
        """Write a delivery."""
        entry = _Entry(subject)
        self._entries.append(entry)
        async with self._turn:
            # whoever had the turn before may have written this one, too
            if not entry.written and entry.error is None:
                await self._write_all()
        if not entry.written:
            raise entry.error or _not_written()

    async def _write_all(self) -> None:
        entries, self._entries = self._entries, []
        try:
            subjects = [entry.subject for entry in entries]
            await self._writer.run(self._queue.add, self._account, subjects)
        except BaseException as error:
            # whatever it is, nobody's delivery is on disk
            failure = error if isinstance(error, DatabaseError) else _not_written()
            for entry in entries:
                entry.error = failure
            if failure is error:
                return
            raise
        for entry in entries:
            entry.written = True
        self._tell()


def _not_written() -> DatabaseError:
    return DatabaseError("a delivery could not be written into the queue", may_have_arrived=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    headers: Headers = field(default_factory=list)

    async def give(self, send: Send) -> None:
        body = self.status.phrase.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
        ]
        if self.status is not HTTPStatus.OK:
            # whatever else is on the way is not read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Refusal(Exception):
    def __init__(self, status: HTTPStatus, reason: str, headers: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.answer = _Answer(status, list(headers))


class Receiver:
    """The ASGI application. It holds no request in memory beyond the largest body allowed."""

    def __init__(self, inbox_writer: InboxWriter, options: ReceiverOptions) -> None:
        self._intake = inbox_writer
        self._options = options
        self._address = _digest(f"/{options.token}")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        try:
            answer = await self._answer(scope, receive)
        except _Refusal as refusal:
            # neither the address nor the body is repeated: one is a secret, the other personal
            _log.warning("refused (%d): %s", refusal.answer.status, refusal)
            answer = refusal.answer
        if answer is not None:
            await answer.give(send)

    async def _answer(self, scope: Message, receive: Receive) -> _Answer | None:
        if scope["path"] == _HEALTH_PATH:
            return _Answer(HTTPStatus.OK)
        if not compare_digest(_digest(scope["path"]), self._address):
            raise _Refusal(HTTPStatus.NOT_FOUND, "a request for an unknown path")
        if scope["method"] != "POST":
            allowed = [(b"allow", b"POST")]
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "it was not posted", allowed)
        body = await self._body(scope, receive)
        if body is None:
            _log.warning("a sender hung up before its delivery was complete")
            return None
        return await self._take(body)

    async def _take(self, body: bytes) -> _Answer:
        try:
            subject = read_delivery(body)
        except InvalidInput as invalid:
            raise _Refusal(HTTPStatus.BAD_REQUEST, str(invalid)) from None
        try:
            await self._intake.take(subject)
        except DatabaseError as error:
            later = [(b"retry-after", b"30")]
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), later) from None
        return _Answer(HTTPStatus.OK)

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body; `None` if the sender hung up."""
        announced = dict(scope["headers"]).get(b"content-length", b"")[:_SIZE_DIGITS]
        self._refuse_if_too_large(int(announced) if announced.isdigit() else 0)
        body = bytearray()
        try:
            async with asyncio.timeout(self._options.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    self._refuse_if_too_large(len(body))
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, "its body came too slowly") from None

    def _refuse_if_too_large(self, size: int) -> None:
        if size > self._options.max_body_bytes:
            raise _Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"its body is larger than {self._options.max_body_bytes} bytes",
            )


def _digest(path: str) -> bytes:
    """Of equal length for all, so that comparing takes equally long."""
    return sha256(path.encode("utf-8", "replace")).digest()


class _ImpatientProtocol(H11Protocol):
    """HTTP that hangs up on senders who take too long for the head of a request."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
        elif self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        # uvicorn types it as if there were always one
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.timeout_keep_alive, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        if not self._is_answering():
            _log.warning("a sender took too long to ask, and was disconnected")
            self.transport.close()


async def serve(
    credentials: TracktorCredentials,
    queue: WebhookQueue,
    options: ReceiverOptions,
    *,
    task_status: TaskStatus[tuple[uvicorn.Server, int]] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Take deliveries, read what they are about and emit events, until told to stop."""
    writer = SingleWriter()
    await writer.run(queue.prepare)
    emitter = Emitter(
        credentials.account,
        queue,
        writer,
        confirm_after=options.confirm_after,
        resend_after=options.resend_after,
        keep_for=options.keep_for,
    )
    lookups = DeliveryProcessor(
        credentials, queue, writer, news=emitter.wake, misses_per_hour=options.misses_per_hour
    )
    inbox_writer = InboxWriter(credentials.account, queue, writer, written=lookups.wake)
    server = uvicorn.Server(_server_config(Receiver(inbox_writer, options), options))
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family) as listening:
        # asyncio sets this on the sockets that it makes itself; without, answers wait for 40 ms
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listening.getsockname()[1]
        async with anyio.create_task_group() as group:
            group.start_soon(lookups.run)
            group.start_soon(emitter.run)
            _log.info("listening on %s, port %d", options.host, port)
            task_status.started((server, port))
            await server.serve(sockets=[listening])
            group.cancel_scope.cancel()
    _log.info("stopped")


def _server_config(receiver: Receiver, options: ReceiverOptions) -> uvicorn.Config:
    return uvicorn.Config(
        receiver,
        http=_ImpatientProtocol,
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
