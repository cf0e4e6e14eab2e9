"""`sweep_shops`: run a ready-made flow for many shops, each with its own blocks."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_type_hints

from prefect import Flow, get_run_logger
from prefect.blocks.core import Block
from prefect.context import FlowRunContext
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import IncompleteRun, InvalidInput, TracktorError
from prefect_tracktor.flows.advance_custom_statuses import advance_custom_statuses
from prefect_tracktor.flows.announce_exceptions import announce_exceptions
from prefect_tracktor.flows.email_expired_exceptions import email_expired_exceptions
from prefect_tracktor.flows.email_status_changes import email_status_changes
from prefect_tracktor.flows.export_tracking import export_tracking
from prefect_tracktor.flows.notify_customers import notify_customers
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.flows.reconcile_manual_statuses import reconcile_manual_statuses
from prefect_tracktor.flows.report_exceptions import report_exceptions
from prefect_tracktor.flows.sync_webhooks import sync_webhooks
from prefect_tracktor.flows.watch_shop import watch_shop
from prefect_tracktor.forms import in_order
from prefect_tracktor.reporting.artifacts import publish_summary, publish_table
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import in_list
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.saved_blocks import NAME_PATTERN, document_of_shop, find_document
from prefect_tracktor.sources import ShopifyOrders
from prefect_tracktor.storage.completed_orders import CompletedOrders

Row = dict[str, str | int]

# all but `notify_status_change`: an event is of one shop
SweepableFlow = Literal[
    "advance_custom_statuses",
    "announce_exceptions",
    "email_expired_exceptions",
    "email_status_changes",
    "export_tracking",
    "notify_customers",
    "reconcile_manual_statuses",
    "report_exceptions",
    "sync_webhooks",
    "watch_shop",
]
_FLOWS: dict[SweepableFlow, Flow[..., Any]] = {
    "advance_custom_statuses": advance_custom_statuses,
    "announce_exceptions": announce_exceptions,
    "email_expired_exceptions": email_expired_exceptions,
    "email_status_changes": email_status_changes,
    "export_tracking": export_tracking,
    "notify_customers": notify_customers,
    "reconcile_manual_statuses": reconcile_manual_statuses,
    "report_exceptions": report_exceptions,
    "sync_webhooks": sync_webhooks,
    "watch_shop": watch_shop,
}
_MOST_SHOPS_AT_ONCE = 32
_FLAG = TypeAdapter(bool)


@pydantic_dataclass(
    frozen=True, config=ConfigDict(hide_input_in_errors=True, json_schema_extra=in_order)
)
class SweptShop:
    """One of many shops.

    Attributes:
        name: The name of its blocks.
        parameters: Parameters of the flow that are this shop's own, such as `max_emails`.

    Raises:
        pydantic.ValidationError: The name cannot be that of a block.

    Example:
        >>> SweptShop("berlin", {"max_emails": 50}).name
        'berlin'
    """

    name: Annotated[
        str,
        Field(pattern=NAME_PATTERN, title="Name", description="The name of the shop's blocks."),
    ]
    parameters: Annotated[
        dict[str, Any],
        Field(title="Parameters", description="Parameters of the flow that are this shop's own."),
    ] = field(default_factory=dict)


class ShopOutcome(BaseModel):
    """The outcome of one shop's run.

    Attributes:
        shop: The shop's name.
        outcome: Whether its run did everything, left something to do, or failed.
        reason: Why it was not done.
        report: What its run found and did, as the flow returns it: a `MailReport`, a
            `StatusReport` and so on; `None` if it failed.

    Example:
        >>> ShopOutcome(shop="berlin", outcome="failed", reason="no credentials").report is None
        True
    """

    model_config = ConfigDict(frozen=True)

    shop: str
    outcome: Literal["done", "incomplete", "failed"]
    reason: str = ""
    report: Any = None


class SweepReport(BaseModel):
    """What a sweep over many shops did.

    Attributes:
        shops: The outcome of each shop, in the given order.

    Example:
        >>> done = ShopOutcome(shop="berlin", outcome="done")
        >>> report = SweepReport(shops=(done, ShopOutcome(shop="paris", outcome="failed")))
        >>> report.complete, report.failed
        (False, ('paris',))
    """

    model_config = ConfigDict(frozen=True)

    shops: tuple[ShopOutcome, ...] = ()

    @property
    def done(self) -> tuple[str, ...]:
        """The shops whose run left nothing to do."""
        return self._with("done")

    @property
    def incomplete(self) -> tuple[str, ...]:
        """The shops whose run left something to do."""
        return self._with("incomplete")

    @property
    def failed(self) -> tuple[str, ...]:
        """The shops that had no run, or whose run failed."""
        return self._with("failed")

    @property
    def reports(self) -> dict[str, Any]:
        """The reports of the shops that have one."""
        return {entry.shop: entry.report for entry in self.shops if entry.report is not None}

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do in any shop."""
        return len(self.done) == len(self.shops)

    @property
    def counts(self) -> dict[str, int]:
        """The number of shops with each outcome."""
        return {
            "shops": len(self.shops),
            "done": len(self.done),
            "incomplete": len(self.incomplete),
            "failed": len(self.failed),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sentence})"

    __str__ = __repr__

    @property
    def sentence(self) -> str:
        """What became of the shops, in a sentence."""
        rest = {"incomplete": self.incomplete, "failed": self.failed}
        said = [f"{len(shops)} {name}" for name, shops in rest.items() if shops]
        return f"{in_list([f'{len(self.done)} of {len(self.shops)} shops done', *said])}."

    def _with(self, outcome: str) -> tuple[str, ...]:
        return tuple(entry.shop for entry in self.shops if entry.outcome == outcome)


