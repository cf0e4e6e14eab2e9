"""Saved blocks of a shop: under its own name, or shared by all shops."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.storage.completed_orders import CompletedOrders
from prefect_tracktor.storage.ledger import NotificationLedger

B = TypeVar("B", bound=Block)

# the name of a single shop's blocks, and of the blocks that several shops share
SHARED = "tracktor"

# the names that Prefect allows
NAME_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"

# Mailers and channels are never shared, even if shops use the same service: a shop without its own
# would write in another shop's name, and its mode would apply to all shops.
SHAREABLE: tuple[type[Block], ...] = (EmailTemplate, NotificationLedger, CompletedOrders)


_loaded: ContextVar[dict[tuple[type[Block], str], Any] | None] = ContextVar("loaded", default=None)


@contextmanager
def blocks_loaded_once() -> Iterator[None]:
    """Load each saved block only once within the context: a shop's deployments share a few."""
    token = _loaded.set({})
    try:
        yield
    finally:
        _loaded.reset(token)


def find_block(block: type[B], name: str, *, validate: bool = True) -> B | None:
    """Load a saved block, if there is one."""
    loaded = _loaded.get()
    if loaded is None or not validate:
        return _load(block, name, validate=validate)
    if (block, name) not in loaded:
        loaded[block, name] = _load(block, name, validate=True)
    found: B | None = loaded[block, name]
    return found


def _load(block: type[B], name: str, *, validate: bool) -> B | None:
    try:
        return block.load(name, validate=validate)  # type: ignore[return-value]  # not in a loop
    except ValueError as error:
        # an unreadable response of Prefect is a ValueError, too
        if isinstance(error.__cause__, ObjectNotFound):
            return None
        raise
    except (RuntimeError, KeyError, TypeError) as error:
        # a KeyError (Prefect 3.8) or a TypeError (3.9) without validation; a RuntimeError with
        # another cause means that Prefect does not answer
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, ValidationError):
            raise
        raise InvalidInput(
            f"the block {block.get_block_type_slug()}/{name} has an invalid value;"
            " correct it in Prefect's UI, or delete it, run prefect-tracktor blocks, and serve or"
            " deploy again"
        ) from None


def shared_ledger() -> NotificationLedger:
    """Load the default ledger, which flows called from Python share with deployments."""
    return find_block(NotificationLedger, SHARED) or NotificationLedger()


def ledger_of(mailer: Mailer | None, given: NotificationLedger | None = None) -> NotificationLedger:
    """Return the ledger of a run: the given one, or the mailer's, or the default."""
    return given or (mailer and mailer.ledger) or shared_ledger()


def find_block_of_shop(block: type[B], shop: str) -> B | None:
    """Load a shop's own block, or else the shared one, if shops may share it."""
    own = find_block(block, shop)
    if own is None and block in SHAREABLE:
        return find_block(block, SHARED)
    return own


def saved_templates() -> dict[str, EmailTemplate]:
    """Load all saved templates, by name."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_documents_by_type(EmailTemplate.get_block_type_slug())
        except ObjectNotFound:  # the kind of block was never registered
            return {}
    loaded = {d.name: find_block(EmailTemplate, d.name) for d in found if d.name}
    return {name: template for name, template in loaded.items() if template}
