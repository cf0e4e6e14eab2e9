"""Processes that serve deployments, and the blocks that these refer to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from prefect.settings import PREFECT_API_URL

from blocks.documents import DOCUMENTS
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.setup.blocks import save_blocks
from tests.support.programs import running


def make_blocks_of(tracktor: Sandbox, folder: Path) -> None:
    """Save the blocks that the handbook assumes."""
    tracktor.shop.write_orders_csv(folder / "orders.csv")
    settings = {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(folder / "orders.csv"),
        "TRACKTOR_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
        "SMTP_HOST": "smtp.shop.example",
        "TRACKTOR_SENDER": "Your Shop <orders@your-shop.example>",
    }
    assert save_blocks(settings, DOCUMENTS) == 0


@contextmanager
def served(*arguments: str, folder: Path) -> Iterator[Popen[bytes]]:
    """Run a program that serves, such as a script of the handbook's, while the block runs."""
    settings = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    log = folder / "served.log"
    environment = os.environ | settings
    with running(*arguments, log=log, says="being served", environment=environment) as process:
        yield process
