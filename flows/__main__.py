"""`python -m flows serve`: run the deployments from this process, until it is stopped."""

import argparse
import sys

from prefect import serve

from flows import expired_exceptions


def main(arguments: list[str]) -> int:
    """Serve the deployments.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    parser.add_argument("command", choices=["serve"], help="run the deployments from this process")
    parser.parse_args(arguments)
    try:
        deployments = [expired_exceptions.deployment()]
    except KeyError as missing:
        print(f"Set {missing.args[0]} first: the address that customers see, such as")
        print(f"  export {missing.args[0]}='Your Shop <orders@your-shop.example>'")
        return 2
    except ValueError as missing:
        print(f"{missing}\nRun python -m blocks first.")
        return 2
    serve(*deployments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
