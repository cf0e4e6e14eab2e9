"""Sweep: a flow run for each of many shops, with the shop's own blocks."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_type_hints

from prefect import Flow, get_run_logger
from prefect.blocks.core import Block
from prefect.context import FlowRunContext
from prefect.exceptions import ParameterTypeError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import IncompleteRun, InvalidInput, TracktorError
from prefect_tracktor.forms import in_order, title_of
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.reporting.artifacts import publish_summary, publish_table
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import in_list, mode_label
from prefect_tracktor.rules import channels_of
from prefect_tracktor.runs.cases import Row
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.showing import show_mode
from prefect_tracktor.saved_blocks import (
    NAME_PATTERN,
    blocks_loaded_once,
    find_block,
    find_block_of_shop,
)
from prefect_tracktor.sources import ShopifyOrders
from prefect_tracktor.storage.completed_orders import CompletedOrders

_MOST_SHOPS_AT_ONCE = 32
_FLAG = TypeAdapter(bool)


@pydantic_dataclass(
    frozen=True,
    config=ConfigDict(
        hide_input_in_errors=True, json_schema_extra=in_order, field_title_generator=title_of
    ),
)
class SweptShop:
    """One of many shops.

    Attributes:
        name: The name of its blocks.
        parameters: Parameters of the flow for this shop alone, such as `max_emails`.

    Raises:
        pydantic.ValidationError: The name is not a valid block name.

    Example:
        >>> SweptShop("berlin", {"max_emails": 50}).name
        'berlin'
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    parameters: dict[str, Any] = field(default_factory=dict)


class ShopOutcome(BaseModel):
    """The outcome of one shop's run.

    Attributes:
        shop: The shop's name.
        mode: `live`, `rehearsal` or `dry_run`, or several of them; empty if it had no run.
        outcome: `done`, `incomplete` if its run left something to do, or `failed`.
        reason: Why it is not done.
        report: The result of its run, as the flow returns it: a `MailReport`, a
            `StatusReport` and so on; `None` if it failed.

    Example:
        >>> ShopOutcome(shop="berlin", outcome="failed", reason="no credentials").report is None
        True
    """

    model_config = ConfigDict(frozen=True)

    shop: str
    mode: str = ""
    outcome: Literal["done", "incomplete", "failed"]
    reason: str = ""
    report: Any = None


class SweepReport(BaseModel):
    """The result of a sweep over many shops.

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
        """The reports, by shop."""
        return {entry.shop: entry.report for entry in self.shops if entry.report is not None}

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do in any shop."""
        return not self.what_is_left

    @property
    def what_is_left(self) -> str:
        """The unfinished work and the failures, in words; empty if there are none."""
        left = {"left something to do": self.incomplete, "failed": self.failed}
        text = "; ".join(f"{', '.join(shops)} {what}" for what, shops in left.items() if shops)
        first = next((entry for entry in self.shops if entry.outcome != "done"), None)
        return f"{text}. {first.shop}: {first.reason}" if first else ""

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
    def mode(self) -> str:
        """The modes of all shops."""
        modes = {mode for entry in self.shops for mode in entry.mode.split(", ")}
        return ", ".join(mode for mode in Mode if mode in modes)

    @property
    def sentence(self) -> str:
        """The result of the sweep, in a sentence."""
        others = {"incomplete": self.incomplete, "failed": self.failed}
        counts = [f"{len(shops)} {name}" for name, shops in others.items() if shops]
        mode = f"{mode_label(self.mode)}: " if self.mode else ""
        return f"{mode}{in_list([f'{len(self.done)} of {len(self.shops)} shops done', *counts])}."

    def _with(self, outcome: str) -> tuple[str, ...]:
        return tuple(entry.shop for entry in self.shops if entry.outcome == outcome)


