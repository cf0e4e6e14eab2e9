"""The command `prefect-tracktor sandbox`, and the sandbox in another process."""

import importlib
import math
import smtplib
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from dotenv import dotenv_values

import prefect_tracktor.sandbox
from prefect_tracktor import ShopifyCredentials, ShopifyOrders, cli
from prefect_tracktor.sandbox import Movement, Moving, Shop, sandbox_process
from prefect_tracktor.sandbox.__main__ import main
from prefect_tracktor.sandbox.process import RunningSandbox
from tests.support.programs import free_port


def test_the_sandbox_command_serves_the_requested_shop(
    tmp_path: Path,
) -> None:
    csv, mailbox, env_file = tmp_path / "orders.csv", tmp_path / "mailbox", tmp_path / "sandbox.env"
    options: dict[str, Any] = {"orders": 12, "seed": 4, "expired": 2, "uuid": "c" * 32}
    # an env file that another sandbox wrote is replaced
    env_file.write_text("# written by prefect-tracktor sandbox\nTRACKTOR_BASE_URL=old\n")
    with sandbox_process(
        **options, bare=True, csv=csv, mailbox=mailbox, prepared=True, env_file=env_file
    ) as tracktor:
        shop = Shop(orders=12, seed=4, expired=2)
        assert tracktor.order_ids == shop.order_ids
        order_id = tracktor.order_ids[3]
        with httpx.Client(
            base_url=f"{tracktor.base_url}/{tracktor.uuid}/",
            headers={"x-api-key": tracktor.api_key},
        ) as api:
            assert api.get(f"orders/{order_id}.json").json() == shop.order(order_id)
            api.post(f"orders/{order_id}.json", json={"order": {"status": "Sewing"}})
        message = EmailMessage()
        message["Subject"] = "Olá"
        with smtplib.SMTP(tracktor.smtp_host, tracktor.smtp_port) as session:
            session.send_message(message, "shop@example.com", ["ada@example.com"])
        state = httpx.get(tracktor.state_url).json()
        assert_variables_to_rehearse_with(env_file, tracktor, csv)
    assert state["calls"] == {f"GET orders/{order_id}.json": 1, f"POST orders/{order_id}.json": 1}
    assert [change["new"] for change in state["status_changes"]] == ["Sewing"]
    assert len(list(mailbox.iterdir())) == 1
    assert csv.read_text(encoding="utf-8").count("#10") >= 12
    with pytest.raises(httpx.ConnectError):
        httpx.get(tracktor.base_url)


def assert_variables_to_rehearse_with(env_file: Path, tracktor: RunningSandbox, csv: Path) -> None:
    """Check that a shell and dotenv read the same values."""
    variables = dotenv_values(env_file)
    command = ["bash", "-c", f'set -a; . {env_file}; printf "%s" "$TRACKTOR_SENDER"']
    sender = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert variables["TRACKTOR_BASE_URL"] == tracktor.base_url
    assert variables["TRACKTOR_UUID"] == tracktor.uuid == "c" * 32
    assert variables["TRACKTOR_ORDERS"] == str(csv)
    assert variables["SMTP_PORT"] == str(tracktor.smtp_port)
    assert sender == variables["TRACKTOR_SENDER"] == "Sandbox Shop <orders@sandbox-shop.example>"


