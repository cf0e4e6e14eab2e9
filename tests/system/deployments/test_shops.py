"""Several shops: each has its own account, and its errors do not affect the others."""

from collections.abc import Callable

import pytest
from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import EmailTemplate, Mailer, OrderFile, TracktorCredentials
from prefect_tracktor.cli import main
from prefect_tracktor.deploy import Shop, commands, shop_of_the_environment
from tests.system.deployments.conftest import DEPLOYMENTS, Server, deploy_all

MAIL = "Email expired exceptions"
DEPLOY = ["deploy", "--work-pool", "here", "--only", "expired_exceptions"]

Put = Callable[..., None]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def two_shops_and_a_broken_one(
    environment: None, alpine: None, no_deployments: None, pool: str, set_shops: Put
) -> None:
    set_shops(Shop("alpine"), Shop("bay"), shop_of_the_environment())


@pytest.mark.usefixtures("two_shops_and_a_broken_one")
def test_one_broken_shop_does_not_keep_the_others_from_being_deployed(
    server: Server, capsys: Output
) -> None:
    assert main(DEPLOY) == 2
    assert server.names() == [
        f"{MAIL}/alpine-email-expired-exceptions",
        f"{MAIL}/email-expired-exceptions",
    ]
    output = capsys.readouterr().out
    assert "bay: NOT SET UP" in output
    assert (
        "there is no block tracktor-order-file/bay. Run prefect-tracktor blocks --name bay"
        in output
    )


@pytest.mark.usefixtures("two_shops_and_a_broken_one")
def test_a_second_shop_with_the_same_account_is_refused(server: Server, capsys: Output) -> None:
    own = (TracktorCredentials, OrderFile, Mailer)
    for block in own:
        block.model_validate(block.load("alpine")).save("bay", overwrite=True)
    try:
        assert main(DEPLOY) == 2
    finally:
        for block in own:
            block.delete("bay")
    assert server.names() == [
        f"{MAIL}/alpine-email-expired-exceptions",
        f"{MAIL}/email-expired-exceptions",
    ]
    assert "bay: NOT SET UP, none of its deployments was served or changed: its blocks are" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("environment", "no_deployments", "pool")
@pytest.mark.parametrize("only", [["of_my_own"], ["expired_exceptions", "of_my_own"]])
def test_two_files_with_the_same_deployment_name_are_refused(
    server: Server, set_files: Callable[..., None], capsys: Output, only: list[str]
) -> None:
    set_files(**DEPLOYMENTS | {"of_my_own": DEPLOYMENTS["expired_exceptions"]})
    assert deploy_all("--only", *only) == 2
    assert (
        f"make the same deployment {MAIL + '/email-expired-exceptions'!r}"
        in capsys.readouterr().out
    )
    assert not server.names()


@pytest.mark.usefixtures("environment", "no_deployments", "pool")
def test_a_file_with_a_missing_block_does_not_keep_others_from_being_deployed(
    server: Server, set_files: Callable[..., None], capsys: Output
) -> None:
    def of_my_own(_shop: Shop) -> RunnerDeployment:
        EmailTemplate.load("nobody-made-this")
        raise AssertionError

    set_files(of_my_own=of_my_own, expired_exceptions=DEPLOYMENTS["expired_exceptions"])
    assert deploy_all() == 0
    assert server.names() == [f"{MAIL}/email-expired-exceptions"]
    assert "left out of_my_own: Unable to find block document named nobody-made-this" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("two_shops_and_a_broken_one")
def test_deploy_takes_one_shop_by_name(server: Server, capsys: Output) -> None:
    assert main([*DEPLOY, "--shop", "alpine"]) == 0
    assert server.names() == [f"{MAIL}/alpine-email-expired-exceptions"]
    assert "bay" not in capsys.readouterr().out
    assert main([*DEPLOY, "--shop", "cove"]) == 2
    refused = capsys.readouterr().err
    assert "unknown shop in flows/shops.py: 'cove'; choose from alpine, bay, tracktor" in refused


@pytest.mark.usefixtures("two_shops_and_a_broken_one")
def test_one_broken_shop_does_not_keep_the_others_from_being_served(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    served: list[str] = []
    monkeypatch.setattr(
        commands,
        "serve_until_stopped",
        lambda deployments: served.extend(d.full_name for d in deployments.values()),
    )
    assert main(["serve", "--only", "expired_exceptions"]) == 0
    assert served == [f"{MAIL}/alpine-email-expired-exceptions", f"{MAIL}/email-expired-exceptions"]
    assert "bay: NOT SET UP" in capsys.readouterr().out


@pytest.mark.usefixtures("two_shops_and_a_broken_one")
def test_deployments_of_a_broken_shop_are_not_listed_as_left_over(
    server: Server, set_shops: Put, capsys: Output
) -> None:
    assert main([*DEPLOY, "--shop", "alpine"]) == 0
    set_shops(Shop("alpine", timezone="Mars"), shop_of_the_environment())
    assert main(["deploy", "--work-pool", "here", "--dry-run"]) == 2
    assert "left over" not in capsys.readouterr().out
    set_shops(shop_of_the_environment())
    assert main(["deploy", "--work-pool", "here", "--dry-run"]) == 0
    assert f"left over  {MAIL}/alpine-email-expired-exceptions" in capsys.readouterr().out


@pytest.mark.usefixtures("environment", "alpine", "pool")
@pytest.mark.parametrize(
    ("shop", "problem"),
    [
        (Shop("Alpine Ltd"), "lowercase letters, digits and single dashes"),
        (Shop("alpine", timezone="Europe/Zuric"), "no time zone 'Europe/Zuric'"),
        (Shop("alpine", notify="delivered"), "write a list, such as ['delivered']"),
    ],
)
def test_an_invalid_shop_setting_is_named(
    shop: Shop, problem: str, set_shops: Put, capsys: Output
) -> None:
    set_shops(shop)
    assert main(DEPLOY) == 2
    assert problem in capsys.readouterr().out


def test_two_shops_with_the_same_name_are_refused(set_shops: Put, capsys: Output) -> None:
    set_shops(Shop("alpine"), Shop("alpine"))
    assert main(DEPLOY) == 2
    assert "two shops of the name alpine" in capsys.readouterr().err