@flow(name="Sweep shops")
def sweep_shops(
    flow_name: SweepableFlow,
    shops: list[SweptShop],
    *,
    parameters: dict[str, Any] | None = None,
    shops_at_once: int = 1,
) -> SweepReport:
    """Run a ready-made flow for each of many shops, in a run of its own with its own blocks.

    Every parameter that takes a block gets the block with the shop's name; of several kinds the
    first that exists. A shop without its own template, ledger or completed orders uses those named
    `tracktor`, as in deployments. An optional parameter without a block is left out. A failure in
    one shop does not affect the others.

    Args:
        flow_name: The flow to run.
        shops: The shops, each with its own parameters.
        parameters: Parameters of the flow for all shops. Those of a shop override them, except a
            dry run of all shops. For a block, give its name.
        shops_at_once: How many shops run at once. Limits, such as the most emails, apply to each.

    Returns:
        The outcome of each shop.

    Raises:
        InvalidInput: There are no shops, one is named twice, two are the same Tracktor account, or
            the flow has no such parameter; nothing was run.
        IncompleteRun: All shops were tried, and in some of them something is left or went wrong.
            Its `report` says where.

    Example:
        >>> from prefect_tracktor.flows import SweptShop, sweep_shops
        >>> _ = credentials.save("berlin", overwrite=True)
        >>> report = sweep_shops(
        ...     "announce_exceptions",
        ...     [SweptShop("berlin", {"orders": order_ids})],
        ...     parameters={"ledger": ledger, "dry_run": True},
        ... )
        >>> found = report.reports["berlin"]
        >>> report.done, len(found.read) + len(found.completed)
        (('berlin',), 1000)
    """
    if not 1 <= shops_at_once <= _MOST_SHOPS_AT_ONCE:
        raise InvalidInput(
            f"shops_at_once must be from 1 to {_MOST_SHOPS_AT_ONCE}, not {shops_at_once}"
        )
    wanted = _wanted_by(_FLOWS[flow_name])
    _check_names(shops)
    _check_parameters(shops, parameters or {}, wanted, flow_name)
    runs = [_prepared(shop, parameters or {}, wanted) for shop in shops]
    _refuse_the_same_account_twice(runs)
    report = SweepReport(shops=tuple(_carried_out(_FLOWS[flow_name], runs, shops_at_once)))
    _publish(report, flow_name)
    if not report.complete:
        raise IncompleteRun(_what_is_left(report), report=report)
    return report


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A parameter of a flow: the blocks that it takes, if any, and whether it is required."""

    name: str
    blocks: tuple[type[Block], ...]
    required: bool


@dataclass(slots=True)
class _ShopRun:
    """One shop's run before it starts: its parameters, or why it cannot start."""

    shop: str
    parameters: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def _wanted_by(swept: Flow[..., Any]) -> list[_Wanted]:
    hints = get_type_hints(swept.fn)
    return [
        _Wanted(name, _blocks_of(hints[name]), parameter.default is inspect.Parameter.empty)
        for name, parameter in inspect.signature(swept.fn).parameters.items()
    ]


