"""A Prefect task for each of Tracktor's calls, and bulk tasks; each with an async twin.

All take the credentials first, and raise a `TracktorError` that says what went wrong. They are
retried only for errors that may be temporary. Their results hold customers' data and are neither
persisted nor cached. They have the tag `tracktor`, for one tag-based concurrency limit on them all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.tasks import exponential_backoff

from prefect_tracktor import api
from prefect_tracktor.api import DECISIVE_FIELDS, DECISIVE_FIELDS_OF_PARCELS
from prefect_tracktor.bulk import Batch, calls_for, send_all
from prefect_tracktor.credentials import TracktorCredentials, checked_credentials
from prefect_tracktor.errors import TEMPORARY, BatchFailed, InvalidInput
from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.models import (
    Fulfillment,
    Order,
    StatusOption,
    Webhook,
    WebhookId,
    WebhookTopic,
)
from prefect_tracktor.statuses.desired import DesiredRow, DesiredStatus, agreed, desired_rows_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Updates = (
    Sequence[DesiredStatus | tuple[int, str | None] | Mapping[str, Any]]
    | Mapping[int, str | None]
    | DesiredStatus
)


# Prefect takes plain functions only. `state.data` is the error; in async tasks `state.result()`
# would be a coroutine.
def _is_temporary(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, TEMPORARY)


def _was_not_received(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether the error may be temporary, and a retry repeats nothing that was done."""
    error: Any = state.data
    return isinstance(error, TEMPORARY) and not error.may_have_arrived


@cache  # the same for both twins
def _named_by(argument: str, action: str) -> Callable[..., str]:
    """Name a task run by the ids in an argument, such as `get-orders 1001 to 1500 (500)`."""

    def name(parameters: Mapping[str, Any]) -> str:
        value = parameters[argument]
        items = list(value) if isinstance(value, Sequence | Mapping) else []
        ids = [getattr(item, "order_id", item) for item in items]
        if not ids or not all(isinstance(id_, int) for id_ in ids):
            return action
        return f"{action} {ids[0]} to {ids[-1]} ({len(ids):,})" if ids[1:] else f"{action} {ids[0]}"

    return name


def _tracktor_task(
    name: str,
    run_name: str | Callable[..., str],
    *,
    retry_on: Callable[[Any, TaskRun, State[Any]], bool] = _is_temporary,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    return task(
        name=name,
        task_run_name=run_name,
        tags={"tracktor"},
        cache_policy=NO_CACHE,
        persist_result=False,
        # the client retries for two minutes; these three cover an outage of several more
        retries=3,
        retry_delay_seconds=exponential_backoff(60),
        retry_jitter_factor=0.5,
        retry_condition_fn=retry_on,
    )


def _send(credentials: TracktorCredentials, api_call: ApiCall[T]) -> T:
    return blocking.run(_asend(credentials, api_call))


async def _asend(credentials: TracktorCredentials, api_call: ApiCall[T]) -> T:
    async with checked_credentials(credentials).get_async_client() as client:
        return await client.send(api_call)


def _send_all(credentials: TracktorCredentials, calls: Mapping[int, ApiCall[T]]) -> Batch[T]:
    return blocking.run(_asend_all(credentials, calls))


async def _asend_all(credentials: TracktorCredentials, calls: Mapping[int, ApiCall[T]]) -> Batch[T]:
    async with checked_credentials(credentials).get_async_client() as client:
        batch = await send_all(client, calls)
    if batch.failed_as_a_whole:
        # a task run that returned the batch would look like a success
        raise BatchFailed(
            f"all {len(batch.failed):,} failed; the first: {batch.failed[0].reason}",
            batch=batch,
        )
    return batch


@_tracktor_task("Get fulfillment", "get-fulfillment-{fulfillment_id}")
def get_fulfillment(credentials: TracktorCredentials, fulfillment_id: int) -> Fulfillment:
    """Retrieve the tracking status of a fulfillment.

    Args:
        credentials: The account.
        fulfillment_id: The Shopify id of the fulfillment.

    Raises:
        NotFound: Tracktor does not know the id.

    Example:
        >>> get_fulfillment(credentials, fulfillment_id).order_name
        '#1001'
    """
    return _send(credentials, api.get_fulfillment(fulfillment_id))


@_tracktor_task("Get fulfillment", "get-fulfillment-{fulfillment_id}")
async def aget_fulfillment(credentials: TracktorCredentials, fulfillment_id: int) -> Fulfillment:
    """`get_fulfillment` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.get_fulfillment(fulfillment_id))


@_tracktor_task("Get status options", "get-status-options")
def get_status_options(credentials: TracktorCredentials) -> list[StatusOption]:
    """List the shop's tracking statuses, built in and its own.

    Example:
        >>> get_status_options(credentials)[0].label
        'Order ready'
    """
    return _send(credentials, api.get_status_options())


@_tracktor_task("Get status options", "get-status-options")
async def aget_status_options(credentials: TracktorCredentials) -> list[StatusOption]:
    """`get_status_options` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.get_status_options())


