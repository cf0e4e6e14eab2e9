"""Many calls in one go: what was asked for, and what became of each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from typing import Any, Generic, TypeVar

import anyio
from pydantic import BaseModel

from prefect_tracktor.client import AsyncTracktorClient
from prefect_tracktor.errors import (
    APIConnectionError,
    AuthenticationError,
    InvalidInput,
    NotFound,
    RateLimited,
    ServerError,
    TracktorError,
)
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.text import form_of
from prefect_tracktor.validation import checked_id

T = TypeVar("T")

# A call waits without a turn before it is repeated, so more calls than turns keep Tracktor busy.
_CALLS_A_TURN = 4
_GIVE_UP_AFTER = 50
_PROBES = 4
_GATEWAY_TROUBLE = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
NOT_TRIED = "not tried: Tracktor did not answer the calls before it"


@dataclass(frozen=True, slots=True)
class Failure:
    """An id that could not be served, and why.

    Attributes:
        id: The id of the order or fulfillment.
        reason: What went wrong, without personal data.
        retry_after: How long to wait, from `Retry-After`, if given.

    Example:
        >>> Failure(1001, "Tracktor had trouble (502).").id
        1001
    """

    id: int
    reason: str
    retry_after: timedelta | None = field(default=None, compare=False)


# without slots: frozen with them, `Batch[Order]()` is a TypeError before Python 3.13
@dataclass(frozen=True, repr=False)
class Batch(Generic[T]):
    """The outcome of each id of a bulk call: every id is in exactly one of the three lists.

    Attributes:
        found: What was read or written, in the order of the input.
        missing: The ids that Tracktor does not know.
        failed: The ids that could not be served this time, and why.
        requests: How many requests it took, including retries.
        gave_up: Whether the rest was not tried, because Tracktor did not answer.

    Example:
        >>> Batch(found=["an order"], missing=[7]).complete
        True
    """

    found: list[T] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    requests: int = field(default=0, compare=False)
    gave_up: bool = field(default=False, compare=False)

    def __repr__(self) -> str:
        # counts only: event loops and loggers show results, and these hold customers' data
        found, missing, failed = len(self.found), len(self.missing), len(self.failed)
        return f"Batch({found} found, {missing} missing, {failed} failed)"

    @property
    def complete(self) -> bool:
        """Whether no id failed. Unknown ids do not count as failed."""
        return not self.failed

    @property
    def failed_as_a_whole(self) -> bool:
        """Whether not one id has an answer."""
        return bool(self.failed) and not self.found and not self.missing


def calls_for(api_call: Callable[[int], ApiCall[T]], ids: Iterable[int]) -> dict[int, ApiCall[T]]:
    """Make the same call for many ids."""
    calls: dict[int, ApiCall[T]] = {}
    for position, wanted in enumerate(_each(ids)):
        try:
            valid_id = checked_id(wanted, field="an id")
        except InvalidInput as invalid:
            raise InvalidInput(f"item {position} of the ids: {invalid}") from None
        calls[valid_id] = api_call(valid_id)
    return calls


def _each(ids: object) -> Iterable[Any]:
    if isinstance(ids, int | str):
        return [ids]
    if isinstance(ids, Iterable) and not isinstance(
        ids, Mapping | bytes | bytearray | memoryview | BaseModel
    ):
        return ids
    raise InvalidInput(
        f"the ids must be a list of Shopify ids, not {form_of(ids)}; of a source of orders, such as"
        " an OrderFile, give list(source.find_orders().order_ids)"
    )


async def send_all(client: AsyncTracktorClient, calls: Mapping[int, ApiCall[T]]) -> Batch[T]:
    """Make many calls at once, as many under way as the client's limits allow."""
    sending = _Sending(client, calls)
    await sending.run()
    return sending.batch()


class _Sending(Generic[T]):
    """One bulk call while it runs."""

    def __init__(self, client: AsyncTracktorClient, calls: Mapping[int, ApiCall[T]]) -> None:
        self._client = client
        self._requests_before = client.requests_sent
        self._calls = calls
        self._waiting = iter(calls.items())
        self._group = anyio.create_task_group()
        self._found: dict[int, T] = {}
        self._missing: set[int] = set()
        self._failed: dict[int, Failure] = {}
        self._failed_in_a_row = 0
        self._errors: list[TracktorError] = []
        self._gave_up = False
        self._refusal: AuthenticationError | InvalidInput | None = None

    async def run(self) -> None:
        async with self._group as group:
            if await self._answers_at_all():
                workers = min(len(self._calls), self._client.limits.max_concurrency * _CALLS_A_TURN)
                for _ in range(workers):
                    group.start_soon(self._work)
        if self._refusal:
            raise self._refusal
        for wanted, _ in self._waiting:
            self._failed[wanted] = Failure(wanted, NOT_TRIED)

    async def _answers_at_all(self) -> bool:
        """Send a few calls first: a server that is away is not asked by all others, too."""
        probes = list(islice(self._waiting, _PROBES))
        async with anyio.create_task_group() as group:
            for wanted, api_call in probes:
                group.start_soon(self._send, wanted, api_call)
        self._gave_up = len(self._errors) == len(probes) > 0 and (
            all(map(_is_unreachable, self._errors))
            or (len(probes) == _PROBES and all(map(_is_away, self._errors)))
        )
        return not self._gave_up

    async def _work(self) -> None:
        for wanted, api_call in self._waiting:
            await self._send(wanted, api_call)
            if self._failed_in_a_row >= _GIVE_UP_AFTER:
                self._gave_up = True
                return

    async def _send(self, wanted: int, api_call: ApiCall[T]) -> None:
        try:
            self._found[wanted] = await self._client.send(api_call)
        except NotFound:
            self._missing.add(wanted)
        except (AuthenticationError, InvalidInput) as refusal:
            self._refusal = refusal
            self._group.cancel_scope.cancel()
        except TracktorError as error:
            self._failed[wanted] = Failure(wanted, str(error), error.retry_after)
            self._failed_in_a_row += 1
            if len(self._errors) < _PROBES:
                self._errors.append(error)
            return
        self._failed_in_a_row = 0

    def batch(self) -> Batch[T]:
        return Batch(
            found=[self._found[wanted] for wanted in self._calls if wanted in self._found],
            missing=[wanted for wanted in self._calls if wanted in self._missing],
            failed=[self._failed[wanted] for wanted in self._calls if wanted in self._failed],
            requests=self._client.requests_sent - self._requests_before,
            gave_up=self._gave_up,
        )


def _is_unreachable(error: TracktorError) -> bool:
    return isinstance(error, APIConnectionError) and not error.may_have_arrived


def _is_away(error: TracktorError) -> bool:
    """Whether the error is about Tracktor as a whole, not about one id."""
    gateway = isinstance(error, ServerError) and error.status_code in _GATEWAY_TROUBLE
    return gateway or isinstance(error, APIConnectionError | RateLimited)
