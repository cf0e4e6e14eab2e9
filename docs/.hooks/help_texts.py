"""Put a help text where a page says `<!-- output of: prefect-tracktor blocks --help -->`."""

import os
import re
import shlex
import subprocess
import sys

_MARK = re.compile(r"^<!-- output of: prefect-tracktor ((?:\w+ )*--help) -->$", re.MULTILINE)
_WIDTH = "90"


def on_page_markdown(markdown: str, **_of_mkdocs: object) -> str:
    """Fill the marks of a page; MkDocs calls this for each.

    Args:
        markdown: The page as it was written.
        **_of_mkdocs: What else MkDocs tells of it.

    Returns:
        The page with the help texts in it.
    """
    return _MARK.sub(lambda mark: f"```text\n{_printed(mark[1])}```", markdown)


def _printed(command: str) -> str:
    process = subprocess.run(  # noqa: S603  # a command of this repository, named on its own page
        [sys.executable, "-m", "prefect_tracktor", *shlex.split(command)],
        env=os.environ | {"COLUMNS": _WIDTH},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout
