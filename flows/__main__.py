"""`python -m flows serve`: run the deployments from this process, until it is stopped."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from blocks.documents import NAME
from flows import (
    advance,
    exceptions,
    expired_exceptions,
    reconcile,
    status_change,
    status_changes,
    webhooks,
)
from flows.shared import NotSetUp, Unusable, orders

DEPLOYMENTS: dict[str, Callable[[], RunnerDeployment]] = {
    "expired_exceptions": expired_exceptions.deployment,
    "status_change": status_change.deployment,
    "status_changes": status_changes.deployment,
    "reconcile": reconcile.deployment,
    "advance": advance.deployment,
    "exceptions": exceptions.deployment,
    "webhooks": webhooks.deployment,
}


def main(arguments: list[str]) -> int:
    """Serve the deployments.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status: 2 if something that is needed is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    parser.add_argument("command", choices=["serve"], help="run the deployments from this process")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=DEPLOYMENTS,
        help=f"of {', '.join(DEPLOYMENTS)}; left out, all that are set up",
    )
    options = parser.parse_args(arguments)
    try:
        deployments = _deployments(options.only)
    except KeyError as missing:
        print(f"Set {missing.args[0]} first: the address that customers see, such as")
        print(f"  export {missing.args[0]}='Your Shop <orders@your-shop.example>'")
        return 2
    except NotSetUp as missing:
        print(f"To be served, it has to be set up: {missing}")
        return 2
    except Unusable as problem:
        print(problem)
        return 2
    except ValueError as missing:
        print(f"{missing}\nRun python -m blocks first.")
        return 2
    print(f"Orders come from the block {orders().get_block_type_slug()}/{NAME}.")
    serve(*deployments)
    return 0


def _deployments(only: Sequence[str] | None) -> list[RunnerDeployment]:
    """Those that were named, or all that are set up."""
    if only:
        return [DEPLOYMENTS[name]() for name in only]
    found = []
    for name, make in DEPLOYMENTS.items():
        try:
            found.append(make())
        except NotSetUp as hint:
            print(f"left out {name}: {hint}")
    return found


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # what SIGTERM becomes in Prefect's runner
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Prefect's runner may leave a thread behind that keeps the interpreter from ending
    os._exit(status)
