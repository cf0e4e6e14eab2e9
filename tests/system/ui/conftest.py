"""A complete installation of a shop: Prefect server and UI, blocks, deployments.

`make test-ui` runs these tests; `UI_PICTURES=docs/images make test-ui` keeps the screenshots.
"""

import csv
import datetime as dt
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, ViewportSize, expect, sync_playwright

from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from tests.support.programs import PROJECT, prefect_server, running, waiting

NAMES = ("chromium", "google-chrome", "chromium-browser")
PICTURES = "UI_PICTURES"
SENDER = "Sandbox Shop <orders@sandbox-shop.example>"
SECRET_PATH = "0123456789abcdef0123456789abcdef"  # the host does not exist
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
UIS = {"newer": "/v2/", "older": "/"}
WIDTHS = (1440, 390)

# logos are on the internet, which a test may not reach
HIDE_BROKEN_IMAGES = """() => [...document.images]
    .filter(image => !image.naturalWidth)
    .forEach(image => image.style.visibility = "hidden")"""
# a screenshot must show no path of this machine
HIDE_PATHS = """() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode;
        text.nodeValue = text.nodeValue.replace(/\\/\\S+\\/home\\//g, "/home/shop/.prefect/");
    }
}"""

Picture = Callable[..., None]
ColorScheme = Literal["light", "dark"]

# generous, for a busy machine
expect.set_options(timeout=30_000)


@dataclass(frozen=True, slots=True)
class Installation:
    """The parts of a running shop.

    Attributes:
        url: The address of Prefect's server and UI.
        tracktor: The account.
        mail: The mail server.
        log: The output of the served deployments.
    """

    url: str
    tracktor: Sandbox
    mail: MailServer
    log: Path

    def request(self, path: str, **content: Any) -> Any:
        """Send a request to Prefect's API: a POST with content, else a GET.

        Args:
            path: The path below `/api/`.
            **content: The JSON to post.

        Returns:
            The JSON of the response.
        """
        method = "POST" if content else "GET"
        address = f"{self.url}/api/{path}"
        response = httpx.request(method, address, json=content or None, timeout=30)
        return response.raise_for_status().json()

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment as the API returns it.

        Args:
            name: Flow and deployment, such as `Sync webhooks/sync-webhooks`.
        """
        found: dict[str, Any] = self.request(f"deployments/name/{name}")
        return found

    def artifacts(self, flow_run_id: str) -> dict[str, dict[str, Any]]:
        """Return a run's artifacts by key."""
        found = self.request("artifacts/filter", flow_runs={"id": {"any_": [flow_run_id]}})
        return {artifact["key"]: artifact for artifact in found}


@pytest.fixture(scope="session")
def chromium() -> str:
    """The installed browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no browser: install one of {', '.join(NAMES)}")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, installation: Installation) -> Iterator[Page]:
    """A page of a new browser profile, which gets the default UI."""
    context = browser.new_context(
        base_url=f"{installation.url}/v2/", viewport=DESKTOP, color_scheme="light"
    )
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


@pytest.fixture(params=UIS)
def any_page(
    request: pytest.FixtureRequest, browser: Browser, installation: Installation
) -> Iterator[Page]:
    """A page in the newer and in the older UI."""
    context = browser.new_context(
        base_url=f"{installation.url}{UIS[request.param]}", viewport=DESKTOP
    )
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Picture:
    """Save a screenshot in a temporary directory, or in the folder in `UI_PICTURES`."""
    wanted = os.environ.get(PICTURES)
    folder = PROJECT / wanted if wanted else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)

    def picture(shown: Page | Locator, name: str, **options: Any) -> None:
        page = shown if isinstance(shown, Page) else shown.page
        for attempt in waiting(Error):  # rendering again detaches elements
            with attempt:
                page.evaluate(HIDE_BROKEN_IMAGES)
                page.evaluate(HIDE_PATHS)
                shown.screenshot(
                    path=folder / f"{name}.png", animations="disabled", caret="hide", **options
                )

    return picture


@pytest.fixture(scope="session")
def installation(
    chromium: str, prefect_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Run a Prefect server and a sandbox shop, save its blocks, and serve its deployments."""
    folder = tmp_path_factory.mktemp("installation")
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database_url}
    with ExitStack() as parts:
        api = parts.enter_context(prefect_server(folder, database))
        shop = Shop(orders=400, expired=12, now=dt.datetime.now(dt.UTC))
        tracktor = parts.enter_context(Sandbox(shop))
        mail = parts.enter_context(MailServer())
        _write_files(folder, shop)
        environment = {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": api,
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_API_LOG_RETRYABLE_ERRORS": "true",
            "TRACKTOR_UUID": tracktor.uuid,
            "TRACKTOR_API_KEY": tracktor.api_key,
            "TRACKTOR_BASE_URL": tracktor.base_url,
            "TRACKTOR_ORDERS": "orders_export.csv",
            "TRACKTOR_STATUSES": "production_plan.csv",
            "TRACKTOR_SENDER": SENDER,
            "TRACKTOR_NOTIFY": "in_transit,out_for_delivery,delivered",
            "TRACKTOR_ANNOUNCE_EXCEPTIONS": "yes",
            "TRACKTOR_MODE": "live",
            "TRACKTOR_WEBHOOK_ADDRESS": f"https://hooks.sandbox-shop.example/{SECRET_PATH}",
            "SMTP_HOST": mail.host,
            "SMTP_PORT": str(mail.port),
            "SMTP_SECURITY": "none",
        }

        def start(module: str, *arguments: str, says: str = "") -> Popen[bytes]:
            program = running(
                "-m",
                module,
                *arguments,
                log=folder / f"{module}.log",
                says=says,
                environment=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
                # so that no screenshot shows a path of this machine
                cwd=folder,
            )
            return parts.enter_context(program)

        assert start("blocks").wait() == 0, (folder / "blocks.log").read_text()
        start("flows", "serve", says="being served")
        yield Installation(api.removesuffix("/api"), tracktor, mail, folder / "flows.log")


def _write_files(folder: Path, shop: Shop) -> None:
    shop.write_orders_csv(folder / "orders_export.csv")
    with (folder / "production_plan.csv").open("w", encoding="utf-8", newline="") as file:
        rows = ((order_id, "Sewing") for order_id in shop.order_ids[:60])
        csv.writer(file).writerows([("order_id", "status"), *rows])


def in_order(page: Page, texts: Sequence[str]) -> None:
    """Wait until a page shows all of these texts, one below the other."""
    for attempt in waiting():
        with attempt:
            _check_order(" ".join(page.locator("body").inner_text().split()), texts)


def _check_order(body: str, texts: Sequence[str]) -> None:
    place = 0
    for text in texts:
        shown = " ".join(text.split())
        found = body.find(shown, place)
        assert found >= 0, f"{shown!r} is not shown after {body[max(0, place - 60) : place]!r}"
        place = found + len(shown)