def sweep(
    swept: Flow[..., Any],
    flow_name: str,
    shops: Sequence[SweptShop],
    common: Mapping[str, Any],
    shops_at_once: int,
) -> SweepReport:
    """Check all parameters and blocks, then run the flow for each shop."""
    if not 1 <= shops_at_once <= _MOST_SHOPS_AT_ONCE:
        raise InvalidInput(
            f"shops_at_once must be from 1 to {_MOST_SHOPS_AT_ONCE}, not {shops_at_once}"
        )
    parameters = _parameters_of(swept)
    _check(shops, common, [parameter.name for parameter in parameters], flow_name)
    with blocks_loaded_once():
        runs = [_prepared(swept, shop, common, parameters) for shop in shops]
    _refuse_the_same_account_twice(runs)
    if modes := [mode for mode in Mode if any(mode in run.modes for run in runs)]:
        show_mode(f"Sweep of {len(shops)} shops, {flow_name}", *modes, about=flow_name)
    with Progress("tracktor-sweep", description="Shops", total=len(runs)) as progress:
        outcomes = []
        for outcome in _outcomes(swept, runs, shops_at_once):
            outcomes.append(outcome)
            progress.advance()
    report = SweepReport(shops=tuple(outcomes))
    _publish(report, flow_name)
    if not report.complete:
        raise IncompleteRun(report.what_is_left, report=report)
    return report


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a flow: the kinds of blocks that it takes, and whether it is required."""

    name: str
    blocks: tuple[type[Block], ...]
    required: bool


@dataclass(slots=True)
class ShopRun:
    """One shop's run before it starts: its parameters, or the problems that prevent it."""

    shop: str
    parameters: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def modes(self) -> list[str]:
        """The modes of all its parts, from its blocks."""
        found = set() if self.problems else _modes_of(self.parameters)
        return [mode for mode in Mode if mode in found]


def _modes_of(given: Mapping[str, Any]) -> set[str]:
    if given.get("dry_run"):
        return {Mode.DRY_RUN}
    of_account: str = Mode.DRY_RUN if given["credentials"].read_only else Mode.LIVE
    mailer: Mailer | None = given.get("mailer")
    of_mailer = mailer.mode if mailer else of_account
    channels = channels_of(given.get("rules") or [])
    modes = {channel.mode if channel else of_mailer for channel in channels}
    if given.get("digest"):
        modes.add(of_mailer)
    if given.get("announce"):
        modes.add(of_account)
    if given.get("export") or given.get("to"):
        modes.add(Mode.LIVE)
    return modes or {of_mailer}


def _parameters_of(swept: Flow[..., Any]) -> list[_Parameter]:
    hints = get_type_hints(swept.fn)
    return [
        _Parameter(name, _blocks_of(hints[name]), parameter.default is inspect.Parameter.empty)
        for name, parameter in inspect.signature(swept.fn).parameters.items()
    ]


def _blocks_of(annotation: Any) -> tuple[type[Block], ...]:
    """Return the kinds of blocks that a parameter takes, Shopify first, as in deployments."""
    kinds = get_args(annotation) or (annotation,)
    blocks = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Block)]
    return tuple(sorted(blocks, key=lambda block: block is not ShopifyOrders))


def _check(
    shops: Sequence[SweptShop], common: Mapping[str, Any], known: Sequence[str], flow_name: str
) -> None:
    if not shops:
        raise InvalidInput("shops is empty: name at least one")
    names = [shop.name for shop in shops]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InvalidInput(f"shops[{place}]: {name!r} is named twice")
    given = {"parameters": common} | {
        f"shops[{place}].parameters": shop.parameters for place, shop in enumerate(shops)
    }
    for where, values in given.items():
        for name in values.keys() - set(known):
            raise InvalidInput(
                f"{where}: {flow_name} has no parameter {name!r}; it has {', '.join(known)}"
            )


def _prepared(
    swept: Flow[..., Any],
    shop: SweptShop,
    common: Mapping[str, Any],
    parameters: Sequence[_Parameter],
) -> ShopRun:
    """Load a shop's blocks, and validate its parameters; a problem fails this shop alone."""
    run = ShopRun(shop.name)
    given = {**common, **shop.parameters}
    if "dry_run" in given:
        of_shop = _is_dry(shop.parameters, f"parameters of {shop.name}")
        given["dry_run"] = _is_dry(common, "parameters") or of_shop
    for parameter in parameters:
        try:
            run.parameters |= _value(parameter, given, shop.name)
        except InvalidInput as problem:
            run.problems.append(str(problem))
    if not run.problems:
        try:
            run.parameters = swept.validate_parameters(run.parameters)
        except ParameterTypeError as problem:
            run.problems.append(str(problem))
    return run


def _is_dry(values: Mapping[str, Any], where: str) -> bool:
    try:
        return _FLAG.validate_python(values.get("dry_run", False))
    except ValidationError:
        raise InvalidInput(f"{where}: dry_run must be true or false; nothing was run") from None


