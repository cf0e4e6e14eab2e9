"""The receiver as a process: killed, stopped, and started with invalid settings."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.cli import main
from prefect_tracktor.events import order_event
from prefect_tracktor.models import Order
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.receiver import ReceiverOptions
from tests.support.webhooks import TOKEN, events_at_prefect, eventually

COMMAND = [sys.executable, "-m", "prefect_tracktor", "receive", "--port", "0"]
QUICK = ["--confirm-after-seconds", "0.2", "--resend-after-seconds", "3"]
SETTINGS = {
    "TRACKTOR_UUID": "00000000-0000-4000-8000-000000000001",
    "TRACKTOR_API_KEY": "s3cret",
    "TRACKTOR_RECEIVER_TOKEN": TOKEN,
}


@pytest.fixture
def settings(prefect_api: None, tracktor: Sandbox, queue: WebhookQueue) -> dict[str, str]:
    """Return the environment of a receiver."""
    return dict(os.environ) | {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_RECEIVER_TOKEN": TOKEN,
        "TRACKTOR_QUEUE_URL": queue.url.get_secret_value(),
        "PREFECT_API_URL": PREFECT_API_URL.value() or "",
    }


@contextmanager
def running(settings: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a receiver in another process, and return its address with the token."""
    with subprocess.Popen(
        [*COMMAND, *QUICK], env=settings, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"listening on 127.0.0.1, port (\d+)", line):
                    yield process, f"http://127.0.0.1:{found[1]}/{TOKEN}"
                    break
        finally:
            process.kill()


def receive(environment: Mapping[str, str], *arguments: str) -> int:
    """Run `prefect-tracktor receive` with only these variables."""
    with patch.dict(os.environ, environment, clear=True):
        return main(["receive", *arguments])


def is_accepted(address: str, order_id: int) -> bool:
    try:
        return httpx.post(address, json={"order_id": order_id}).status_code == 200
    except httpx.TransportError:
        return False


def test_a_killed_receiver_loses_and_duplicates_no_accepted_delivery(
    settings: dict[str, str],
    tracktor: Sandbox,
    queue: WebhookQueue,
    credentials: TracktorCredentials,
) -> None:
    order_ids = list(tracktor.shop.order_ids)
    accepted = []
    with running(settings) as (process, address), ThreadPoolExecutor(4) as senders:
        requests = {
            senders.submit(is_accepted, address, order_id): order_id for order_id in order_ids
        }
        for future in as_completed(requests):
            accepted += [requests[future]] if future.result() else []
            if len(accepted) == len(order_ids) // 2:
                process.kill()
    assert len(accepted) >= len(order_ids) // 2
    with running(settings) as (process, address):
        assert is_accepted(address, accepted[0])
        for attempt in eventually():
            with attempt:
                assert queue.waiting(credentials.account) == (0, 0)
        process.terminate()
        _, output = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "stopped" in output
    assert TOKEN not in output
    now = datetime.now(UTC)
    for order in map(tracktor.shop.order, accepted):
        read = Order.model_validate(order)
        expected = order_event(read, account=credentials.account, received=now)
        ids = [event.id for event in events_at_prefect(expected.resource.id)]
        assert ids.count(expected.id) == 1


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "set TRACKTOR_UUID"),
        (SETTINGS | {"TRACKTOR_UUID": "x"}, "uuid must be 32 hexadecimal"),
        (SETTINGS | {"TRACKTOR_RECEIVER_TOKEN": "short"}, "the token must have at least 22"),
        (SETTINGS | {"TRACKTOR_QUEUE_URL": "mysql://x"}, "url must be the URL of"),
    ],
)
def test_receive_names_an_invalid_setting(
    environment: dict[str, str],
    problem: str,
    no_prefect: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert receive(environment) == 2
    output = capsys.readouterr().err
    assert problem in output
    assert "s3cret" not in output


def test_receive_names_a_number_out_of_range(
    no_prefect: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert receive(SETTINGS, "--keep-days", "1e12") == 2
    assert receive(SETTINGS, "--port", "99999") == 2
    assert "port must be 0-65535" in capsys.readouterr().err


def test_receive_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert receive({"COLUMNS": "120"}, "--help") == 0
    output = capsys.readouterr().out
    for field in fields(ReceiverOptions):
        option = f"--{field.name.replace('_', '-')}"
        assert re.search(rf"{option}( [A-Z]+)? +[A-Z][a-z]+ ", output), option


def test_receive_prints_a_token_and_a_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert receive({}, "token") == 0
    token = capsys.readouterr().out.strip()
    assert receive(SETTINGS | {"TRACKTOR_RECEIVER_TOKEN": token}, "template") == 0
    assert "tracktor.shop.b6ef35fe18ed39251365" in capsys.readouterr().out
    assert len(token) == 43


def test_the_receiver_reads_its_settings_from_the_env_file(
    no_prefect: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{name}={value}\n" for name, value in SETTINGS.items()]
    (tmp_path / ".env").write_text("".join(lines))
    assert receive({}, "template") == 0
    assert "tracktor.shop.b6ef35fe18ed39251365" in capsys.readouterr().out
    assert receive({"TRACKTOR_RECEIVER_TOKEN": "short"}) == 2
    assert "the token must have at least 22" in capsys.readouterr().err
