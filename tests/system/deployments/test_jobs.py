"""Flows that need settings in `flows/`: left out without them, deployed with them."""

from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import SlackWebhook
from pydantic import SecretStr

from flows import export, notify, report, shops, watch
from prefect_tracktor import HttpChannel, Mode, NotificationRule, OrderFile, TracktorCredentials
from prefect_tracktor.deploy import Shop
from prefect_tracktor.flows import (
    ExportFiles,
    TeamDigest,
    notify_customers,
    report_exceptions,
    watch_shop,
)
from prefect_tracktor.sandbox import MailServer
from tests.support.chat import SLACK
from tests.support.http_service import HttpService
from tests.system.deployments.conftest import Server, deploy_all

pytestmark = pytest.mark.usefixtures("no_deployments", "pool")

RULES = [NotificationRule(name="lost", when=["exception:expired"], times=2)]
DIGEST = TeamDigest(notify="slack-webhook/team", period_days=7)


def test_flows_without_their_settings_are_left_out(
    environment: None, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy_all() == 0
    output = capsys.readouterr().out
    for file in ("notify", "report", "export", "watch"):
        assert f"left out {file}: " in output
        assert f"flows/{file}.py" in output


DEPLOYED: dict[str, dict[str, Any]] = {
    "Notify customers/notify-customers": {"rules": [{"name": "lost", "times": 2}]},
    "Report exceptions/report-exceptions": {"digest": {"notify": "slack-webhook/team"}},
    "Export tracking/export-tracking": {"to": {"file_format": "csv"}},
    "Watch shop/watch-shop": {"announce": ["exception:all"]},
}


def test_flows_are_deployed_with_the_settings_of_their_file(
    environment: None, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up(monkeypatch, tmp_path)
    assert deploy_all("--only", "notify", "report", "export", "watch") == 0
    assert server.names() == sorted(DEPLOYED)
    for name, expected in DEPLOYED.items():
        made = server[name]
        [(parameter, value)] = expected.items()
        stored = made.parameters[parameter]
        pairs = zip(stored, value, strict=True) if isinstance(value, list) else [(stored, value)]
        for there, wanted in pairs:
            assert there == wanted or there.items() >= wanted.items(), name
        assert "$ref" in str(made.parameters["credentials"]), name


def test_a_shop_with_a_channel_is_deployed_without_a_mailer(
    customers_to_email: list[str],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shops, "shops", lambda: [Shop("sms", notify=["delivered"])])
    for block in (TracktorCredentials, OrderFile):
        loaded: Any = block.load("tracktor")
        loaded.save("sms", overwrite=True)
    body = '{"to": "{{ recipient }}"}'
    address = SecretStr("https://sms.example/s3cret")
    unsaved = HttpChannel(address=address, body=body, recipient="{{ order.order_phone }}")
    monkeypatch.setattr(notify, "RULES", [RULES[0].model_copy(update={"channel": unsaved})])
    assert deploy_all("--only", "notify") == 2
    assert "rules: a deployment needs a saved HttpChannel" in capsys.readouterr().out
    unsaved.save("sms", overwrite=True)
    channel: Any = HttpChannel.load("sms")
    rules = [RULES[0].model_copy(update={"channel": channel})]
    monkeypatch.setattr(notify, "RULES", rules)
    monkeypatch.setattr(watch, "PARTS", {"rules": rules})
    assert deploy_all() == 0
    output = capsys.readouterr().out
    for file in ("expired_exceptions", "status_change", "status_changes"):
        assert f"left out {file}: it sends emails: set SMTP_HOST" in output
    assert (
        "Notices to https://sms.example: dry run, as the block tracktor-http-channel/sms" in output
    )
    made = server["Notify customers/sms-notify-customers"]
    assert "$ref" in str(made.parameters["rules"][0]["channel"])
    assert "$ref" in str(made.parameters["ledger"])
    assert "s3cret" not in made.model_dump_json()
    assert "*Mode* of `tracktor-http-channel/sms`, read when" in (made.description or "")
    report: Any = notify_customers(**made.parameters)
    assert report.dry_run
    assert report.affected
    # the mode is that of the block at the start of the run, not at deployment
    with HttpService().serving() as service:
        live = {"address": SecretStr(service.address), "mode": Mode.LIVE, "recipient": ""}
        unsaved.model_copy(update=live).save("sms", overwrite=True)
        report = notify_customers(**made.parameters)
    assert len(service.posted) == len(report.sent) > 0
    unsaved.save("sms", overwrite=True)
    watched = server["Watch shop/sms-watch-shop"]
    assert "$ref" in str(watched.parameters["options"]["ledger"])
    assert watch_shop(**watched.parameters).customers
    monkeypatch.setattr(notify, "RULES", [*rules, RULES[0].model_copy(update={"name": "mail"})])
    assert deploy_all("--only", "notify") == 2
    assert "it sends emails: set SMTP_HOST" in capsys.readouterr().out


def set_up(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set the settings of the files."""
    to = ExportFiles(folder=str(folder))
    url: Any = f"https://{SLACK}/services/T0/B0/secret"
    SlackWebhook(url=url).save("team", overwrite=True)
    monkeypatch.setattr(notify, "RULES", RULES)
    monkeypatch.setattr(report, "DIGEST", DIGEST)
    monkeypatch.setattr(export, "TO", to)
    parts = {"rules": RULES, "digest": DIGEST, "export": to, "announce": {"exception:all"}}
    monkeypatch.setattr(watch, "PARTS", parts)


def test_a_flow_accepts_its_stored_parameters(
    customers_to_email: list[str],
    server: Server,
    mail: MailServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "tracking"
    folder.mkdir()
    set_up(monkeypatch, folder)
    monkeypatch.setattr(report, "DIGEST", TeamDigest())
    watched = watch.PARTS | {
        "digest": TeamDigest(mail_to=("team@sandbox-shop.example",), name="watch")
    }
    monkeypatch.setattr(watch, "PARTS", watched)
    assert deploy_all("--only", "report", "watch") == 0
    first: Any = report_exceptions(**server["Report exceptions/report-exceptions"].parameters)
    assert first.reported
    whole: Any = watch_shop(**server["Watch shop/watch-shop"].parameters)
    assert whole.complete
    assert (folder / "orders.csv").exists()
    recipients = [address for message in mail.messages for address in message.recipients]
    assert recipients.count("team@sandbox-shop.example") == 1
    assert set(customers_to_email) <= set(recipients)
