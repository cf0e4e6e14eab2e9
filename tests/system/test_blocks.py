"""`prefect-tracktor blocks`: blocks from variables, and a line of output for each."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.blocks.core import Block
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    temporary_settings,
)

from blocks.documents import DOCUMENTS
from prefect_tracktor import (
    EmailTemplate,
    HttpChannel,
    Mailer,
    Mode,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    TracktorCredentials,
    cli,
)
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from prefect_tracktor.saved_blocks import SHAREABLE
from prefect_tracktor.setup.blocks import save_blocks
from prefect_tracktor.setup.environment import READ_ELSEWHERE, SHOWN
from prefect_tracktor.setup.project import variables_of

pytestmark = pytest.mark.usefixtures("prefect_api", "plain_http")

ROOT = Path(__file__).parents[2]
SENDER = "Your Shop <orders@your-shop.example>"
SECRETS = {"TRACKTOR_API_KEY": "k3y-that-nobody-may-see", "SMTP_PASSWORD": "pa55-word"}
SHOPIFY = {
    "SHOPIFY_SHOP": "your-store",
    "SHOPIFY_CLIENT_ID": "abc",
    "SHOPIFY_CLIENT_SECRET": "s3cret-that-nobody-may-see",
}
READ_BY = ("setup", "deploy", "events")
ACCOUNT = "tracktor-credentials"
MAIL = "tracktor-mailer"
LEDGER = "tracktor-notification-ledger"
CHANNEL = "tracktor-http-channel"
TEMPLATE = "tracktor-email-template"
ORDERS = ("tracktor-order-file", "tracktor-shopify-credentials", "tracktor-shopify-orders")
SMALL = Shop(orders=10, expired=2)
KNOWN = variables_of(DOCUMENTS) | READ_ELSEWHERE


@pytest.fixture(scope="module")
def plain_http() -> Iterator[None]:
    """Skip the certificates, which Prefect reads again for each block."""
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        yield


@pytest.fixture(autouse=True)
def no_shared_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the blocks that other tests saved for all shops."""
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHAREABLE", ())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return SECRETS | {
        "TRACKTOR_UUID": "0" * 32,
        "TRACKTOR_BASE_URL": "http://127.0.0.1:9",
        "TRACKTOR_MAX_CONCURRENCY": "4",
        "SMTP_HOST": "smtp.your-provider.example",
        "SMTP_SECURITY": "starttls",
        "TRACKTOR_SENDER": SENDER,
        "TRACKTOR_ORDERS": str(tmp_path / "orders.csv"),
    }


