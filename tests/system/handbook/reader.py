"""A reader of the handbook: a project folder, an account, a mail server, a Prefect server."""

import linecache
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL

from blocks.documents import DOCUMENTS
from prefect_tracktor.sandbox import MailServer, Sandbox
from prefect_tracktor.saved_blocks import SHARED
from prefect_tracktor.setup.blocks import save_blocks
from prefect_tracktor.setup.project import write_project
from tests.support.programs import PROJECT, free_port
from tests.system.handbook.commands import PREFECT_SERVER, ready_pattern, runnable
from tests.system.handbook.pages import SHELL_OF_ITS_OWN, Block
from tests.system.handbook.shells import BackgroundShell, Shell

# prefixes of the variables that a reader sets
OURS = ("PREFECT_", "TRACKTOR_", "SHOPIFY_", "SMTP_")
# a value in a shell or an .env file
_VALUE = r"(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s#'\"]*)"


@dataclass
class Reader:
    """A reader who follows a page, block by block.

    Attributes:
        folder: The project folder.
        tracktor: The account.
        mail: The mail server.
        from_nothing: Whether nothing is set up: no variable, no Prefect server.
        with_blocks: Whether the blocks are saved before.
    """

    folder: Path
    tracktor: Sandbox
    mail: MailServer
    from_nothing: bool
    with_blocks: bool = True
    prefect_port: int = field(default_factory=free_port)
    receiver_port: int = field(default_factory=free_port)
    _names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    _shell: Shell | None = None
    _background: list[BackgroundShell] = field(default_factory=list)

    def set_up(self) -> None:
        """Write the project into the folder, and save the blocks."""
        self.home.mkdir(parents=True)
        list(write_project(self.folder))
        # so that `. .venv/bin/activate` works as it does after `make`
        (self.folder / ".venv").symlink_to(sys.prefix)
        self.tracktor.shop.write_orders_csv(self.folder / "orders_export.csv")
        plan = f"order_id,status\n{self.tracktor.shop.order_ids[0]},Sewing\n"
        (self.folder / "production_plan.csv").write_text(plan)
        if self.with_blocks:
            self._make_blocks()
        self._shell = Shell(self.folder, self.environment)

    @property
    def home(self) -> Path:
        """The Prefect home."""
        return self.folder / ".prefect"

    @property
    def prefect_api_url(self) -> str:
        """The address of the reader's Prefect."""
        if self.from_nothing:
            return f"http://127.0.0.1:{self.prefect_port}/api"
        return str(PREFECT_API_URL.value())

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a new shell."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = f"{sys.prefix}/bin{os.pathsep}{kept.get('PATH', '')}"
        settings = {
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), kept.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_CLI_PROMPT": "false",
        }
        if not self.from_nothing:
            settings["PREFECT_API_URL"] = self.prefect_api_url
        return kept | settings | ({} if self.from_nothing else self._account)

    def follow(self, block: Block) -> None:
        """Follow a block: save the file, or run the code.

        Args:
            block: The block.

        Raises:
            AssertionError: The block does not work.
        """
        if block.is_file:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._fill_in(block.code), encoding="utf-8")
        elif block.language == "python":
            self._run_python(block)
        elif block.language == "sh":
            self._run_sh(block)

    def close(self) -> None:
        """End all shells."""
        for shell in reversed(self._background):
            shell.close()
        if self._shell is not None:
            self._shell.close()

    def _run_python(self, block: Block) -> None:
        # at its line of the page, for errors and inspect
        code = "\n" * (block.line - 1) + self._fill_in(block.code)
        linecache.checkcache(str(block.page))
        exec(compile(code, block.page, "exec"), self._names)  # noqa: S102  # our own handbook

    def _run_sh(self, block: Block) -> None:
        code = runnable(self._fill_in(block.code), has_server=not self.from_nothing)
        in_background = block.title == SHELL_OF_ITS_OWN
        ready = ready_pattern(code, in_background=in_background)
        if in_background:
            if ready is not None:
                self._background.append(BackgroundShell(self.folder, self.environment, code, ready))
                return
            assert PREFECT_SERVER.command in block.code, "it starts no server"
        assert ready is None, f"it never ends: give it a {SHELL_OF_ITS_OWN!r}"
        assert self._shell is not None
        self._shell.run(f"line-{block.line}", code)

    def _make_blocks(self) -> None:
        for document in DOCUMENTS:
            try:
                document.block.delete(SHARED)
            except ValueError:
                continue
        assert save_blocks(self._account, DOCUMENTS) == 0

    @property
    def _account(self) -> dict[str, str]:
        """The variables of a complete shop."""
        return self._assigned | {
            "SHOPIFY_SHOP": "your-store",
            "SHOPIFY_INCLUDE_DELIVERED": "1",
            "TRACKTOR_LEDGER_URL": f"sqlite:///{self.home / 'tracktor.sqlite3'}",
            "TRACKTOR_MODE": "dry_run",
            "TRACKTOR_SENDER": "Your Shop <orders@your-shop.example>",
            "TRACKTOR_WEBHOOK_ADDRESS": f"http://127.0.0.1:{self.receiver_port}/t0ken",
        }

    @property
    def _assigned(self) -> dict[str, str]:
        """The variables with the reader's own values, and the values here."""
        return {
            "TRACKTOR_UUID": self.tracktor.uuid,
            "TRACKTOR_API_KEY": self.tracktor.api_key,
            "TRACKTOR_BASE_URL": self.tracktor.base_url,
            "TRACKTOR_ORDERS": str(self.folder / "orders_export.csv"),
            "TRACKTOR_STATUSES": str(self.folder / "production_plan.csv"),
            "TRACKTOR_RECEIVER_TOKEN": "t0ken-of-the-readers-receiver",
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_SECURITY": "none",
            "SMTP_USERNAME": "shop",
            "SMTP_PASSWORD": "pa55-word",
            "SHOPIFY_CLIENT_ID": self.tracktor.shopify_client_id,
            "SHOPIFY_CLIENT_SECRET": self.tracktor.shopify_client_secret,
            "SHOPIFY_BASE_URL": self.tracktor.shopify_url,
        }

    @property
    def _replaced(self) -> dict[str, str]:
        """Other placeholders of the pages: a pattern, and the value here."""
        tracktor, mail = self.tracktor, self.mail
        receiver = "prefect-tracktor receive --credentials tracktor"
        return {
            r'api_key="YOUR-KEY"': f'api_key="{tracktor.api_key}", base_url="{tracktor.base_url}"',
            r"YOUR-UUID": tracktor.uuid,
            r"YOUR-KEY": tracktor.api_key,
            r'host="smtp\.your-provider\.example"': (
                f'host="{mail.host}", port={mail.port}, security="none"'
            ),
            r'(username|password)="…"': r'\1="shop"',
            r'client_secret="YOUR-CLIENT-SECRET"': (
                f'client_secret="{tracktor.shopify_client_secret}",'
                f' base_url="{tracktor.shopify_url}"'
            ),
            r"YOUR-CLIENT-ID": tracktor.shopify_client_id,
            r"http://127\.0\.0\.1:4200/api": self.prefect_api_url,
            re.escape(receiver): f"{receiver} --port {self.receiver_port}",
            r"127\.0\.0\.1:8484": f"127.0.0.1:{self.receiver_port}",
            # shorter than in the handbook
            r"--interval 60\b": "--interval 15",
        }

    def _fill_in(self, code: str) -> str:
        for pattern, value in self._replaced.items():
            code = re.sub(pattern, value, code)
        code = _assign(code, self._assigned)
        assert "…" not in code, f"there is no value for … in:\n{code}"
        return code


def _assign(code: str, values: Mapping[str, str]) -> str:
    """Set every `NAME=…` of these names to its value, also with a shop's prefix."""

    def assigned(found: re.Match[str]) -> str:
        return found["before"] + shlex.quote(values[found["name"]])

    names = "|".join(values)
    pattern = rf"(?P<before>(?<!\S)(?:[A-Z0-9]+_)*?(?P<name>{names})=){_VALUE}"
    lines = code.split("\n")
    return "\n".join(
        line if line.startswith("#") else re.sub(pattern, assigned, line) for line in lines
    )