def test_the_sandbox_command_prints_its_settings_and_exits_cleanly() -> None:
    command = [sys.executable, "-m", "prefect_tracktor.sandbox", "--orders", "5"]
    with subprocess.Popen(  # this package
        [*command, "--too-many-requests", "1"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = {}
        for line in process.stdout:
            separator = "=" if line.startswith("  export ") else "  "
            name, _, value = line.strip().removeprefix("export ").partition(separator)
            printed[name] = value.strip()
            if line.startswith("Serving"):
                url = f"{printed['TRACKTOR_BASE_URL']}/{printed['TRACKTOR_UUID']}/webhooks.json"
                response = httpx.get(url, headers={"x-api-key": printed["TRACKTOR_API_KEY"]})
                process.terminate()
    assert response.status_code == 429
    assert {"SMTP_PORT", "mailbox", "orders export", "example order"} < printed.keys()
    assert process.returncode == 0


def test_sandbox_process_fails_on_an_invalid_option(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"), sandbox_process(orders=3, expired=4):
        pass
    assert "expired must be between 0 and orders (3), not 4" in capfd.readouterr().err


def test_the_state_page_lists_arrivals_and_deliveries() -> None:
    with sandbox_process(
        orders=6,
        just_ready=6,
        moving=True,
        parcels=5,
        speed="inf",
        seed=3,
        lost=1,
        patience_seconds=0.5,
    ) as tracktor:
        shop = Shop(orders=6, just_ready=6, seed=3)
        with Moving(shop, Movement(parcels=5, speed=math.inf, seed=3)) as moving:
            moving.wait()
        # the movement in the process may take longer than ours
        for _ in range(1000):
            state = httpx.get(tracktor.state_url).json()
            if not state["steps_left"]:
                break
        still = next(i for i in tracktor.order_ids if not shop.revision(i))
        with httpx.Client(
            base_url=f"{tracktor.base_url}/{tracktor.uuid}/",
            headers={"x-api-key": tracktor.api_key},
        ) as api:
            api.post("webhooks.json", json={"topic": "order/all", "address": "http://127.0.0.1:9"})
            api.post(f"orders/{still}.json", json={"order": {"status": "Sewing"}})
        deliveries = httpx.get(tracktor.state_url).json()["deliveries"]
    assert state["steps_left"] == moving.steps_left == 0
    assert state["arrivals"] == [arrival._asdict() for arrival in shop.arrivals]
    assert len(state["arrivals"]) == 5
    assert [(d["order_id"], d["fault"], d["attempts"]) for d in deliveries] == [(still, "lost", 0)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--speed", "2"], "add --moving: without it these options have no effect: speed"),
        (["--moving", "--parcels", "4"], "only 3 can move, not 4"),
        (["--lost", "0.6", "--reordered", "0.6"], "the probabilities add up to 1.2"),
        (["--fail-rate", "-1"], "for --fail-rate. Must be >= 0"),
        (["--uuid", "my-shop"], "uuid must be 32 hexadecimal digits"),
        (["--port", "70000"], "for --port. Must be <= 65535"),
        (["--smtp-port", "-1"], "for --smtp-port. Must be >= 0"),
    ],
)
def test_invalid_sandbox_options_are_refused_before_serving(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--orders", "3", "--just-ready", "3", *arguments]) == 2
    printed = capsys.readouterr()
    assert error in printed.err
    assert "Serving" not in printed.out


def test_fail_rate_and_other_faults_together_must_not_exceed_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--orders", "3", "--fail-rate", "1", "--dropped", "0.5"]) == 2
    assert capsys.readouterr().err == "the probabilities add up to 1.3; they must not exceed 1\n"


def test_the_error_for_an_unusable_mailbox_does_not_name_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").touch()
    mailbox, port = str(tmp_path / "a_file"), str(free_port())
    assert cli.main(["sandbox", "--mailbox", mailbox, "--smtp-port", port]) == 2
    printed = capsys.readouterr().err
    assert f"{mailbox} cannot be used (File exists)" in printed
    assert "--smtp-port" not in printed


def test_importing_the_sandbox_without_its_extra_names_the_packages_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiosmtpd", None)
    with pytest.raises(ImportError, match="pip install aiohttp aiosmtpd"):
        importlib.reload(prefect_tracktor.sandbox)


def test_shopify_orders_finds_recent_orders_of_a_sandbox_with_todays_date() -> None:
    with sandbox_process(orders=60, today=True) as tracktor:
        credentials = ShopifyCredentials.model_validate(
            {
                "shop": "sandbox-shop",
                "client_id": tracktor.shopify_client_id,
                "client_secret": tracktor.shopify_client_secret,
                "base_url": tracktor.shopify_url,
            }
        )
        found = list(ShopifyOrders(credentials=credentials).find_orders().order_ids)
    assert found
    assert set(found) < set(tracktor.order_ids)