@pytest.fixture(scope="module")
def all_variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Every variable, each with a server, file or database that works."""
    folder = tmp_path_factory.mktemp("working")
    (folder / "plan.csv").write_text("order_id,status\n5001,Sewing\n")
    with sqlite3.connect(folder / "erp.sqlite3") as erp:
        erp.execute("CREATE TABLE plan (order_id, status)")
    with Sandbox(SMALL) as tracktor, MailServer(login=("shop", SECRETS["SMTP_PASSWORD"])) as mail:
        tracktor.shop.write_orders_csv(folder / "orders.csv")
        yield {
            "TRACKTOR_UUID": tracktor.uuid,
            "TRACKTOR_API_KEY": tracktor.api_key,
            "TRACKTOR_BASE_URL": tracktor.base_url,
            "TRACKTOR_MAX_CONCURRENCY": "4",
            "TRACKTOR_API_TIME_ZONE": "Europe/Berlin",
            "TRACKTOR_REQUESTS_PER_SECOND": "0",
            "TRACKTOR_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
            "TRACKTOR_COMPLETED_AFTER_DAYS": "30",
            "TRACKTOR_ORDERS": str(folder / "orders.csv"),
            "TRACKTOR_ORDERS_COLUMN": "Id",
            "TRACKTOR_ORDERS_INCLUDE_CANCELLED": "1",
            "TRACKTOR_ORDERS_INCLUDE_UNFULFILLED": "1",
            "TRACKTOR_STATUSES": str(folder / "plan.csv"),
            "TRACKTOR_STATUSES_ORDER_ID_COLUMN": "order_id",
            "TRACKTOR_STATUSES_STATUS_COLUMN": "status",
            "TRACKTOR_STATUS_URL": f"sqlite:///{folder / 'erp.sqlite3'}",
            "TRACKTOR_STATUS_QUERY": "SELECT order_id, status FROM plan",
            "TRACKTOR_WEBHOOK_ADDRESS": f"{tracktor.base_url}/hook/5ecret-path",
            "TRACKTOR_WEBHOOK_TOPICS": "fulfillment/all, order/delivered",
            "TRACKTOR_SENDER": SENDER,
            "TRACKTOR_REPLY_TO": "help@your-shop.example",
            "TRACKTOR_MODE": "rehearsal",
            "TRACKTOR_REHEARSAL_ADDRESS": "you@your-shop.example",
            "TRACKTOR_MESSAGES_PER_SECOND": "5",
            "TRACKTOR_CHANNEL_ADDRESS": f"{tracktor.shopify_url}/sms/t0ken",
            "TRACKTOR_CHANNEL_REHEARSAL_ADDRESS": f"{tracktor.base_url}/hook",
            "TRACKTOR_CHANNEL_BODY": '{"to": "{{ recipient }}"}',
            "TRACKTOR_CHANNEL_METHOD": "PUT",
            "TRACKTOR_CHANNEL_HEADERS": '{"Authorization": "t0ken"}',
            "TRACKTOR_CHANNEL_CONTENT_TYPE": "application/x-www-form-urlencoded",
            "TRACKTOR_CHANNEL_SUCCESS_STATUSES": "200, 202",
            "TRACKTOR_CHANNEL_IDEMPOTENCY_HEADER": "none",
            "TRACKTOR_CHANNEL_REQUESTS_PER_SECOND": "5",
            "SMTP_HOST": mail.host,
            "SMTP_PORT": str(mail.port),
            "SMTP_SECURITY": "none",
            "SMTP_USERNAME": "shop",
            "SMTP_PASSWORD": SECRETS["SMTP_PASSWORD"],
            "SHOPIFY_SHOP": "sandbox-shop",
            "SHOPIFY_CLIENT_ID": tracktor.shopify_client_id,
            "SHOPIFY_CLIENT_SECRET": tracktor.shopify_client_secret,
            "SHOPIFY_API_VERSION": "2026-10",
            "SHOPIFY_BASE_URL": tracktor.shopify_url,
            "SHOPIFY_INCLUDE_DELIVERED": "1",
        }


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return all output since the last call."""
    return lambda: "".join(capfd.readouterr())


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file of variables into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(variables: dict[str, str] | str, name: str = ".env", mode: int = 0o600) -> Path:
        if isinstance(variables, dict):
            variables = "".join(f"{key}='{value}'\n" for key, value in variables.items())
        file = tmp_path / name
        file.write_text(variables, encoding="utf-8")
        file.chmod(mode)
        return file

    return write


def loaded(block: type[Block], name: str = "tracktor") -> SimpleNamespace:
    """Return the fields of a saved block."""
    document: Block = block.load(name)  # type: ignore[assignment]  # not in a loop
    return SimpleNamespace(**dict(document))


def exists(block: type[Block], name: str) -> bool:
    try:
        block.load(name)
    except ValueError:
        return False
    return True


def main(environment: Mapping[str, str], **options: Any) -> int:
    return save_blocks(environment, DOCUMENTS, **options)


