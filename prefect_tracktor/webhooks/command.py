"""The command `prefect-tracktor receive`: the webhook receiver, and help to set it up."""

import asyncio
import logging
import secrets
import signal
from typing import Annotated

from cyclopts import App, Parameter
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.saved_blocks import find_block
from prefect_tracktor.setup.environment import Environment, settings
from prefect_tracktor.webhooks.cloud import cloud_webhook_template
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.receiver import DEFAULTS, ReceiverOptions, serve

app: App = App(
    name="receive",
    help="Receive Tracktor's webhooks and turn them into Prefect events.\n\n"
    "Tracktor posts a message to an address of yours when a parcel moves. This command listens at"
    " that address, reads the parcel from Tracktor, and emits an event such as"
    " tracktor.fulfillment.delivered, which starts your flows. It runs until you stop it.",
    help_epilogue="""\
To start, create a token and keep it, put a reverse proxy with https in front of the port, and give
Tracktor the address https://YOUR-HOST/TOKEN:

    prefect-tracktor receive token
    export TRACKTOR_RECEIVER_TOKEN=...     # what it printed
    prefect-tracktor receive --credentials tracktor

"React to events" in the documentation has a configuration for nginx. GET /health answers 200 while
the receiver runs. With Prefect Cloud you can do without a receiver: see the command template.

Environment variables, also read from the file .env in the working directory:

- TRACKTOR_RECEIVER_TOKEN: the secret part of the address
- TRACKTOR_CREDENTIALS: the name of a saved TracktorCredentials block, instead of --credentials.
  Without a block: TRACKTOR_UUID and TRACKTOR_API_KEY, and if needed TRACKTOR_BASE_URL (a sandbox)
  and TRACKTOR_API_TIME_ZONE (for times without an offset)
- TRACKTOR_QUEUE_URL: the database that deliveries are stored in, such as
  postgresql://user:password@host/database; by default a SQLite file in the Prefect home
- PREFECT_API_URL: the Prefect server that events are sent to; for Prefect Cloud also
  PREFECT_API_KEY
""",
    sort_key=4,
    version_flags=[],
    default_parameter=Parameter(show_default=True),
)

_ACCOUNT_VARIABLES = {
    "uuid": "TRACKTOR_UUID",
    "api_key": "TRACKTOR_API_KEY",
    "base_url": "TRACKTOR_BASE_URL",
    "time_zone": "TRACKTOR_API_TIME_ZONE",
}

Credentials = Annotated[
    str, Parameter(show_default=False, help="The name of a saved TracktorCredentials block.")
]


@app.default
def receive(
    options: Annotated[ReceiverOptions, Parameter(name="*")] = DEFAULTS,
    *,
    credentials: Credentials = "",
) -> None:
    """Receive webhooks until stopped."""
    variables = settings()
    account = _credentials(credentials, variables)
    _check_prefect()
    token = _required(variables, "TRACKTOR_RECEIVER_TOKEN")
    queue = WebhookQueue.model_validate({"url": variables.get("TRACKTOR_QUEUE_URL", "")})
    _log_to_standard_error()
    # uvicorn stops gracefully and then raises the signal again, which must not end the process
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    try:
        asyncio.run(serve(account, queue, token, options))
    except (OSError, OverflowError) as error:  # a port in use, or a number out of range
        raise InvalidInput(str(error)) from None


@app.command
def template(*, credentials: Credentials = "") -> None:
    """Print the template for a webhook in Prefect Cloud, which needs no receiver."""
    print(cloud_webhook_template(_credentials(credentials, settings()).account))


@app.command
def token() -> None:
    """Print a new token for the receiver's address."""
    print(secrets.token_urlsafe(32))


def _credentials(name: str, variables: Environment) -> TracktorCredentials:
    """Load a saved block, or make one of the variables."""
    if not (name := name or variables.get("TRACKTOR_CREDENTIALS", "")):
        for variable in ("TRACKTOR_UUID", "TRACKTOR_API_KEY"):
            _required(variables, variable)
        return TracktorCredentials.model_validate(
            {
                field: variables[variable]
                for field, variable in _ACCOUNT_VARIABLES.items()
                if variable in variables
            }
        )
    _check_prefect()
    if (block := find_block(TracktorCredentials, name)) is None:
        raise InvalidInput(
            f"there is no block tracktor-credentials/{name}: save it with prefect-tracktor blocks,"
            " or name another one with --credentials"
        )
    return block


def _check_prefect() -> None:
    """Refuse Prefect's temporary server, which has no blocks and stores no events."""
    if not PREFECT_API_URL.value():
        raise InvalidInput("set PREFECT_API_URL, or log in with prefect cloud login")


def _required(variables: Environment, variable: str) -> str:
    if value := variables.get(variable):
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