def _value(parameter: _Parameter, given: Mapping[str, Any], shop: str) -> dict[str, Any]:
    """Return a parameter with its value; empty for an optional one without a value."""
    name, kinds = parameter.name, parameter.blocks
    if name == "reading":
        return {name: _reading(given.get(name) or {}, shop)}
    named = name in given
    value = given.get(name, shop)
    if kinds and isinstance(value, str):
        find = find_block if named else find_block_of_shop
        block = next(filter(None, (find(kind, value) for kind in kinds)), None)
        if block is None and (named or parameter.required):
            slugs = (f"{kind.get_block_type_slug()}/{value}" for kind in kinds)
            raise InvalidInput(f"{name}: there is no block {' or '.join(slugs)}")
        return {} if block is None else {name: block}
    if parameter.required and not named:
        raise InvalidInput(f"{name} is given neither for all shops nor for this one")
    return {name: value} if named else {}


def _reading(given: object, shop: str) -> object:
    """Return the reading options, with the shop's completed orders unless others are given."""
    if not isinstance(given, ReadingOptions | Mapping):
        return given  # the flow refuses it
    options = dict(given)
    completed = _Parameter("completed_orders", (CompletedOrders,), required=False)
    if isinstance(given, ReadingOptions) and given.completed_orders is None:
        del options["completed_orders"]
    return options | _value(completed, options, shop)


def _refuse_the_same_account_twice(runs: Sequence[ShopRun]) -> None:
    accounts: dict[str, str] = {}
    for run in runs:
        if run.problems:
            continue
        credentials: TracktorCredentials = run.parameters["credentials"]
        first = accounts.setdefault(credentials.account, run.shop)
        if first != run.shop:
            raise InvalidInput(
                f"shops: {first!r} and {run.shop!r} have the same Tracktor account; nothing was run"
            )


def _outcomes(
    swept: Flow[..., Any], runs: Sequence[ShopRun], shops_at_once: int
) -> Iterator[ShopOutcome]:
    if shops_at_once == 1:
        # Prefect cancels a run in this thread
        yield from (_outcome(swept, run) for run in runs)
        return
    threads = ThreadPoolExecutor(shops_at_once)
    try:
        futures = [threads.submit(copy_context().run, _outcome, swept, run) for run in runs]
        yield from (future.result() for future in futures)
    finally:
        threads.shutdown(cancel_futures=True)


def _outcome(swept: Flow[..., Any], run: ShopRun) -> ShopOutcome:
    """Run a shop's flow, and return its result or error as the shop's outcome."""
    if run.problems:
        return ShopOutcome(shop=run.shop, outcome="failed", reason="; ".join(run.problems))
    sweep = FlowRunContext.get()
    mode = ", ".join(run.modes)
    flow = swept.with_options(
        flow_run_name=": ".join(filter(None, [mode_label(mode), f"shop {run.shop}"])),
        task_runner=sweep.task_runner.duplicate() if sweep else None,
    )
    failed = ShopOutcome(shop=run.shop, mode=mode, outcome="failed")
    try:
        report = flow(**run.parameters)
    except IncompleteRun as incomplete:
        left = {"outcome": "incomplete", "reason": str(incomplete), "report": incomplete.report}
        return failed.model_copy(update=left)
    except TracktorError as error:
        return failed.model_copy(update={"reason": str(error)})
    except Exception as error:  # noqa: BLE001 - no error of one shop stops the others
        # the error's text may repeat a customer's data
        get_run_logger().warning("%s failed (%s): see its run.", run.shop, type(error).__name__)
        return failed.model_copy(update={"reason": f"{type(error).__name__}; see its run"})
    return failed.model_copy(update={"outcome": "done", "report": report})


def _publish(report: SweepReport, flow_name: str) -> None:
    rows: list[Row] = [
        {
            "Shop": entry.shop,
            "Mode": mode_label(entry.mode),
            "Outcome": entry.outcome.capitalize(),
            "Found": _counts_of(entry),
            "Reason": entry.reason,
        }
        for entry in report.shops
    ]
    description = f"The outcome of each shop: {flow_name}."
    if report.mode:
        description = f"{mode_label(report.mode)}. {description}"
    publish_table("sweep", rows, description=description)
    notes = [*filter(None, [report.what_is_left])]
    counts, mode = report.counts, report.mode
    publish_summary("sweep-summary", title="Sweep", counts=counts, notes=notes, mode=mode)


def _counts_of(entry: ShopOutcome) -> str:
    counts = entry.report.counts if entry.report else {}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
