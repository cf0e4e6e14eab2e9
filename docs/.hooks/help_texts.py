"""MkDocs hook: replace `<!-- output of: prefect-tracktor blocks --help -->` with the help text."""

import os
import re
import shlex
import subprocess
import sys

_MARK = re.compile(r"^<!-- output of: prefect-tracktor ((?:\w+ )*--help) -->$", re.MULTILINE)
_WIDTH = "90"


def on_page_markdown(markdown: str, **_others: object) -> str:
    """Fill in the help texts of one page."""
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
