"""Deployments in Prefect's UI: run forms, progress, artifacts, events."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from prefect_tracktor.sandbox import MailFaults
from tests.support.programs import waiting
from tests.system.ui.conftest import (
    DESKTOP,
    SECRET_PATH,
    WIDTHS,
    Installation,
    Picture,
    in_order,
)

pytestmark = pytest.mark.ui

CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
PHONE: ViewportSize = {"width": 390, "height": 844}
# the texts of a deployment's page, in order
DESCRIPTION = [
    "email customers whose parcel's tracking has expired",
    "Touches: customers, by email.",
    "Where to look: the tab Artifacts",
    "Dry run or live: Mode of tracktor-mailer/tracktor",
    "Stop: turn off its schedule on this page",
]
PROGRESS = re.compile(r"Progress: (\d+)%")
SECONDS_A_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """A run that was started from its form.

    Attributes:
        run_id: The run.
        progress: The percentages shown while it worked, in order.
    """

    run_id: str
    progress: tuple[int, ...]


def open_form(page: Page, flow: str, deployment: str) -> None:
    """Click from the list of deployments to the custom-run form."""
    page.goto("deployments")
    row = page.get_by_role("row").filter(has_text=flow)
    row.get_by_role("link", name=deployment, exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    expect(page.get_by_role("switch", name="Dry run")).to_be_visible()


def submit(page: Page) -> str:
    """Start the run of a form, and go to its page."""
    for attempt in waiting():
        with attempt:
            page.get_by_role("button", name="Submit").click()
            # the UI does not retry if the server is busy
            expect(page.get_by_role("link", name="View run")).to_be_visible(timeout=10_000)
    page.get_by_role("link", name="View run").click()
    expect(page).to_have_url(re.compile("/runs/flow-run/"))
    return page.url.rpartition("/")[2].partition("?")[0]


def open_artifact(page: Page, installation: Installation, run_id: str, key: str) -> None:
    """Click from a run to one of its artifacts."""
    page.goto(f"runs/flow-run/{run_id}?tab=Artifacts")
    page.get_by_role("heading", name=key, exact=True).click()
    short_id = installation.artifacts(run_id)[key]["id"].partition("-")[0]
    page.get_by_role("link", name=short_id).click()
    expect(page.get_by_role("tab", name="Raw")).to_be_visible()
    # the page renders again after its last request
    page.wait_for_load_state("networkidle")


@pytest.fixture(scope="module")
def watched_run(browser: Browser, installation: Installation, picture: Picture) -> WatchedRun:
    """Start the email flow from its form, live, and watch it until it ends."""
    context = browser.new_context(
        base_url=f"{installation.url}/v2/", viewport=DESKTOP, color_scheme="light"
    )
    page = context.new_page()
    # slow while it is watched
    installation.mail.faults = MailFaults(delay_seconds=SECONDS_A_MESSAGE)
    open_form(page, "Email expired exceptions", "email-expired-exceptions")
    dry_run = page.get_by_role("switch", name="Dry run")
    expect(dry_run).not_to_be_checked()
    page.get_by_role("spinbutton", name="Max emails").fill("40")
    # credentials, orders, mailer, template, and the completed orders of the reading options
    expect(page.get_by_role("button", name="Select a block")).to_have_count(5)
    page.set_viewport_size({"width": 1280, "height": 1150})
    page.mouse.wheel(0, -10_000)
    picture(page, "run-form")
    page.set_viewport_size(PHONE)
    picture(page, "run-form-phone")
    page.set_viewport_size(DESKTOP)
    run_id = submit(page)
    for attempt in waiting(LookupError):
        with attempt:
            progress = installation.artifacts(run_id)["tracktor-expired-exceptions"]
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_role("heading", name="tracktor-expired-exceptions")).to_be_visible()
    expect(page.get_by_text("Live. Messages sent")).to_be_visible()
    expect(page.get_by_role("link", name="View run")).to_have_count(0)
    picture(page, "run-at-work")
    page.goto(f"artifacts/artifact/{progress['id']}")
    seen = []
    for percent in watch(page):
        seen.append(percent)
        if len(seen) == 3:
            installation.mail.faults = MailFaults()
    page.goto(f"runs/flow-run/{run_id}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    # the last log lines reach the server after the state, and the page stops polling then
    for attempt in waiting():
        with attempt:
            page.reload()
            expect(page.get_by_text("12 customers notified").first).to_be_visible(timeout=3_000)
    picture(page.get_by_role("tabpanel", name="Logs"), "run-log")
    context.close()
    return WatchedRun(run_id, tuple(seen))


def watch(page: Page) -> Iterator[int]:
    """Yield the percentages of a progress artifact, reloading its page until it is done."""
    shown = page.get_by_text(PROGRESS)
    percent = -1
    while percent < 100:
        before = percent
        for attempt in waiting():
            with attempt:
                page.reload()
                expect(shown).to_be_visible()
                percent = int(PROGRESS.sub(r"\1", shown.inner_text()))
                assert percent != before
        yield percent


def rows_of(page: Page) -> list[list[str]]:
    """Return the cells of a page's tables, row by row, in one snapshot."""
    for attempt in waiting():  # a page that renders again has no rows for a moment
        with attempt:
            rows: list[list[str]] = page.get_by_role("row").evaluate_all(CELLS)
            assert len(rows) > 1
    return rows