def _blocks_of(annotation: Any) -> tuple[type[Block], ...]:
    """The kinds of blocks that it takes, Shopify before a file, as in deployments."""
    kinds = get_args(annotation) or (annotation,)
    blocks = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Block)]
    return tuple(sorted(blocks, key=lambda block: block is not ShopifyOrders))


def _check_names(shops: Sequence[SweptShop]) -> None:
    if not shops:
        raise InvalidInput("shops is empty: name at least one")
    names = [shop.name for shop in shops]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InvalidInput(f"shops[{place}]: {name!r} is named twice")


def _check_parameters(
    shops: Sequence[SweptShop], common: Mapping[str, Any], wanted: Sequence[_Wanted], flow_name: str
) -> None:
    known = [one.name for one in wanted]
    given = {"parameters": common} | {
        f"shops[{place}].parameters": shop.parameters for place, shop in enumerate(shops)
    }
    for place, values in given.items():
        for name in values.keys() - set(known):
            raise InvalidInput(
                f"{place}: {flow_name} has no parameter {name!r}; it has {', '.join(known)}"
            )


def _prepared(shop: SweptShop, common: Mapping[str, Any], wanted: Sequence[_Wanted]) -> _ShopRun:
    """Find a shop's blocks; a missing one fails this shop alone."""
    run = _ShopRun(shop.name)
    given = {**common, **shop.parameters}
    if any(_is_dry(values) for values in (common, shop.parameters)):
        given["dry_run"] = True
    for one in wanted:
        try:
            run.parameters |= _given(one, given, shop.name)
        except InvalidInput as problem:
            run.problems.append(str(problem))
    return run


def _is_dry(values: Mapping[str, Any]) -> bool:
    try:
        return _FLAG.validate_python(values.get("dry_run", False))
    except ValidationError:
        raise InvalidInput("dry_run must be true or false; nothing was run") from None


def _given(one: _Wanted, given: Mapping[str, Any], shop: str) -> dict[str, Any]:
    """The value of a parameter; none for an optional one without a value."""
    if one.name == "reading":
        return {one.name: _reading(given.get(one.name) or {}, shop)}
    named = one.name in given
    value = given.get(one.name, shop)
    if one.blocks and isinstance(value, str):
        look = find_document if named else document_of_shop
        document = next(filter(None, (look(block, value) for block in one.blocks)), None)
        if document is None and (named or one.required):
            raise InvalidInput(f"{one.name}: there is no block {_either(one.blocks, value)}")
        return {} if document is None else {one.name: document}
    if one.required and not named:
        raise InvalidInput(f"{one.name} is given neither for all shops nor for this one")
    return {one.name: value} if named else {}


def _reading(given: ReadingOptions | Mapping[str, Any], shop: str) -> dict[str, Any]:
    """The reading options, with the shop's completed orders unless others are given."""
    options = dict(given)
    completed = _Wanted("completed_orders", (CompletedOrders,), required=False)
    if isinstance(given, ReadingOptions) and given.completed_orders is None:
        del options["completed_orders"]
    return options | _given(completed, options, shop)


