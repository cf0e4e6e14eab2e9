"""The commands `prefect-tracktor serve` and `prefect-tracktor deploy`."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment

from prefect_tracktor.deploy.apply import Registration, compare, left_over
from prefect_tracktor.deploy.serve import claim, new_claim, serve_until_stopped, stop
from prefect_tracktor.deploy.shop import Shop
from prefect_tracktor.deploy.shops import (
    Build,
    build_deployments,
    build_functions,
    select_shops,
)
from prefect_tracktor.deploy.work_pools import Infrastructure, infrastructure_of
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.setup.environment import (
    Names,
    check_names,
    file_of,
    prefect_address,
    settings,
    warnings,
)
from prefect_tracktor.setup.project import (
    documents,
    folder_of,
    mistakes_located,
    modules_of,
    variables_of,
)


def serve(*, only: Names = (), shop: Names = ()) -> int:
    """Run the deployments of flows/ from this process, on their schedules, until you stop it.

    Args:
        only: Only these files of flows/, such as expired_exceptions.
        shop: Only these shops of flows/shops.py.
    """
    shops, functions = _read_flows(only, shop)
    with _prefect() as client:
        deployments, not_set_up = build_deployments(shops, functions, only)
        this_process = Infrastructure()
        registrations = [compare(client, built, this_process) for built in deployments]
        served = _apply(registrations)
        if not only and not shop:  # files and shops that are not selected may define the others
            _print_left_over(client, deployments, not_set_up)
        if not served:
            return 2
        _print_left_pools(registrations)
        claimed = new_claim()
        try:
            claim(client, served, claimed)
            serve_until_stopped(served)
        finally:
            stop(client, served, claimed)
    return 0


def deploy(
    *,
    work_pool: str,
    only: Names = (),
    shop: Names = (),
    image: str = "",
    pip_package: tuple[str, ...] = (),
    dry_run: bool = False,
) -> int:
    """Register the deployments of flows/ with a work pool, whose workers run them.

    Args:
        work_pool: The work pool; create it first.
        only: Only these files of flows/, such as expired_exceptions.
        shop: Only these shops of flows/shops.py.
        image: The container image of the runs.
        pip_package: Install this package at the start of each run: the address of the wheel.
        dry_run: Show the changes, and change nothing.
    """
    shops, functions = _read_flows(only, shop)
    with _prefect() as client:
        infrastructure = infrastructure_of(client, work_pool, image, pip_package)
        deployments, not_set_up = build_deployments(shops, functions, only)
        accepted = [built for built in deployments if _is_accepted(built, infrastructure)]
        registrations = [compare(client, built, infrastructure) for built in accepted]
        if dry_run:
            for registration in registrations:
                print(f"would be {registration}")
            print("This was a dry run: nothing was changed.")
            done = len(registrations)
        else:
            done = len(_apply(registrations))
        if not only and not shop:  # files and shops that are not selected may define the others
            _print_left_over(client, deployments, not_set_up)
        for remark in (*infrastructure.remarks, *infrastructure.remarks_on(accepted)):
            print(remark)
    return 2 if not_set_up or done < len(deployments) else 0


def _read_flows(only: Names, shop: Names) -> tuple[Sequence[Shop], dict[str, Build]]:
    variables = settings()
    if not folder_of("flows").is_relative_to(Path.cwd()):
        print("There is no flows/ here, so these are the built-in deployments. To edit them, have")
        print("prefect-tracktor init write them here.")
    modules = modules_of("flows")
    functions = build_functions(modules)
    check_names(only, functions, "deployment in flows/")
    with mistakes_located("flows/shops.py"):
        defined = modules["shops"].shops()
    shops = select_shops(defined, shop)
    for warning in warnings(file_of(None), variables, variables_of(documents())):
        print(f"Warning: {warning}")
    return shops, functions


@contextmanager
def _prefect() -> Iterator[SyncPrefectClient]:
    """Connect to Prefect's API, and refuse its temporary server or one that does not answer."""
    if not prefect_address():
        raise InvalidInput(
            "PREFECT_API_URL is not set, so no schedule would run: run prefect server"
            " start in another shell, then here: export"
            " PREFECT_API_URL=http://127.0.0.1:4200/api (for Prefect Cloud: prefect cloud login)"
        )
    with get_client(sync_client=True) as client:
        if isinstance(error := client.api_healthcheck(), httpx.HTTPError):
            raise error
        if error:
            raise InvalidInput(f"Prefect's API does not answer ({type(error).__name__})")
        yield client


def _is_accepted(deployment: RunnerDeployment, infrastructure: Infrastructure) -> bool:
    if reason := infrastructure.refusal_of(deployment):
        print(f"REFUSED    {deployment.full_name}: {reason}")
    return not reason


def _apply(registrations: list[Registration]) -> dict[UUID, RunnerDeployment]:
    """Apply each deployment and print the result; return those that the server accepted."""
    applied = {}
    for registration in registrations:
        result = str(registration)
        try:
            applied[registration.apply()] = registration.deployment
            print(result)
        except (DeploymentApplyError, httpx.HTTPStatusError) as error:
            print(f"REFUSED    {registration.deployment.full_name}: {error}")
    return applied


def _print_left_pools(registrations: Collection[Registration]) -> None:
    pools = {one.existing.work_pool_name for one in registrations if one.existing}
    for pool in sorted(filter(None, pools)):
        print(f"Workers of the work pool {pool!r} no longer run these deployments. When this")
        print("process ends, nothing runs them. To give them back to the workers, run")
        print(f"prefect-tracktor deploy --work-pool {pool}")


def _print_left_over(
    client: SyncPrefectClient,
    deployments: Collection[RunnerDeployment],
    not_set_up: Collection[Shop],
) -> None:
    desired = {deployment.full_name for deployment in deployments}
    for name in left_over(client, desired, ignored_tags=[shop.name for shop in not_set_up]):
        print(f"left over  {name}: no file in flows/ defines it with the current settings.")
        print("           Workers still run it. If you do not need it, delete it:")
        print(f"           prefect deployment delete '{name}'")
