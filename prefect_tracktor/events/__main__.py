"""`python -m prefect_tracktor.events`: take Tracktor's webhooks, or help to set that up."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta

from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.database import DatabaseError
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.cloud import cloud_webhook_template
from prefect_tracktor.events.receiver import ReceiverOptions, serve
from prefect_tracktor.events.spool import DeliverySpool

_EPILOG = """\
commands:
  serve      take deliveries and emit events (the default)
  template   print the template for a webhook in Prefect Cloud, which needs no receiver
  token      print a new token for the receiver's address

environment:
  TRACKTOR_RECEIVER_TOKEN   the secret part of the address; deliveries are posted to /<token>
  TRACKTOR_CREDENTIALS      name of a saved TracktorCredentials block; or instead of it
  TRACKTOR_UUID, TRACKTOR_API_KEY, TRACKTOR_BASE_URL, TRACKTOR_TIME_ZONE
                            the account's uuid and key, for rehearsals the API's address, and the
                            zone of times without an offset
  TRACKTOR_SPOOL_URL        the database for deliveries and events that are not done yet, such as
                            postgresql://user:password@host/database; left out, a SQLite file in
                            the Prefect home
  PREFECT_API_URL           where events go to; in Prefect Cloud with PREFECT_API_KEY

Tracktor has to reach the address over https: put a reverse proxy in front, which also keeps slow
senders away and leaves the path out of its log; the handbook ("React to events") has one for nginx.
GET /health answers 200 while the receiver runs.
"""


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Do what the command line says.

    Args:
        arguments: The command line without the program's name.
        environment: The variables; nothing of their values is printed.

    Returns:
        The exit status: 2 for a setting that is missing or cannot be right.
    """
    options = _parser().parse_args(arguments)
    if options.command == "token":
        print(secrets.token_urlsafe(32))
        return 0
    try:
        name = options.credentials or environment.get("TRACKTOR_CREDENTIALS", "")
        credentials = _credentials(name, environment)
        if options.command == "template":
            print(cloud_webhook_template(credentials.account))
            return 0
        return _serve(credentials, options, environment)
    except ValidationError as invalid:
        for error in invalid.errors(include_input=False, include_url=False):
            print(f"{'.'.join(map(str, error['loc']))}: {error['msg']}", file=sys.stderr)
    except (KeyError, InvalidInput, DatabaseError, OSError, ValueError, OverflowError) as problem:
        print(_words(problem), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prefect_tracktor.events",
        description="Bring Tracktor's webhooks into Prefect as events.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", default="serve", choices=_COMMANDS)
    parser.add_argument("--credentials", metavar="NAME", help="name of a saved block")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8484, help="0 takes a free one (8484)")
    parser.add_argument("--max-body-bytes", type=int, default=1_000_000, help="(1000000)")
    parser.add_argument("--read-seconds", type=int, default=10, help="a sender's time-out (10)")
    parser.add_argument(
        "--max-connections", type=int, default=1000, help="senders connected at once (1000)"
    )
    parser.add_argument(
        "--misses-per-hour", type=int, default=500, help="look-ups of unknown ids (500)"
    )
    parser.add_argument(
        "--confirm-after-seconds", type=float, default=10, help="when events are read back (10)"
    )
    parser.add_argument(
        "--resend-after-seconds", type=float, default=120, help="if they are not there (120)"
    )
    parser.add_argument(
        "--keep-days", type=float, default=30, help="how long repeated news is recognised (30)"
    )
    return parser


_COMMANDS = ("serve", "template", "token")


def _credentials(name: str, environment: Mapping[str, str]) -> TracktorCredentials:
    """A saved block, or the account in the environment."""
    if name:
        _check_prefect()
        return TracktorCredentials.model_validate(TracktorCredentials.load(name))
    fields = {"uuid": environment["TRACKTOR_UUID"], "api_key": environment["TRACKTOR_API_KEY"]}
    for field in ("base_url", "time_zone"):
        if given := environment.get(f"TRACKTOR_{field.upper()}"):
            fields[field] = given
    return TracktorCredentials.model_validate(fields)


def _check_prefect() -> None:
    """Without an address Prefect starts a temporary server: it has no block, and keeps no event."""
    if not PREFECT_API_URL.value():
        raise InvalidInput("set PREFECT_API_URL, or log in with prefect cloud login")


def _serve(
    credentials: TracktorCredentials, options: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    _check_prefect()
    receiver = ReceiverOptions(
        token=environment["TRACKTOR_RECEIVER_TOKEN"],
        host=options.host,
        port=options.port,
        max_body_bytes=options.max_body_bytes,
        read_seconds=options.read_seconds,
        max_connections=options.max_connections,
        misses_per_hour=options.misses_per_hour,
        confirm_after=timedelta(seconds=options.confirm_after_seconds),
        resend_after=timedelta(seconds=options.resend_after_seconds),
        keep_for=timedelta(days=options.keep_days),
    )
    spool = DeliverySpool.model_validate({"url": environment.get("TRACKTOR_SPOOL_URL", "")})
    _log_to_standard_error()
    # uvicorn stops well and then raises the signal again, which is to end nothing any more
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    asyncio.run(serve(credentials, spool, receiver))
    return 0


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("prefect_tracktor", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("prefect_tracktor").setLevel(logging.INFO)


def _words(problem: Exception) -> str:
    if isinstance(problem, KeyError):
        return f"set {problem.args[0]}; python -m prefect_tracktor.events --help tells about it"
    return str(problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
