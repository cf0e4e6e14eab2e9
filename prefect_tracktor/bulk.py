"""Bulk calls: the same call for many ids, and the outcome of each."""

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
    TEMPORARY,
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

# A call that waits for a retry holds no slot of the session, so more calls than slots are started.
_CALLS_PER_SLOT = 4
_GIVE_UP_AFTER = 50
_PROBES = 4
_GATEWAY_ERRORS = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
NOT_TRIED = "not tried: the calls before it failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """An id whose call failed, and why.

    Attributes:
        id: The id of the order or fulfillment.
        reason: What went wrong, without personal data.
        retry_after: How long to wait, from `Retry-After`, if given.

    Example:
        >>> Failure(1001, "Tracktor failed (502).").id
        1001
    """

    id: int
    reason: str
    retry_after: timedelta | None = field(default=None, compare=False)


# without slots: with them, `Batch[Order]()` is a TypeError before Python 3.13
@dataclass(frozen=True, repr=False)
class Batch(Generic[T]):
    """The outcome of each id of a bulk call: every id is in exactly one of the three lists.

    Attributes:
        found: What was read or written, in the order of the input.
        missing: The ids that Tracktor does not know.
        failed: The ids whose call failed, and why.
        requests: How many requests it took, including retries.
        gave_up: Whether the last ids were not tried, because Tracktor is down.

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
        """Whether there is no response for any id."""
        return bool(self.failed) and not self.found and not self.missing


def calls_for(api_call: Callable[[int], ApiCall[T]], ids: Iterable[int]) -> dict[int, ApiCall[T]]:
    """Make the same call for many ids."""
    calls: dict[int, ApiCall[T]] = {}
    for position, value in enumerate(_checked_ids(ids)):
        try:
            valid_id = checked_id(value, field="an id")
        except InvalidInput as invalid:
            raise InvalidInput(f"item {position} of the ids: {invalid}") from None
        calls[valid_id] = api_call(valid_id)
    return calls


def _checked_ids(ids: object) -> Iterable[Any]:
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
    """Make many calls, as many at once as the client's limits allow."""
    return await _Sending(client, calls).run()


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

    async def run(self) -> Batch[T]:
        async with self._group as group:
            if await self._is_available():
                workers = min(
                    len(self._calls), self._client.limits.max_concurrency * _CALLS_PER_SLOT
                )
                for _ in range(workers):
                    group.start_soon(self._work)
        if self._refusal:
            raise self._refusal
        for item_id, _ in self._waiting:
            self._failed[item_id] = Failure(item_id, NOT_TRIED)
        return Batch(
            found=[self._found[item_id] for item_id in self._calls if item_id in self._found],
            missing=[item_id for item_id in self._calls if item_id in self._missing],
            failed=[self._failed[item_id] for item_id in self._calls if item_id in self._failed],
            requests=self._client.requests_sent - self._requests_before,
            gave_up=self._gave_up,
        )

    async def _is_available(self) -> bool:
        """Send a few calls first: if the server is down, the others are not sent."""
        probes = list(islice(self._waiting, _PROBES))
        async with anyio.create_task_group() as group:
            for item_id, api_call in probes:
                group.start_soon(self._send, item_id, api_call)
        self._gave_up = len(self._errors) == len(probes) > 0 and (
            all(map(_is_unreachable, self._errors))
            or (len(probes) == _PROBES and all(map(_is_down, self._errors)))
        )
        return not self._gave_up

    async def _work(self) -> None:
        for item_id, api_call in self._waiting:
            await self._send(item_id, api_call)
            if self._failed_in_a_row >= _GIVE_UP_AFTER:
                self._gave_up = True
                return

    async def _send(self, item_id: int, api_call: ApiCall[T]) -> None:
        try:
            self._found[item_id] = await self._client.send(api_call)
        except NotFound:
            self._missing.add(item_id)
        except (AuthenticationError, InvalidInput) as refusal:
            self._refusal = refusal
            self._group.cancel_scope.cancel()
        except TracktorError as error:
            self._failed[item_id] = Failure(item_id, str(error), error.retry_after)
            if isinstance(error, TEMPORARY):
                self._failed_in_a_row += 1
                if len(self._errors) < _PROBES:
                    self._errors.append(error)
                return
        self._failed_in_a_row = 0


def _is_unreachable(error: TracktorError) -> bool:
    return isinstance(error, APIConnectionError) and not error.may_have_arrived


def _is_down(error: TracktorError) -> bool:
    """Whether the error is about Tracktor as a whole, not about one id."""
    gateway = isinstance(error, ServerError) and error.status_code in _GATEWAY_ERRORS
    return gateway or isinstance(error, APIConnectionError | RateLimited)
