"""The command `prefect-tracktor`."""

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

from prefect_tracktor import TracktorError, __version__
from prefect_tracktor.deploy import commands
from prefect_tracktor.ledger_command import app as ledger
from prefect_tracktor.setup.blocks import blocks
from prefect_tracktor.setup.environment import about_prefect
from prefect_tracktor.setup.project import write_project
from prefect_tracktor.validation import problems_of
from prefect_tracktor.webhooks.command import app as receive

app = App(
    name="prefect-tracktor",
    help="Ready-made flows for Tracktor in Prefect: set them up, schedule them, rehearse them.\n\n"
    "To see them work, run demo; to set up your own shop, run init. Settings are read from"
    " TRACKTOR_..., SMTP_... and SHOPIFY_... variables, or from the file .env.",
    help_format="markdown",
    version=__version__,
    default_parameter=Parameter(negative="", show_default=False),
)
app["--help"].group = app["--version"].group = "Options"
app.command(receive)
app.command(ledger)
app.command(blocks, sort_key=1)
app.command(commands.serve, sort_key=2)
app.command(commands.deploy, sort_key=3)


@app.command(sort_key=0)
def init(folder: Path = Path(), /) -> None:
    """Write flows/ and blocks/ into your project, to edit and to commit.

    Args:
        folder: Your project's folder; by default the working directory.
    """
    for path, written in write_project(folder):
        print(f"{'wrote' if written else 'kept '} {path}")
    enter = "" if folder.resolve() == Path.cwd() else f"  cd {folder}\n"
    print(
        f"Next:\n{enter}  prefect-tracktor blocks   # saves your settings; names those it needs\n"
        "  prefect-tracktor serve    # runs the flows on their schedules"
    )


@app.command(sort_key=4)
def preview(*, out: Path = Path("tracktor-preview"), no_open: bool = False) -> None:
    """Write your messages to customers as HTML files, in all languages, and open them.

    Args:
        out: The folder to write to.
        no_open: Do not open the browser.
    """
    from prefect_tracktor.messages.preview import write_gallery
    from prefect_tracktor.messages.template import EmailTemplate
    from prefect_tracktor.saved_blocks import saved_templates

    try:
        saved = saved_templates()
    except (httpx.HTTPError, RuntimeError) as error:  # a temporary server may not start in time
        saved = {}
        print(
            f"Without your saved templates: Prefect's API does not answer ({type(error).__name__})"
        )
    index = write_gallery(out, {"default": EmailTemplate()} | saved)
    print(f"wrote {index}")
    if not no_open:
        webbrowser.open(index.resolve().as_uri())


@app.command(sort_key=5, help_flags=[], version_flags=[])
def sandbox(*options: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run a Tracktor, Shopify and a mail server on this machine, with a made-up shop."""
    from prefect_tracktor.sandbox.__main__ import main

    return main(options)


@app.command(sort_key=6)
def demo() -> int:
    """See it work: the flows run against a sandbox shop, in the folder tracktor-demo."""
    from prefect_tracktor.demo import main

    return main()


def main(arguments: Sequence[str]) -> int:
    """Run a command, print what is wrong without a traceback, and return the exit status."""
    try:
        return app(arguments, exit_on_error=False, result_action="return_value") or 0
    except CycloptsError:
        return 2  # cyclopts has printed the reason
    except (TracktorError, ValidationError, ImportError, httpx.HTTPError, OSError) as error:
        message = _in_words(error)
        if not message:
            raise
    print(message, file=sys.stderr)
    return 2


def _in_words(error: Exception) -> str:
    """Say what is wrong and what to do; empty for a fault of the program."""
    match error:
        case TracktorError():
            return str(error)
        case ValidationError():
            return "\n".join(problems_of(error))
        case httpx.HTTPError():
            return about_prefect(error)
        case ImportError():
            return str(error) if "pip install" in str(error) else ""
        case OSError(filename=None):
            return ""
        case OSError():
            return (
                f"{error.filename} cannot be used ({error.strerror}): check that its folder exists"
                " and that you may write there"
            )
    return ""


def run(*command: str) -> None:
    """Run the process's command line, with `command` in front of its arguments, and exit."""
    arguments = [*command, *sys.argv[1:]]
    try:
        status = main(arguments)
    except SystemExit as system_exit:  # Prefect's runner raises it on SIGTERM
        status = system_exit.code if isinstance(system_exit.code, int) else 1
    if "serve" in arguments[:1]:
        sys.stdout.flush()
        sys.stderr.flush()
        # Prefect's runner may leave a thread that keeps the interpreter from exiting
        os._exit(status)
    sys.exit(status)
