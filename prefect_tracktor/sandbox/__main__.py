"""Start the sandbox and print the credentials to use."""

import argparse
import datetime as dt
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefect_tracktor.client import checked_uuid
from prefect_tracktor.sandbox import (
    UUID,
    DeliveryFault,
    DeliveryFaults,
    Fault,
    Faults,
    MailFaults,
    MailServer,
    Movement,
    ResponseFormat,
    Sandbox,
    Shop,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        uuid = checked_uuid(options.uuid)
        shop = Shop(
            orders=options.orders,
            seed=options.seed,
            expired=options.expired,
            just_ready=options.just_ready,
            **_present(options),
        )
        faults, answers = _faults(options), _answers(options)
        delivery_faults, movement = _delivery_faults(options), _movement(options, shop)
        mail_faults = MailFaults(delay_seconds=options.mail_delay_ms / 1000)
    except ValueError as invalid:
        parser.error(str(invalid))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as running:
        mail = running.enter_context(
            MailServer(port=options.smtp_port, faults=mail_faults, keep_in=options.mailbox)
        )
        tracktor = running.enter_context(
            Sandbox(
                shop,
                faults=faults,
                delivery_faults=delivery_faults,
                answers=answers,
                mail=mail,
                port=options.port,
                uuid=uuid,
            )
        )
        if options.prepared:
            tracktor.prepare()
        if options.csv:
            shop.write_orders_csv(options.csv)
        if movement is not None:
            tracktor.move(movement)
        if options.env_file:
            variables = _variables(tracktor, mail, options)
            lines = (f"{name}={value}\n" for name, value in variables.items())
            _write_at_once(options.env_file, "".join(lines))
        if options.ready_file:
            _write_at_once(options.ready_file, json.dumps(_whereabouts(tracktor, mail)))
        _introduce(tracktor, mail, options)
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-tracktor sandbox",
        usage="prefect-tracktor sandbox [OPTIONS]",
        description="Run a Tracktor, Shopify and a mail server here, with a made-up shop,"
        " until you stop it. Nothing leaves the machine. It prints the addresses and keys to use.",
    )
    parser.add_argument("--orders", type=int, default=1000, help="how many orders (1000)")
    parser.add_argument("--seed", type=int, default=1, help="what the shop is drawn from (1)")
    parser.add_argument("--expired", type=int, help="how many customers ought to be written to")
    parser.add_argument("--just-ready", type=int, default=0, help="how many begin their way (0)")
    parser.add_argument(
        "--today", action="store_true", help="the shop's present is now, and not 1 June 2026"
    )
    parser.add_argument(
        "--uuid", default=UUID, help="the account's; another for each of many shops"
    )
    parser.add_argument("--port", type=int, default=0, help="Tracktor's port; 0: any free one")
    parser.add_argument("--smtp-port", type=int, default=0, help="the mail server's port; 0: any")
    parser.add_argument("--mailbox", type=Path, metavar="DIR", help="also keeps messages here")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="writes an orders export here")
    parser.add_argument("--prepared", action="store_true", help="writes answers ahead, for speed")
    parser.add_argument(
        "--env-file", type=Path, metavar="FILE", help="writes the variables to rehearse with here"
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="writes addresses as JSON")
    _add_movement(parser.add_argument_group("parcels that move by themselves"))
    _add_faults(parser.add_argument_group("faults on purpose"))
    _add_delivery_faults(parser.add_argument_group("faults of the webhooks' deliveries"))
    shapes = parser.add_argument_group("shapes of the answers")
    shapes.add_argument("--bare", action="store_true", help="answers are not wrapped")
    for name in _shape_names():
        shapes.add_argument(f"--{name.replace('_', '-')}", action="store_true")
    return parser


def _add_faults(group: Any) -> None:
    group.add_argument("--fault-seed", type=int, default=1, help="what faults are drawn from (1)")
    group.add_argument("--fail-rate", type=float, help="all kinds equally, such as 0.2")
    for kind in Fault:
        group.add_argument(f"--{kind.replace('_', '-')}", type=float, help="its probability")
    group.add_argument("--retry-after-seconds", type=int, default=1, help="of a 429 (1)")
    group.add_argument("--latency-ms", type=float, default=0.0, help="how long answers take")
    group.add_argument("--latency-jitter-ms", type=float, default=0.0, help="and at most longer")
    group.add_argument("--mail-delay-ms", type=float, default=0.0, help="how long a message takes")


def _add_movement(group: Any) -> None:
    group.add_argument("--moving", action="store_true", help="begins at once, by these options:")
    group.add_argument("--speed", type=float, help="3600: an hour takes a second; inf: none waits")
    group.add_argument("--moving-parcels", type=int, help="how many parcels; all that can")
    group.add_argument("--movement-seed", type=int, help="what the story is drawn from (1)")
    group.add_argument("--exception-rate", type=float, help="how many meet exceptions (0.1)")
    group.add_argument("--recovery-rate", type=float, help="how many of them go on (0.5)")


