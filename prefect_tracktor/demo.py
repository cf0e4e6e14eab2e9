"""`python -m prefect_tracktor.demo`: the first flow, from a shop's orders to customers' mailboxes.

Everything runs on this machine: a sandbox Tracktor with a shop of 1,000 orders, an SMTP server
that keeps what it receives, and a Prefect API with a home of its own.
"""

import os
import shutil
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path

FOLDER = Path("tracktor-demo")
_MARK = ".made-by-prefect-tracktor"


def main() -> int:
    """Run the demo and print what happened.

    Returns:
        The exit status: 0 if every customer concerned got exactly one message.
    """
    home = str((FOLDER / "prefect").resolve())
    if os.environ.get("PREFECT_HOME") == home:
        return _play()
    _fresh_folder(FOLDER)
    # Prefect reads its settings when it is imported, and the demo must not write into anybody's
    # Prefect Cloud or server: so it runs in a process of its own, with settings of its own
    environment = {name: value for name, value in os.environ.items() if "PREFECT_" not in name}
    own = {
        "PREFECT_HOME": home,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # the very first start of Prefect's server makes its database, and is slow
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect_tracktor.demo"]
    return subprocess.call(command, env=environment | own)  # noqa: S603  # it is this very program


def _fresh_folder(folder: Path) -> None:
    if folder.exists() and not (folder / _MARK).exists():
        sys.exit(f"{folder} exists and was not made by this demo; move it away first")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / _MARK).touch()


def _play() -> int:
    from prefect_email import EmailServerCredentials

    from prefect_tracktor import OrderFile, TracktorCredentials
    from prefect_tracktor.flows import ExpiredExceptionsReport, email_expired_exceptions
    from prefect_tracktor.sandbox import MailServer, Sandbox, Shop

    export, mailbox = FOLDER / "orders_export.csv", FOLDER / "mailbox"
    with Sandbox(Shop(orders=1000)) as tracktor, MailServer(keep_in=mailbox) as post_office:
        tracktor.shop.write_orders_csv(export)
        _say("A sandbox shop of 1,000 orders", f"Tracktor at {tracktor.base_url}")
        print(f"  mail server at {post_office.host}:{post_office.port}, orders export in {export}")

        def run(title: str, *, dry_run: bool = False) -> ExpiredExceptionsReport:
            start, messages = time.perf_counter(), len(post_office.messages)
            report = email_expired_exceptions(
                credentials=TracktorCredentials(
                    uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
                ),
                orders=OrderFile(path=str(export)),
                email_server=EmailServerCredentials(
                    smtp_server=post_office.host,
                    smtp_port=post_office.port,
                    smtp_type="INSECURE",
                ),
                sender="Sandbox Shop <orders@sandbox-shop.example>",
                dry_run=dry_run,
            )
            _say(title, f"{time.perf_counter() - start:.1f} seconds")
            for name, count in report.counts.items():
                if count:
                    print(f"  {name:<13}{count:>6}")
            print(f"  -> {len(post_office.messages) - messages} messages in the mail server")
            return report

        run("First run: find the expired parcels, write to their customers")
        _show(post_office.messages[0].message)
        run("Second run: nobody is written to twice")
        run("Dry run: shows what it would do, sends nothing", dry_run=True)

        written_to = sorted(message.recipients[0] for message in post_office.messages)
        right = written_to == sorted(tracktor.shop.customers_to_write_to().values())
    _say("Right customers, one message each" if right else "WRONG: the mailbox is not as expected")
    print(f"""
Look further:
  every message, as received     {mailbox}/
  the runs, tables and summary   PREFECT_HOME={FOLDER}/prefect prefect server start
                                 and open http://127.0.0.1:4200
  the same against your shop     README.md, "Your own shop"
""")
    return 0 if right else 1


def _say(title: str, detail: str = "") -> None:
    print(f"\n== {title}" + (f" ({detail})" if detail else ""), flush=True)


def _show(message: EmailMessage) -> None:
    body = message.get_body(("plain",))
    print("\n  One of the messages, as its customer sees it:\n")
    for name in ("From", "To", "Subject"):
        print(f"  | {name}: {message[name]}")
    for line in ["", *(body.get_content().splitlines() if body else [])]:
        print(f"  | {line}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
