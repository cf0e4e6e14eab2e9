"""Deployments of all shops; a shop that is not set up does not affect the others."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType

from prefect.blocks.core import Block
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from prefect_tracktor import Mailer, TracktorCredentials
from prefect_tracktor.deploy.apply import mark
from prefect_tracktor.deploy.builders import saved, senders_of
from prefect_tracktor.deploy.shop import Shop
from prefect_tracktor.errors import InvalidInput, NotSetUp
from prefect_tracktor.models import ShipmentStatus, status_key
from prefect_tracktor.saved_blocks import blocks_loaded_once
from prefect_tracktor.setup.environment import check_names
from prefect_tracktor.validation import problems_of

Build = Callable[[Shop], RunnerDeployment]

_SIMILAR = 0.8


def build_functions(modules: Mapping[str, ModuleType]) -> dict[str, Build]:
    """Find the function `deployment` of each file in `flows/`, by the file's name."""
    functions = {name: getattr(module, "deployment", None) for name, module in modules.items()}
    return {name: function for name, function in functions.items() if callable(function)}


def select_shops(shops: Sequence[Shop], names: Sequence[str] = ()) -> list[Shop]:
    """Return the named shops, or all without names."""
    counts = Counter(shop.name for shop in shops)
    if not counts:
        raise InvalidInput("there is no shop in flows/shops.py")
    if duplicates := [name for name, count in counts.items() if count > 1]:
        raise InvalidInput(f"flows/shops.py has two shops of the name {duplicates[0]}")
    check_names(names, counts, "shop in flows/shops.py")
    return [shop for shop in shops if not names or shop.name in names]


@blocks_loaded_once()
def build_deployments(
    shops: Sequence[Shop], functions: Mapping[str, Build], only: Sequence[str]
) -> tuple[list[RunnerDeployment], list[Shop]]:
    """Build the shops' deployments, and return them and the shops that are not set up."""
    deployments: list[RunnerDeployment] = []
    not_set_up: list[Shop] = []
    accounts: dict[str, str] = {}
    for shop in shops:
        prefix = f"{shop.name}: " if len(shops) > 1 else ""
        try:
            shop.check()
            built = dict(_build_all(shop, functions, only, prefix))
            _check_names(built)
            _check_account(shop, accounts)
        except InvalidInput as error:
            not_set_up.append(shop)
            print(f"{prefix}NOT SET UP, none of its deployments was served or changed: {error}")
            continue
        selected = [built[name] for name in built if not only or name in only]
        deployments += selected
        for remark in _remarks(selected, shop):
            print(prefix + remark)
    return deployments, not_set_up


def _check_account(shop: Shop, accounts: dict[str, str]) -> None:
    """Refuse a second shop with the same account: both would email its customers."""
    account = saved(TracktorCredentials, shop).account
    first = accounts.setdefault(account, shop.name)
    if first != shop.name:
        raise InvalidInput(
            f"its blocks are for the same Tracktor account as those of {first}; correct"
            f" tracktor-credentials/{shop.name}"
        )


def _check_names(built: Mapping[str, RunnerDeployment]) -> None:
    """Refuse two files with one deployment name, such as a file and its copy."""
    files: dict[str, str] = {}
    for file, deployment in built.items():
        first = files.setdefault(deployment.full_name, file)
        if first != file:
            raise InvalidInput(
                f"flows/{first}.py and flows/{file}.py make the same deployment"
                f" {deployment.full_name!r}: give one of them another name"
            )


def _build_all(
    shop: Shop, functions: Mapping[str, Build], only: Sequence[str], prefix: str
) -> Iterator[tuple[str, RunnerDeployment]]:
    """Build the deployments of all files, since a name must be unique also among those not served.

    Errors count only in the selected files.
    """
    for name, build in functions.items():
        try:
            yield name, _build(f"flows/{name}.py", build, shop)
        except NotSetUp as hint:
            if name in only:
                raise InvalidInput(f"{name} cannot be served yet: {hint}") from None
            if not only:
                print(f"{prefix}left out {name}: {hint}")
        except InvalidInput:
            if not only or name in only:
                raise


def _build(file: str, build: Build, shop: Shop) -> RunnerDeployment:
    try:
        deployment = build(shop)
    except ValidationError as invalid:
        raise InvalidInput(f"{file}: {'; '.join(problems_of(invalid))}") from None
    except ValueError as error:
        # a block that the file loads itself does not exist; any other error is a bug
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise NotSetUp(str(error)) from None
    if (count := len(deployment.schedules or [])) > 1:
        raise InvalidInput(
            f"{file} has {count} schedules: keep one, and add others in Prefect's UI"
        )
    mark(deployment)
    return deployment


def _remarks(deployments: Iterable[RunnerDeployment], shop: Shop) -> Iterator[str]:
    """Name the source of orders, probable typos, and the modes of the mailer and the channels."""
    parameters = [deployment.parameters for deployment in deployments]
    orders = [values.get("orders") for values in parameters]
    for slug in {type(block).get_block_type_slug() for block in orders if isinstance(block, Block)}:
        yield f"Orders come from the block {slug}/{shop.name}."
    built_in = [str(status) for status in ShipmentStatus]
    for status in set(shop.notify):
        similar = get_close_matches(key := status_key(status), built_in, n=1, cutoff=_SIMILAR)
        if similar and key not in built_in:
            yield f"{status!r} is no built-in status, and may be a typo: did you mean {similar[0]}?"
    senders = [sender for values in parameters for sender in senders_of(values).items()]
    for slug, block in dict(senders).items():
        messages = "Emails" if isinstance(block, Mailer) else f"Notices to {block.host}"
        yield f"{messages}: {block.mode.label}, as the block {slug} says now."