def _either(blocks: Sequence[type[Block]], name: str) -> str:
    return " or ".join(f"{block.get_block_type_slug()}/{name}" for block in blocks)


def _refuse_the_same_account_twice(runs: Sequence[_ShopRun]) -> None:
    accounts: dict[str, str] = {}
    for run in runs:
        credentials = run.parameters.get("credentials")
        if not isinstance(credentials, TracktorCredentials):
            continue
        first = accounts.setdefault(credentials.account, run.shop)
        if first != run.shop:
            raise InvalidInput(
                f"shops: {first!r} and {run.shop!r} have the same Tracktor account; nothing was run"
            )


def _carried_out(
    swept: Flow[..., Any], runs: Sequence[_ShopRun], shops_at_once: int
) -> Iterator[ShopOutcome]:
    with Progress("tracktor-sweep", description="Shops", total=len(runs)) as progress:
        for outcome in _outcomes(swept, runs, shops_at_once):
            yield outcome
            progress.advance()


def _outcomes(
    swept: Flow[..., Any], runs: Sequence[_ShopRun], shops_at_once: int
) -> Iterator[ShopOutcome]:
    if shops_at_once == 1:
        # in the thread in which Prefect cancels a run
        yield from (_outcome(swept, run) for run in runs)
        return
    threads = ThreadPoolExecutor(shops_at_once)
    try:
        under_way = [threads.submit(copy_context().run, _outcome, swept, run) for run in runs]
        yield from (future.result() for future in under_way)
    finally:
        threads.shutdown(cancel_futures=True)


def _outcome(swept: Flow[..., Any], run: _ShopRun) -> ShopOutcome:
    """Run a shop's flow; an error becomes the outcome of this shop."""
    if run.problems:
        return ShopOutcome(shop=run.shop, outcome="failed", reason="; ".join(run.problems))
    sweep = FlowRunContext.get()
    own = swept.with_options(
        flow_run_name=f"Shop {run.shop}",
        task_runner=sweep.task_runner.duplicate() if sweep else None,
    )
    try:
        report = own(**run.parameters)
    except IncompleteRun as incomplete:
        return ShopOutcome(
            shop=run.shop, outcome="incomplete", reason=str(incomplete), report=incomplete.report
        )
    except TracktorError as error:
        return ShopOutcome(shop=run.shop, outcome="failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - no error of one shop stops the others
        # the error's text may repeat a customer's data
        get_run_logger().warning("%s failed (%s): see its run.", run.shop, type(error).__name__)
        reason = f"{type(error).__name__}; its run says more"
        return ShopOutcome(shop=run.shop, outcome="failed", reason=reason)
    return ShopOutcome(shop=run.shop, outcome="done", report=report)


def _publish(report: SweepReport, flow_name: str) -> None:
    rows: list[Row] = [
        {
            "Shop": entry.shop,
            "Outcome": entry.outcome.capitalize(),
            "Found": _in_short(entry),
            "Reason": entry.reason,
        }
        for entry in report.shops
    ]
    publish_table("sweep", rows, description=f"The outcome of each shop: {flow_name}.")
    notes = [] if report.complete else [_what_is_left(report)]
    publish_summary("sweep-summary", title="Sweep", counts=report.counts, notes=notes)


def _in_short(entry: ShopOutcome) -> str:
    counts = entry.report.counts if entry.report else {}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _what_is_left(report: SweepReport) -> str:
    left = {"left something to be done": report.incomplete, "failed": report.failed}
    words = "; ".join(f"{', '.join(shops)} {what}" for what, shops in left.items() if shops)
    first = next(entry for entry in report.shops if entry.outcome != "done")
    return f"{words}. Of {first.shop}: {first.reason}"
