"""PostgreSQL connections on which no wait is endless."""

import time
from collections.abc import Generator
from typing import Any, TypeVar

from psycopg import Connection, OperationalError

T = TypeVar("T")

CONNECT_SECONDS = 10
LOCK_SECONDS = 10
STATEMENT_SECONDS = 15
# longer than what the server itself ends: this is for one that does not answer at all
ANSWER_SECONDS = 20


class PatientConnection(Connection[Any]):
    """A connection that gives up on a server which does not answer, be it frozen or cut off."""

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        """Wait for an answer, for so long and no longer."""
        try:
            return super().wait(_in_time(gen), *arguments, **options)
        except NoAnswer:
            self.close()
            raise


class NoAnswer(OperationalError, TimeoutError):
    """The server did not answer in time."""


def _in_time(gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """The same exchange with the server, ended when its time is up."""
    deadline = time.monotonic() + ANSWER_SECONDS
    ready = None
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise NoAnswer(f"no answer from the server within {ANSWER_SECONDS} s")


def connect(*arguments: Any, **options: Any) -> PatientConnection:
    """Open a connection whose every wait ends."""
    limits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": ANSWER_SECONDS * 1000}
    connection = PatientConnection.connect(*arguments, **(limits | options))
    # not as startup options, which connection poolers refuse
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
        (f"{LOCK_SECONDS}s", f"{STATEMENT_SECONDS}s"),
    )
    connection.commit()
    return connection
