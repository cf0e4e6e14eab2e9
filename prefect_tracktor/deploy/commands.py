"""`python -m flows`: serve the deployments from this process, or register them with a work pool."""

import argparse
import os
import sys
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.settings import PREFECT_API_URL

from blocks.documents import VARIABLES
from blocks.variables import file_of, warnings
from flows import shops
from flows.deploying import Shop, Unusable
from flows.deploying.fleet import Fleet, chosen, fleet_of, makers_in
from flows.deploying.pools import Place, place_in
from flows.deploying.registration import Registration, left_over, registration_of
from flows.deploying.serving import claim, serve_registered, stop
from flows.deploying.shop import braked, settings

DEPLOYMENTS = makers_in(Path(__file__).parent)


def main(arguments: list[str]) -> int:
    """Serve or deploy.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status: 2 if something that is needed is missing or was refused, if only for one
        shop or deployment.
    """
    options = _parser().parse_args(arguments)
    try:
        variables = settings()
        wished = [braked(shop, variables) for shop in chosen(shops.shops(), options.shop)]
        for warning in warnings(file_of(None), variables, VARIABLES):
            print(f"Warning: {warning}")
        _refuse_a_temporary_server()
        with get_client(sync_client=True) as client:
            _check(client)
            return (
                _serve(client, wished, options)
                if options.command == "serve"
                else _deploy(client, wished, options)
            )
    except Unusable as problem:
        print(problem)
    except httpx.HTTPStatusError as error:
        print(f"Prefect's API refuses this: {error}")
    except httpx.HTTPError as error:
        print(f"Prefect's API does not answer any more ({type(error).__name__}); try it again")
    return 2


def _serve(client: SyncPrefectClient, wished: list[Shop], options: argparse.Namespace) -> int:
    """Run the deployments from this process, until it is stopped."""
    fleet = fleet_of(wished, DEPLOYMENTS, options.only, print)
    registrations = _compared(client, fleet, Place(), options)
    served = _carried_out(registrations)
    _tell_what_is_left_over(client, registrations, fleet, options)
    if not served:
        return 2
    claimed = claim(client, served, print)
    try:
        serve_registered(served)
    finally:
        stop(client, served, claimed, print)
    return 0


def _deploy(client: SyncPrefectClient, wished: list[Shop], options: argparse.Namespace) -> int:
    """Register the deployments with a work pool, whose workers run them."""
    place = place_in(client, options.work_pool, options.image, options.pip_package)
    fleet = fleet_of(wished, DEPLOYMENTS, options.only, print)
    registrations = _compared(client, fleet, place, options)
    if options.dry_run:
        for registration in registrations:
            print(f"would be {_told(registration)}")
        print("This was a dry run: nothing was changed.")
        done = len(registrations)
    else:
        done = len(_carried_out(registrations))
    _tell_what_is_left_over(client, registrations, fleet, options)
    for remark in place.remarks:
        print(remark)
    return 2 if fleet.failed or done < len(registrations) else 0


def _compared(
    client: SyncPrefectClient, fleet: Fleet, place: Place, options: argparse.Namespace
) -> list[Registration]:
    return [registration_of(client, made, place, live=options.live) for made in fleet.deployments]


def _carried_out(registrations: list[Registration]) -> dict[UUID, RunnerDeployment]:
    """Those that the server took, by their id; it is told what became of each."""
    done = {}
    for registration in registrations:
        told = _told(registration)
        try:
            done[registration.carry_out()] = registration.deployment
            print(told)
        except (DeploymentApplyError, httpx.HTTPStatusError) as refusal:
            print(f"REFUSED    {registration.deployment.full_name}: {refusal}")
    return done


def _told(registration: Registration) -> str:
    remarks = [*registration.changes, *([registration.paused] if registration.paused else [])]
    if registration.braked:
        remarks.append("still a dry run or rehearsal: --live lets it act")
    what = f" ({', '.join(remarks)})" if remarks else ""
    return f"{registration.outcome:10} {registration.deployment.full_name}{what}"


def _tell_what_is_left_over(
    client: SyncPrefectClient,
    registrations: list[Registration],
    fleet: Fleet,
    options: argparse.Namespace,
) -> None:
    if options.only or options.shop:
        return  # what was not looked at may well be wished for
    wished = {registration.deployment.full_name for registration in registrations}
    for name in left_over(client, wished, but_of=[shop.name for shop in fleet.failed]):
        print(
            f"left over  {name}: as things are set here, no file in flows/ wishes for it. Workers"
        )
        print("           go on running it; if nobody else made it or needs it, remove it:")
        print(f"           prefect deployment delete '{name}'")


def _refuse_a_temporary_server() -> None:
    """Without an address Prefect starts a server of its own, on which no schedule ever runs.

    Raises:
        Unusable: No address is set.
    """
    if not PREFECT_API_URL.value():
        raise Unusable(
            "PREFECT_API_URL is not set, and nothing would run by the clock: run prefect server"
            " start in another shell, then here: export"
            " PREFECT_API_URL=http://127.0.0.1:4200/api (for Prefect Cloud: prefect cloud login)"
        )


def _check(client: SyncPrefectClient) -> None:
    """See to it that Prefect's API answers, before anything is asked of it.

    Raises:
        Unusable: It does not.
    """
    if problem := client.api_healthcheck():
        raise Unusable(
            f"Prefect's API does not answer at {client.api_url} ({type(problem).__name__}): is the"
            " server up, and is PREFECT_API_URL its address?"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=DEPLOYMENTS,
        help=f"of {', '.join(DEPLOYMENTS)}; left out, all that are set up",
    )
    both.add_argument(
        "--shop", nargs="+", metavar="NAME", help="of flows/shops.py; left out, all shops"
    )
    both.add_argument(
        "--live",
        action="store_true",
        help="let deployments act that the server holds to be dry runs or rehearsals; without it"
        " they stay so",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", parents=[both], help="run the deployments from this process")
    deploy = commands.add_parser(
        "deploy",
        parents=[both],
        help="register the deployments with a work pool, whose workers run them",
        description="What differs from what the server holds is changed, and nothing else; what"
        " was paused stays paused.",
    )
    deploy.add_argument("--work-pool", required=True, metavar="NAME", help="a pool that exists")
    deploy.add_argument(
        "--image",
        default="",
        metavar="REF",
        help="the image that runs are carried out in, with prefect-tracktor in it",
    )
    deploy.add_argument(
        "--pip-package",
        action="append",
        default=[],
        metavar="SPEC",
        help="what is installed before each run; may be given several times",
    )
    deploy.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    return parser


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # what SIGTERM becomes in Prefect's runner
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Prefect's runner may leave a thread behind that keeps the interpreter from ending
    os._exit(status)