@_tracktor_task("Get order", "get-order-{order_id}")
def get_order(credentials: TracktorCredentials, order_id: int) -> Order:
    """Retrieve an order with its customer and its parcels.

    Args:
        credentials: The account.
        order_id: The Shopify id of the order.

    Raises:
        NotFound: Tracktor does not know the id.

    Example:
        >>> get_order(credentials, order_ids[0]).order_name
        '#1001'
    """
    return _send(credentials, api.get_order(order_id))


@_tracktor_task("Get order", "get-order-{order_id}")
async def aget_order(credentials: TracktorCredentials, order_id: int) -> Order:
    """`get_order` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.get_order(order_id))


@_tracktor_task("Update order", "update-order-{order_id}")
def update_order(
    credentials: TracktorCredentials,
    order_id: int,
    *,
    status: str | None = None,
    automatic_carrier_updates: bool | None = None,
    force: bool | None = None,
) -> Order:
    """Set an order's manual tracking status, or hand it back to the carrier.

    Args:
        credentials: The account.
        order_id: The Shopify id of the order.
        status: The label of a built-in or custom status, as entered in the dashboard.
        automatic_carrier_updates: `True` hands the order back to the carrier, `False` keeps the
            carrier from changing it; left out, the order keeps its setting.
        force: Whether to set the status in any case.

    Returns:
        The order, as far as the response shows it.

    Raises:
        NotFound: Tracktor does not know the id.
        UnprocessableValue: Tracktor refuses a value.

    Example:
        >>> update_order(credentials, order_ids[0], status="Delivered").order_name
        '#1001'
    """
    flags = {"automatic_carrier_updates": automatic_carrier_updates, "force": force}
    return _send(credentials, api.update_order(order_id, status=status, **flags))


@_tracktor_task("Update order", "update-order-{order_id}")
async def aupdate_order(
    credentials: TracktorCredentials,
    order_id: int,
    *,
    status: str | None = None,
    automatic_carrier_updates: bool | None = None,
    force: bool | None = None,
) -> Order:
    """`update_order` for async code: the same arguments, result and errors."""
    flags = {"automatic_carrier_updates": automatic_carrier_updates, "force": force}
    return await _asend(credentials, api.update_order(order_id, status=status, **flags))


@_tracktor_task("List webhooks", "list-webhooks")
def list_webhooks(credentials: TracktorCredentials) -> list[Webhook]:
    """List the account's webhooks.

    Example:
        >>> list_webhooks(credentials)
        []
    """
    return _send(credentials, api.list_webhooks())


@_tracktor_task("List webhooks", "list-webhooks")
async def alist_webhooks(credentials: TracktorCredentials) -> list[Webhook]:
    """`list_webhooks` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.list_webhooks())


@_tracktor_task("Create webhook", "create-webhook-{topic}", retry_on=_was_not_received)
def create_webhook(
    credentials: TracktorCredentials, *, topic: WebhookTopic | str, address: str
) -> Webhook:
    """Create a webhook. Retried only if Tracktor did not receive the first request.

    Args:
        credentials: The account.
        topic: One of the ten documented topics.
        address: The address that Tracktor posts to: https, or http on this machine.

    Returns:
        The webhook, with its id.

    Raises:
        UnprocessableValue: Tracktor refuses a value.

    Example:
        >>> create_webhook(
        ...     credentials, topic="order/delivered", address="https://shop.example/hook"
        ... ).topic.name
        'ORDER_DELIVERED'
    """
    return _send(credentials, api.create_webhook(topic=topic, address=address))


