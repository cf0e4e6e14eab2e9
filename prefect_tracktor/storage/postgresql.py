"""PostgreSQL connections whose every wait has a limit."""

import time
from collections.abc import Generator
from typing import Any, TypeVar

from psycopg import Connection, OperationalError

T = TypeVar("T")

CONNECT_SECONDS = 10
LOCK_SECONDS = 10
STATEMENT_SECONDS = 15
# longer than the server's own limits: this one is for a server that does not respond at all
RESPONSE_SECONDS = 20


class PatientConnection(Connection[Any]):
    """A connection that gives up on a server that does not respond, frozen or unreachable."""

    seconds: float = 0

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        deadline = self.seconds or RESPONSE_SECONDS
        try:
            return super().wait(_with_deadline(gen, deadline), *arguments, **options)
        except NoResponse:
            self.close()
            raise


class NoResponse(OperationalError, TimeoutError):
    """The server did not respond in time."""


def _with_deadline(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Run psycopg's exchange with the server, and end it when its time is up."""
    deadline = time.monotonic() + seconds
    ready = None
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise NoResponse(f"no answer from the server within {seconds:g} s")


def connect(*arguments: Any, statement_seconds: float = 0, **options: Any) -> PatientConnection:
    """Connect; a statement may take longer than usual with `statement_seconds`."""
    limits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": RESPONSE_SECONDS * 1000}
    connection = PatientConnection.connect(*arguments, **(limits | options))
    # not as startup options, which connection poolers refuse
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
        (f"{LOCK_SECONDS}s", f"{statement_seconds or STATEMENT_SECONDS}s"),
    )
    connection.commit()
    if statement_seconds:
        connection.seconds = statement_seconds + RESPONSE_SECONDS
    return connection
