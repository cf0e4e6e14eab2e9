"""The command `prefect-tracktor sandbox`."""

import datetime as dt
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.types import Port
from cyclopts.validators import Number
from pydantic import ValidationError

from prefect_tracktor.sandbox import (
    UUID,
    Faults,
    MailServer,
    Movement,
    ResponseFormat,
    RunningSandbox,
    Sandbox,
    Shop,
)
from prefect_tracktor.sandbox.server import STATE_PATH
from prefect_tracktor.validation import checked_uuid, problems_of

_WRITTEN_BY_US = "# written by prefect-tracktor sandbox\n"
_MOVEMENT = Group("Moving parcels", sort_key=1)
_FAULTS = Group("Injected faults", sort_key=2)
_FORMAT = Group("Format of the responses", sort_key=3)

app = App(
    name="prefect-tracktor sandbox",
    help="Run a Tracktor, Shopify and a mail server here, with a made-up shop, until you stop it."
    " Nothing leaves the machine. It prints the addresses and keys to use.",
    help_format="markdown",
    version_flags=[],
    default_parameter=Parameter(negative="", show_default=lambda value: value or None),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the shop and of the servers.

    Attributes:
        orders: How many orders.
        seed: Random seed of the shop, the movement and the faults.
        expired: How many orders have an expired tracking and an email address.
        just_ready: How many parcels start in Order ready.
        today: Use today's date instead of 1 June 2026.
        uuid: The account's uuid; use another one for each shop.
        port: Tracktor's port; 0 takes a free one.
        smtp_port: The mail server's port; 0 takes a free one.
        mailbox: Also write messages to this folder.
        csv: Write an orders export to this file.
        prepared: Prepare all responses at the start.
        env_file: Write the settings for the blocks to this file.
        json: Print addresses and keys as JSON, on one line.
    """

    orders: int = 1000
    seed: int = 1
    expired: int | None = None
    just_ready: int = 0
    today: bool = False
    uuid: str = UUID
    port: Port = 0
    smtp_port: Port = 0
    mailbox: Path | None = None
    csv: Path | None = None
    prepared: bool = False
    env_file: Path | None = None
    json: bool = False


_DEFAULTS = Options()


@app.default
def serve(
    options: Annotated[Options, Parameter(name="*")] = _DEFAULTS,
    *,
    moving: Annotated[bool, Parameter(group=_MOVEMENT)] = False,
    movement: Annotated[Movement | None, Parameter(name="*", group=_MOVEMENT)] = None,
    fail_rate: Annotated[float, Parameter(group=_FAULTS, validator=Number(gte=0, lte=1))] = 0.0,
    faults: Annotated[Faults | None, Parameter(name="*", group=_FAULTS)] = None,
    response_format: Annotated[ResponseFormat | None, Parameter(name="*", group=_FORMAT)] = None,
) -> None:
    """Start the sandbox, print its addresses and credentials, and serve until it is stopped.

    Args:
        options: Options of the shop and of the servers.
        moving: Start to move parcels at once.
        movement: The movement, with `moving`.
        fail_rate: Probability that a request fails, over all kinds of faults.
        faults: The injected faults.
        response_format: The format of the responses.
    """
    shop = Shop(
        orders=options.orders,
        seed=options.seed,
        expired=options.expired,
        just_ready=options.just_ready,
        **({"now": dt.datetime.now(dt.UTC)} if options.today else {}),
    )
    if movement and not moving:
        names = ", ".join(sorted(movement.model_fields_set))
        raise ValueError(f"add --moving: without it these options have no effect: {names}")
    movement = (movement or Movement()).model_copy(update={"seed": options.seed})
    if moving:
        movement.steps(shop)  # fails before anything starts, if too few parcels can move
    given = faults.model_dump(exclude_unset=True) if faults else {}
    mail = MailServer(port=options.smtp_port, folder=options.mailbox)
    tracktor = Sandbox(
        shop,
        faults=Faults.everything(fail_rate, **given | {"seed": options.seed}),
        response_format=response_format,
        port=options.port,
        uuid=checked_uuid(options.uuid),
    )
    _check_env_file(options.env_file)
    _serve(options, mail, tracktor, movement if moving else None)


def _serve(
    options: Options, mail: MailServer, tracktor: Sandbox, movement: Movement | None
) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as servers:
        _enter(servers, mail, "--smtp-port", options.smtp_port)
        _enter(servers, tracktor, "--port", options.port)
        if options.prepared:
            tracktor.prepare()
        if options.csv:
            tracktor.shop.write_orders_csv(options.csv)
        if movement:
            tracktor.move(movement)
        running = _running(tracktor, mail)
        if options.env_file:
            _write_variables(options.env_file, _variables(running, options))
        if options.json:
            print(running.to_json(), flush=True)
        else:
            _print_introduction(running, tracktor.shop, options)
        stop.wait()


def _enter(
    servers: ExitStack, server: AbstractContextManager[object], option: str, port: int
) -> None:
    try:
        servers.enter_context(server)
    except OSError as error:
        if not port or error.filename:  # a folder for messages, which the command names
            raise
        raise ValueError(
            f"{option}: port {port} cannot be used ({error.strerror}); leave it out"
        ) from None


def _check_env_file(path: Path | None) -> None:
    """Refuse to replace the settings of a real shop; those of another sandbox are worth nothing."""
    content = path.read_bytes() if path is not None and path.exists() else b""
    if content and not content.startswith(_WRITTEN_BY_US.encode()):
        raise ValueError(
            f"--env-file: {path} is there already, and no sandbox wrote it; name another file, or"
            " move it away"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, print errors without a traceback, and return the exit status."""
    try:
        app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return 2  # cyclopts has printed the reason
    except ValidationError as invalid:
        print(*problems_of(invalid), sep="\n", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _running(tracktor: Sandbox, mail: MailServer) -> RunningSandbox:
    return RunningSandbox(
        base_url=tracktor.base_url,
        uuid=tracktor.uuid,
        api_key=tracktor.api_key,
        shopify_url=tracktor.shopify_url,
        shopify_client_id=tracktor.shopify_client_id,
        shopify_client_secret=tracktor.shopify_client_secret,
        shopify_access_token=tracktor.shopify_access_token,
        smtp_host=mail.host,
        smtp_port=mail.port,
        state_url=f"{tracktor.shopify_url}{STATE_PATH}",
        order_ids=tracktor.shop.order_ids,
    )


def _write_variables(path: Path, variables: dict[str, str]) -> None:
    """Write a file in one step, so that a program that waits for it never reads a part of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.touch(mode=0o600)
    lines = (f"{name}={value}\n" for name, value in variables.items())
    unfinished.write_text("".join([_WRITTEN_BY_US, *lines]), encoding="utf-8")
    unfinished.replace(path)


def _print_introduction(running: RunningSandbox, shop: Shop, options: Options) -> None:
    example = next(iter(shop.customers_to_write_to()), next(iter(shop.order_ids), "none"))
    print(f"A Tracktor sandbox with a shop of {len(shop.order_ids):,} orders (seed {options.seed})")
    for name, value in {
        "present time": f"{shop.now:%Y-%m-%d}" + ("" if options.today else " (change: --today)"),
        "mailbox": options.mailbox or "in memory",
        "orders export": options.csv or "none (--csv FILE writes one)",
        "example order": example,
        "access token": f"{running.shopify_access_token} (instead of SHOPIFY_CLIENT_...)",
        "state": running.state_url,
    }.items():
        print(f"  {name:<15}{value}")
    if options.env_file:
        print(f"The settings for the blocks are in {options.env_file}.")
    else:
        print("The settings for the blocks, for another shell:")
        for name, value in _variables(running, options).items():
            print(f"  export {name}={value}")
    print("Serving until Ctrl-C.", flush=True)


def _variables(running: RunningSandbox, options: Options) -> dict[str, str]:
    """Return the variables for blocks and deployments, quoted for a shell."""
    variables = {
        "TRACKTOR_UUID": running.uuid,
        "TRACKTOR_API_KEY": running.api_key,
        "TRACKTOR_BASE_URL": running.base_url,
        "SMTP_HOST": running.smtp_host,
        "SMTP_PORT": str(running.smtp_port),
        "SMTP_SECURITY": "none",
        "SHOPIFY_SHOP": "sandbox-shop",
        "SHOPIFY_CLIENT_ID": running.shopify_client_id,
        "SHOPIFY_CLIENT_SECRET": running.shopify_client_secret,
        "SHOPIFY_BASE_URL": running.shopify_url,
        "TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>",
    }
    if options.csv:
        variables["TRACKTOR_ORDERS"] = str(options.csv.resolve())
    return {name: shlex.quote(value) for name, value in variables.items()}


if __name__ == "__main__":
    sys.exit(main())