@_tracktor_task("Create webhook", "create-webhook-{topic}", retry_on=_was_not_received)
async def acreate_webhook(
    credentials: TracktorCredentials, *, topic: WebhookTopic | str, address: str
) -> Webhook:
    """`create_webhook` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.create_webhook(topic=topic, address=address))


@_tracktor_task("Delete webhook", "delete-webhook-{webhook_id}")
def delete_webhook(credentials: TracktorCredentials, webhook_id: WebhookId) -> None:
    """Delete a webhook.

    Args:
        credentials: The account.
        webhook_id: The id as `list_webhooks` gives it.

    Raises:
        NotFound: Tracktor does not know the id.

    Example:
        >>> delete_webhook(credentials, webhook_id)
    """
    return _send(credentials, api.delete_webhook(webhook_id))


@_tracktor_task("Delete webhook", "delete-webhook-{webhook_id}")
async def adelete_webhook(credentials: TracktorCredentials, webhook_id: WebhookId) -> None:
    """`delete_webhook` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.delete_webhook(webhook_id))


@_tracktor_task("Get orders", _named_by("order_ids", "get-orders"))
def get_orders(
    credentials: TracktorCredentials,
    order_ids: Sequence[int],
    *,
    needs: Collection[str] = DECISIVE_FIELDS,
) -> Batch[Order]:
    """Read many orders in one task run, as many at once as the credentials' limits allow.

    An id that fails does not stop the others. For more than some thousand ids, map it over chunks:
    an order takes about 16 kB of memory.

    Args:
        credentials: The account.
        order_ids: Shopify ids; a repeated one is read once.
        needs: An order counts as failed if one of these fields is there and cannot be read; by
            default the fields that say where its parcels are.

    Returns:
        The orders found (in the order of the input), the ids that Tracktor does not know, and the
        ids that failed, with the reason.

    Raises:
        InvalidInput: An id is invalid; nothing was sent.
        AuthenticationError: Tracktor refuses the credentials.
        BatchFailed: All ids failed; its `batch` has the reasons.

    Example:
        >>> batch = get_orders(credentials, order_ids[:3])
        >>> [order.order_name for order in batch.found], batch.complete
        (['#1001', '#1002', '#1003'], True)
    """
    calls = calls_for(partial(api.get_order, needs=needs), order_ids)
    return _send_all(credentials, calls)


@_tracktor_task("Get orders", _named_by("order_ids", "get-orders"))
async def aget_orders(
    credentials: TracktorCredentials,
    order_ids: Sequence[int],
    *,
    needs: Collection[str] = DECISIVE_FIELDS,
) -> Batch[Order]:
    """`get_orders` for async code: the same arguments, result and errors."""
    calls = calls_for(partial(api.get_order, needs=needs), order_ids)
    return await _asend_all(credentials, calls)


@_tracktor_task("Get fulfillments", _named_by("fulfillment_ids", "get-fulfillments"))
def get_fulfillments(
    credentials: TracktorCredentials,
    fulfillment_ids: Sequence[int],
    *,
    needs: Collection[str] = DECISIVE_FIELDS_OF_PARCELS,
) -> Batch[Fulfillment]:
    """Read many fulfillments in one task run, as `get_orders` reads orders.

    Args:
        credentials: The account.
        fulfillment_ids: Shopify ids; a repeated one is read once.
        needs: A fulfillment counts as failed if one of these fields is there and cannot be read; by
            default the fields that say where the parcel is.

    Example:
        >>> batch = get_fulfillments(credentials, [fulfillment_id])
        >>> [parcel.order_name for parcel in batch.found], batch.complete
        (['#1001'], True)
    """
    calls = calls_for(partial(api.get_fulfillment, needs=needs), fulfillment_ids)
    return _send_all(credentials, calls)


