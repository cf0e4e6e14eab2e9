"""OAuth 2.0: a token endpoint, and an SMTP server that accepts only XOAUTH2 with its tokens."""

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from prefect_tracktor import OAuth2
from tests.support.programs import free_port

MAILBOX = "orders@shop.example"
CHALLENGE = b'{"status":"400","schemes":"Bearer"}'


class TokenEndpoint:
    """Issues tokens, or sends the given responses first.

    With a refresh token it accepts each one once, and replaces it.
    """

    def __init__(
        self,
        responses: Sequence[tuple[int, Any]] = (),
        *,
        expires_in: Any = 3600,
        refresh_token: str = "",
    ) -> None:
        self.refresh_token = refresh_token
        self._lock = threading.Lock()
        self.responses = list(responses)
        self.requested: list[dict[str, str]] = []
        self.issued: list[str] = []
        self.revoked: set[str] = set()
        self._expires_in = expires_in
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def oauth2(self, **fields: Any) -> OAuth2:
        default = {"token_endpoint": self.address, "client_id": "app", "client_secret": "s3cret-s3"}
        return OAuth2.model_validate(default | fields)

    def respond(self, form: dict[str, str]) -> tuple[int, Any]:
        with self._lock:
            return self._respond(form)

    def _respond(self, form: dict[str, str]) -> tuple[int, Any]:
        self.requested.append(form)
        if self.responses:
            return self.responses.pop(0)
        if self.refresh_token:
            if form.get("refresh_token") != self.refresh_token:
                return 400, {"error": "invalid_grant"}
            self.refresh_token = f"r3fresh-{len(self.issued) + 1}"
        self.issued.append(f"t0ken-{len(self.issued)}-{'x' * 100}")
        response = {"access_token": self.issued[-1], "expires_in": self._expires_in}
        return 200, response | ({"refresh_token": self.refresh_token} if self.refresh_token else {})

    def is_valid(self, token: str) -> bool:
        return token in self.issued and token not in self.revoked

    @contextmanager
    def serving(self) -> Iterator["TokenEndpoint"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        respond = self.respond

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"])).decode()
                status, response = respond(dict(parse_qsl(sent)))
                body = response if isinstance(response, bytes) else json.dumps(response).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


class _Handler:
    def __init__(self, endpoint: TokenEndpoint) -> None:
        self.endpoint = endpoint
        self.logins: list[bool] = []
        self.recipients: list[str] = []
        self.challenge_responses: list[Any] = []

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        given = base64.b64decode(args[1]).decode()
        token = given.removeprefix(f"user={MAILBOX}\1auth=Bearer ").removesuffix("\1\1")
        self.logins.append(self.endpoint.is_valid(token))
        if self.logins[-1]:
            return AuthResult(success=True, auth_data=MAILBOX)
        self.challenge_responses.append(await server.challenge_auth(CHALLENGE))
        await server.push("535 5.7.3 Authentication unsuccessful")
        return AuthResult(success=False, handled=True)

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, options
        if not session.authenticated:
            return "530 5.7.57 Client not authenticated"
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del server, session
        self.recipients += envelope.rcpt_tos
        return "250 OK"


@contextmanager
def xoauth2_server(endpoint: TokenEndpoint) -> Iterator[tuple[int, _Handler]]:
    """Run the server; yield its port, and the handler with a record of logins."""
    handler = _Handler(endpoint)
    controller = Controller(
        handler,
        hostname="127.0.0.1",
        port=free_port(),
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN", "PLAIN"],
    )
    controller.start()
    try:
        yield controller.port, handler
    finally:
        controller.stop()
