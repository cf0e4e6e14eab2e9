"""Start the sandbox and print the credentials to use."""

import argparse
import datetime as dt
import inspect
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefect_tracktor.client import checked_uuid
from prefect_tracktor.sandbox import (
    UUID,
    Faults,
    MailFaults,
    MailServer,
    Movement,
    ResponseFormat,
    RunningSandbox,
    Sandbox,
    Shop,
)

_WRITTEN_BY_US = "# written by prefect-tracktor sandbox\n"
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        shop = Shop(
            orders=options.orders,
            seed=options.seed,
            expired=options.expired,
            just_ready=options.just_ready,
            **({"now": dt.datetime.now(dt.UTC)} if options.today else {}),
        )
        movement = _movement(options, shop)
        mail = MailServer(
            port=options.smtp_port,
            faults=MailFaults(delay_seconds=options.mail_delay_seconds),
            keep_in=options.mailbox,
        )
        tracktor = Sandbox(
            shop,
            faults=Faults.everything(options.fail_rate, **_given(options, Faults)),
            answers=ResponseFormat(wrapped=not options.bare, **_given(options, ResponseFormat)),
            mail=mail,
            port=options.port,
            uuid=checked_uuid(options.uuid),
        )
        _refuse_to_replace(options.env_file)
    except ValueError as invalid:
        parser.error(str(invalid))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as running:
        _listen(running, mail, options.smtp_port, "--smtp-port", parser)
        _listen(running, tracktor, options.port, "--port", parser)
        if options.prepared:
            tracktor.prepare()
        if options.csv:
            shop.write_orders_csv(options.csv)
        if movement is not None:
            tracktor.move(movement)
        where = _whereabouts(tracktor, mail)
        if options.env_file:
            _write_variables(options.env_file, _variables(where, options))
        if options.json:
            print(where.to_json(), flush=True)
        else:
            _introduce(where, shop, options)
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-tracktor sandbox",
        usage="prefect-tracktor sandbox [OPTIONS]",
        description="Run a Tracktor, Shopify and a mail server here, with a made-up shop,"
        " until you stop it. Nothing leaves the machine. It prints the addresses and keys to use.",
    )
    add = parser.add_argument
    add("--orders", type=int, default=1000, help="how many orders (1000)")
    add(
        "--seed",
        type=int,
        default=1,
        help="random seed of the shop, the movement and the faults (1)",
    )
    add(
        "--expired",
        type=int,
        help="how many orders have an expired tracking and an email address",
    )
    add("--just-ready", type=int, default=0, help="how many parcels start in Order ready (0)")
    add("--today", action="store_true", help="use today's date instead of 1 June 2026")
    add("--uuid", default=UUID, help="the account's uuid; use another one for each shop")
    add("--port", type=int, default=0, help="Tracktor's port; 0: any free one")
    add("--smtp-port", type=int, default=0, help="the mail server's port; 0: any")
    add("--mailbox", type=Path, metavar="DIR", help="also keep messages here")
    add("--csv", type=Path, metavar="FILE", help="write an orders export here")
    add("--prepared", action="store_true", help="prepare all responses at the start")
    add("--env-file", type=Path, metavar="FILE", help="write the settings for the blocks here")
    add("--json", action="store_true", help="print addresses and keys as JSON, on one line")
    moving = parser.add_argument_group("parcels that move by themselves")
    moving.add_argument("--moving", action="store_true", help="start to move at once")
    _add_fields(moving, Movement)
    faults = parser.add_argument_group("injected faults")
    faults.add_argument(
        "--fail-rate",
        type=float,
        default=0.0,
        help="probability that a request fails, over all kinds of faults",
    )
    _add_fields(faults, Faults)
    faults.add_argument(
        "--mail-delay-seconds", type=float, default=0.0, help="how long a message takes (0.0)"
    )
    shapes = parser.add_argument_group("format of the responses")
    shapes.add_argument("--bare", action="store_true", help="responses are not wrapped")
    _add_fields(shapes, ResponseFormat, without=("wrapped",))
    return parser