def _add_delivery_faults(group: Any) -> None:
    group.add_argument("--delivery-seed", type=int, help="what they are drawn from (1)")
    for kind in DeliveryFault:
        group.add_argument(f"--{kind}", type=float, help="its probability")
    group.add_argument("--held-back-seconds", type=float, help="how late some come, at most (0.5)")
    group.add_argument("--patience-seconds", type=float, help="for how long it is tried (10)")


def _present(options: argparse.Namespace) -> dict[str, dt.datetime]:
    return {"now": dt.datetime.now(dt.UTC)} if options.today else {}


def _shape_names() -> list[str]:
    return [name for name in ResponseFormat.model_fields if name != "wrapped"]


def _faults(options: argparse.Namespace) -> Faults:
    fields = _given({str(kind): getattr(options, kind) for kind in Fault})
    fields |= {
        "latency_seconds": options.latency_ms / 1000,
        "latency_jitter_seconds": options.latency_jitter_ms / 1000,
        "retry_after_seconds": options.retry_after_seconds,
    }
    return Faults.everything(options.fail_rate or 0.0, seed=options.fault_seed, **fields)


def _delivery_faults(options: argparse.Namespace) -> DeliveryFaults:
    fields = {
        name: getattr(options, name) for name in DeliveryFaults.model_fields if name != "seed"
    }
    return DeliveryFaults.model_validate(_given(fields | {"seed": options.delivery_seed}))


def _movement(options: argparse.Namespace, shop: Shop) -> Movement | None:
    given = _given(
        {
            "speed": options.speed,
            "parcels": options.moving_parcels,
            "seed": options.movement_seed,
            "exception_rate": options.exception_rate,
            "recovery_rate": options.recovery_rate,
        }
    )
    if given and not options.moving:
        raise ValueError(f"say --moving too: without it these have no effect: {', '.join(given)}")
    if not options.moving:
        return None
    movement = Movement.model_validate(given)
    # what cannot move is refused before anything starts
    movement.steps(shop)
    return movement


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _answers(options: argparse.Namespace) -> ResponseFormat:
    chosen = {name: getattr(options, name) for name in _shape_names()}
    return ResponseFormat(wrapped=not options.bare, **chosen)


def _whereabouts(tracktor: Sandbox, mail: MailServer) -> dict[str, Any]:
    return {
        "base_url": tracktor.base_url,
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "shopify_url": tracktor.shopify_url,
        "shopify_client_id": tracktor.shopify_client_id,
        "shopify_client_secret": tracktor.shopify_client_secret,
        "shopify_access_token": tracktor.shopify_access_token,
        "smtp_host": mail.host,
        "smtp_port": mail.port,
        "about_url": f"http://{tracktor.host}:{tracktor.port}/_sandbox",
        "order_ids": list(tracktor.shop.order_ids),
    }


def _write_at_once(path: Path, text: str) -> None:
    """Whoever waits for the file must not find half of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _introduce(tracktor: Sandbox, mail: MailServer, options: argparse.Namespace) -> None:
    shop = tracktor.shop
    example = next(iter(shop.customers_to_write_to()), next(iter(shop.order_ids), "none"))
    print(f"A Tracktor sandbox with a shop of {len(shop.order_ids):,} orders (seed {options.seed})")
    for name, value in {
        "base_url": tracktor.base_url,
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "shopify": f"{tracktor.shopify_url} (as base_url; any shop)",
        "client_id": tracktor.shopify_client_id,
        "client_secret": tracktor.shopify_client_secret,
        "access_token": f"{tracktor.shopify_access_token} (instead of these two)",
        "the present": f"{shop.now:%Y-%m-%d}" + ("" if options.today else " (--today moves it)"),
        "smtp server": f"{mail.host}:{mail.port} (no login, no TLS)",
        "mailbox": options.mailbox or "in memory",
        "orders export": options.csv or "none (--csv FILE writes one)",
        "example order": example,
        "to look inside": f"http://{tracktor.host}:{tracktor.port}/_sandbox/state and .../messages",
    }.items():
        print(f"  {name:<15}{value}")
    print("To rehearse with it, in another shell:")
    for name, value in _variables(tracktor, mail, options).items():
        print(f"  export {name}={value}")
    print("Serving until Ctrl-C.", flush=True)


def _variables(tracktor: Sandbox, mail: MailServer, options: argparse.Namespace) -> dict[str, str]:
    """What blocks and deployments are made from, as a shell takes it."""
    variables = {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "SMTP_HOST": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_SECURITY": "none",
        "SHOPIFY_SHOP": "sandbox-shop",
        "SHOPIFY_CLIENT_ID": tracktor.shopify_client_id,
        "SHOPIFY_CLIENT_SECRET": tracktor.shopify_client_secret,
        "SHOPIFY_BASE_URL": tracktor.shopify_url,
        "TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>",
    }
    if options.csv:
        variables["TRACKTOR_ORDERS"] = str(options.csv.resolve())
    return {name: shlex.quote(value) for name, value in variables.items()}


if __name__ == "__main__":
    sys.exit(main())
