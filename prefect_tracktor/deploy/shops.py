"""Deployments of all shops; a shop that is not set up does not affect the others."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import ModuleType

from prefect.blocks.core import Block
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

from prefect_tracktor import Mailer, TracktorCredentials
from prefect_tracktor.block import saved_name
from prefect_tracktor.deploy.builders import saved
from prefect_tracktor.deploy.shop import Shop
from prefect_tracktor.errors import InvalidInput, NotSetUp
from prefect_tracktor.rules import channels_of
from prefect_tracktor.saved_blocks import blocks_loaded_once
from prefect_tracktor.setup.environment import check_names

Build = Callable[[Shop], RunnerDeployment]


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
            built = dict(_deployments(shop, functions, only, prefix))
            _check_names(built | (_of_other_files(shop, functions, built) if only else {}))
            _check_account(shop, accounts)
        except InvalidInput as error:
            not_set_up.append(shop)
            print(f"{prefix}NOT SET UP, none of its deployments was served or changed: {error}")
            continue
        deployments += built.values()
        for remark in _remarks(built.values(), shop):
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


def _of_other_files(
    shop: Shop, functions: Mapping[str, Build], built: Mapping[str, RunnerDeployment]
) -> dict[str, RunnerDeployment]:
    others = {}
    for name in functions.keys() - built.keys():
        with suppress(NotSetUp, InvalidInput):
            others[name] = _build(functions[name], shop)
    return others


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


def _deployments(
    shop: Shop, functions: Mapping[str, Build], only: Sequence[str], prefix: str
) -> Iterator[tuple[str, RunnerDeployment]]:
    for name in only or functions:
        try:
            yield name, _build(functions[name], shop)
        except NotSetUp as hint:
            if only:
                raise InvalidInput(f"{name} cannot be served yet: {hint}") from None
            print(f"{prefix}left out {name}: {hint}")


def _build(build: Build, shop: Shop) -> RunnerDeployment:
    try:
        return build(shop)
    except ValueError as error:
        # a block that the file loads itself does not exist; any other error is a bug
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise NotSetUp(str(error)) from None


def _remarks(deployments: Iterable[RunnerDeployment], shop: Shop) -> Iterator[str]:
    """Name the block that orders come from, and the modes of the mailer and the channels."""
    parameters = [deployment.parameters for deployment in deployments]
    orders = [values["orders"] for values in parameters if "orders" in values]
    for slug in {type(block).get_block_type_slug() for block in orders if isinstance(block, Block)}:
        yield f"Orders come from the block {slug}/{shop.name}."
    mailers = [values.get("mailer") for values in parameters]
    for mode in {mailer.mode for mailer in mailers if isinstance(mailer, Mailer)}:
        yield f"Emails: {mode.label}, as the block tracktor-mailer/{shop.name} says now."
    rules = [rule for values in parameters for rule in values.get("rules") or []]
    for channel in filter(None, channels_of(rules)):
        slug = f"{channel.get_block_type_slug()}/{saved_name(channel)}"
        yield f"Notices to {channel.host}: {channel.mode.label}, as the block {slug} says now."
