"""The deployments of all shops; a shop that is not set up does not affect the others."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
from prefect_tracktor.setup.environment import check_names

Make = Callable[[Shop], RunnerDeployment]


@dataclass(slots=True)
class Fleet:
    """The deployments of the shops, and the shops that are not set up."""

    deployments: list[RunnerDeployment] = field(default_factory=list)
    failed: list[Shop] = field(default_factory=list)


def makers_of(modules: Mapping[str, ModuleType]) -> dict[str, Make]:
    """The function `deployment` of each file in `flows/` that has one, by the files' names."""
    makers = {name: getattr(module, "deployment", None) for name, module in modules.items()}
    return {name: make for name, make in makers.items() if callable(make)}


def chosen(shops: Sequence[Shop], names: Sequence[str] = ()) -> list[Shop]:
    """The shops of the list, or those of some names."""
    there = Counter(shop.name for shop in shops)
    if not there:
        raise InvalidInput("there is no shop in flows/shops.py")
    if twice := [name for name, count in there.items() if count > 1]:
        raise InvalidInput(f"flows/shops.py has two shops of the name {twice[0]}")
    check_names(names, there, "shop in flows/shops.py")
    return [shop for shop in shops if not names or shop.name in names]


def fleet_of(shops: Sequence[Shop], makers: Mapping[str, Make], only: Sequence[str]) -> Fleet:
    """Make the deployments of some shops, and print what is left out."""
    fleet = Fleet()
    accounts: dict[str, str] = {}
    for shop in shops:
        title = f"{shop.name}: " if len(shops) > 1 else ""
        try:
            shop.check()
            made = dict(_deployments(shop, makers, only, title))
            _check_names(made | (_of_other_files(shop, makers, made) if only else {}))
            _check_account(shop, accounts)
        except InvalidInput as problem:
            fleet.failed.append(shop)
            print(f"{title}NOT SET UP, none of its deployments was served or changed: {problem}")
            continue
        fleet.deployments += made.values()
        for line in _remarks(made.values(), shop):
            print(title + line)
    return fleet


def _check_account(shop: Shop, accounts: dict[str, str]) -> None:
    """Two shops with one account would both write to its customers."""
    account = saved(TracktorCredentials, shop).account
    first = accounts.setdefault(account, shop.name)
    if first != shop.name:
        raise InvalidInput(
            f"its blocks are for the same Tracktor account as those of {first}; correct"
            f" tracktor-credentials/{shop.name}"
        )


def _of_other_files(
    shop: Shop, makers: Mapping[str, Make], made: Mapping[str, RunnerDeployment]
) -> dict[str, RunnerDeployment]:
    others = {}
    for name in makers.keys() - made.keys():
        with suppress(NotSetUp, InvalidInput):
            others[name] = _made(makers[name], shop)
    return others


def _check_names(made: Mapping[str, RunnerDeployment]) -> None:
    """A file that was copied must not replace what the first one makes."""
    files: dict[str, str] = {}
    for file, deployment in made.items():
        first = files.setdefault(deployment.full_name, file)
        if first != file:
            raise InvalidInput(
                f"flows/{first}.py and flows/{file}.py make the same deployment"
                f" {deployment.full_name!r}: give one of them another name"
            )


def _deployments(
    shop: Shop, makers: Mapping[str, Make], only: Sequence[str], title: str
) -> Iterator[tuple[str, RunnerDeployment]]:
    for name in only or makers:
        try:
            yield name, _made(makers[name], shop)
        except NotSetUp as hint:
            if only:
                raise InvalidInput(f"{name} cannot be served yet: {hint}") from None
            print(f"{title}left out {name}: {hint}")


def _made(make: Make, shop: Shop) -> RunnerDeployment:
    try:
        return make(shop)
    except ValueError as error:
        # a block that the file loads by itself is not there; anything else is a fault
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise NotSetUp(str(error)) from None


def _remarks(deployments: Iterable[RunnerDeployment], shop: Shop) -> Iterator[str]:
    """Where orders come from, and the mailer's mode."""
    parameters = [deployment.parameters for deployment in deployments]
    orders = [values["orders"] for values in parameters if "orders" in values]
    for slug in {type(block).get_block_type_slug() for block in orders if isinstance(block, Block)}:
        yield f"Orders come from the block {slug}/{shop.name}."
    mailers = [values.get("mailer") for values in parameters]
    for mode in {mailer.mode for mailer in mailers if isinstance(mailer, Mailer)}:
        yield f"Emails: {mode.label}, as the block tracktor-mailer/{shop.name} says now."
    for channel in filter(None, channels_of([r for v in parameters for r in v.get("rules") or []])):
        slug = f"{channel.get_block_type_slug()}/{saved_name(channel)}"
        yield f"Notices to {channel.host}: {channel.mode.label}, as the block {slug} says now."
