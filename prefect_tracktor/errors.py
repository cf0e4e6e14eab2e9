"""Errors: each says which call failed, why, and what to do next.

No message holds the API key, the account's uuid, a customer's data or a server's free text: it may
be logged, stored by Prefect and shown to anyone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any


class TracktorError(Exception):
    """The base class of all errors of this package.

    Attributes:
        call: The call as method and path below the account, such as `GET orders/1001.json`;
            empty when nothing was sent.
        status_code: The HTTP status of the response, if there was one.
        retry_after: How long to wait, from `Retry-After`, if given.
        may_have_arrived: Whether the server may have acted on the request.
        server_said: The server's own text, which may hold a customer's data. It is in no message,
            and left out when the error is stored or sent to another process.
    """

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        status_code: int | None = None,
        retry_after: timedelta | None = None,
        may_have_arrived: bool = True,
        server_said: str = "",
    ) -> None:
        super().__init__(message)
        self.call = call
        self.status_code = status_code
        self.retry_after = retry_after
        self.may_have_arrived = may_have_arrived
        self.server_said = server_said

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect writes the error that a flow fails with to disk
        return _restored, (type(self), self.args, vars(self) | {"server_said": ""})


def _restored(kind: type[TracktorError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = kind(*args)
    vars(error).update(state)
    return error


class NotSent(TracktorError):
    """A refusal before anything is sent or changed."""

    def __init__(self, message: str, *, call: str = "") -> None:
        super().__init__(message, call=call, may_have_arrived=False)


class InvalidInput(NotSent, ValueError):
    """A value, setting or file was refused before anything was sent.

    Example:
        >>> from prefect_tracktor.api import get_order
        >>> get_order(-5)
        Traceback (most recent call last):
        ...
        prefect_tracktor.errors.InvalidInput: order_id must be a positive whole number, not '-5'
    """


class AuthenticationError(TracktorError):
    """Tracktor refused the uuid or the API key (401, 403). Waiting does not help."""


class ReadOnlyAccount(NotSent):
    """The credentials are read-only, and the call would have changed something. It was not sent."""


class NotFound(TracktorError):
    """Tracktor does not know the id (404)."""


class UnprocessableValue(TracktorError):
    """Tracktor understood the request and refused a value in it (400, 422 and other 4xx)."""


class RateLimited(TracktorError):
    """Tracktor rejected requests as too many (429) until the retries ran out."""


class ServerError(TracktorError):
    """Tracktor failed (5xx), or its response was truncated or not JSON."""


class APIConnectionError(TracktorError):
    """Tracktor could not be reached, or did not respond in time."""


# errors that may be temporary
TEMPORARY = (RateLimited, ServerError, APIConnectionError)


class InvalidResponse(TracktorError):
    """The response was JSON, but not as expected: a missing field, another order."""


class BatchFailed(TracktorError):
    """Every id of a bulk task failed; the batch has the reasons.

    Attributes:
        batch: The `Batch`, as the task would have returned it.
    """

    def __init__(self, message: str, *, batch: Any = None) -> None:
        super().__init__(message)
        self.batch = batch


class LimitExceeded(TracktorError):
    """More would be sent or changed than the caller allowed. Nothing was."""


class IncompleteRun(TracktorError):
    """A flow ended with something left to do.

    Attributes:
        report: The flow's typed report, as it would have been returned.
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class DatabaseError(TracktorError):
    """A database that a flow needs cannot be used."""


class LedgerError(DatabaseError):
    """The ledger's database cannot be used. Without it nothing is sent."""


class LedgerInUse(NotSent):
    """A run uses the ledger. Nothing was deleted."""


class LedgerReplaced(NotSent):
    """The account used another ledger before, or this one lost notices. Nothing was sent."""


class ChannelError(TracktorError):
    """A channel cannot be used for any message: unreachable, moved, or it refuses the account.

    Attributes:
        cause: The cause of the refusal, such as `rate` or `login`.
    """

    def __init__(self, message: str, *, cause: str = "other") -> None:
        super().__init__(message, may_have_arrived=False)
        self.cause = cause


class MailServerError(ChannelError):
    """The mail server cannot be used for any message: unreachable, wrong login, sender refused."""


class TemplateError(TracktorError, ValueError):
    """A template cannot be rendered for an order. Nothing was sent."""


class QueueFull(DatabaseError):
    """The queue holds as many deliveries as it may; the sender has to try again later."""


class NotSetUp(Exception):
    """A deployment is not enabled; the message says how to enable it."""


@contextmanager
def replaced_errors(
    kinds: type[Exception] | tuple[type[Exception], ...], make: Callable[[Exception], Exception]
) -> Iterator[None]:
    """Raise another error in place of one that may hold secrets, in its text or its traceback.

    Errors of this package hold none, and pass.
    """
    try:
        yield
    except TracktorError:
        raise
    except kinds as error:
        replacement = make(error)
        try:
            raise replacement
        finally:
            replacement.__context__ = None  # `from None` would keep it
