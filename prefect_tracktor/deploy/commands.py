"""`prefect-tracktor serve` and `deploy`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import httpx
from cyclopts import Parameter
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment

from prefect_tracktor.deploy.apply import Registration, left_over, registration_of
from prefect_tracktor.deploy.serve import claim, serve_registered, stop
from prefect_tracktor.deploy.shop import Shop, settings
from prefect_tracktor.deploy.shops import Fleet, Make, chosen, fleet_of, makers_of
from prefect_tracktor.deploy.work_pools import Place, place_in
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.setup.environment import (
    Names,
    check_names,
    file_of,
    prefect_address,
    warnings,
)
from prefect_tracktor.setup.project import documents, folder_of, modules_of, variables_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The deployments to serve or deploy.

    Attributes:
        only: Only these files of flows/, such as expired_exceptions.
        shop: Only these shops of flows/shops.py.
    """

    only: Names = ()
    shop: Names = ()


Selected = Annotated[Selection, Parameter(name="*")]
ALL = Selection()


def serve(selection: Selected = ALL) -> int:
    """Run the deployments of flows/ from this process, on their schedules, until you stop it."""
    shops, makers = _read_flows(selection)
    with _prefect() as client:
        fleet = fleet_of(shops, makers, selection.only)
        registrations = [registration_of(client, made, Place()) for made in fleet.deployments]
        served = _carried_out(registrations)
        _tell_what_is_left_over(client, registrations, fleet, selection)
        if not served:
            return 2
        _tell_what_leaves_a_pool(registrations)
        claimed = claim(client, served)
        try:
            serve_registered(served)
        finally:
            stop(client, served, claimed)
    return 0


def deploy(
    selection: Selected = ALL,
    *,
    work_pool: str,
    image: str = "",
    pip_package: tuple[str, ...] = (),
    dry_run: bool = False,
) -> int:
    """Register the deployments of flows/ with a work pool, whose workers run them.

    Args:
        selection: Which deployments, of which shops.
        work_pool: The work pool; create it first.
        image: The container image of the runs.
        pip_package: Install this package at the start of each run: the address of the wheel.
        dry_run: Show the changes, and change nothing.
    """
    shops, makers = _read_flows(selection)
    with _prefect() as client:
        place = place_in(client, work_pool, image, pip_package)
        fleet = fleet_of(shops, makers, selection.only)
        refused = _refused(fleet, place)
        registrations = [registration_of(client, made, place) for made in fleet.deployments]
        if dry_run:
            for registration in registrations:
                print(f"would be {registration}")
            print("This was a dry run: nothing was changed.")
            done = len(registrations)
        else:
            done = len(_carried_out(registrations))
        _tell_what_is_left_over(client, registrations, fleet, selection, refused)
        for remark in (*place.remarks, *place.remarks_on(fleet.deployments)):
            print(remark)
    return 2 if fleet.failed or refused or done < len(registrations) else 0


def _read_flows(selection: Selection) -> tuple[Sequence[Shop], dict[str, Make]]:
    """The selected shops, and the functions that make their deployments."""
    variables = settings()
    if not folder_of("flows").is_relative_to(Path.cwd()):
        print("There is no flows/ here, so these are the built-in deployments. To edit them, have")
        print("prefect-tracktor init write them here.")
    modules = modules_of("flows")
    makers = makers_of(modules)
    check_names(selection.only, makers, "deployment in flows/")
    shops = chosen(modules["shops"].shops(), selection.shop)
    for warning in warnings(file_of(None), variables, variables_of(documents())):
        print(f"Warning: {warning}")
    return shops, makers


@contextmanager
def _prefect() -> Iterator[SyncPrefectClient]:
    """A client of Prefect's API, which was checked to answer; no temporary server."""
    if not prefect_address():
        raise InvalidInput(
            "PREFECT_API_URL is not set, so no schedule would run: run prefect server"
            " start in another shell, then here: export"
            " PREFECT_API_URL=http://127.0.0.1:4200/api (for Prefect Cloud: prefect cloud login)"
        )
    with get_client(sync_client=True) as client:
        if isinstance(problem := client.api_healthcheck(), httpx.HTTPError):
            raise problem
        if problem:
            raise InvalidInput(f"Prefect's API does not answer ({type(problem).__name__})")
        yield client


def _refused(fleet: Fleet, place: Place) -> set[str]:
    """Remove deployments that must not run in a place, and return their names."""
    refusals = {made.full_name: place.refusal_of(made) for made in fleet.deployments}
    refused = {name for name, reason in refusals.items() if reason}
    for name in sorted(refused):
        print(f"REFUSED    {name}: {refusals[name]}")
    fleet.deployments = [made for made in fleet.deployments if made.full_name not in refused]
    return refused


def _carried_out(registrations: list[Registration]) -> dict[UUID, RunnerDeployment]:
    """Apply each deployment and print the result; return those that the server accepted."""
    done = {}
    for registration in registrations:
        told = str(registration)
        try:
            done[registration.carry_out()] = registration.deployment
            print(told)
        except (DeploymentApplyError, httpx.HTTPStatusError) as refusal:
            print(f"REFUSED    {registration.deployment.full_name}: {refusal}")
    return done


def _tell_what_leaves_a_pool(registrations: Iterable[Registration]) -> None:
    held = (one.existing.work_pool_name for one in registrations if one.existing)
    for pool in sorted({name for name in held if name}):
        print(f"Workers of the work pool {pool!r} no longer run these deployments. When this")
        print("process ends, nothing runs them. To give them back to the workers, run")
        print(f"prefect-tracktor deploy --work-pool {pool}")


def _tell_what_is_left_over(
    client: SyncPrefectClient,
    registrations: list[Registration],
    fleet: Fleet,
    selection: Selection,
    refused: Collection[str] = (),
) -> None:
    if selection.only or selection.shop:
        return  # files that were not read may make them
    desired = {registration.deployment.full_name for registration in registrations} | {*refused}
    for name in left_over(client, desired, but_of=[shop.name for shop in fleet.failed]):
        print(f"left over  {name}: no file in flows/ defines it with the current settings.")
        print("           Workers still run it. If you do not need it, delete it:")
        print(f"           prefect deployment delete '{name}'")
