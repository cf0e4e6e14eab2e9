"""The command `prefect-tracktor demo`: email customers once, and set statuses from a plan.

Everything runs on this machine: a sandbox Tracktor with a shop of 1,000 orders, an SMTP server
that keeps the messages, and a Prefect API with its own home folder.
"""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from prefect_tracktor import InvalidInput, Mailer, Mode, OrderFile, StatusFile, TracktorCredentials
from prefect_tracktor.flows import email_expired_exceptions, reconcile_manual_statuses
from prefect_tracktor.messages.mailer import Security
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop

FOLDER = Path("tracktor-demo")
# within the folder, where the demo runs
EXPORT, PLAN, MAILBOX = Path("orders_export.csv"), Path("production_plan.csv"), Path("mailbox")
_MARKER = ".made-by-prefect-tracktor"


def main() -> int:
    """Run the demo in a new folder."""
    _fresh_folder(FOLDER)
    # Prefect reads its settings when it is imported, also from files in the working directory, and
    # the demo must not use your server or your Prefect Cloud: so it runs in another process.
    environment = {name: value for name, value in os.environ.items() if "PREFECT_" not in name}
    settings = {
        "PREFECT_HOME": str((FOLDER / "prefect").resolve()),
        # the demo prints the results itself, and one run is meant to fail
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        # the first start of Prefect's server creates its database, which takes long
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect_tracktor.demo"]
    return subprocess.call(command, cwd=FOLDER, env=environment | settings)  # noqa: S603  # ours


def _fresh_folder(folder: Path) -> None:
    if folder.exists() and not (folder / _MARKER).exists():
        sys.exit(f"{folder} exists and was not made by this demo; move it away first")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / _MARKER).touch()


def run_flows() -> int:
    """Run the flows and print what happened."""
    with (
        Sandbox(Shop(orders=1000)) as tracktor,
        MailServer(folder=MAILBOX) as mail,
    ):
        credentials = TracktorCredentials(
            uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        )
        _print_title("A sandbox shop of 1,000 orders", f"Tracktor at {tracktor.base_url}")
        print(f"  mail server at {mail.host}:{mail.port}")
        results = [
            _email_customers(credentials, tracktor, mail),
            _reconcile_statuses(credentials, tracktor),
        ]
    print(f"""
Look further:
  every message, as received     {FOLDER / MAILBOX}/
  the files that were read       {FOLDER / EXPORT}, {FOLDER / PLAN}
  the runs, tables and summaries PREFECT_HOME={FOLDER}/prefect prefect server start
                                 and open http://127.0.0.1:4200
  the same against your shop     README.md, "Your own shop"
""")
    return 0 if all(results) else 1


def _email_customers(credentials: TracktorCredentials, tracktor: Sandbox, mail: MailServer) -> bool:
    """Email the customers with expired tracking; return whether each got exactly one message."""
    tracktor.shop.write_orders_csv(EXPORT)
    mailer = Mailer(
        host=mail.host,
        port=mail.port,
        security=Security.NONE,
        sender="Sandbox Shop <orders@sandbox-shop.example>",
        mode=Mode.LIVE,
    )

    orders = OrderFile(path=str(EXPORT))

    def run(title: str, *, dry_run: bool = False) -> None:
        before = len(mail.messages)
        _run(title, email_expired_exceptions, credentials, orders, mailer, dry_run=dry_run)
        print(f"  -> {len(mail.messages) - before} messages in the mail server")

    run("First run: find the expired parcels, email their customers")
    _print_message(mail.messages[0].message)
    run("Second run: no customer gets a second email")
    run("Dry run: shows what it would do, sends nothing", dry_run=True)

    recipients = sorted(message.recipients[0] for message in mail.messages)
    is_correct = recipients == sorted(tracktor.shop.customers_to_write_to().values())
    _print_title(
        "Right customers, one message each" if is_correct else "WRONG: unexpected messages"
    )
    return is_correct


def _reconcile_statuses(credentials: TracktorCredentials, tracktor: Sandbox) -> bool:
    """Set the statuses of a production plan; return whether exactly the 40 changes were written."""
    in_production = tracktor.shop.order_ids[:295]
    for order_id in in_production:
        tracktor.shop.set_status(order_id, status="Cutting", automatic_carrier_updates=False)
    moved, unmoved = in_production[:40], in_production[40:]
    plan = [
        *((order_id, "Sewing") for order_id in moved),
        *((order_id, "Cutting") for order_id in (*unmoved, 1, 2, 3)),
    ]
    typos = [(tracktor.shop.order_ids[295], "Sowing"), (tracktor.shop.order_ids[296], "Cuting")]
    tracktor.reset_calls()

    def run(title: str, *, dry_run: bool = False) -> None:
        desired = StatusFile(path=str(PLAN))
        _run(title, reconcile_manual_statuses, credentials, desired, dry_run=dry_run)
        print(f"  -> {_writes(tracktor)} orders written in Tracktor so far")

    _write_plan([*plan, *typos])
    try:
        run("The plan must be refused")
    except InvalidInput as refused:
        path = FOLDER / PLAN
        _print_title(f"A plan of 300 desired statuses in {path}: refused, as two of them are typos")
        print("  | " + str(refused).replace("\n", "\n  | "))
    _write_plan(plan)
    run("The typos taken out, a dry run: shows the plan, writes nothing", dry_run=True)
    run("Applied: only what differs is written, and read back")
    run("Run again: everything agrees, nothing is written")

    is_correct = _writes(tracktor) == len(moved) and all(
        set(tracktor.shop.order(order_id)["statuses"]) == {status}
        for order_id, status in plan
        if order_id in in_production
    )
    _print_title(
        "Tracktor agrees with the plan, after 40 writes"
        if is_correct
        else "WRONG: it does not agree"
    )
    return is_correct


def _write_plan(rows: Sequence[tuple[int, str]]) -> None:
    with PLAN.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("order_id", "status"), *rows])


def _writes(tracktor: Sandbox) -> int:
    return sum(method == "POST" for method, _ in tracktor.calls)


def _run(title: str, flow: Callable[..., Any], *parameters: object, dry_run: bool) -> None:
    start = time.perf_counter()
    report = flow(*parameters, dry_run=dry_run)
    _print_title(title, f"{time.perf_counter() - start:.1f} seconds")
    for name, count in report.counts.items():
        if count:
            print(f"  {name:<13}{count:>6}")


def _print_title(title: str, detail: str = "") -> None:
    print(f"\n== {title}" + (f" ({detail})" if detail else ""), flush=True)


def _print_message(message: EmailMessage) -> None:
    body = message.get_body(("plain",))
    print("\n  One of the messages, as its customer sees it:\n")
    for name in ("From", "To", "Subject"):
        print(f"  | {name}: {message[name]}")
    for line in ["", *(body.get_content().splitlines() if body else [])]:
        print(f"  | {line}".rstrip())


if __name__ == "__main__":
    sys.exit(run_flows())