def _add_fields(group: Any, model: type[BaseModel], *, without: Sequence[str] = ()) -> None:
    """An option for each field of a model, as its docstring describes it; all share one seed."""
    means = dict(_ATTRIBUTE.findall(inspect.getdoc(model) or ""))
    for name, field in model.model_fields.items():
        if name not in {"seed", *without}:
            kind = {"action": "store_true"} if field.annotation is bool else {"metavar": "N"}
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                default=argparse.SUPPRESS,
                help=means.get(name),
                **kind,
            )


def _given(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name in model.model_fields}


def _movement(options: argparse.Namespace, shop: Shop) -> Movement | None:
    given = _given(options, Movement)
    if not options.moving:
        if without_effect := given.keys() - {"seed"}:
            names = ", ".join(sorted(without_effect))
            raise ValueError(f"say --moving too: without it these have no effect: {names}")
        return None
    movement = Movement.model_validate(given)
    # what cannot move is refused before anything starts
    movement.steps(shop)
    return movement


def _whereabouts(tracktor: Sandbox, mail: MailServer) -> RunningSandbox:
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
        about_url=f"{tracktor.shopify_url}/_sandbox",
        order_ids=tracktor.shop.order_ids,
    )


def _listen(
    running: ExitStack,
    server: AbstractContextManager[Any],
    port: int,
    option: str,
    parser: argparse.ArgumentParser,
) -> None:
    try:
        running.enter_context(server)
    except OSError as error:
        if not port:
            raise
        parser.error(f"{option}: port {port} cannot be used ({error.strerror}); leave it out")


def _refuse_to_replace(path: Path | None) -> None:
    """The settings of a real shop must not be lost; those of another sandbox are worth nothing."""
    there = path.read_bytes() if path is not None and path.exists() else b""
    if there and not there.startswith(_WRITTEN_BY_US.encode()):
        raise ValueError(
            f"--env-file: {path} is there already, and no sandbox wrote it; name another file, or"
            " move it away"
        )


def _write_variables(path: Path, variables: dict[str, str]) -> None:
    """Write all at once: whoever waits for the file must not find half of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.touch(mode=0o600)
    lines = (f"{name}={value}\n" for name, value in variables.items())
    unfinished.write_text("".join([_WRITTEN_BY_US, *lines]), encoding="utf-8")
    unfinished.replace(path)


def _introduce(running: RunningSandbox, shop: Shop, options: argparse.Namespace) -> None:
    example = next(iter(shop.customers_to_write_to()), next(iter(shop.order_ids), "none"))
    print(f"A Tracktor sandbox with a shop of {len(shop.order_ids):,} orders (seed {options.seed})")
    for name, value in {
        "base_url": running.base_url,
        "uuid": running.uuid,
        "api_key": running.api_key,
        "shopify": f"{running.shopify_url} (as base_url; any shop)",
        "client_id": running.shopify_client_id,
        "client_secret": running.shopify_client_secret,
        "access_token": f"{running.shopify_access_token} (instead of these two)",
        "today": f"{shop.now:%Y-%m-%d}" + ("" if options.today else " (--today moves it)"),
        "smtp server": f"{running.smtp_host}:{running.smtp_port} (no login, no TLS)",
        "mailbox": options.mailbox or "in memory",
        "orders export": options.csv or "none (--csv FILE writes one)",
        "example order": example,
        "to look inside": f"{running.about_url}/state and .../messages",
    }.items():
        print(f"  {name:<15}{value}")
    if options.env_file:
        print(f"The settings for the blocks are in {options.env_file}.")
    else:
        print("The settings for the blocks, for another shell:")
        for name, value in _variables(running, options).items():
            print(f"  export {name}={value}")
    print("Serving until Ctrl-C.", flush=True)


def _variables(running: RunningSandbox, options: argparse.Namespace) -> dict[str, str]:
    """What blocks and deployments are made from, as a shell takes it."""
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