def command(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run `prefect-tracktor blocks` with only these variables."""
    with patch.dict(os.environ, environment, clear=True):
        return cli.main(["blocks", *arguments])


# ---- saved blocks


def test_missing_variables_are_named_with_where_to_find_them(output: Callable[[], str]) -> None:
    assert main({}, name="nothing-yet") == 1
    text = output()
    for name in (
        "TRACKTOR_UUID",
        "TRACKTOR_API_KEY",
        "SMTP_HOST",
        "TRACKTOR_SENDER",
        "TRACKTOR_ORDERS",
        "SHOPIFY_SHOP",
    ):
        assert f"{name}: " in text
    assert "created  tracktor-notification-ledger/nothing-yet" in text


def test_blocks_are_saved_under_the_shops_name(environment: dict[str, str]) -> None:
    only = [ACCOUNT, *ORDERS]
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "7"}, name="by-the-sea", only=only) == 0
    assert main(environment | SHOPIFY, name="vienna", only=only) == 0
    assert loaded(TracktorCredentials, "by-the-sea").limits.max_concurrency == 7
    assert loaded(TracktorCredentials, "vienna").limits.max_concurrency == 4
    assert loaded(ShopifyOrders, "vienna").credentials.shop == "your-store.myshopify.com"
    assert not exists(ShopifyCredentials, "by-the-sea")


def test_only_selected_blocks_are_saved_and_checked(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    del environment["SMTP_HOST"]
    assert main(environment, name="part", only=[ACCOUNT]) == 0
    assert output().strip() == "created  tracktor-credentials/part"
    assert not exists(NotificationLedger, "part")


def test_blocks_dry_run_prints_the_changes_and_saves_none(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    assert main(environment | SHOPIFY, name="rehearsed", dry_run=True) == 0
    assert "create   tracktor-shopify-orders/rehearsed" in output()
    assert not any(exists(document.block, "rehearsed") for document in DOCUMENTS)
    only = [ACCOUNT, LEDGER, MAIL]
    main(environment, name="rehearsed", only=only)
    output()
    changed = environment | {"SMTP_PORT": "2525"}
    assert main(changed, name="rehearsed", only=only, dry_run=True) == 0
    text = output()
    assert "update   tracktor-mailer/rehearsed (port)" in text
    assert "keep     tracktor-credentials/rehearsed" in text


def test_saving_again_updates_blocks_and_keeps_edits_from_the_ui(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    only = [ACCOUNT, LEDGER, MAIL, TEMPLATE]
    main(environment, name="twice", only=only)
    EmailTemplate(subject="Our own words").save("twice", overwrite=True)
    output()
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "2"}, name="twice", only=only) == 0
    text = output()
    assert "updated  tracktor-credentials/twice (limits)" in text
    assert "kept     tracktor-mailer/twice" in text
    assert "kept     tracktor-email-template/twice" in text
    assert loaded(EmailTemplate, "twice").subject == "Our own words"


def test_only_read_only_and_the_ledger_stay_with_another_account_or_server(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    sandbox = environment | {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "2525"}
    main(sandbox | {"TRACKTOR_READ_ONLY": "1"}, name="moved", only=[ACCOUNT, LEDGER, MAIL])
    ledger = loaded(Mailer, "moved").ledger
    own = {
        "TRACKTOR_UUID": "d" * 32,
        "TRACKTOR_API_KEY": "key-of-my-own",
        "SMTP_HOST": "a.example",
    }
    output()
    assert main(own, name="moved", only=[ACCOUNT, MAIL]) == 1
    assert "TRACKTOR_SENDER: sender: Field required" in output()
    assert loaded(Mailer, "moved").host == "127.0.0.1"
    assert main(own | {"TRACKTOR_SENDER": SENDER}, name="moved", only=[ACCOUNT, MAIL]) == 0
    text = output()
    assert "updated  tracktor-mailer/moved (host, port, password)" in text
    assert loaded(TracktorCredentials, "moved").base_url == TracktorCredentials.model_fields[
        "base_url"
    ].get_default(call_default_factory=True)
    assert loaded(Mailer, "moved").ledger == ledger
    assert loaded(TracktorCredentials, "moved").read_only


def test_an_invalid_value_is_named_and_not_saved(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    main(environment, only=[ACCOUNT])
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "many"}, only=[ACCOUNT]) == 1
    assert (
        "TRACKTOR_MAX_CONCURRENCY: limits.max_concurrency: Input should be a valid integer"
        in output()
    )
    assert loaded(TracktorCredentials).limits.max_concurrency == 4


def test_an_invalid_api_time_zone_is_named_and_not_saved(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    assert main(environment | {"TRACKTOR_API_TIME_ZONE": "Europe/Berlin"}, only=[ACCOUNT]) == 0
    assert main(environment | {"TRACKTOR_API_TIME_ZONE": "Berlin time"}, only=[ACCOUNT]) == 1
    assert "time_zone: 'Berlin time' is not the name of a time zone: write it as" in output()
    assert loaded(TracktorCredentials).time_zone == "Europe/Berlin"


def test_an_invalid_saved_template_is_named(output: Callable[[], str]) -> None:
    EmailTemplate.model_construct(text="{{ oder }}").save("spoiled", overwrite=True)
    assert main({}, name="spoiled", only=[TEMPLATE], verify=True) == 1
    EmailTemplate.delete("spoiled")  # other tests read all templates
    text = output()
    assert "invalid  tracktor-email-template/spoiled" in text
    assert "correct it in Prefect's UI" in text


def test_values_without_a_variable_are_kept(environment: dict[str, str], tmp_path: Path) -> None:
    ledger_url = f"sqlite:///{tmp_path / 'a-ledger-that-must-not-be-forgotten.sqlite3'}"
    only = [ACCOUNT, LEDGER]
    first = {"TRACKTOR_LEDGER_URL": ledger_url, "TRACKTOR_REQUESTS_PER_SECOND": "5"}
    # the ledger `tracktor` is used by other tests
    main(environment | first, name="stays", only=only)
    assert main(environment | {"TRACKTOR_MAX_CONCURRENCY": "3"}, name="stays", only=only) == 0
    assert loaded(NotificationLedger, "stays").url.get_secret_value() == ledger_url
    limits = loaded(TracktorCredentials, "stays").limits
    assert (limits.max_concurrency, limits.requests_per_second) == (3, 5)
    # existing values stay when their variables are gone
    assert main({}, name="stays", only=[ACCOUNT]) == 0
    assert loaded(TracktorCredentials, "stays").limits.max_concurrency == 3


def test_a_relative_path_is_saved_as_an_absolute_path(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("orders.csv", "plan.csv"):
        (tmp_path / file).touch()
    only = ["tracktor-order-file", "tracktor-status-file"]
    here = {"TRACKTOR_ORDERS": "orders.csv", "TRACKTOR_STATUSES": "plan.csv"}
    assert main(environment | here, name="whole", only=only) == 0
    assert loaded(OrderFile, "whole").path == str(tmp_path / "orders.csv")
    assert loaded(StatusFile, "whole").path == str(tmp_path / "plan.csv")
    # paths of another machine
    for elsewhere in ("not-here.csv", "memory://orders.csv"):
        main(environment | {"TRACKTOR_ORDERS": elsewhere}, name="whole", only=only[:1])
        assert loaded(OrderFile, "whole").path == elsewhere


def test_one_source_of_orders_is_enough(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    assert main(environment, name="file-only", only=ORDERS) == 0
    assert "shopify" not in output()
    del environment["TRACKTOR_ORDERS"]
    assert main(environment, name="shopify-only", only=ORDERS) == 1
    assert "or else what tracktor-shopify-orders needs" in output()
    assert main(environment | SHOPIFY, name="shopify-only", only=ORDERS) == 0
    text = output()
    assert "order-file" not in text
    assert SHOPIFY["SHOPIFY_CLIENT_SECRET"] not in text
    assert loaded(ShopifyOrders, "shopify-only").credentials.shop == "your-store.myshopify.com"


def test_a_channel_is_optional_and_can_replace_the_mailer(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    only = [LEDGER, MAIL, CHANNEL]
    assert main(environment | {"TRACKTOR_MODE": "live"}, name="mail", only=only) == 0
    assert f"optional {CHANNEL}/mail\n         TRACKTOR_CHANNEL_ADDRESS: " in output()
    sms = {
        "TRACKTOR_CHANNEL_ADDRESS": "https://sms.example/s3cret-path",
        "TRACKTOR_CHANNEL_BODY": '{"to": "{{ recipient }}",\n "from": "Shop"}',
        "TRACKTOR_CHANNEL_RECIPIENT": "{{ order.order_phone }}",
        "TRACKTOR_CHANNEL_HEADERS": '{"Authorization": "Basic s3cret"}',
        "TRACKTOR_CHANNEL_IDEMPOTENCY_HEADER": "none",
    }
    assert main(sms, name="texting", only=only) == 0
    text = output()
    assert f"created  {CHANNEL}/texting\n         dry run: no notice is sent" in text
    assert "mailer" not in text
    assert "s3cret" not in text
    saved = loaded(HttpChannel, "texting")
    assert saved.body == sms["TRACKTOR_CHANNEL_BODY"]
    assert saved.headers.get_secret_value() == {"Authorization": "Basic s3cret"}
    assert saved.idempotency_header == ""
    assert saved.mode is Mode.DRY_RUN
    assert main(sms | {"TRACKTOR_MODE": "live"}, name="texting", only=[CHANNEL]) == 0
    assert "live: notices go to the service" in output()
    moved = {"TRACKTOR_CHANNEL_ADDRESS": "https://other.example"}
    assert main(sms | moved, name="texting", only=[CHANNEL]) == 0
    assert loaded(HttpChannel, "texting").mode is Mode.DRY_RUN
    for headers in ("Authorization: s3cret", '["s3cret"]'):
        wrong = sms | {"TRACKTOR_CHANNEL_HEADERS": headers}
        assert main(wrong, name="texting", only=[CHANNEL]) == 1
        text = output()
        assert f"invalid  {CHANNEL}/texting" in text
        assert "headers" in text.lower()
        assert "s3cret" not in text


def test_rehearsal_mode_of_a_channel_needs_a_rehearsal_address(
    output: Callable[[], str],
) -> None:
    sms = {"TRACKTOR_CHANNEL_ADDRESS": "https://sms.example", "TRACKTOR_CHANNEL_BODY": "{}"}
    assert main(sms | {"TRACKTOR_MODE": "rehearsal"}, name="nowhere", only=[CHANNEL]) == 1
    assert "rehearsal_address is empty" in output()


def test_new_shopify_credentials_reach_an_edited_orders_block(
    environment: dict[str, str],
) -> None:
    assert main(environment | SHOPIFY, name="edited", only=ORDERS[1:]) == 0
    orders: ShopifyOrders = ShopifyOrders.load("edited")  # type: ignore[assignment]  # not in a loop
    orders.tag = "vip"
    orders.save("edited", overwrite=True)
    changed = environment | SHOPIFY | {"SHOPIFY_CLIENT_SECRET": "new"}
    assert main(changed, name="edited", only=ORDERS[1:]) == 0
    edited = loaded(ShopifyOrders, "edited")
    assert edited.tag == "vip"
    assert edited.credentials.client_secret.get_secret_value() == "new"


def test_incomplete_shopify_credentials_are_invalid_even_with_an_order_file(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    half = environment | {"SHOPIFY_SHOP": "your-store"}
    assert main(half, name="half", only=ORDERS) == 1
    text = output()
    assert "invalid  tracktor-shopify-credentials/half" in text
    assert "neither is given here" in text
    assert main(half | {"SHOPIFY_ACCESS_TOKEN": "t0ken"}, name="half", only=ORDERS) == 0
    assert loaded(ShopifyCredentials, "half").access_token.get_secret_value() == "t0ken"


# ---- environment and .env


def test_blocks_reads_the_env_file_and_the_environment_overrides_it(
    environment: dict[str, str], env_file: Callable[..., Path], output: Callable[[], str]
) -> None:
    env_file(environment | {"SMTP_PASSWORD": 'a b#c"${d}$e'})
    outside = {"TRACKTOR_MAX_CONCURRENCY": "9", "TRACKTOR_API_KEY": "  "}
    assert command(["--only", ACCOUNT, LEDGER, MAIL], outside) == 0
    assert "Read .env; what the environment sets wins." in output()
    credentials = loaded(TracktorCredentials, "tracktor")
    assert credentials.limits.max_concurrency == 9
    assert credentials.api_key.get_secret_value() == SECRETS["TRACKTOR_API_KEY"]
    password = loaded(Mailer, "tracktor").password
    assert password.get_secret_value() == 'a b#c"${d}$e'


def test_the_env_file_is_not_read_for_a_named_shop(
    environment: dict[str, str], env_file: Callable[..., Path], output: Callable[[], str]
) -> None:
    env_file(environment)
    assert command(["--name", "another", "--only", ACCOUNT], {}) == 1
    assert "missing  tracktor-credentials/another" in output()


def test_a_shop_uses_the_shared_ledger_unless_it_has_its_own(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    output: Callable[[], str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHAREABLE", SHAREABLE)
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHARED", "all-shops")
    own = {"TRACKTOR_LEDGER_URL": f"sqlite:///{tmp_path / 'own.sqlite3'}"}
    assert main({}, name="all-shops", only=[LEDGER]) == 0
    assert main(environment, name="one", only=[LEDGER]) == 0
    assert "shared   tracktor-notification-ledger/all-shops" in output()
    assert main(environment | own, name="one", only=[LEDGER]) == 0
    assert "created  tracktor-notification-ledger/one" in output()


def test_a_named_env_file_replaces_the_default_one(
    environment: dict[str, str], env_file: Callable[..., Path], output: Callable[[], str]
) -> None:
    env_file({"TRACKTOR_MAX_CONCURRENCY": "1"})
    named = env_file(environment, "berlin.env")
    arguments = ["--env-file", str(named), "--name", "named", "--only", ACCOUNT]
    assert command(arguments, {"TRACKTOR_MAX_CONCURRENCY": "9"}) == 0
    assert f"Read {named}; what it sets wins." in output()
    assert loaded(TracktorCredentials, "named").limits.max_concurrency == 4


def test_a_missing_or_binary_env_file_is_refused_before_saving(
    environment: dict[str, str], tmp_path: Path, output: Callable[[], str]
) -> None:
    arguments = ["--name", "unread", "--env-file"]
    assert command([*arguments, str(tmp_path / "absent.env")], environment) == 2
    assert f"there is no file {tmp_path / 'absent.env'}" in output()
    binary = tmp_path / "binary.env"
    binary.write_bytes(b"TRACKTOR_UUID=\xff\xfe\n")
    assert command([*arguments, str(binary)], environment) == 2
    assert "must be a UTF-8 text file" in output()
    assert not exists(NotificationLedger, "unread")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_blocks_warns_of_an_env_file_that_others_can_read(
    env_file: Callable[..., Path], output: Callable[[], str], mode: int, warned: bool
) -> None:
    env_file({}, mode=mode)
    command(["--dry-run", "--only", ACCOUNT], {})
    assert (
        "Warning: other users of this machine can read .env: run chmod 600" in output()
    ) is warned


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TRACKTOR_APIKEY", "did you mean TRACKTOR_API_KEY?"),
        ("tracktor_uuid", "did you mean TRACKTOR_UUID?"),
        ("SMTP_PASSWRD", "did you mean SMTP_PASSWORD?"),
        ("TRACKTOR_SENDR", "did you mean TRACKTOR_SENDER?"),
        ("SHOPIFY_FLAG_STORE", "nothing reads it"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    env_file: Callable[..., Path], output: Callable[[], str], name: str, hint: str
) -> None:
    env_file({name: "s3cret-value"})
    command(["--dry-run", "--only", ACCOUNT], {})
    text = output()
    assert f"unknown variable {name}; {hint}" in text
    assert "s3cret-value" not in text


def test_no_known_variable_is_reported_as_unknown(
    env_file: Callable[..., Path], output: Callable[[], str]
) -> None:
    env_file("")
    command(
        ["--dry-run", "--only", ACCOUNT],
        dict.fromkeys(KNOWN, "1") | {"PATH": "/bin", "PREFECT_API_URL": "x"},
    )
    assert "unknown" not in output()


def test_every_variable_read_by_the_code_is_known() -> None:
    read = {
        name
        for folder in ("blocks", "flows", *(f"prefect_tracktor/{part}" for part in READ_BY))
        for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"((?:TRACKTOR|SMTP|SHOPIFY)_[A-Z_]*[A-Z])"', file.read_text())
    }
    assert read == KNOWN


def test_the_handbook_lists_exactly_the_known_variables() -> None:
    page = (ROOT / "docs/how-to/configure.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(KNOWN)


def test_blocks_distinguishes_an_unreachable_and_a_refusing_prefect_api(
    env_file: Callable[..., Path], output: Callable[[], str], all_variables: dict[str, str]
) -> None:
    env_file("")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert command([], {}) == 2
    assert "Prefect's API does not answer" in output()
    # another server responds at that address
    for path, hint in (("/api", False), ("", True)):
        somewhere = f"{all_variables['SHOPIFY_BASE_URL']}{path}"
        with temporary_settings({PREFECT_API_URL: somewhere, PREFECT_API_KEY: "pnu_s3cret"}):
            assert command([], {}) == 2
        text = output()
        assert "Prefect's API refuses this" in text
        assert ("It mostly ends in /api, such as" in text) is hint
        assert "pnu_s3cret" not in text


# ---- verify


def test_verify_reports_that_all_blocks_work(
    all_variables: dict[str, str], output: Callable[[], str]
) -> None:
    assert main(all_variables, name="works", verify=True) == 0
    text = output()
    for document in DOCUMENTS:
        assert f"works    {document.slug}/works" in text
    credentials = loaded(TracktorCredentials, "works")
    assert credentials.api_key.get_secret_value() == all_variables["TRACKTOR_API_KEY"]
    assert credentials.limits.max_concurrency == 4
    assert loaded(OrderFile, "works").path == all_variables["TRACKTOR_ORDERS"]


def test_verify_posts_creates_and_sends_nothing(environment: dict[str, str]) -> None:
    with Sandbox(SMALL) as tracktor, MailServer() as mail:
        account = {
            "TRACKTOR_UUID": tracktor.uuid,
            "TRACKTOR_API_KEY": tracktor.api_key,
            "TRACKTOR_BASE_URL": tracktor.base_url,
            "TRACKTOR_WEBHOOK_ADDRESS": f"{tracktor.base_url}/hook",
        }
        server = {"SMTP_HOST": mail.host, "SMTP_PORT": str(mail.port), "SMTP_SECURITY": "none"}
        main(environment | account | server, name="quiet", verify=True, dry_run=True)
        assert {method for method, _ in tracktor.calls} <= {"GET", "HEAD"}
        assert not mail.messages


BREAKS = {
    "tracktor-credentials": ({"TRACKTOR_API_KEY": "wr0ng-key-of-mine"}, "Check uuid and api_key"),
    "tracktor-mailer": ({"SMTP_PASSWORD": "wr0ng-password"}, "Check username and pass"),
    "tracktor-http-channel": (
        {"TRACKTOR_CHANNEL_REHEARSAL_ADDRESS": "http://127.0.0.1:9/s3cret-hook"},
        "Check address of the HttpChannel block",
    ),
    "tracktor-notification-ledger": (
        {"TRACKTOR_LEDGER_URL": "postgresql://me:pa55word-of-db@127.0.0.1:9/shop"},
        "Check the block's url",
    ),
    "tracktor-order-file": ({"TRACKTOR_ORDERS_COLUMN": "no-such-column"}, "to one of"),
    "tracktor-shopify-credentials": (
        {"SHOPIFY_CLIENT_SECRET": "wr0ng-app-secret"},
        "Check client_id and client_secret",
    ),
    "tracktor-status-file": ({"TRACKTOR_STATUSES": "/nowhere/plan.csv"}, "check `path`"),
    "tracktor-status-query": ({"TRACKTOR_STATUS_QUERY": "SELECT 1"}, "give one this name with AS"),
    "tracktor-webhook-subscription": (
        {"TRACKTOR_WEBHOOK_ADDRESS": "https://127.0.0.1:9/s3cret-path"},
        "Check the address",
    ),
}


def test_verify_names_each_failing_block_with_a_remedy(
    all_variables: dict[str, str], output: Callable[[], str]
) -> None:
    broken = all_variables | {
        name: value for variables, _ in BREAKS.values() for name, value in variables.items()
    }
    assert main(broken, name="breaks", verify=True, dry_run=True) == 1
    text = output()
    for slug, (variables, remedy) in BREAKS.items():
        assert f"fails    {slug}/breaks" in text
        assert remedy in text
        assert not any(value in text for value in variables.values())
    assert "works    tracktor-email-template/breaks" in text


def test_one_failing_block_makes_verify_exit_with_1(
    all_variables: dict[str, str], output: Callable[[], str]
) -> None:
    broken = all_variables | {"TRACKTOR_STATUSES": "/nowhere/plan.csv"}
    assert main(broken, name="one", verify=True, dry_run=True) == 1
    assert output().count("fails") == 1


def test_verify_finds_a_template_that_fails_to_render(
    all_variables: dict[str, str], output: Callable[[], str]
) -> None:
    EmailTemplate(subject="{{ order.order_name.shout() }}").save("edited-wrong", overwrite=True)
    only = ["tracktor-email-template"]
    assert main(all_variables, name="edited-wrong", only=only, verify=True) == 1
    EmailTemplate.delete("edited-wrong")  # other tests read all templates
    text = output()
    assert "kept     tracktor-email-template/edited-wrong" in text
    assert "the EmailTemplate's subject fails" in text


# ---- secrets


def test_errors_about_invalid_values_print_no_secret(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    main(environment, name="secret", only=[LEDGER])
    for slug, name, value in (
        (ACCOUNT, "TRACKTOR_UUID", SECRETS["TRACKTOR_API_KEY"]),
        (ACCOUNT, "TRACKTOR_API_KEY", "with blank " + SECRETS["TRACKTOR_API_KEY"]),
        (LEDGER, "TRACKTOR_LEDGER_URL", f"mysql://me:{SECRETS['SMTP_PASSWORD']}@host/db"),
        (MAIL, "SMTP_PORT", SECRETS["SMTP_PASSWORD"]),
        (MAIL, "SMTP_SECURITY", SECRETS["SMTP_PASSWORD"]),
    ):
        assert main(environment | {name: value}, name="secret", only=[slug]) == 1
    text = output()
    assert text.count("invalid  ") == 5
    assert not any(secret in text for secret in SECRETS.values())


def test_the_error_for_a_missing_rate_limit_has_the_command_to_create_it(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    limited = environment | {"TRACKTOR_SHARED_LIMIT": "nobody-made-this"}
    assert main(limited, name="limited", only=[ACCOUNT], verify=True) == 1
    assert "make it: prefect gcl create nobody-made-this --limit 10" in output()


# text that occurs nowhere else in the output
cores = st.text("abcdefghjkmnpqrstuvwxyz23456789", min_size=14, max_size=14)
# the secret is the whole value, or a part of it
FORMS = ("{}", "{}", "x {}'\"\\%é$", "postgresql://me:{}@127.0.0.1:9/db", "http://127.0.0.1:9/{}")
# parts of these are not secret: errors name the file, the query and the host
WHOLE_ONLY = {"TRACKTOR_ORDERS", "TRACKTOR_STATUSES", "TRACKTOR_STATUS_QUERY", "SMTP_HOST"}


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hostile=st.dictionaries(
        st.sampled_from(sorted(KNOWN - SHOWN)),
        st.tuples(cores, st.sampled_from(FORMS)),
        max_size=10,
    )
)
def test_blocks_prints_no_secret_for_any_values(
    all_variables: dict[str, str], output: Callable[[], str], hostile: dict[str, tuple[str, str]]
) -> None:
    secrets = [core for core, _ in hostile.values()]
    given_so = {
        name: core if name in WHOLE_ONLY else form.format(core)
        for name, (core, form) in hostile.items()
    }
    command(["--name", "property", "--verify", "--dry-run"], all_variables | given_so)
    text = output().lower()
    assert "does it work?" in text
    assert not [secret for secret in secrets if secret in text]
