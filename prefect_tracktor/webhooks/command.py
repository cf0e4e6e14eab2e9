"""`prefect-tracktor receive`: take Tracktor's webhooks, or help to set that up."""

import asyncio
import logging
import os
import secrets
import signal
from datetime import timedelta
from typing import Annotated

from cyclopts import App, Parameter
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.saved_blocks import find_document
from prefect_tracktor.webhooks.cloud import cloud_webhook_template
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.receiver import ReceiverOptions, serve

app: App = App(
    name="receive",
    help="Receive Tracktor's webhooks and emit Prefect events, until you stop it.",
    help_epilogue="""\
Tracktor must reach the address over https: put a reverse proxy in front, which also handles slow
senders and keeps the path out of its log; "React to events" in the documentation has one for nginx.
GET /health answers 200 while the receiver runs.

It reads these environment variables:

- TRACKTOR_RECEIVER_TOKEN: the secret part of the address; deliveries are posted to /TOKEN
- TRACKTOR_CREDENTIALS: the name of a saved TracktorCredentials block; or instead of it
  TRACKTOR_UUID and TRACKTOR_API_KEY, for rehearsals TRACKTOR_BASE_URL, and TRACKTOR_TIME_ZONE for
  times without an offset
- TRACKTOR_QUEUE_URL: the database of the webhook queue, such as
  postgresql://user:password@host/database; left out, a SQLite file in the Prefect home
- PREFECT_API_URL: where events are sent; for Prefect Cloud with PREFECT_API_KEY
""",
    sort_key=4,
    version_flags=[],
    default_parameter=Parameter(show_default=True),
)


@app.default
def receive(
    *,
    credentials: Annotated[str, Parameter(show_default=False)] = "",
    host: str = "127.0.0.1",
    port: int = 8484,
    max_body_bytes: int = 1_000_000,
    read_seconds: int = 10,
    max_connections: int = 1000,
    misses_per_hour: int = 500,
    confirm_after_seconds: float = 10,
    resend_after_seconds: float = 120,
    keep_days: float = 30,
) -> None:
    """Receive deliveries and emit events, until you stop it."""
    account = _credentials(credentials)
    _check_prefect()
    try:
        options = ReceiverOptions(
            token=_required("TRACKTOR_RECEIVER_TOKEN"),
            host=host,
            port=port,
            max_body_bytes=max_body_bytes,
            read_seconds=read_seconds,
            max_connections=max_connections,
            misses_per_hour=misses_per_hour,
            confirm_after=timedelta(seconds=confirm_after_seconds),
            resend_after=timedelta(seconds=resend_after_seconds),
            keep_for=timedelta(days=keep_days),
        )
        _log_to_standard_error()
        # uvicorn stops well and then raises the signal again, which is to end nothing any more
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        asyncio.run(serve(account, _queue(), options))
    except (OSError, OverflowError) as problem:  # a port that is taken, or a number out of range
        raise InvalidInput(str(problem)) from None


@app.command
def template(*, credentials: str = "") -> None:
    """Print the template for a webhook in Prefect Cloud, which needs no receiver."""
    print(cloud_webhook_template(_credentials(credentials).account))


@app.command
def token() -> None:
    """Print a new token for the receiver's address."""
    print(secrets.token_urlsafe(32))


def _credentials(name: str) -> TracktorCredentials:
    """A saved block, or the account in the environment."""
    if not (name := name or os.environ.get("TRACKTOR_CREDENTIALS", "")):
        fields = {"uuid": _required("TRACKTOR_UUID"), "api_key": _required("TRACKTOR_API_KEY")}
        for field in ("base_url", "time_zone"):
            if given := os.environ.get(f"TRACKTOR_{field.upper()}"):
                fields[field] = given
        return TracktorCredentials.model_validate(fields)
    _check_prefect()
    if (block := find_document(TracktorCredentials, name)) is None:
        raise InvalidInput(
            f"there is no block tracktor-credentials/{name}: save it with prefect-tracktor blocks,"
            " or name another one with --credentials"
        )
    return TracktorCredentials.model_validate(block)


def _check_prefect() -> None:
    """Without an address Prefect starts a temporary server: it has no block, and keeps no event."""
    if not PREFECT_API_URL.value():
        raise InvalidInput("set PREFECT_API_URL, or log in with prefect cloud login")


def _queue() -> WebhookQueue:
    return WebhookQueue.model_validate({"url": os.environ.get("TRACKTOR_QUEUE_URL", "")})


def _required(variable: str) -> str:
    if value := os.environ.get(variable):
        return value
    raise InvalidInput(f"set {variable}; prefect-tracktor receive --help says what it is")


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("prefect_tracktor", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("prefect_tracktor").setLevel(logging.INFO)