@_tracktor_task("Get fulfillments", _named_by("fulfillment_ids", "get-fulfillments"))
async def aget_fulfillments(
    credentials: TracktorCredentials,
    fulfillment_ids: Sequence[int],
    *,
    needs: Collection[str] = DECISIVE_FIELDS_OF_PARCELS,
) -> Batch[Fulfillment]:
    """`get_fulfillments` for async code: the same arguments, result and errors."""
    calls = calls_for(partial(api.get_fulfillment, needs=needs), fulfillment_ids)
    return await _asend_all(credentials, calls)


@_tracktor_task("Update orders", _named_by("updates", "update-orders"))
def update_orders(
    credentials: TracktorCredentials, updates: Updates, *, force: bool = True
) -> Batch[Order]:
    """Write many orders in one task run, as many at once as the credentials' limits allow.

    An order that fails does not stop the others. You can safely write the same again.

    Args:
        credentials: The account.
        updates: The desired status of each order, or who updates it: a list of `DesiredStatus`, of
            pairs or of dictionaries with its fields, or a dictionary of statuses by order id.
        force: Whether to set the status in any case, as the vendor recommends.

    Returns:
        The orders written (in the order of the input, as far as the responses show them), the ids
        that Tracktor does not know, and the ids that failed, with the reason.

    Raises:
        InvalidInput: An update changes nothing, or two for one order disagree; nothing was sent.
        AuthenticationError: Tracktor refuses the credentials.
        BatchFailed: All ids failed; its `batch` has the reasons.

    Example:
        >>> from prefect_tracktor import DesiredStatus
        >>> batch = update_orders(credentials, [DesiredStatus(order_ids[0], "Sewing")])
        >>> len(batch.found), batch.complete
        (1, True)
    """
    calls = _writes(updates, force=force)
    return _send_all(credentials, calls)


@_tracktor_task("Update orders", _named_by("updates", "update-orders"))
async def aupdate_orders(
    credentials: TracktorCredentials, updates: Updates, *, force: bool = True
) -> Batch[Order]:
    """`update_orders` for async code: the same arguments, result and errors."""
    calls = _writes(updates, force=force)
    return await _asend_all(credentials, calls)


def batch_of(future: PrefectFuture[Batch[T]]) -> Batch[T]:
    """Wait for a bulk task and return its batch, even if all ids failed."""
    try:
        return future.result()
    except BatchFailed as failed:
        batch: Batch[T] = failed.batch
        return batch


def _writes(updates: Updates, *, force: bool) -> dict[int, ApiCall[Order]]:
    rows = desired_rows_of(updates, field="updates")
    return {order_id: _write(row, force=force) for order_id, row in agreed(rows).items()}


def _write(row: DesiredRow, *, force: bool) -> ApiCall[Order]:
    update = row.desired
    try:
        return api.update_order(
            update.order_id,
            status=update.status,
            automatic_carrier_updates=update.automatic_carrier_updates,
            force=force,
        )
    except InvalidInput as invalid:
        raise InvalidInput(f"{row.place}: {invalid}") from None


@_tracktor_task("Call Tracktor", "{method}-{path}", retry_on=_was_not_received)
def call(
    credentials: TracktorCredentials, method: str, path: str, json: Mapping[str, Any] | None = None
) -> Any:
    """Make a call that this package does not know yet, with the same checks as the others.

    Args:
        credentials: The account.
        method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        path: The path below the account, such as `orders/1001.json`.
        json: The body.

    Returns:
        The decoded JSON.

    Raises:
        InvalidInput: The method, the path or the body is invalid; nothing was sent.

    Example:
        >>> call(credentials, "GET", "webhooks.json")
        {'webhooks': []}
    """
    return _send(credentials, api.any_call(method, path, json))


@_tracktor_task("Call Tracktor", "{method}-{path}", retry_on=_was_not_received)
async def acall(
    credentials: TracktorCredentials, method: str, path: str, json: Mapping[str, Any] | None = None
) -> Any:
    """`call` for async code: the same arguments, result and errors."""
    return await _asend(credentials, api.any_call(method, path, json))
