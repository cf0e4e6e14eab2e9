"""`prefect-tracktor blocks` run again: a shop is never live by accident; its mode is printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.documents import DOCUMENTS
from prefect_tracktor import HttpChannel, Mailer, Mode, NotificationLedger, TracktorCredentials
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.saved_blocks import SHAREABLE
from prefect_tracktor.setup.blocks import save_blocks

pytestmark = pytest.mark.usefixtures("prefect_api")

ACCOUNT, LEDGER, MAIL = "tracktor-credentials", "tracktor-notification-ledger", "tracktor-mailer"
CHANNEL = "tracktor-http-channel"


@pytest.fixture(autouse=True)
def no_shared_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the blocks that other tests saved for all shops."""
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHAREABLE", ())


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return the output since the last call."""
    return lambda: "".join(capsys.readouterr())


@pytest.fixture
def environment(tracktor: Sandbox) -> dict[str, str]:
    return {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "SMTP_HOST": "smtp.your-provider.example",
        "TRACKTOR_SENDER": "Your Shop <orders@your-shop.example>",
    }


def main(environment: dict[str, str], **options: Any) -> int:
    return save_blocks(environment, DOCUMENTS, **options)


def loaded(block: Any, name: str) -> Any:
    return block.load(name)


def test_a_new_mailer_is_in_dry_run_and_prints_how_to_go_live(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    only = [LEDGER, MAIL]
    assert main(environment, name="careful", only=only) == 0
    text = output()
    assert "created  tracktor-mailer/careful\n         dry run: no email is sent." in text
    assert "set TRACKTOR_MODE=rehearsal and TRACKTOR_REHEARSAL_ADDRESS" in text
    assert "Then TRACKTOR_MODE=live. Or choose the Mode in Prefect's UI" in text
    assert loaded(Mailer, "careful").mode is Mode.DRY_RUN
    assert main(environment | {"TRACKTOR_MODE": "live"}, name="careful", only=only) == 0
    text = output()
    assert "updated  tracktor-mailer/careful (mode)\n         live: emails go to customers" in text
    assert loaded(Mailer, "careful").mode is Mode.LIVE


def test_the_mode_of_a_saved_channel_changes_only_with_its_variable_or_address() -> None:
    channel = {"TRACKTOR_CHANNEL_ADDRESS": "https://sms.example", "TRACKTOR_CHANNEL_BODY": "{}"}
    assert main(channel | {"TRACKTOR_MODE": "live"}, name="sticky", only=[CHANNEL]) == 0
    assert main(channel, name="sticky", only=[CHANNEL]) == 0
    assert loaded(HttpChannel, "sticky").mode is Mode.LIVE
    moved = channel | {"TRACKTOR_CHANNEL_ADDRESS": "https://other.example"}
    assert main(moved, name="sticky", only=[CHANNEL]) == 0
    assert loaded(HttpChannel, "sticky").mode is Mode.DRY_RUN
    HttpChannel.delete("sticky")


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_of_a_saved_mailer_changes_only_if_its_variable_is_set(
    environment: dict[str, str], output: Callable[[], str], mode: Mode
) -> None:
    only = [LEDGER, MAIL]
    chosen = {"TRACKTOR_MODE": mode.label, "TRACKTOR_REHEARSAL_ADDRESS": "me@your-shop.example"}
    assert main(environment | chosen, name="sticky", only=only) == 0
    output()
    assert main(environment | {"SMTP_PORT": "2525"}, name="sticky", only=only) == 0
    text = output()
    assert "updated  tracktor-mailer/sticky (port)" in text
    assert f"         {mode.label}: " in text
    assert loaded(Mailer, "sticky").mode is mode
    Mailer.delete("sticky")


def test_a_mailer_refers_to_its_shops_ledger_unless_the_ui_chose_another(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    output: Callable[[], str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHAREABLE", SHAREABLE)
    monkeypatch.setattr("prefect_tracktor.setup.blocks.SHARED", "of-all")
    urls = [f"sqlite:///{tmp_path / name}.sqlite3" for name in ("all", "own", "ui")]
    of_all, own = ({"TRACKTOR_LEDGER_URL": url} for url in urls[:2])
    only = [LEDGER, MAIL]
    assert main(of_all, name="of-all", only=[LEDGER]) == 0
    assert main(environment, name="linked", only=only) == 0
    assert url_of_ledger("linked") == urls[0]
    output()
    assert main(environment | own, name="linked", only=only) == 0
    assert "updated  tracktor-mailer/linked (ledger)" in output()
    assert url_of_ledger("linked") == urls[1]
    chosen = NotificationLedger(url=urls[2])
    chosen.save("chosen", overwrite=True)
    mailer = Mailer.model_validate(dict(loaded(Mailer, "linked")) | {"ledger": chosen})
    mailer.save("linked", overwrite=True)
    assert main(environment | own, name="linked", only=only) == 0
    assert url_of_ledger("linked") == urls[2]
    # a reference: the mailer uses the changed ledger block
    NotificationLedger(url=urls[0]).save("chosen", overwrite=True)
    assert url_of_ledger("linked") == urls[0]


def url_of_ledger(name: str) -> str:
    return str(loaded(Mailer, name).ledger.url.get_secret_value())


def test_blocks_prints_that_an_account_is_read_only(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    read_only = environment | {"TRACKTOR_READ_ONLY": "true"}
    assert main(read_only, name="read-only", only=[ACCOUNT]) == 0
    assert "         read only: nothing is changed in Tracktor" in output()
    assert main(environment, name="read-only", only=[ACCOUNT]) == 0
    assert "read only" in output()
    assert loaded(TracktorCredentials, "read-only").read_only


@pytest.mark.parametrize(
    ("given", "then"), [({}, Mode.DRY_RUN), ({"TRACKTOR_MODE": "live"}, Mode.LIVE)]
)
def test_a_live_mailer_returns_to_dry_run_with_a_new_mail_server(
    environment: dict[str, str], output: Callable[[], str], given: dict[str, str], then: Mode
) -> None:
    only = [LEDGER, MAIL]
    sandbox = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "2525", "TRACKTOR_MODE": "live"}
    assert main(environment | sandbox, name="another-server", only=only) == 0
    output()
    assert main(environment | given, name="another-server", only=only) == 0
    text = output()
    assert f"         {then.label}: " in text
    assert loaded(Mailer, "another-server").port == Mailer.model_fields["port"].default
    assert loaded(Mailer, "another-server").mode is then
    Mailer.delete("another-server")


def test_an_invalid_mode_is_refused_and_not_saved(
    environment: dict[str, str], output: Callable[[], str]
) -> None:
    only = [LEDGER, MAIL]
    assert main(environment, name="mode", only=only) == 0
    assert main(environment | {"TRACKTOR_MODE": "lively"}, name="mode", only=only) == 1
    assert "TRACKTOR_MODE: mode: Input should be 'live', 'rehearsal' or 'dry_run'" in output()
    assert main(environment | {"TRACKTOR_MODE": "rehearsal"}, name="mode", only=only) == 1
    assert "TRACKTOR_REHEARSAL_ADDRESS: rehearsal_address is empty" in output()
    assert loaded(Mailer, "mode").mode is Mode.DRY_RUN