def test_each_run_form_shows_every_parameter_with_a_description(
    any_page: Page, installation: Installation
) -> None:
    deployments = installation.request("deployments/filter", sort="NAME_ASC")
    assert len(deployments) >= 6
    for deployment in deployments:
        any_page.goto(f"deployments/deployment/{deployment['id']}/run")
        schema = deployment["parameter_openapi_schema"]
        in_place = sorted(schema["properties"].values(), key=lambda field: field["position"])
        titles = [title_of(field, schema["definitions"]) for field in in_place]
        texts = zip(titles, (field["description"] for field in in_place), strict=True)
        in_order(any_page, [text for pair in texts for text in pair])
        for width in WIDTHS:
            any_page.set_viewport_size({"width": width, "height": 900})
            assert any_page.evaluate("document.documentElement.scrollWidth") <= width


def title_of(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return a parameter's title, or that of the model it refers to."""
    part = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    return str(field.get("title") or part["title"])


def test_a_deployment_page_describes_purpose_results_and_stopping(
    any_page: Page, installation: Installation, picture: Picture
) -> None:
    deployment = installation.deployment("Email expired exceptions/email-expired-exceptions")
    any_page.goto(f"deployments/deployment/{deployment['id']}")
    any_page.get_by_text("Description", exact=True).first.click()
    for size in (DESKTOP, PHONE):
        any_page.set_viewport_size(size)
        in_order(any_page, DESCRIPTION)
        if "/v2/" in any_page.url:
            picture(any_page, f"deployment{'-phone' * (size is PHONE)}")


def test_common_parameters_come_first_in_the_run_form(page: Page) -> None:
    open_form(page, "Email expired exceptions", "email-expired-exceptions")
    in_order(page, ["Mailer", "Dry run", "Max emails", "Template", "Chunk size"])
    expect(page.get_by_role("spinbutton", name="Max emails")).to_have_value("500")


def test_a_run_from_the_form_emails_exactly_the_right_customers(
    installation: Installation, watched_run: WatchedRun
) -> None:
    run = installation.request(f"flow_runs/{watched_run.run_id}")
    assert run["state"]["type"] == "COMPLETED"
    assert run["parameters"]["dry_run"] is False
    assert run["parameters"]["max_emails"] == 40
    received = [message.recipients for message in installation.mail.messages]
    expected = installation.tracktor.shop.customers_to_write_to().values()
    assert sorted(received) == sorted((address,) for address in expected)


def test_blocks_selected_in_a_run_form_are_stored_as_references(
    installation: Installation, watched_run: WatchedRun
) -> None:
    run = installation.request(f"flow_runs/{watched_run.run_id}")
    for name in ("credentials", "orders", "mailer", "template"):
        assert list(run["parameters"][name]) == ["$ref"], name
    assert list(run["parameters"]["reading"]["completed_orders"]) == ["$ref"]
    records = [run, *installation.request("deployments/filter", sort="NAME_ASC")]
    kept = json.dumps(records)
    assert installation.tracktor.api_key not in kept
    assert SECRET_PATH not in kept


def test_a_live_run_is_marked_as_live_on_every_page(
    any_page: Page, installation: Installation, watched_run: WatchedRun, picture: Picture
) -> None:
    name = "Live: Email expired exceptions"
    any_page.goto(f"runs/flow-run/{watched_run.run_id}")
    expect(any_page.get_by_text(name).first).to_be_visible()
    expect(any_page.get_by_text("live", exact=True).first).to_be_visible()
    in_order(any_page, ["Customers with expired tracking: live.", "Live: 12 orders due"])
    any_page.set_viewport_size(PHONE)
    expect(any_page.get_by_text(name).first).to_be_visible()
    if "/v2/" in any_page.url:
        picture(any_page, "run-phone")
    for key, artifact in installation.artifacts(watched_run.run_id).items():
        if key != "tracktor-scan":
            any_page.goto(f"artifacts/artifact/{artifact['id']}")
            expect(any_page.get_by_text("Live. ").first).to_be_visible()


def test_a_named_dry_run_shows_the_message_that_would_be_sent(
    any_page: Page, installation: Installation, watched_run: WatchedRun, picture: Picture
) -> None:
    assert watched_run.run_id  # sent messages are not due again; the other exceptions are
    deployment = installation.deployment("Email expired exceptions/email-expired-exceptions")
    run = installation.request(
        f"deployments/{deployment['id']}/create_flow_run",
        name="black-friday",
        parameters={"dry_run": True, "exception_statuses": ["all"]},
    )
    for attempt in waiting():
        with attempt:
            found = installation.request(f"flow_runs/{run['id']}")
            assert found["state"]["type"] == "COMPLETED"
    assert found["state"]["message"].startswith("Dry run: ")
    any_page.goto(f"runs/flow-run/{run['id']}")
    expect(any_page.get_by_text("black-friday").first).to_be_visible()
    expect(any_page.get_by_text("dry run", exact=True).first).to_be_visible()
    in_order(any_page, ["Customers with expired tracking: dry run.", "Dry run: "])
    if "/v2/" in any_page.url:
        picture(any_page, "dry-run")
    message = installation.artifacts(run["id"])["expired-exceptions-message"]
    any_page.goto(f"artifacts/artifact/{message['id']}")
    expect(any_page.get_by_role("heading", name="Your order #")).to_be_visible()
    in_order(any_page, ["Dry run. One message, personal data masked.", "Hello ", "***,"])
    shop = installation.tracktor.shop
    shown = any_page.locator("body").inner_text()
    addresses = [shop.order(order_id)["order_email"] for order_id in shop.order_ids]
    assert not [address for address in addresses if address and address in shown]
    if "/v2/" in any_page.url:
        picture(any_page.get_by_role("tabpanel"), "message")


def test_progress_is_shown_while_a_run_works(watched_run: WatchedRun) -> None:
    first, *later = watched_run.progress
    assert first < 100
    assert later == sorted(later)
    assert later[-1] == 100
    assert len(later) > 2, "it moves step by step"


def test_a_run_page_lists_its_artifacts_with_descriptions(
    page: Page, watched_run: WatchedRun, picture: Picture
) -> None:
    page.goto(f"runs/flow-run/{watched_run.run_id}?tab=Artifacts")
    for key, says in {
        "expired-exceptions": "Live. The affected orders and their outcomes.",
        "expired-exceptions-summary": "Live. The run in words and numbers.",
        "parcels-with-exceptions": "Live. Charts of all exceptions.",
        "tracktor-expired-exceptions": "Live. Messages sent",
    }.items():
        expect(page.get_by_role("heading", name=key, exact=True)).to_be_visible()
        expect(page.get_by_text(says)).to_be_visible()
    page.get_by_text("Messages sent").scroll_into_view_if_needed()
    picture(page.get_by_role("tabpanel", name="Artifacts"), "run-artifacts")


def test_the_table_of_a_run_masks_addresses(
    page: Page, installation: Installation, watched_run: WatchedRun, picture: Picture
) -> None:
    open_artifact(page, installation, watched_run.run_id, "expired-exceptions")
    headers, *rows = rows_of(page)
    assert headers[:5] == ["Order", "Outcome", "Reason", "To", "About"]
    assert {row[1] for row in rows} <= {"Sent", "No email address"}
    assert all(re.fullmatch(r"(\w?\*{3}@\*{3}\.\w+)?", row[3]) for row in rows)
    assert {row[4] for row in rows} == {"Tracking Expired"}
    picture(page.get_by_role("tabpanel"), "table")


def test_the_summary_shows_counts_and_lists_the_empty_ones(
    page: Page, installation: Installation, watched_run: WatchedRun, picture: Picture
) -> None:
    open_artifact(page, installation, watched_run.run_id, "expired-exceptions-summary")
    heading = page.get_by_role("heading", name="Customers with expired tracking: live", exact=True)
    expect(heading).to_be_visible()
    shown = {row[0]: row[1] for row in rows_of(page)[1:]}
    assert int(shown["Orders read"]) + int(shown["Left out as unfulfilled"]) == 400
    assert shown["Customers notified"] == "12"
    assert "Address refused" not in shown
    tab = page.get_by_role("tabpanel")
    expect(tab.get_by_text("12 orders due, 12 customers notified,").first).to_be_visible()
    expect(
        page.get_by_role("paragraph").filter(has_text=re.compile("None: .*Address refused"))
    ).to_be_visible()
    picture(page.get_by_role("tabpanel"), "summary")


def tables_of(page: Page) -> list[list[list[str]]]:
    """Return the numbers of the charts, table by table."""
    tables: list[list[list[str]]] = [[]]
    for row in rows_of(page):
        if row[1:] == ["Parcels", "Share"]:
            tables.append([])
        else:
            tables[-1].append(row)
    return tables[1:]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_charts_show_all_parcels_with_exceptions(
    page: Page, installation: Installation, watched_run: WatchedRun, picture: Picture, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    open_artifact(page, installation, watched_run.run_id, "parcels-with-exceptions")
    expect(page.get_by_role("heading", name="By exception")).to_be_visible()
    by_exception, by_carrier, by_age = tables_of(page)
    tables = (by_exception, by_carrier, by_age)
    counts = [sum(int(count) for _, count, _ in table) for table in tables]
    with_exception = sum(
        bool(parcel["exception_status"]) and parcel["shipment_status"] != "delivered"
        for order in map(installation.tracktor.shop.order, installation.tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
    )
    assert counts == [with_exception] * 3
    images = page.get_by_role("img", name="Bar chart of parcels: ")
    drawn = "image => image.complete && image.naturalWidth > 0"
    assert [image.evaluate(drawn) for image in images.all()] == [True] * 3
    expect(images.first).to_have_accessible_name(re.compile(r"Tracking Expired \d+"))
    assert "Tracking Expired" in {name for name, *_ in by_exception}
    overflow = "e => e.scrollWidth - e.clientWidth"
    assert [table.evaluate(overflow) for table in page.get_by_role("table").all()] == [0, 0, 0]
    page.set_viewport_size({"width": 1280, "height": 1010})
    page.mouse.wheel(0, -10_000)
    picture(page, f"charts-{scheme}")


def test_the_event_feed_lists_announced_events(
    page: Page, installation: Installation, picture: Picture
) -> None:
    deployment = installation.deployment("Announce exceptions/announce-exceptions")
    run = installation.request(
        f"deployments/{deployment['id']}/create_flow_run", parameters={"dry_run": False}
    )
    for attempt in waiting():
        with attempt:
            found = installation.request(f"flow_runs/{run['id']}")
            assert found["state"]["type"] == "COMPLETED"
            ours = {"event": {"prefix": ["tracktor."]}}
            assert installation.request("events/filter", filter=ours)["total"] > 0
    # the feed ends at the last full minute, so the clock is set forward
    page.clock.set_fixed_time(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=2))
    page.goto("events")
    page.get_by_role("button", name="Filter by event type").click()
    page.get_by_role("option", name="tracktor.*", exact=True).click()
    page.keyboard.press("Escape")
    feed = page.get_by_role("listitem").filter(has_text="tracktor.fulfillment.exception.")
    expect(feed.first).to_be_visible()
    expect(page.get_by_text("tracktor.fulfillment.exception.expired").first).to_be_visible()
    expect(page.get_by_text("prefect.flow-run.Completed")).to_have_count(0)
    picture(page, "events")
    open_artifact(page, installation, run["id"], "exceptions")
    headers, *rows = rows_of(page)
    assert headers == ["Order", "Outcome", "Reason", "About", "Parcels", "Order id"]
    assert {row[1] for row in rows} == {"Sent"}
    picture(page.get_by_role("tabpanel"), "announced")


def test_the_plan_of_status_changes_is_shown(
    page: Page, installation: Installation, picture: Picture
) -> None:
    open_form(page, "Reconcile manual statuses", "reconcile-manual-statuses")
    run_id = submit(page)
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    open_artifact(page, installation, run_id, "reconcile-statuses")
    headers, *rows = rows_of(page)
    assert headers == ["Order", "Outcome", "Reason", "From", "To", "Order id"]
    assert rows
    assert "In transit" in {row[3] for row in rows}
    picture(page.get_by_role("tabpanel"), "plan")
