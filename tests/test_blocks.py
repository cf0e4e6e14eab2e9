"""`python -m blocks`: block documents from the environment, and a plain word on what is missing."""

from pathlib import Path

import pytest

from blocks.__main__ import main
from prefect_tracktor import (
    EmailTemplate,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("prefect_api")

SECRETS = {"TRACKTOR_API_KEY": "k3y-that-nobody-may-see", "SMTP_PASSWORD": "pa55-word"}
SHOPIFY = {
    "SHOPIFY_SHOP": "your-store",
    "SHOPIFY_CLIENT_ID": "abc",
    "SHOPIFY_CLIENT_SECRET": "s3cret-that-nobody-may-see",
}


@pytest.fixture
def environment(tracktor: Sandbox, tmp_path: Path) -> dict[str, str]:
    return SECRETS | {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_MAX_CONCURRENCY": "4",
        "SMTP_SERVER": "smtp.your-provider.example",
        "SMTP_TYPE": "STARTTLS",
        "TRACKTOR_ORDERS": str(tmp_path / "orders.csv"),
    }


def test_what_is_missing_is_named_with_where_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.__main__.NAME", "nothing-yet")
    assert main({"TRACKTOR_UUID": "  "}) == 1
    said = capsys.readouterr().out
    for name in (
        "TRACKTOR_UUID",
        "TRACKTOR_API_KEY",
        "SMTP_SERVER",
        "TRACKTOR_ORDERS",
        "SHOPIFY_SHOP",
    ):
        assert f"{name}: " in said
    assert "made     tracktor-notification-ledger/nothing-yet" in said


def test_all_documents_are_made_from_the_environment(environment: dict[str, str]) -> None:
    assert main(environment) == 0
    credentials: TracktorCredentials = TracktorCredentials.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert credentials.api_key.get_secret_value() == SECRETS["TRACKTOR_API_KEY"]
    assert credentials.limits.max_concurrency == 4
    orders: OrderFile = OrderFile.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert orders.path == environment["TRACKTOR_ORDERS"]


def test_no_secret_is_ever_printed(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(environment)
    main(environment | {"TRACKTOR_UUID": SECRETS["TRACKTOR_API_KEY"]})
    main(environment | {"TRACKTOR_API_KEY": "with blank " + SECRETS["TRACKTOR_API_KEY"]})
    main(environment | {"TRACKTOR_LEDGER_URL": f"mysql://me:{SECRETS['SMTP_PASSWORD']}@host/db"})
    main(environment | {"SMTP_PORT": SECRETS["SMTP_PASSWORD"]})
    said = "".join(capsys.readouterr())
    assert "invalid" in said
    assert not any(secret in said for secret in SECRETS.values())


def test_a_second_run_updates_and_keeps_what_people_edited(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(environment)
    EmailTemplate(subject="Our own words").save("tracktor", overwrite=True)
    capsys.readouterr()
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "2"}) == 0
    said = capsys.readouterr().out
    assert "updated  tracktor-credentials/tracktor" in said
    assert "kept     tracktor-email-template/tracktor" in said
    template: EmailTemplate = EmailTemplate.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert template.subject == "Our own words"


def test_a_value_that_cannot_be_right_is_named_and_changes_nothing(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(environment)
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "many"}) == 1
    assert "limits.max_concurrency" in capsys.readouterr().out
    credentials: TracktorCredentials = TracktorCredentials.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert credentials.limits.max_concurrency == 4


def test_what_exists_is_kept_when_its_variables_are_gone(environment: dict[str, str]) -> None:
    main(environment)
    assert main({}) == 0
    credentials: TracktorCredentials = TracktorCredentials.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert credentials.limits.max_concurrency == 4


def test_what_no_variable_names_stays_as_it_is(environment: dict[str, str]) -> None:
    ledger_url = "sqlite:////tmp/a-ledger-that-must-not-be-forgotten.sqlite3"
    main(environment | {"TRACKTOR_LEDGER_URL": ledger_url, "TRACKTOR_REQUESTS_PER_SECOND": "5"})
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "3"}) == 0
    ledger: NotificationLedger = NotificationLedger.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert ledger.url.get_secret_value() == ledger_url
    credentials: TracktorCredentials = TracktorCredentials.load("tracktor")  # type: ignore[assignment]  # not in a loop
    assert credentials.limits.max_concurrency == 3
    assert credentials.limits.requests_per_second == 5


def test_orders_come_from_a_file_or_from_shopify_and_one_of_them_is_enough(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.__main__.NAME", "file-only")
    assert main(environment) == 0
    assert "shopify" not in capsys.readouterr().out
    for module in ("blocks.__main__", "blocks.documents"):
        monkeypatch.setattr(f"{module}.NAME", "shopify-only")
    del environment["TRACKTOR_ORDERS"]
    assert main(environment) == 1
    assert "or else what tracktor-shopify-orders needs" in capsys.readouterr().out
    assert main(environment | SHOPIFY) == 0
    said = capsys.readouterr().out
    assert "order-file" not in said
    assert SHOPIFY["SHOPIFY_CLIENT_SECRET"] not in said
    orders: ShopifyOrders = ShopifyOrders.load("shopify-only")  # type: ignore[assignment]  # not in a loop
    assert orders.credentials.shop == "your-store.myshopify.com"


def test_new_shopify_credentials_reach_the_orders_that_people_edited(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blocks.__main__", "blocks.documents"):
        monkeypatch.setattr(f"{module}.NAME", "edited")
    assert main(environment | SHOPIFY) == 0
    orders: ShopifyOrders = ShopifyOrders.load("edited")  # type: ignore[assignment]  # not in a loop
    orders.tag = "vip"
    orders.save("edited", overwrite=True)
    assert main(environment | SHOPIFY | {"SHOPIFY_CLIENT_SECRET": "new"}) == 0
    loaded: ShopifyOrders = ShopifyOrders.load("edited")  # type: ignore[assignment]  # not in a loop
    assert loaded.tag == "vip"
    assert loaded.credentials.client_secret.get_secret_value() == "new"


def test_half_a_way_into_shopify_is_invalid_even_beside_a_file(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blocks.__main__", "blocks.documents"):
        monkeypatch.setattr(f"{module}.NAME", "half")
    assert main(environment | {"SHOPIFY_SHOP": "your-store"}) == 1
    said = capsys.readouterr().out
    assert "invalid  tracktor-shopify-credentials/half" in said
    assert "neither is given here" in said
    credentials = {"SHOPIFY_ACCESS_TOKEN": "t0ken"}
    assert main(environment | {"SHOPIFY_SHOP": "your-store"} | credentials) == 0
    loaded: ShopifyCredentials = ShopifyCredentials.load("half")  # type: ignore[assignment]  # not in a loop
    assert loaded.access_token.get_secret_value() == "t0ken"
