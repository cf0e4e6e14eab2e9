"""`python -m blocks`: block documents from the environment, and a plain word on what is missing."""

from pathlib import Path

import pytest

from blocks.__main__ import main
from prefect_tracktor import EmailTemplate, OrderFile, TracktorCredentials
from prefect_tracktor.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("prefect_api")

SECRETS = {"TRACKTOR_API_KEY": "k3y-that-nobody-may-see", "SMTP_PASSWORD": "pa55-word"}


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
    for name in ("TRACKTOR_UUID", "TRACKTOR_API_KEY", "SMTP_SERVER", "TRACKTOR_ORDERS"):
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
